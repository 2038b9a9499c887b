//! Runs in which peers are away for weeks: longer than anybody remembers what was deleted.
//!
//! In each round the peers fall into parts, write, delete, evict and forget, days pass, and they meet
//! again. Every edit writes a field of its own, so the fields of a document tell which edits it has.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::{DocumentKey, DocumentOp, FieldOp, FieldPath, InsertConflict, Object, Value};

use super::{Checked, Happening, Report, World};
use crate::{
    afterlife::{Afterlife, Holding},
    check::Violation,
    workload::{COLLECTIONS, Transaction, key},
};

const HOUR_US: u64 = 60 * 60 * 1_000_000;
const DAY_US: u64 = 24 * HOUR_US;

/// Rounds of upkeep that one peer does in a row, at most. Each forgets a day.
const UPKEEP_ROUNDS_MAX: u64 = 30;

impl World {
    pub(super) fn run_absences(&mut self) -> Result<Report, Violation> {
        for peer in &mut self.peers {
            peer.empty = Some(peer.disk.copy());
        }
        self.start_all()?;
        self.run_to_rest()?;
        let mut afterlife = Afterlife::default();
        for _ in 0..self.options.absences.rounds {
            self.round(&mut afterlife)?;
        }
        let healed_us = self.now_us;
        for peer in 0..self.peers.len() {
            self.forget(peer)?;
        }
        // Who has learned something that others must ask about tells them when they meet again.
        for _ in 0..3 {
            for edge in 0..self.edges.len() {
                self.cut(edge, false);
            }
            self.meet()?;
            self.look(&mut afterlife)?;
        }
        afterlife.check_end(&self.oracle.histories(), &self.holdings())?;
        let converged_us = self.deliveries.converged_us();
        let report = self.report(healed_us, converged_us);
        Ok(Report {
            trace: *self.trace.finalize().as_bytes(),
            ..report
        })
    }

    /// The peers are apart for a while, and meet.
    fn round(&mut self, afterlife: &mut Afterlife) -> Checked {
        let count = self.random.below(3);
        let walls: Vec<u64> = (0..count)
            .map(|_| {
                self.faults += 1;
                let sides = self.peers.iter().map(|_| self.random.chance(50)).collect();
                self.wall(sides)
            })
            .collect();
        self.run_to_rest()?;
        self.look(afterlife)?;
        for _ in 0..self.random.between(4, 16) {
            self.happen_while_away(afterlife)?;
            self.run_to_rest()?;
            self.look(afterlife)?;
        }
        let (least, most) = self.options.absences.days;
        let pause_us = self.random.between(least * DAY_US, most * DAY_US);
        self.run_until(self.now_us + pause_us)?;
        for peer in 0..self.peers.len() {
            if self.random.chance(60) {
                self.forget(peer)?;
            }
        }
        for wall in walls {
            self.join(wall);
        }
        self.meet()?;
        self.look(afterlife)
    }

    /// One thing that somebody does.
    fn happen_while_away(&mut self, afterlife: &mut Afterlife) -> Checked {
        let peer = self.random.index(self.peers.len());
        match self.random.below(100) {
            0..66 => {
                let transaction = self.draw_edits();
                self.commit(peer, transaction)
            }
            66..74 => self.evict_some(peer, afterlife),
            74..84 => self.forget(peer),
            84..88 => {
                self.crash(peer);
                Ok(())
            }
            88..90 => {
                self.back_up(peer);
                Ok(())
            }
            90..92 => {
                if self.peers[peer].backup.is_some() {
                    self.restore(peer);
                    afterlife.went_back(peer);
                }
                Ok(())
            }
            92..94 => {
                self.reinstall(peer);
                afterlife.went_back(peer);
                Ok(())
            }
            94..96 => {
                let bound = self.options.absences.skew_ms_max;
                let skew = self.random.between(0, 2 * bound).cast_signed() - bound.cast_signed();
                let by_ms = skew - self.peers[peer].skew_ms;
                self.happen(Happening::Jump { peer, by_ms })
            }
            _ => {
                let pause_us = self.random.between(HOUR_US, 9 * DAY_US);
                self.run_until(self.now_us + pause_us)
            }
        }
    }

    fn draw_edits(&mut self) -> Transaction {
        self.serial += 1;
        let mut operations = BTreeMap::new();
        for _ in 0..=self.random.below(2) {
            let id = format!("d{}", self.random.below(self.options.documents));
            let key = key(COLLECTIONS[self.random.index(2)], &id);
            let field = format!("w{}", self.serial);
            let operation = match self.random.below(100) {
                0..35 => DocumentOp::Insert {
                    fields: Object::from([(field, Value::from(self.serial))]),
                    kinds: Vec::new(),
                    conflict: InsertConflict::DoUpdate,
                },
                35..60 => DocumentOp::Update(vec![FieldOp::Set {
                    path: FieldPath::field(&field),
                    value: self.serial.into(),
                    kind: None,
                }]),
                _ => DocumentOp::Delete,
            };
            operations.insert(key, operation);
        }
        Transaction {
            operations: operations.into_iter().collect(),
            tallied: Vec::new(),
        }
    }

    /// Half of the peers remember what they evicted; the others have no subscription that their store
    /// knows of.
    fn evict_some(&mut self, peer: usize, afterlife: &mut Afterlife) -> Checked {
        let now_us = self.now_us;
        let it = &mut self.peers[peer];
        it.set_now_us(now_us);
        if peer.is_multiple_of(2) {
            it.note_subscriptions();
        }
        let mut keys: Vec<DocumentKey> = it.disk.states().into_keys().collect();
        keys.retain(|_| self.random.chance(25));
        if self.peers[peer].disk.evict_documents(&keys).is_none() {
            return Ok(());
        }
        self.oracle.lose(peer, Some(&keys));
        afterlife.evicted(peer, keys);
        self.make_durable_later(peer);
        self.pump(peer, None)
    }

    /// Rounds of upkeep on a peer.
    fn forget(&mut self, peer: usize) -> Checked {
        let now_us = self.now_us;
        for _ in 0..self.random.between(1, UPKEEP_ROUNDS_MAX) {
            let it = &mut self.peers[peer];
            it.set_now_us(now_us);
            it.disk.remove_tombstones();
        }
        self.make_durable_later(peer);
        self.pump(peer, None)
    }

    /// All that may see each other do, until there is nothing left to tell.
    fn meet(&mut self) -> Checked {
        self.run_to_rest()?;
        for edge in 0..self.edges.len() {
            self.happen(Happening::Raise { edge })?;
        }
        self.run_to_rest()
    }

    fn look(&mut self, afterlife: &mut Afterlife) -> Checked {
        let peers = self.peers.iter().enumerate();
        self.oracle
            .note_holders(peers.map(|(number, it)| (number, &it.disk)));
        let has_backups = self.peers.iter().any(|it| it.backup.is_some());
        afterlife.look(&self.oracle.histories(), &self.holdings(), has_backups)
    }

    /// What every peer holds.
    fn holdings(&self) -> Vec<BTreeMap<DocumentKey, Holding>> {
        let peers = self.peers.iter();
        peers
            .map(|peer| {
                let quarantined: BTreeSet<DocumentKey> = peer.disk.quarantined();
                let keys = peer.disk.states().into_keys().chain(quarantined.clone());
                keys.map(|key| {
                    let fields = peer.disk.fields(&key);
                    let fields = fields.map(|fields| fields.into_keys().collect());
                    let is_quarantined = quarantined.contains(&key);
                    let holding = Holding {
                        fields,
                        is_quarantined,
                    };
                    (key, holding)
                })
                .collect()
            })
            .collect()
    }
}

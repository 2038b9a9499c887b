//! Transactions, their way to the disk, and applications.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::DocumentKey;
use idem_sync::Replica;

use super::{Checked, Happening, World};
use crate::{
    app::{App, PeerHandle},
    check::{Written, check_pairs, version},
    peer::Peer,
    workload::{self, Transaction},
};

impl World {
    pub(super) fn write(&mut self) -> Checked {
        if self.writes_left == 0 {
            return Ok(());
        }
        self.writes_left -= 1;
        let pause = self.random.below(self.options.write_pause_us_max);
        self.schedule(pause, Happening::Write);
        let peer = self.draw_writer();
        self.serial += 1;
        let transaction = workload::draw(&mut self.random, &self.options, self.serial);
        if self.peers[peer].is_alive {
            self.commit(peer, transaction)?;
        }
        Ok(())
    }

    /// Who writes next.
    fn draw_writer(&mut self) -> usize {
        // Hostile peers come last, and do not write.
        let honest = self.peers.iter().filter(|it| it.is_honest()).count();
        loop {
            let peer = self.random.index(honest);
            let writes = &self.options.relays.writes;
            if writes.get(peer).copied().unwrap_or(true) {
                return peer;
            }
        }
    }

    /// A peer with two faces writes the same dot twice.
    pub(super) fn forge(&mut self, peer: usize) -> Checked {
        if !self.peers[peer].is_alive {
            return Ok(());
        }
        self.serial += 2;
        let it = &mut self.peers[peer];
        it.set_now_us(self.now_us);
        let mut same = self.random.clone();
        let faces = std::iter::once(&mut it.disk).chain(&mut it.twin);
        for (face, disk) in faces.enumerate() {
            let mut random = self.random.clone();
            let content = self.serial + i64::try_from(face).expect("one of two");
            disk.commit(&[workload::forged(&mut random, content)]);
        }
        same.next();
        self.random = same;
        self.make_durable_later(peer);
        self.pump(peer, None)
    }

    pub(super) fn commit(&mut self, peer: usize, transaction: Transaction) -> Checked {
        self.peers[peer].set_now_us(self.now_us);
        let it = &mut self.peers[peer];
        let Some(commit) = it.disk.commit(&transaction.operations) else {
            return Ok(());
        };
        let mut states: BTreeMap<DocumentKey, Vec<u8>> = BTreeMap::new();
        for (key, _) in transaction.operations {
            if let Some(state) = it.disk.state(&key) {
                states.insert(key, state);
            }
        }
        let others = self.peers.iter().enumerate();
        let others = others.filter(|(other, it)| *other != peer && it.is_interested());
        let others: BTreeSet<usize> = others.map(|(other, _)| other).collect();
        // All documents of a transaction arrive together.
        if let Some((key, state)) = states.first_key_value() {
            self.deliveries
                .written(self.now_us, key.clone(), version(state), others);
        }
        let it = &mut self.peers[peer];
        it.written.push(Written {
            commit,
            states: states.into_iter().collect(),
            tallied: transaction.tallied,
        });
        check_pairs(peer, &it.disk, &self.options)?;
        self.acknowledge(peer);
        self.make_durable_later(peer);
        self.pump(peer, None)
    }

    /// What a peer's store holds will be durable soon.
    pub(super) fn make_durable_later(&mut self, peer: usize) {
        if !self.peers[peer].is_syncing {
            self.peers[peer].is_syncing = true;
            let delay = self.random.between(0, self.options.fsync_us_max);
            let life = self.peers[peer].life;
            self.schedule(delay, Happening::Fsync { peer, life });
        }
    }

    pub(super) fn fsync(&mut self, peer: usize) -> Checked {
        let it = &mut self.peers[peer];
        it.is_syncing = false;
        for disk in std::iter::once(&mut it.disk).chain(&mut it.twin) {
            disk.make_durable();
        }
        self.acknowledge(peer);
        let now = self.now();
        for edge in self.edges_of[peer].clone() {
            if let Some((session, disk)) = self.peers[peer].face(edge) {
                session.handle_commit(now, disk);
                if disk.is_dirty() {
                    self.make_durable_later(peer);
                }
            }
        }
        self.tell_carrier(peer);
        self.pump(peer, None)
    }

    pub(super) fn acknowledge(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        let durable = peer.disk.durable_commit();
        let (done, open) = std::mem::take(&mut peer.written)
            .into_iter()
            .partition(|written| written.commit <= durable);
        peer.written = open;
        let done: Vec<Written> = done;
        self.acknowledged += done.len() as u64;
        done.into_iter().for_each(|it| self.oracle.acknowledge(it));
    }

    // Applications.

    pub(super) fn start_app(&mut self, peer: usize) -> Checked {
        if let Some(factory) = &mut self.app_factory {
            self.apps[peer] = Some((factory.0)(peer));
        }
        self.with_app(peer, |app, handle| app.on_start(handle))
    }

    pub(super) fn tell_app(&mut self, peer: usize, changed: &[DocumentKey]) -> Checked {
        self.with_app(peer, |app, handle| app.on_change(handle, changed))
    }

    pub(super) fn wake(&mut self, peer: usize, life: u64, token: u64) -> Checked {
        if self.peers[peer].life != life {
            return Ok(());
        }
        self.with_app(peer, |app, handle| app.on_timer(handle, token))
    }

    /// Runs something of a peer's application, and does what it asked for.
    fn with_app(
        &mut self,
        peer: usize,
        action: impl FnOnce(&mut dyn App, &mut PeerHandle<'_>),
    ) -> Checked {
        let Some(mut app) = self.apps.get_mut(peer).and_then(Option::take) else {
            return Ok(());
        };
        let done = self.with_store(peer, |handle| action(&mut *app, handle));
        self.apps[peer] = Some(app);
        done
    }

    /// Runs something with a peer's store, and does what it asked for.
    pub(crate) fn with_store(
        &mut self,
        peer: usize,
        action: impl FnOnce(&mut PeerHandle<'_>),
    ) -> Checked {
        let now_us = self.now_us;
        let it: &mut Peer = &mut self.peers[peer];
        it.set_now_us(now_us);
        let wall_ms = it.wall_ms(now_us);
        let store = it.disk.store().expect("applications have the real store");
        let mut handle = PeerHandle::new(peer, now_us, wall_ms, store, &mut self.random);
        action(&mut handle);
        let timers = handle.into_timers();
        let life = self.peers[peer].life;
        for (delay_us, token) in timers {
            self.schedule(delay_us, Happening::Wake { peer, life, token });
        }
        if !self.peers[peer].is_alive {
            return Ok(());
        }
        self.make_durable_later(peer);
        self.pump(peer, None)
    }
}

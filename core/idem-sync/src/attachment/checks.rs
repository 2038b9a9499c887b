//! What a link does so that nothing comes back that was deleted.

use std::collections::BTreeSet;

use idem_model::{CollectionName, PeerId, Timestamp};
use idem_wire::{CAPABILITY_DURABLE, Check, Checked, Hello, Message};

use super::{Attachment, Lasting, Peering};
use crate::{
    check::{Answering, Asking, Deciding},
    failure::Failure,
    projection::is_projection,
    replica::{Replica, Synced},
    sketch::Salt,
    spent::Spent,
    wanted::Wanted,
};

/// What a remote that cannot tell what is durable had so long before its HELLO is.
const DURABLE_AFTER_MS: u64 = 5 * 60 * 1000;

/// It is noted this often at most that a collection was synced, unless it has to be.
const NOTE_SYNCED_MS: u64 = 60 * 60 * 1000;

/// What there is on a link so that nothing comes back.
#[derive(Debug)]
pub(super) struct Checks {
    remote: PeerId,
    pub(super) is_big_peer: bool,
    salt: Salt,
    pub(super) asking: Asking,
    pub(super) answering: Answering,
    /// What was decided here must be durable before anything is sent.
    decided: u64,
    /// Everything that the remote had by this time was durable there when the link came up.
    synced_to: Option<Timestamp>,
    /// Collections of which that is noted.
    noted: Vec<CollectionName>,
    /// The last floor that the remote was told on each lane.
    floor_told: [Timestamp; 2],
    /// The remote holds everything that it wants and that was here by this time.
    vouched: Timestamp,
}

impl Checks {
    pub(super) fn new(
        remote: PeerId,
        is_big_peer: bool,
        salt: Salt,
        hello: &Hello,
        spent: &Spent,
    ) -> Self {
        let time = hello.timestamp;
        let synced_to = if hello.capabilities & CAPABILITY_DURABLE != 0 {
            time
        } else {
            Timestamp::new(time.unix_ms().saturating_sub(DURABLE_AFTER_MS), 0)
        };
        Self {
            remote,
            is_big_peer,
            salt,
            asking: Asking::new(remote, is_big_peer, salt, hello.gc_floor, spent.asking),
            answering: Answering::new(salt, spent.answering),
            decided: 0,
            synced_to: (synced_to > Timestamp::ZERO).then_some(synced_to),
            noted: Vec::new(),
            floor_told: [Timestamp::ZERO; 2],
            vouched: Timestamp::ZERO,
        }
    }

    /// Whether documents may be sent: nothing is to be asked before, and what was decided is durable.
    pub(super) fn is_open(&self, replica: &impl Replica) -> bool {
        !self.asking.is_waiting() && self.decided <= replica.durable_commit()
    }

    /// What the remote is to be told of tombstones that went, before what was just queued on this lane.
    ///
    /// Whoever holds all that it wants of what was here up to the floor has heard of them. Whoever is
    /// catching up may have missed one that went meanwhile, and whoever does not want a collection may hold
    /// what went there and be asked for it later, so it is told on the bulk lane whatever it holds besides.
    pub(super) fn poll_floor(
        &mut self,
        lane: usize,
        told_in_hello: Timestamp,
        replica: &impl Replica,
    ) -> Option<Message<'static>> {
        let floor = replica.gc_floor();
        let told = &mut self.floor_told[lane];
        if floor <= (*told).max(told_in_hello) {
            return None;
        }
        let earlier = std::mem::replace(told, floor);
        let lane = super::DATA_LANES[lane];
        // What was learned of other peers is in no feed.
        let is_in_feed = replica.learned_floor() <= earlier.max(told_in_hello);
        let is_live = lane == idem_model::Lane::Interactive;
        let is_known = is_live && is_in_feed && floor <= self.vouched;
        (!is_known).then_some(Message::Floor { lane, floor })
    }

    fn examine<R: Replica>(
        &mut self,
        replica: &R,
        (wanted, closed): (&Wanted, &BTreeSet<CollectionName>),
        sent: &[CollectionName],
    ) -> Result<(), Failure> {
        let wanted = wanted.collections();
        let wanted = wanted.filter(|it| !closed.contains(*it) && !is_projection(it));
        let collections = wanted.chain(sent);
        self.asking.examine(replica, collections)
    }
}

impl Peering {
    /// The remote has confirmed something: perhaps all there is.
    pub(super) fn vouch(&mut self, replica: &impl Replica) {
        // It may come back to what it does not want any more.
        if self.source.has_ended {
            return;
        }
        if let Some(time) = replica.durable_timestamp()
            && self.confirmed() >= Some(replica.durable_commit())
        {
            self.checks.vouched = time;
        }
    }
}

impl Attachment {
    /// Finds out what the remote must be asked before anything is sent, and asks.
    pub(super) fn queue_questions<R: Replica>(
        &mut self,
        now: std::time::Duration,
        replica: &R,
        lasting: &Lasting<'_>,
    ) -> Result<(), Failure> {
        let closed = self.collections_closed_there(lasting);
        let peer = self.peer.as_mut().expect("checked by the caller");
        let sent: Vec<_> = peer.source.whole_collections().cloned().collect();
        peer.checks
            .examine(replica, (lasting.wanted, &closed), &sent)?;
        if let Some(question) = peer.checks.asking.poll_question(now, replica)? {
            self.queue(question.to_bytes())?;
        }
        Ok(())
    }

    /// The remote asks what is known here of its documents.
    pub(super) fn check<R: Replica>(
        &mut self,
        now: std::time::Duration,
        replica: &R,
        check: Check,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let scope = replica.sync_scope(&check.collection);
        let is_open = scope.includes(peer.checks.is_big_peer);
        let checks = &mut peer.checks.answering;
        match checks.begin(now, (check, is_open), replica)? {
            Some(question) => self.queue(question.to_bytes()),
            None => Ok(()),
        }
    }

    /// The remote says what it knows nothing of.
    pub(super) fn checked<R: Replica>(
        &mut self,
        now: std::time::Duration,
        replica: &mut R,
        lasting: &mut Lasting<'_>,
        checked: Checked,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let Some(finding) = peer.checks.asking.take(now, checked)? else {
            return Ok(());
        };
        let source = &peer.source;
        let event = Deciding {
            replica: &mut *replica,
            remote: peer.checks.remote,
            is_big_peer: peer.checks.is_big_peer,
            salt: peer.checks.salt,
            was_held: &|replica, changed| source.was_held(changed, replica),
        }
        .decide(&finding)?;
        lasting.events.extend(event);
        let learned_before = replica.learned_floor();
        if let Some(gone) = &finding.gone {
            // Who meets this peer next, and not that one, must be asked about it as well.
            let learned = replica.learn_gone(&finding.collection, &gone.deleted, &finding.days);
            learned.map_err(|error| Failure::store(&error))?;
        }
        if replica.learned_floor() > learned_before {
            // What came in since it was asked was not asked about, and its senders could not know. What
            // comes from now on is looked at.
            peer.checks.asking.ask_again(finding);
        } else {
            peer.checks.asking.settle(finding);
        }
        let report = replica.apply(Vec::new(), &[]);
        peer.checks.decided = report.map_err(|error| Failure::store(&error))?.commit;
        self.note_synced(replica, lasting)
    }

    /// Notes which collections were taken in whole, as far as that is new.
    pub(super) fn note_synced<R: Replica>(
        &mut self,
        replica: &mut R,
        lasting: &Lasting<'_>,
    ) -> Result<(), Failure> {
        let closed = self.collections_closed_there(lasting);
        let peer = self.peer.as_mut().expect("checked by the caller");
        let checks = &mut peer.checks;
        let Some(time) = checks.synced_to else {
            return Ok(());
        };
        checks.examine(replica, (lasting.wanted, &closed), &[])?;
        let mut synced = Vec::new();
        for collection in peer.sink.caught_up(lasting.wanted) {
            if is_projection(&collection)
                || checks.noted.contains(&collection)
                || !checks.asking.is_clear(&collection)
            {
                continue;
            }
            let noted = replica.last_synced(checks.remote, &collection);
            let noted = noted.map_err(|error| Failure::store(&error))?;
            checks.noted.push(collection.clone());
            let is_worth_it = noted.is_none_or(|noted| {
                let is_old = time.unix_ms().saturating_sub(noted.unix_ms()) >= NOTE_SYNCED_MS;
                noted < time && (is_old || noted < checks.asking.floor())
            });
            if is_worth_it {
                synced.push(Synced {
                    peer: checks.remote,
                    collection,
                    time,
                });
            }
        }
        if !synced.is_empty() {
            let applied = replica.apply_synced(Vec::new(), &[], &synced);
            applied.map_err(|error| Failure::store(&error))?;
        }
        Ok(())
    }

    /// Tombstones went at the remote that this side may not have heard of.
    pub(super) fn raise_floor(&mut self, lane: usize, floor: Timestamp) {
        let peer = self.peer.as_mut().expect("checked by the caller");
        // A live session is told on its own lane of what it may not know.
        let is_live = super::DATA_LANES[lane] == idem_model::Lane::Interactive;
        let settled = if is_live { &[][..] } else { &peer.checks.noted };
        peer.checks
            .asking
            .raise_floor(floor, is_live, settled.iter().cloned());
    }
}

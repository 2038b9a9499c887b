//! This peer's own record: when a new one is due.

use std::time::Duration;

use idem_model::limits;

use crate::{
    budget::Budget,
    random::Random,
    record::{OwnRecord, PresenceRecord, RecordLink, refresh_interval},
};

/// Records that may follow each other quickly; then there is one for each interval.
const BURST: u64 = 4;

/// What changes waits for about this long, since links come and go in numbers; and twice as long for each
/// record that came shortly before.
const SETTLE: Duration = Duration::from_secs(1);

/// What this peer says of itself, and when.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    own: OwnRecord,
    interests: Vec<[u8; 4]>,
    links: Vec<RecordLink>,
    seq: u64,
    budget: Budget,
    /// `None` before the first link: until then there is nobody to tell.
    refresh_at: Option<Duration>,
    /// When what changed is told, if anything did.
    due_at: Option<Duration>,
}

impl Publisher {
    pub(crate) fn new(now: Duration, started_ms: u64) -> Self {
        Self {
            own: OwnRecord::default(),
            interests: Vec::new(),
            links: Vec::new(),
            seq: (started_ms << 16).max(1),
            budget: Budget::new(now, BURST, 1, refresh_interval(0)),
            refresh_at: None,
            due_at: None,
        }
    }

    pub(crate) fn set_own(&mut self, now: Duration, own: OwnRecord, random: &mut Random) {
        let own = own.cut();
        if self.own != own {
            self.own = own;
            self.stir_if_told(now, random);
        }
    }

    pub(crate) fn set_interests(
        &mut self,
        now: Duration,
        mut interests: Vec<[u8; 4]>,
        random: &mut Random,
    ) {
        interests.sort_unstable();
        interests.dedup();
        interests.truncate(limits::PRESENCE_INTERESTS_MAX);
        if self.interests != interests {
            self.interests = interests;
            self.stir_if_told(now, random);
        }
    }

    pub(crate) fn set_links(
        &mut self,
        now: Duration,
        mut links: Vec<RecordLink>,
        random: &mut Random,
    ) {
        links.sort_unstable();
        links.dedup();
        links.truncate(limits::PRESENCE_LINKS_MAX);
        if self.links != links {
            self.links = links;
            self.stir(now, random);
        }
    }

    /// Somebody holds a record of this peer with this number: the next one is above it.
    pub(crate) fn pass(&mut self, now: Duration, seq: u64, random: &mut Random) {
        self.seq = self.seq.max(seq.saturating_add(1));
        self.stir(now, random);
    }

    pub(crate) fn interests(&self) -> &[[u8; 4]] {
        &self.interests
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// What changes before the first record is in that one.
    fn stir_if_told(&mut self, now: Duration, random: &mut Random) {
        if self.refresh_at.is_some() {
            self.stir(now, random);
        }
    }

    pub(crate) fn own(&self) -> &OwnRecord {
        &self.own
    }

    fn stir(&mut self, now: Duration, random: &mut Random) {
        let recent = u32::try_from(BURST - self.budget.left(now)).expect("a few");
        let wait = SETTLE * 2u32.pow(recent);
        self.due_at.get_or_insert_with(|| now + random.around(wait));
    }

    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.due_at.into_iter().chain(self.refresh_at).min()
    }

    /// The record to publish, if one is due.
    pub(crate) fn poll(
        &mut self,
        now: Duration,
        peers: usize,
        random: &mut Random,
    ) -> Option<PresenceRecord> {
        if self.next_at().is_none_or(|at| at > now) {
            return None;
        }
        let interval = refresh_interval(peers);
        self.budget.set_pace(now, interval);
        let is_refresh = self.refresh_at.is_some_and(|at| at <= now);
        if !self.budget.spend(now, 1) && !is_refresh {
            self.due_at = Some(self.budget.ready_at(now, 1));
            return None;
        }
        self.due_at = None;
        self.refresh_at = Some(now + interval * 3 / 4 + random.up_to(interval / 4));
        self.seq = self.seq.saturating_add(1);
        let lifetime_s = u16::try_from(3 * interval.as_secs()).unwrap_or(u16::MAX);
        Some(PresenceRecord {
            seq: self.seq,
            lifetime_s: lifetime_s.min(limits::PRESENCE_LIFETIME_S_MAX),
            kind: self.own.kind,
            name: self.own.name.clone(),
            os: self.own.os.clone(),
            links: self.links.clone(),
            interests: self.interests.clone(),
            metadata: self.own.metadata.clone(),
        })
    }
}

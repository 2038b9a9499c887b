//! Whom to link with: what to dial, and which links to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_model::{LinkId, limits};

use crate::{
    candidates::{Candidate, Candidates},
    event::CloseCause,
    links::{LinkState, Links},
    names::{AddressId, Medium, MediumLimits, MeshLimits, PeerHash},
    random::Random,
};

/// Links that are younger are not ended as surplus: what their other end knows has to spread first.
const SETTLE: Duration = Duration::from_secs(30);

/// How long a peer must seem to be on another island before it is dialled for that: who has just come
/// links by itself, and is heard of a few seconds later.
const REPAIR_AFTER: Duration = Duration::from_secs(5);

/// So many peers on other islands are no newcomers to one that has been linked for [`SETTLE`]: two parts of a
/// mesh see each other again, and nobody has to wait for that to show.
const ISLAND_PEERS_MIN: usize = 3;

/// How long they must seem to be elsewhere: what one link brings is heard of sooner, since records are announced
/// after 200 ms.
const REPAIR_ISLAND_AFTER: Duration = Duration::from_millis(300);

/// The same over Bluetooth, where they are announced after a second.
const REPAIR_ISLAND_AFTER_BLE: Duration = Duration::from_secs(1);

/// Between two dials that repair: so long it takes to hear what is behind the first one.
const REPAIR_PAUSE: Duration = Duration::from_secs(5);

/// Where nobody could be dialled, it is looked again after this.
const REPAIR_AGAIN: Duration = Duration::from_secs(1);

/// All peers of an island see the other one. Each waits a random time of up to this for each of them,
/// rather long than short, so that a few dial, and the others hear of it before their time comes.
const REPAIR_SPREAD_PER_PEER: Duration = Duration::from_millis(20);

/// Around this time after one link was exchanged, another one is.
const CHURN: Duration = Duration::from_secs(60);

/// Below so many links none is given up for the sake of exchange.
const CHURN_LINKS_MIN: usize = 3;

/// About this long a mesh keeps more links than its target before it looks for one to end.
const TRIM_AFTER: Duration = Duration::from_secs(20);

/// Addresses that the app named are dialled at once up to this number.
const CONFIGURED_DIALS_AT_ONCE: usize = 16;

/// What is known of a peer that may be, or is, linked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Insight {
    /// Whether no chain of links leads to it.
    pub(crate) is_elsewhere: bool,
    /// How many links of the medium it has, if it says so.
    pub(crate) links: Option<usize>,
    /// How many of its interests are shared.
    pub(crate) overlap: u32,
    /// Whether it is nearer to a gateway than all other peers that are linked.
    pub(crate) is_towards_gateway: bool,
}

/// What presence knows of peers.
pub(crate) trait Insights {
    /// What is known of one.
    fn of(&self, peer: PeerHash, medium: Medium) -> Insight;
    /// Whether nothing else than the links to this neighbour leads to some peers.
    fn is_bridge(&self, neighbour: PeerHash) -> bool;
    /// How many peers are on this island.
    fn island(&self) -> usize;
}

/// Something to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Dial(AddressId),
    Close(LinkId, CloseCause),
}

/// What the chooser remembers between its passes.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    churn_at: Duration,
    /// The medium on which one link more than the target is dialled, to end another one then.
    churning: Option<Medium>,
    trim_at: BTreeMap<Medium, Duration>,
    /// Since when each of these addresses has been on another island.
    elsewhere: BTreeMap<AddressId, (Medium, Duration)>,
    /// When one of them is dialled for that.
    repair_at: Option<Duration>,
    /// Whether they are so many that a whole island is there.
    sees_island: bool,
    /// Before this no address is dialled for that again.
    repair_pause_until: Duration,
    is_busy: bool,
}

/// One pass over everything.
pub(crate) struct Pass<'a> {
    pub(crate) now: Duration,
    pub(crate) candidates: &'a Candidates,
    pub(crate) links: &'a Links,
    pub(crate) limits: MeshLimits,
    pub(crate) insights: &'a dyn Insights,
    pub(crate) random: &'a mut Random,
    pub(crate) decisions: Vec<Decision>,
}

impl Chooser {
    pub(crate) fn new(now: Duration, random: &mut Random) -> Self {
        Self {
            churn_at: now + random.around(CHURN),
            churning: None,
            trim_at: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            repair_at: None,
            sees_island: false,
            repair_pause_until: Duration::ZERO,
            is_busy: false,
        }
    }

    /// While there is a lot to send no link is exchanged.
    pub(crate) fn set_busy(&mut self, is_busy: bool) {
        self.is_busy = is_busy;
    }

    /// When the next pass is due, if nothing happens before.
    pub(crate) fn next_at(&self, now: Duration) -> Duration {
        let trims = self.trim_at.values().copied();
        let soonest = trims.min().unwrap_or(self.churn_at).min(self.churn_at);
        // What is overdue waits for something else, which stirs; look again now and then in any case.
        let next = soonest.max(now + Duration::from_secs(1));
        // A pass leaves no repair behind that is due, and islands wait for the very moment.
        self.repair_at.map_or(next, |at| next.min(at.max(now)))
    }

    /// Decides about all media.
    pub(crate) fn run(&mut self, pass: &mut Pass<'_>) {
        self.note_islands(pass);
        for medium in Medium::ALL {
            self.fill(pass, medium);
            self.trim(pass, medium);
        }
        self.repair(pass);
        self.churn(pass);
    }

    fn fill(&mut self, pass: &mut Pass<'_>, medium: Medium) {
        let mut dialling = pass.candidates.dialling(medium);
        for address in pass.configured(medium) {
            if dialling >= CONFIGURED_DIALS_AT_ONCE {
                break;
            }
            pass.decisions.push(Decision::Dial(address));
            dialling += 1;
        }
        let target = pass.limits.of(medium).target;
        let missing = target.saturating_sub(pass.links.count(medium) + dialling);
        let room = limits::MESH_DIALS_AT_ONCE.saturating_sub(dialling);
        for address in pass.best(medium, missing.min(room)) {
            pass.decisions.push(Decision::Dial(address));
        }
    }

    /// Ends a link of which both ends have more than they need, or the one that churn exchanges.
    fn trim(&mut self, pass: &mut Pass<'_>, medium: Medium) {
        let MediumLimits { target, .. } = pass.limits.of(medium);
        if pass.links.count(medium) <= target || pass.candidates.dialling(medium) > 0 {
            self.trim_at.remove(&medium);
            return;
        }
        if self.churning == Some(medium) {
            self.churning = None;
            if let Some(link) = pass.expendable(medium, |_| true) {
                let close = Decision::Close(link, CloseCause::Replaced);
                pass.decisions.push(close);
            }
            return;
        }
        let wait = pass.random.around(TRIM_AFTER);
        let at = *self.trim_at.entry(medium).or_insert(pass.now + wait);
        if at > pass.now {
            return;
        }
        self.trim_at.remove(&medium);
        let has_many = |insight: Insight| insight.links.is_some_and(|links| links > target);
        if let Some(link) = pass.expendable(medium, has_many) {
            let close = Decision::Close(link, CloseCause::Surplus);
            pass.decisions.push(close);
        }
    }

    /// Whether an island is to be joined by now.
    pub(crate) fn is_repair_due(&self, now: Duration) -> bool {
        self.repair_at.is_some_and(|at| at <= now)
    }

    /// Notes which addresses seem to be on another island, and since when.
    fn note_islands(&mut self, pass: &mut Pass<'_>) {
        let (mut elsewhere, mut peers) = (BTreeMap::new(), BTreeSet::new());
        for (address, candidate) in pass.candidates.iter() {
            if let Some(peer) = candidate.peer
                && pass.is_elsewhere(peer, candidate)
            {
                elsewhere.insert(address, candidate.medium);
                peers.insert(peer);
            }
        }
        self.elsewhere.retain(|id, _| elsewhere.contains_key(id));
        for (address, medium) in elsewhere {
            let since = (medium, pass.now);
            self.elsewhere.entry(address).or_insert(since);
        }
        let sees_island = peers.len() >= ISLAND_PEERS_MIN && pass.is_settled();
        if sees_island && !self.sees_island {
            // What was drawn for a newcomer is too late.
            self.repair_at = None;
        }
        self.sees_island = sees_island;
        match self.elsewhere.values().map(|it| self.sure_at(*it)).min() {
            None => self.repair_at = None,
            Some(sure_at) => {
                let first = sure_at.max(self.repair_pause_until);
                let wait = || first.max(pass.now) + pass.spread();
                self.repair_at.get_or_insert_with(wait);
            }
        }
    }

    /// When an address has seemed to be on another island for long enough, by what is seen now.
    fn sure_at(&self, (medium, since): (Medium, Duration)) -> Duration {
        let after = match medium {
            _ if !self.sees_island => REPAIR_AFTER,
            Medium::Ble => REPAIR_ISLAND_AFTER_BLE,
            _ => REPAIR_ISLAND_AFTER,
        };
        since + after
    }

    /// Dials into another island, and makes room for that.
    fn repair(&mut self, pass: &mut Pass<'_>) {
        if !self.is_repair_due(pass.now) {
            return;
        }
        let sure = self.elsewhere.iter();
        let sure = sure.filter(|(_, it)| self.sure_at(**it) <= pass.now);
        let due: Vec<_> = sure
            .filter_map(|(address, _)| Some((*address, pass.ready(*address)?)))
            .filter(|(address, _)| !pass.decisions.contains(&Decision::Dial(*address)))
            .map(|(address, candidate)| (address, candidate.medium))
            .collect();
        let Some((address, medium)) = pass.random.pick(&due) else {
            // The others have not been seen for long enough, or are being dialled.
            self.repair_at = Some(pass.now + REPAIR_AGAIN);
            return;
        };
        self.repair_pause_until = pass.now + REPAIR_PAUSE;
        self.repair_at = Some(self.repair_pause_until + pass.spread());
        let coming = pass.links.count_free(medium) + pass.candidates.dialling(medium);
        if coming >= pass.limits.of(medium).max {
            let Some(link) = pass.expendable(medium, |_| true) else {
                return;
            };
            let close = Decision::Close(link, CloseCause::Replaced);
            pass.decisions.push(close);
        }
        pass.decisions.push(Decision::Dial(address));
    }

    /// Exchanges one link now and then, so that no arrangement lasts for ever: first dials, then ends
    /// another one.
    fn churn(&mut self, pass: &mut Pass<'_>) {
        if self.churn_at > pass.now {
            return;
        }
        self.churn_at = pass.now + pass.random.around(churn_interval(pass.insights.island()));
        self.churning = None;
        if self.is_busy {
            return;
        }
        let media = [Medium::Memory, Medium::Lan, Medium::Ble];
        let full = media.into_iter().filter(|medium| {
            let MediumLimits { target, max } = pass.limits.of(*medium);
            let links = pass.links.count(*medium);
            links >= target.max(CHURN_LINKS_MIN)
                && links < max
                && pass.candidates.dialling(*medium) == 0
        });
        let full: Vec<_> = full.collect();
        let Some(medium) = pass.random.pick(&full) else {
            return;
        };
        let strangers = pass.dialable(medium);
        let strangers: Vec<_> = strangers
            .filter(|(_, it)| !it.is_configured)
            .filter(|(_, it)| it.peer.is_none_or(|peer| !pass.links.reach(peer, None)))
            .map(|(address, _)| address)
            .filter(|address| !pass.decisions.contains(&Decision::Dial(*address)))
            .collect();
        if let Some(address) = pass.random.pick(&strangers) {
            self.churning = Some(medium);
            pass.decisions.push(Decision::Dial(address));
        }
    }
}

/// A link is exchanged about each minute, and less often in a large mesh: each time, three peers publish
/// a new record, which all have to hear.
fn churn_interval(island: usize) -> Duration {
    let peers = u32::try_from(island).unwrap_or(u32::MAX);
    CHURN.max(Duration::from_millis(1500).saturating_mul(peers))
}

impl Pass<'_> {
    fn is_elsewhere(&self, peer: PeerHash, candidate: &Candidate) -> bool {
        !self.links.reach(peer, None) && self.insights.of(peer, candidate.medium).is_elsewhere
    }

    /// Whether this peer has had a link for so long that it is known of its island.
    fn is_settled(&self) -> bool {
        let media = Medium::ALL.into_iter();
        let mut links = media.flat_map(|medium| self.links.of_medium(medium));
        links.any(|(_, state)| self.now.saturating_sub(state.up_at) >= SETTLE)
    }

    /// How long this peer waits for others of its island to repair.
    fn spread(&mut self) -> Duration {
        let peers = u32::try_from(self.insights.island()).unwrap_or(u32::MAX);
        let most = REPAIR_SPREAD_PER_PEER.saturating_mul(peers);
        self.random.up_to(most).max(self.random.up_to(most))
    }

    fn ready(&self, address: AddressId) -> Option<&Candidate> {
        let mut all = self.candidates.iter();
        let (_, candidate) = all.find(|(id, _)| *id == address)?;
        candidate.is_ready(self.now).then_some(candidate)
    }

    /// What could be dialled now: not to a peer that is linked over this medium, and only one address of
    /// a peer at a time.
    fn dialable(&self, medium: Medium) -> impl Iterator<Item = (AddressId, &Candidate)> {
        let under_way: BTreeSet<_> = self
            .candidates
            .iter()
            .filter(|(id, it)| it.medium == medium && self.candidates.is_dialling(*id))
            .filter_map(|(_, it)| it.peer)
            .collect();
        self.candidates.iter().filter(move |(_, it)| {
            it.medium == medium
                && it.is_ready(self.now)
                && it.peer.is_none_or(|peer| {
                    !under_way.contains(&peer) && !self.links.reach(peer, Some(medium))
                })
        })
    }

    fn configured(&self, medium: Medium) -> Vec<AddressId> {
        let configured = self.dialable(medium).filter(|(_, it)| it.is_configured);
        one_per_peer(configured.map(|(id, it)| (id, it.peer)))
    }

    /// The best `count` addresses that the app did not name.
    fn best(&mut self, medium: Medium, count: usize) -> Vec<AddressId> {
        if count == 0 {
            return Vec::new();
        }
        let dialable = self.dialable(medium).filter(|(_, it)| !it.is_configured);
        let mut scored: Vec<_> = dialable
            .map(|(id, it)| (self.score(it), id, it.peer))
            .collect();
        for (score, ..) in &mut scored {
            *score += i64::try_from(self.random.below(100)).expect("below 100");
        }
        scored.sort_unstable_by_key(|(score, id, _)| (-*score, *id));
        let mut best = one_per_peer(scored.into_iter().map(|(_, id, peer)| (id, peer)));
        best.truncate(count);
        best
    }

    /// How much a link with it would be worth; some chance comes on top, from 0 to 99, so that the mesh
    /// is no function of its scores.
    fn score(&self, candidate: &Candidate) -> i64 {
        let MediumLimits { target, max } = self.limits.of(candidate.medium);
        let mut score = -30 * i64::from(candidate.failures.min(10));
        if let Some(dbm) = candidate.signal_dbm {
            // From -90 dBm, where frames are lost, to -30 dBm, which is beside each other.
            score += i64::from(dbm).clamp(-90, -30) + 90;
        }
        let Some(peer) = candidate.peer else {
            return score;
        };
        if self.links.reach(peer, None) {
            // Only in reserve for the link that there is.
            score -= 200;
        }
        let insight = self.insights.of(peer, candidate.medium);
        if insight.is_elsewhere {
            score += 400;
        }
        score += 20 * i64::from(insight.overlap.min(3));
        if insight.is_towards_gateway {
            // More than chance makes of it: one link leads towards a gateway where one can.
            score += 120;
        }
        score
            + match insight.links {
                Some(links) if links >= max => -500,
                Some(links) if links > target => {
                    -10 * i64::try_from(links - target).unwrap_or(i64::MAX / 10)
                }
                Some(links) if links < target => 40,
                _ => 0,
            }
    }

    /// The link over a medium that is missed least, among those whose other end passes `may_go`: never
    /// one that the app asked for, nor a young one, nor the only one to some peers.
    pub(crate) fn expendable(
        &mut self,
        medium: Medium,
        may_go: impl Fn(Insight) -> bool,
    ) -> Option<LinkId> {
        let is_old = |state: &LinkState| self.now.saturating_sub(state.up_at) >= SETTLE;
        let is_free = |state: &LinkState| {
            !state.is_configured && !self.candidates.is_configured(state.hash, state.medium)
        };
        let mut links: Vec<_> = self
            .links
            .of_medium(medium)
            .filter(|(id, state)| is_old(state) && is_free(state) && !self.is_closing(*id))
            .map(|(id, state)| (self.insights.of(state.hash, medium), id, state.hash))
            .filter(|(insight, ..)| may_go(*insight))
            .collect();
        // The one towards a gateway last, and before it those with shared interests; otherwise any.
        let mut keyed: Vec<_> = links
            .drain(..)
            .map(|(it, id, hash)| {
                (
                    (it.is_towards_gateway, it.overlap, self.random.next()),
                    id,
                    hash,
                )
            })
            .collect();
        keyed.sort_unstable();
        let mut keyed = keyed.into_iter();
        keyed
            .find(|(_, _, hash)| !self.insights.is_bridge(*hash))
            .map(|(_, id, _)| id)
    }

    fn is_closing(&self, link: LinkId) -> bool {
        let closes = |it: &Decision| matches!(it, Decision::Close(id, _) if *id == link);
        self.decisions.iter().any(closes)
    }
}

/// The first address of each peer, and all of which it is not known whose they are.
fn one_per_peer(addresses: impl Iterator<Item = (AddressId, Option<PeerHash>)>) -> Vec<AddressId> {
    let mut seen = BTreeSet::new();
    let first = addresses.filter(|(_, peer)| peer.is_none_or(|peer| seen.insert(peer)));
    first.map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use idem_model::{DatabaseId, PeerId};

    use super::*;
    use crate::{event::Found, links::LinkState};

    /// Knows which peer leads towards a gateway, and nothing else.
    struct Towards(PeerHash);

    impl Insights for Towards {
        fn of(&self, peer: PeerHash, _: Medium) -> Insight {
            Insight {
                is_towards_gateway: peer == self.0,
                ..Insight::default()
            }
        }

        fn is_bridge(&self, _: PeerHash) -> bool {
            false
        }

        fn island(&self) -> usize {
            3
        }
    }

    fn peer(number: u8) -> PeerHash {
        PeerHash::of(DatabaseId([0; 16]), PeerId([number; 32]))
    }

    #[test]
    fn a_link_towards_a_gateway_is_dialled_first_and_given_up_last() {
        let now = Duration::from_secs(3600);
        let mut candidates = Candidates::default();
        let mut links = Links::default();
        for number in 0..6 {
            let found = Found {
                address: AddressId(number),
                medium: Medium::Lan,
                peer: Some(peer(u8::try_from(number).expect("few"))),
                is_configured: false,
                signal_dbm: None,
            };
            candidates.find(now, &found);
            let state = LinkState {
                peer: PeerId([u8::try_from(number + 10).expect("few"); 32]),
                hash: peer(u8::try_from(number + 10).expect("few")),
                medium: Medium::Lan,
                address: None,
                is_inbound: false,
                is_configured: false,
                up_at: Duration::ZERO,
                closing: None,
            };
            links.insert(LinkId(number), state);
        }
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut pass = |towards: &Towards| {
                let mut pass = Pass {
                    now,
                    candidates: &candidates,
                    links: &links,
                    limits: MeshLimits::default(),
                    insights: towards,
                    random: &mut random,
                    decisions: Vec::new(),
                };
                let best = pass.best(Medium::Lan, 1);
                (best, pass.expendable(Medium::Lan, |_| true))
            };
            assert_eq!(pass(&Towards(peer(4))).0, [AddressId(4)]);
            assert_ne!(pass(&Towards(peer(14))).1, Some(LinkId(4)));
        }
    }
}

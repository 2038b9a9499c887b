//! What neighbours subscribe to, and what of it this peer fetches for them from the others.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use idem_model::{PeerId, limits};
use idem_wire::SubscriptionId;

use crate::{
    budget::Budget,
    frame::{Gossip, HOPS_MAX, Interest},
    gossip::GossipError,
};

/// What is to be told waits for so long, to share a frame.
const TELL_AFTER: Duration = Duration::from_millis(100);

/// The same over Bluetooth, where a frame costs as much as 100 bytes.
const TELL_AFTER_BLE: Duration = Duration::from_secs(1);

/// What a frame is filled up to: a longer statement than is left is in the next one.
const FRAME_BYTES: usize = 12 * 1024;

/// How a peer passes interest on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterestConfig {
    /// How many strangers in a row may relay what this peer subscribes to: 1, the default, or 2.
    pub hops: u8,
    /// Whether this peer relays for others. Default: it does.
    pub is_relaying: bool,
}

impl Default for InterestConfig {
    fn default() -> Self {
        Self {
            hops: 1,
            is_relaying: true,
        }
    }
}

/// A subscription of others that this peer relays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Its name.
    pub subscription: SubscriptionId,
    /// Its canonical statement, as a neighbour says it: nobody has parsed it.
    pub statement: Arc<str>,
}

/// What a neighbour says of one subscription.
#[derive(Clone, Debug)]
struct Heard {
    hops: u8,
    /// Whether its relay wants it, for others.
    is_carried: bool,
    /// Whether it counts: too many that are new at once have to wait.
    is_counted: bool,
}

#[derive(Debug)]
struct Neighbour {
    pause: Duration,
    heard: BTreeMap<SubscriptionId, Heard>,
    heard_bytes: usize,
    /// What it was told: how far it may go, and whether it is for others.
    told: BTreeMap<SubscriptionId, (u8, bool)>,
    /// Whether all is to be told anew.
    is_new: bool,
    tell_at: Option<Duration>,
    /// What it may have this peer do for it.
    fresh: Budget,
}

impl Neighbour {
    fn tell_by(&mut self, at: Duration) {
        self.tell_at = Some(self.tell_at.map_or(at, |other| other.min(at)));
    }
}

/// What neighbours subscribe to, and what of it this peer relays.
///
/// Each peer tells its neighbours what it subscribes to. One that does not subscribe to the same *carries*
/// it: its relay subscribes to it at all other neighbours, and passes on what comes. It tells its neighbours
/// what it carries, so that relays beside each other pass on to each other; whether a third peer is to carry
/// it as well is for the subscriber to say, by the number of `hops`. What is carried for one neighbour is not
/// asked of that one alone.
///
/// [`Interests::handle`] takes in what neighbours say, [`Interests::poll`] gives what they are to be told.
/// When [`Interests::take_changed`] says so, look at [`Interests::carried`], [`Interests::wanted_at`] and
/// [`Interests::wanted_at_relay`] again. `now` must not fall.
///
/// All of it is bounded: `limits::INTERESTS_OWN_MAX` of a peer's own, `limits::INTERESTS_CARRIED_MAX` for all
/// neighbours together, of which each gets its share; the bytes of their statements; and how many a neighbour may
/// bring at once.
#[derive(Debug)]
pub struct Interests {
    config: InterestConfig,
    own: BTreeSet<SubscriptionId>,
    /// What is told of `own`.
    own_told: BTreeSet<SubscriptionId>,
    statements: BTreeMap<SubscriptionId, Arc<str>>,
    neighbours: BTreeMap<PeerId, Neighbour>,
    /// With whom wants it, nearest or not.
    carried: BTreeMap<SubscriptionId, BTreeSet<PeerId>>,
    has_changed: bool,
    count_at: Option<Duration>,
    outgoing: VecDeque<(PeerId, Vec<u8>)>,
}

impl Interests {
    /// Those of a peer without neighbours.
    pub fn new(config: InterestConfig) -> Self {
        let hops = config.hops.clamp(1, HOPS_MAX);
        Self {
            config: InterestConfig { hops, ..config },
            own: BTreeSet::new(),
            own_told: BTreeSet::new(),
            statements: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            carried: BTreeMap::new(),
            has_changed: false,
            count_at: None,
            outgoing: VecDeque::new(),
        }
    }

    // Input.

    /// Starts with a neighbour, or starts anew because something may have been lost. `is_slow`: it is linked
    /// over Bluetooth only.
    pub fn greet(&mut self, now: Duration, peer: PeerId, is_slow: bool) {
        let fresh = limits::INTERESTS_FRESH_MAX;
        let pause = Duration::from_millis(limits::INTERESTS_FRESH_PAUSE_MS);
        let neighbour = self.neighbours.entry(peer).or_insert_with(|| Neighbour {
            pause: if is_slow { TELL_AFTER_BLE } else { TELL_AFTER },
            heard: BTreeMap::new(),
            heard_bytes: 0,
            told: BTreeMap::new(),
            is_new: true,
            tell_at: None,
            fresh: Budget::new(now, fresh, 1, pause),
        });
        neighbour.is_new = true;
        neighbour.told.clear();
        self.outgoing.retain(|(to, _)| *to != peer);
        self.tell(peer);
    }

    /// Forgets a neighbour, and what was carried for it alone.
    pub fn leave(&mut self, now: Duration, peer: PeerId) {
        if self.neighbours.remove(&peer).is_some() {
            self.outgoing.retain(|(to, _)| *to != peer);
            self.carry(now);
        }
    }

    /// A neighbour says something of interests; everything else is skipped.
    ///
    /// # Errors
    /// [`GossipError::Flood`] if it is more than a neighbour may say.
    pub fn handle(
        &mut self,
        now: Duration,
        from: PeerId,
        gossip: &Gossip,
    ) -> Result<(), GossipError> {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Ok(());
        };
        match gossip {
            Gossip::Interest { is_first, entries } => {
                if *is_first {
                    neighbour.heard.clear();
                    neighbour.heard_bytes = 0;
                }
                for entry in entries {
                    let id = name_of(&entry.statement);
                    let heard = Heard {
                        hops: entry.hops,
                        is_carried: entry.is_carried,
                        is_counted: self.carried.contains_key(&id),
                    };
                    match neighbour.heard.get_mut(&id) {
                        Some(there) => {
                            there.hops = heard.hops;
                            there.is_carried = heard.is_carried;
                        }
                        None => {
                            neighbour.heard.insert(id, heard);
                            neighbour.heard_bytes += entry.statement.len();
                            self.statements
                                .entry(id)
                                .or_insert_with(|| entry.statement.as_str().into());
                        }
                    }
                }
                let is_over = neighbour.heard.len() > limits::INTERESTS_PER_NEIGHBOUR_MAX
                    || neighbour.heard_bytes > limits::INTEREST_BYTES_PER_NEIGHBOUR_MAX;
                if is_over {
                    return Err(GossipError::Flood);
                }
            }
            Gossip::NoInterest(ids) => {
                for id in ids {
                    if neighbour.heard.remove(id).is_some() {
                        let bytes = self.statements.get(id).map_or(0, |it| it.len());
                        neighbour.heard_bytes -= bytes;
                    }
                }
            }
            _ => return Ok(()),
        }
        self.carry(now);
        Ok(())
    }

    /// The time of [`Interests::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.count_at.is_some_and(|at| at <= now) {
            self.carry(now);
        }
        let due = self.neighbours.iter();
        let due = due.filter(|(_, it)| it.tell_at.is_some_and(|at| at <= now));
        for peer in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.tell(peer);
        }
    }

    // Commands.

    /// What this peer subscribes to, as canonical statements. The first `limits::INTERESTS_OWN_MAX` in the order
    /// of their names that are short enough are told to neighbours; none of them is carried.
    pub fn set_own<'a>(&mut self, now: Duration, statements: impl IntoIterator<Item = &'a str>) {
        self.own.clear();
        let mut own: BTreeMap<SubscriptionId, &str> = BTreeMap::new();
        own.extend(statements.into_iter().map(|text| (name_of(text), text)));
        self.own.extend(own.keys());
        let mut bytes = 0;
        self.own_told.clear();
        for (id, text) in own {
            bytes += text.len();
            let is_short = text.len() <= limits::INTEREST_STATEMENT_BYTES_MAX
                && bytes <= limits::INTEREST_BYTES_PER_NEIGHBOUR_MAX / 2;
            if !is_short {
                bytes -= text.len();
            } else if self.own_told.len() < limits::INTERESTS_OWN_MAX {
                self.own_told.insert(id);
                self.statements.entry(id).or_insert_with(|| text.into());
            }
        }
        self.carry(now);
    }

    // Output.

    /// Bytes for a neighbour, which takes them in with [`Gossip::decode`] and [`Interests::handle`]; call until
    /// `None`. If they cannot be sent, [`Interests::greet`] again.
    pub fn poll(&mut self) -> Option<(PeerId, Vec<u8>)> {
        self.outgoing.pop_front()
    }

    /// When to call [`Interests::handle_timeout`], whatever happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let tells = self.neighbours.values().filter_map(|it| it.tell_at);
        tells.chain(self.count_at).min()
    }

    /// Whether what is carried, and for whom, has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    // Getters.

    /// What this peer subscribes to.
    pub fn own(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        self.own.iter().copied()
    }

    /// What this peer carries for others.
    pub fn carried(&self) -> impl Iterator<Item = Carried> + '_ {
        self.carried.keys().map(|id| self.named(*id))
    }

    /// What the relay of this peer subscribes to at a neighbour: all that it carries for others than that one.
    pub fn wanted_at(&self, peer: PeerId) -> impl Iterator<Item = Carried> + '_ {
        let is_known = self.neighbours.contains_key(&peer);
        let carried = self
            .carried
            .iter()
            .filter(move |(_, wanting)| is_known && wanting.iter().any(|other| *other != peer));
        carried.map(|(id, _)| self.named(*id))
    }

    /// Of [`Interests::wanted_at`], what the relay of that neighbour carries as well.
    pub fn wanted_at_relay(&self, peer: PeerId) -> impl Iterator<Item = Carried> + '_ {
        let heard = self.neighbours.get(&peer).map(|it| &it.heard);
        self.wanted_at(peer).filter(move |it| {
            let heard = heard.and_then(|heard| heard.get(&it.subscription));
            heard.is_some_and(|heard| heard.is_carried)
        })
    }

    /// Whether this peer carries something that a neighbour itself subscribes to.
    pub fn serves(&self, peer: PeerId) -> bool {
        let heard = self.neighbours.get(&peer).map(|it| &it.heard);
        let mut heard = heard.into_iter().flatten();
        heard.any(|(id, it)| !it.is_carried && self.carried.contains_key(id))
    }

    fn named(&self, subscription: SubscriptionId) -> Carried {
        let statement = Arc::clone(&self.statements[&subscription]);
        Carried {
            subscription,
            statement,
        }
    }

    /// Chooses what is carried: one of each neighbour in turn, as many as may be.
    fn carry(&mut self, now: Duration) {
        self.count(now);
        let mut carried: BTreeMap<SubscriptionId, BTreeSet<PeerId>> = BTreeMap::new();
        if self.config.is_relaying {
            let own = &self.own;
            let counted = |it: &(&SubscriptionId, &Heard)| {
                it.1.is_counted && it.1.hops > 0 && !own.contains(it.0)
            };
            let mut turns: Vec<_> = self
                .neighbours
                .values()
                .map(|it| it.heard.iter().filter(counted))
                .collect();
            let mut bytes = 0;
            let mut is_over = turns.is_empty();
            while !is_over {
                is_over = true;
                for turn in &mut turns {
                    let Some((id, _)) = turn.next() else {
                        continue;
                    };
                    is_over = false;
                    let more = bytes + self.statements[id].len();
                    let has_room = carried.len() < limits::INTERESTS_CARRIED_MAX
                        && more <= limits::INTEREST_BYTES_PER_NEIGHBOUR_MAX / 2;
                    if has_room && !carried.contains_key(id) {
                        carried.insert(*id, BTreeSet::new());
                        bytes = more;
                    }
                }
            }
            for (peer, neighbour) in &self.neighbours {
                for (id, heard) in &neighbour.heard {
                    // What another relay carries too has to reach it, also from those for whom this one does.
                    if (heard.hops > 0 || heard.is_carried)
                        && let Some(wanting) = carried.get_mut(id)
                    {
                        wanting.insert(*peer);
                    }
                }
            }
        }
        // What neighbours carry decides what their relays are asked for.
        self.has_changed |= !carried.is_empty() || !self.carried.is_empty();
        self.carried = carried;
        for neighbour in self.neighbours.values_mut() {
            neighbour.tell_by(now + neighbour.pause);
        }
        let (own, neighbours) = (&self.own_told, &self.neighbours);
        self.statements.retain(|id, _| {
            own.contains(id) || neighbours.values().any(|it| it.heard.contains_key(id))
        });
    }

    /// Counts what neighbours brought, as far as their budgets go.
    fn count(&mut self, now: Duration) {
        self.count_at = None;
        for neighbour in self.neighbours.values_mut() {
            let waiting = neighbour.heard.values_mut().filter(|it| !it.is_counted);
            for heard in waiting {
                heard.is_counted = heard.hops == 0 || neighbour.fresh.spend(now, 1);
                if !heard.is_counted {
                    let at = neighbour.fresh.ready_at(now, 1);
                    let at = at.max(now + Duration::from_millis(1));
                    self.count_at = Some(self.count_at.map_or(at, |other| other.min(at)));
                    break;
                }
            }
        }
    }

    /// What a neighbour is to know.
    fn telling(&self, peer: PeerId) -> BTreeMap<SubscriptionId, (u8, bool)> {
        let own = self.own_told.iter();
        let mut telling: BTreeMap<_, _> = own.map(|id| (*id, (self.config.hops, false))).collect();
        for (id, wanting) in &self.carried {
            // Only from elsewhere: what a neighbour wants is not told to it as something to carry.
            let others = wanting.iter().filter(|other| **other != peer);
            let hops = others.filter_map(|other| self.neighbours.get(other)?.heard.get(id));
            let hops = hops.map(|heard| heard.hops.saturating_sub(1));
            let hops = hops.max().unwrap_or(0);
            telling.insert(*id, (hops, true));
        }
        telling
    }

    /// Tells a neighbour what it does not know yet.
    fn tell(&mut self, peer: PeerId) {
        let telling = self.telling(peer);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        neighbour.tell_at = None;
        let is_gone = |id: &&SubscriptionId| !telling.contains_key(id);
        let gone: Vec<_> = neighbour.told.keys().filter(is_gone).copied().collect();
        let mut frames = Vec::new();
        if !gone.is_empty() {
            frames.push(Gossip::NoInterest(gone));
        }
        let mut is_first = std::mem::take(&mut neighbour.is_new);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for (id, terms) in &telling {
            if neighbour.told.get(id) == Some(terms) {
                continue;
            }
            let statement = self.statements[id].to_string();
            bytes += statement.len() + 5;
            if bytes > FRAME_BYTES && !entries.is_empty() {
                let entries = std::mem::take(&mut entries);
                frames.push(Gossip::Interest { is_first, entries });
                is_first = false;
                bytes = statement.len() + 5;
            }
            let (hops, is_carried) = *terms;
            entries.push(Interest {
                hops,
                is_carried,
                statement,
            });
        }
        if is_first || !entries.is_empty() {
            frames.push(Gossip::Interest { is_first, entries });
        }
        neighbour.told = telling;
        let frames = frames.iter().map(|frame| (peer, frame.to_bytes()));
        self.outgoing.extend(frames);
    }
}

/// The name of a subscription (docs/format/wire.md, "The text of a subscription").
fn name_of(statement: &str) -> SubscriptionId {
    SubscriptionId(*blake3::hash(statement.as_bytes()).as_bytes())
}

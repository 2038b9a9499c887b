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
    frame::{GATEWAY_HOPS_MAX, Gossip, HOPS_MAX, Interest},
    gossip::GossipError,
    names::PeerHash,
    uplink::Uplink,
};

/// What is to be told waits for so long, to share a frame.
const TELL_AFTER: Duration = Duration::from_millis(100);

/// The same over Bluetooth, where a frame costs as much as 100 bytes.
const TELL_AFTER_BLE: Duration = Duration::from_secs(1);

/// Sets of what is carried that become larger make relays begin anew, so they wait for a round: at once after
/// a quiet time, then after this, and twice as long each time up to [`ROUND_PAUSE_MAX`], however many
/// neighbours change their minds.
const ROUND_PAUSE_MIN: Duration = Duration::from_secs(1);

const ROUND_PAUSE_MAX: Duration = Duration::from_secs(64);

/// What nobody wants any more is carried for so long: a link that comes back finds all as it was.
const LINGER: Duration = Duration::from_secs(60);

/// What a frame is filled up to: a longer statement than is left is in the next one.
const FRAME_BYTES: usize = 12 * 1024;

/// How a peer passes interest on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterestConfig {
    /// How many strangers in a row may relay what this peer subscribes to: 1, the default, or 2.
    pub hops: u8,
    /// Whether this peer relays for others. Default: it does.
    pub is_relaying: bool,
    /// How others name this peer, if it is a gateway, to which they bring what it subscribes to. Default: it is none.
    pub gateway: Option<PeerHash>,
}

impl Default for InterestConfig {
    fn default() -> Self {
        Self {
            hops: 1,
            is_relaying: true,
            gateway: None,
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

/// How a subscription is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Terms {
    /// How many hops it may go on.
    hops: u8,
    /// How many it may go on towards a gateway.
    up: u8,
    /// Whether it is for others.
    is_carried: bool,
}

impl Terms {
    /// Whether the receiver is to carry it.
    fn is_asking(self) -> bool {
        self.hops > 0 || self.up > 0
    }
}

/// What a neighbour said that is in force.
type InForce = BTreeMap<SubscriptionId, Terms>;

/// What neighbours said that is to be in force. Those that said nothing yet are left out.
type Forces = BTreeMap<PeerId, InForce>;

/// What to carry.
#[derive(Debug, Default)]
struct Plan {
    /// With whom wants it, nearest or not. For nobody, if it is only not let go yet.
    carried: BTreeMap<SubscriptionId, BTreeSet<PeerId>>,
    /// The parts of it that have nothing to do with each other: no neighbour wants something of two of them.
    together: Vec<BTreeSet<SubscriptionId>>,
}

impl Plan {
    /// Whether it brings nothing into the sets of an earlier one that was not there.
    fn fits(&self, earlier: &Self) -> bool {
        let is_in_one = |set: &BTreeSet<_>| earlier.together.iter().any(|it| set.is_subset(it));
        let is_apart = |set: &BTreeSet<_>| set.iter().all(|id| !earlier.carried.contains_key(id));
        let mut sets = self.together.iter();
        sets.all(|set| is_apart(set) || is_in_one(set))
    }
}

/// What a neighbour says of one subscription.
#[derive(Clone, Debug)]
struct Heard {
    terms: Terms,
    /// Whether it counts: too many that are new at once have to wait.
    is_counted: bool,
}

#[derive(Debug)]
struct Neighbour {
    pause: Duration,
    heard: BTreeMap<SubscriptionId, Heard>,
    heard_bytes: usize,
    /// Whether it has said all that it wants.
    is_heard: bool,
    told: BTreeMap<SubscriptionId, Terms>,
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

    /// What it says. Nothing that was not in force before, as long as some of it does not count. `None` before it
    /// has said anything.
    fn said(&self, before: Option<&InForce>) -> Option<InForce> {
        let counts = self.heard.values().all(|it| it.is_counted);
        let stays = |id: &_| counts || before.is_some_and(|before| before.contains_key(id));
        let said = self.heard.iter().filter(|(id, _)| stays(id));
        let said = said.map(|(id, it)| (*id, it.terms));
        (self.is_heard && (counts || before.is_some())).then(|| said.collect())
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
/// What some neighbour wants together is asked of each neighbour together, since one that is asked for a part
/// gives that part of its transactions. So a relay asks that of a neighbour only if it carries all that goes
/// together, and begins anew when more goes together than before. That waits for a *round*, of which there
/// are few; until then the neighbours that it would take in are not served, or as before.
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
    forces: Forces,
    plan: Plan,
    /// When the next round may be, how long after the last one that was, and when the one before was.
    round_at: Duration,
    round_pause: Duration,
    /// When it may be looked again for what needs no round, which takes its time where much is said.
    parted_at: Duration,
    /// When what nobody wants any more is let go.
    tidy_at: Option<Duration>,
    has_changed: bool,
    count_at: Option<Duration>,
    outgoing: VecDeque<(PeerId, Vec<u8>)>,
    uplink: Uplink,
    /// By whom this peer reaches gateways.
    upwards: BTreeSet<PeerId>,
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
            forces: Forces::new(),
            plan: Plan::default(),
            round_at: Duration::ZERO,
            round_pause: Duration::ZERO,
            parted_at: Duration::ZERO,
            tidy_at: None,
            has_changed: false,
            count_at: None,
            outgoing: VecDeque::new(),
            uplink: Uplink::new(config.gateway, config.is_relaying),
            upwards: BTreeSet::new(),
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
            is_heard: false,
            told: BTreeMap::new(),
            is_new: true,
            tell_at: None,
            fresh: Budget::new(now, fresh, 1, pause),
        });
        neighbour.is_new = true;
        neighbour.told.clear();
        self.outgoing.retain(|(to, _)| *to != peer);
        self.uplink.greet(now, peer, is_slow);
        self.tell(peer);
    }

    /// Forgets a neighbour, and what was carried for it alone.
    pub fn leave(&mut self, now: Duration, peer: PeerId) {
        if self.neighbours.remove(&peer).is_some() {
            self.outgoing.retain(|(to, _)| *to != peer);
            self.carry(now);
            self.uplink.leave(now, peer);
            self.follow_gateways(now);
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
                neighbour.is_heard = true;
                if *is_first {
                    neighbour.heard.clear();
                    neighbour.heard_bytes = 0;
                }
                for entry in entries {
                    let id = name_of(&entry.statement);
                    let terms = Terms {
                        hops: entry.hops,
                        up: entry.up,
                        is_carried: entry.is_carried,
                    };
                    let heard = Heard {
                        terms,
                        is_counted: self.plan.carried.contains_key(&id),
                    };
                    match neighbour.heard.get_mut(&id) {
                        Some(there) => there.terms = terms,
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
            _ => {
                self.uplink.handle(now, from, gossip);
                self.follow_gateways(now);
                return Ok(());
            }
        }
        self.carry(now);
        Ok(())
    }

    /// The time of [`Interests::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.uplink.handle_timeout(now);
        self.follow_gateways(now);
        let mut times = [self.count_at, self.tidy_at].into_iter().flatten();
        if times.any(|at| at <= now) {
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
            let is_short =
                text.len() <= limits::INTEREST_STATEMENT_BYTES_MAX && bytes <= self.own_bytes_max();
            if !is_short {
                bytes -= text.len();
            } else if self.own_told.len() < limits::INTERESTS_OWN_MAX {
                self.own_told.insert(id);
                self.statements.entry(id).or_insert_with(|| text.into());
            }
        }
        let told: Vec<_> = self
            .own_told
            .iter()
            .map(|id| self.statements[id].clone())
            .collect();
        self.uplink.set_own(now, self.own.clone(), told);
        if self.config.gateway.is_some() {
            // It is brought to it all the same.
            self.own_told.clear();
        }
        self.carry(now);
    }

    /// Which gateways count: those of which a signed record says that they are one. What neighbours say of others is
    /// kept in mind, and does nothing. None count before this.
    pub fn set_gateways(&mut self, now: Duration, gateways: BTreeSet<PeerHash>) {
        self.uplink.set_known(now, gateways);
        self.follow_gateways(now);
    }

    // Output.

    /// Bytes for a neighbour, which takes them in with [`Gossip::decode`] and [`Interests::handle`]; call until
    /// `None`. If they cannot be sent, [`Interests::greet`] again.
    pub fn poll(&mut self) -> Option<(PeerId, Vec<u8>)> {
        let next = self.outgoing.pop_front();
        next.or_else(|| self.uplink.poll())
    }

    /// When to call [`Interests::handle_timeout`], whatever happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let tells = self.neighbours.values().filter_map(|it| it.tell_at);
        let times = [self.count_at, self.tidy_at, self.uplink.poll_timeout()];
        tells.chain(times.into_iter().flatten()).min()
    }

    /// Whether what is carried, and for whom, has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        let is_uplink = self.uplink.take_changed();
        std::mem::take(&mut self.has_changed) || is_uplink
    }

    // Getters.

    /// How many links the nearest gateway is away, as neighbours say: 0 if this peer is one, `None` if there is no
    /// way to any.
    pub fn gateway_distance(&self) -> Option<u8> {
        self.uplink.distance()
    }

    /// What this peer carries to gateways: as [`Interests::carried`], for a second relay.
    pub fn carried_up(&self) -> impl Iterator<Item = Carried> + '_ {
        self.uplink.carried()
    }

    /// The parts of [`Interests::carried_up`] that have nothing to do with each other.
    pub fn together_up(&self) -> Vec<BTreeSet<SubscriptionId>> {
        self.uplink.together()
    }

    /// What the relay for gateways subscribes to at a neighbour: all that it carries, if the neighbour is further away
    /// from a gateway.
    pub fn wanted_up_at(&self, peer: PeerId) -> BTreeSet<SubscriptionId> {
        self.uplink.wanted_at(peer)
    }

    /// The same at that neighbour's relay for gateways.
    pub fn wanted_up_at_relay(&self, peer: PeerId) -> BTreeSet<SubscriptionId> {
        self.uplink.wanted_at_relay(peer)
    }

    /// Whether this peer carries something for gateways that a neighbour itself subscribes to: as one, or on the way to one.
    pub fn serves_gateway(&self, peer: PeerId) -> bool {
        self.uplink.serves(peer)
    }

    /// What this peer subscribes to.
    pub fn own(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        self.own.iter().copied()
    }

    /// What this peer carries for others.
    pub fn carried(&self) -> impl Iterator<Item = Carried> + '_ {
        self.plan.carried.keys().map(|id| self.named(*id))
    }

    /// The parts of [`Interests::carried`] that have nothing to do with each other: no neighbour wants something
    /// of two of them.
    pub fn together(&self) -> impl Iterator<Item = &BTreeSet<SubscriptionId>> + '_ {
        self.plan.together.iter()
    }

    /// What the relay of this peer subscribes to at a neighbour: what it carries for others than that one, and
    /// what goes together with that. Nothing before the neighbour has said what it wants.
    pub fn wanted_at(&self, peer: PeerId) -> impl Iterator<Item = Carried> + '_ {
        let wanted = self.sets_at(peer).flatten();
        wanted.map(|id| self.named(*id))
    }

    /// Of [`Interests::wanted_at`], what the relay of that neighbour carries as well, with all that goes together
    /// with it.
    pub fn wanted_at_relay(&self, peer: PeerId) -> impl Iterator<Item = Carried> + '_ {
        let heard = self.neighbours.get(&peer).map(|it| &it.heard);
        let sets = self.sets_at(peer).filter(move |set| {
            set.iter().all(|id| {
                let heard = heard.and_then(|heard| heard.get(id));
                heard.is_some_and(|heard| heard.terms.is_carried)
            })
        });
        sets.flatten().map(|id| self.named(*id))
    }

    /// Whether this peer carries something that a neighbour itself subscribes to.
    pub fn serves(&self, peer: PeerId) -> bool {
        let mut said = self.forces.get(&peer).into_iter().flatten();
        said.any(|(id, it)| !it.is_carried && self.plan.carried.contains_key(id))
    }

    /// The sets of which others than a neighbour want something.
    fn sets_at(&self, peer: PeerId) -> impl Iterator<Item = &BTreeSet<SubscriptionId>> + '_ {
        let is_known = self.forces.contains_key(&peer);
        let is_wanted = move |id: &_| {
            let wanting = &self.plan.carried[id];
            wanting.iter().any(|other| *other != peer)
        };
        let sets = self.plan.together.iter();
        sets.filter(move |set| is_known && set.iter().any(is_wanted))
    }

    /// Bytes of the statements that are told of this peer's own.
    fn own_bytes_max(&self) -> usize {
        match self.config.gateway {
            Some(_) => limits::GATEWAY_DEMAND_BYTES_MAX,
            None => limits::INTEREST_BYTES_PER_NEIGHBOUR_MAX / 2,
        }
    }

    /// Tells neighbours anew that have become a way to a gateway, or are none any more.
    fn follow_gateways(&mut self, now: Duration) {
        let upwards = self.uplink.next_hops();
        for peer in upwards.symmetric_difference(&self.upwards) {
            if let Some(neighbour) = self.neighbours.get_mut(peer) {
                neighbour.tell_by(now + neighbour.pause);
            }
        }
        self.upwards = upwards;
    }

    fn named(&self, subscription: SubscriptionId) -> Carried {
        let statement = Arc::clone(&self.statements[&subscription]);
        Carried {
            subscription,
            statement,
        }
    }

    /// Chooses what is carried, and what goes together.
    fn carry(&mut self, now: Duration) {
        self.count(now);
        let said: Forces = self
            .neighbours
            .iter()
            .filter_map(|(peer, it)| Some((*peer, it.said(self.forces.get(peer))?)))
            .collect();
        self.forces.retain(|peer, _| said.contains_key(peer));
        let bare = self.plan_of(&said, &[]);
        let is_round = now >= self.round_at;
        if let Some(plan) = self.plan_that_fits(&said, &bare) {
            let same = |it: &Plan| (it.carried.keys().eq(bare.carried.keys()), it.together.len());
            let is_tidy = same(&plan) == (true, bare.together.len());
            let tidy_at = (!is_tidy).then(|| self.tidy_at.unwrap_or(now + LINGER));
            self.tidy_at = tidy_at.filter(|at| *at > now);
            let is_due = tidy_at.is_some() && self.tidy_at.is_none();
            self.adopt(now, said, if is_due { bare } else { plan });
        } else if is_round {
            let is_quiet = now >= self.round_at + ROUND_PAUSE_MAX;
            self.round_pause = match is_quiet {
                true => ROUND_PAUSE_MIN,
                false => (self.round_pause * 2).clamp(ROUND_PAUSE_MIN, ROUND_PAUSE_MAX),
            };
            self.round_at = now + self.round_pause;
            self.tidy_at = None;
            self.adopt(now, said, bare);
        } else {
            self.tidy_at = None;
            if now < self.parted_at {
                self.count_by(self.parted_at);
                return;
            }
            self.parted_at = now + TELL_AFTER;
            self.count_by(self.round_at);
            let (forces, plan) = self.part_that_fits(&said);
            self.adopt(now, forces, plan);
        }
    }

    /// What is said, if that needs no round.
    fn plan_that_fits(&self, said: &Forces, bare: &Plan) -> Option<Plan> {
        let plan = self.plan_of(said, &self.plan.together);
        let mut new = bare.carried.keys();
        let has_room = new.all(|id| plan.carried.contains_key(id));
        (has_room && plan.fits(&self.plan)).then_some(plan)
    }

    /// What is in force, and of what is said anew that which needs no round, one neighbour after the other.
    fn part_that_fits(&self, said: &Forces) -> (Forces, Plan) {
        let mut forces = self.forces.clone();
        for (peer, said) in said {
            let before = forces.insert(*peer, said.clone());
            if before.as_ref() == Some(said) {
                continue;
            }
            let bare = self.plan_of(&forces, &[]);
            if self.plan_that_fits(&forces, &bare).is_none() {
                match before {
                    Some(before) => forces.insert(*peer, before),
                    None => forces.remove(peer),
                };
            }
        }
        let plan = self.plan_of(&forces, &self.plan.together);
        (forces, plan)
    }

    fn adopt(&mut self, now: Duration, forces: Forces, plan: Plan) {
        // What neighbours carry decides what their relays are asked for.
        self.has_changed |= !plan.carried.is_empty() || !self.plan.carried.is_empty();
        self.forces = forces;
        self.plan = plan;
        for neighbour in self.neighbours.values_mut() {
            neighbour.tell_by(now + neighbour.pause);
        }
        let (own, carried, neighbours) = (&self.own_told, &self.plan.carried, &self.neighbours);
        self.statements.retain(|id, _| {
            own.contains(id)
                || carried.contains_key(id)
                || neighbours.values().any(|it| it.heard.contains_key(id))
        });
    }

    /// What to carry: what is kept of before, and one of each neighbour in turn, as many as may be.
    fn plan_of(&self, forces: &Forces, kept: &[BTreeSet<SubscriptionId>]) -> Plan {
        let mut carried: BTreeMap<SubscriptionId, BTreeSet<PeerId>> = BTreeMap::new();
        if !self.config.is_relaying {
            return Plan::default();
        }
        let mut bytes = 0;
        let mut carry = |id: &SubscriptionId, carried: &mut BTreeMap<_, _>| {
            // Of what is taken back, and still in force, perhaps nobody knows the text any more.
            let Some(statement) = self.statements.get(id) else {
                return;
            };
            let more = bytes + statement.len();
            let has_room = carried.len() < limits::INTERESTS_CARRIED_MAX
                && more <= limits::INTEREST_BYTES_PER_NEIGHBOUR_MAX / 2;
            if has_room && !self.own.contains(id) && !carried.contains_key(id) {
                carried.insert(*id, BTreeSet::new());
                bytes = more;
            }
        };
        kept.iter().flatten().for_each(|id| carry(id, &mut carried));
        let wants = |it: &(&SubscriptionId, &Terms)| it.1.is_asking() && !self.own.contains(it.0);
        let mut turns: Vec<_> = forces.values().map(|it| it.iter().filter(wants)).collect();
        let mut is_over = turns.is_empty();
        while !is_over {
            is_over = true;
            for (id, _) in turns.iter_mut().filter_map(Iterator::next) {
                is_over = false;
                carry(id, &mut carried);
            }
        }
        let mut sets: Vec<BTreeSet<_>> = kept.to_vec();
        for (peer, said) in forces {
            for is_for_others in [false, true] {
                let of_kind = said.iter().filter(|(_, it)| it.is_carried == is_for_others);
                let set = of_kind.map(|(id, _)| *id);
                sets.push(set.filter(|id| carried.contains_key(id)).collect());
            }
            for (id, terms) in said {
                // What another relay carries too has to reach it, also from those for whom this one does.
                if (terms.is_asking() || terms.is_carried)
                    && let Some(wanting) = carried.get_mut(id)
                {
                    wanting.insert(*peer);
                }
            }
        }
        for set in &mut sets {
            set.retain(|id| carried.contains_key(id));
        }
        let together = joined(sets);
        Plan { carried, together }
    }

    /// Counts what neighbours brought, as far as their budgets go.
    fn count(&mut self, now: Duration) {
        let mut count_at = Duration::MAX;
        for neighbour in self.neighbours.values_mut() {
            let waiting = neighbour.heard.values_mut().filter(|it| !it.is_counted);
            for heard in waiting {
                heard.is_counted = !heard.terms.is_asking() || neighbour.fresh.spend(now, 1);
                if !heard.is_counted {
                    let at = neighbour.fresh.ready_at(now, 1);
                    count_at = count_at.min(at.max(now + Duration::from_millis(1)));
                    break;
                }
            }
        }
        self.count_at = (count_at < Duration::MAX).then_some(count_at);
    }

    fn count_by(&mut self, at: Duration) {
        self.count_at = Some(self.count_at.map_or(at, |other| other.min(at)));
    }

    /// What a neighbour is to know.
    fn telling(&self, peer: PeerId) -> BTreeMap<SubscriptionId, Terms> {
        let is_upwards = self.upwards.contains(&peer);
        let own = self.own_told.iter();
        let terms = Terms {
            hops: self.config.hops,
            up: if is_upwards { GATEWAY_HOPS_MAX } else { 0 },
            is_carried: false,
        };
        let mut telling: BTreeMap<_, _> = own.map(|id| (*id, terms)).collect();
        for (id, wanting) in &self.plan.carried {
            // Only from elsewhere: what a neighbour wants is not told to it as something to carry.
            let others = wanting.iter().filter(|other| **other != peer);
            let others = others.filter_map(|other| self.neighbours.get(other)?.heard.get(id));
            let mut terms = Terms {
                hops: 0,
                up: 0,
                is_carried: true,
            };
            for heard in others {
                terms.hops = terms.hops.max(heard.terms.hops.saturating_sub(1));
                terms.up = terms.up.max(heard.terms.up.saturating_sub(1));
            }
            terms.up *= u8::from(is_upwards);
            telling.insert(*id, terms);
        }
        if is_upwards {
            self.take_along(peer, &mut telling);
        }
        telling
    }

    /// Of what goes together all goes towards gateways, or nobody there would be asked for it. What nobody but the
    /// receiver wants stays: the two would have each other carry it for ever.
    fn take_along(&self, peer: PeerId, telling: &mut BTreeMap<SubscriptionId, Terms>) {
        for set in &self.plan.together {
            let ups = set.iter().filter_map(|id| Some(telling.get(id)?.up));
            let up = ups.max().unwrap_or(0);
            for id in set {
                let mut wanting = self.plan.carried[id].iter();
                if wanting.any(|it| *it != peer)
                    && let Some(terms) = telling.get_mut(id)
                {
                    terms.up = up;
                }
            }
        }
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
            entries.push(Interest {
                hops: terms.hops,
                up: terms.up,
                is_carried: terms.is_carried,
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
pub(crate) fn name_of(statement: &str) -> SubscriptionId {
    SubscriptionId(*blake3::hash(statement.as_bytes()).as_bytes())
}

/// Joins sets that have something in common, in a stable order.
pub(crate) fn joined(sets: Vec<BTreeSet<SubscriptionId>>) -> Vec<BTreeSet<SubscriptionId>> {
    let mut joined: Vec<BTreeSet<SubscriptionId>> = Vec::new();
    for mut set in sets.into_iter().filter(|set| !set.is_empty()) {
        joined.retain_mut(|it| {
            let is_apart = it.is_disjoint(&set);
            if !is_apart {
                set.append(it);
            }
            is_apart
        });
        joined.push(set);
    }
    joined.sort();
    joined
}

//! The state of a session on the link in use. It is made anew for each link, so that what was under
//! way on a link that died cannot confuse the next.

mod checks;
mod gathering;
mod greeting;
mod held;
mod moving;
mod requests;
mod scopes;
mod sending;
mod statements;
mod waiting;
mod windows;

use std::{collections::BTreeSet, time::Duration};

use idem_model::{ActorId, CollectionName, Lane, LinkId, PeerId, Timestamp, limits};
use idem_wire::{Check, Message, Resumption, SubscriptionId, Transfer};

use checks::Checks;
use statements::Texts;
use windows::told_reach;

use crate::{
    carriage::Carriage,
    confirmed::Confirmed,
    control::ControlQueue,
    event::{CloseReason, Event},
    failure::Failure,
    few::Few,
    inlet::Inlet,
    known::Known,
    mirrors::Hearing,
    outlet::Outlet,
    replica::Replica,
    session::{FRAME_BYTES_MIN, LinkProperties, SessionStats},
    sink::{Offer, Sink, Taking},
    sketch::Salt,
    source::{Comparing, Source},
    spent::Spent,
    stale::Stale,
    statements::Statements,
    untaken::Untaken,
    wanted::{Service, Wanted},
};

/// How long a handshake may take.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the remote may owe an acknowledgement or an answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The lanes that carry documents, the most urgent first.
const DATA_LANES: [Lane; 2] = [Lane::Interactive, Lane::Bulk];

/// The state of a session on the link in use.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// The link in use, or the one that is hoped for.
    pub(crate) link: LinkId,
    pub(crate) phase: Phase,
    pub(crate) carriage: Carriage,
    /// When the remote is to be told that no link is in use here, unless it has chosen one by then.
    pub(crate) lost_at: Option<Duration>,
    pub(crate) properties: LinkProperties,
    pub(crate) since: Duration,
    /// Whether our HELLO has yet to be made.
    pub(crate) hello_due: bool,
    /// The life of our store as we introduced it.
    pub(crate) actor: Option<ActorId>,
    control: ControlQueue,
    peer: Option<Peering>,
    /// Texts of subscriptions of which the rest is to come.
    texts: Texts,
    /// What the remote has asked of this peer, but for the scans that are counted where they happen.
    spent: Spent,
    /// How often the remote had us start again.
    restarts: u8,
    /// Documents that came before the HELLO of the remote.
    early: Vec<Vec<u8>>,
    /// Whether it was decided what our HELLO offers.
    pub(crate) is_offer_made: bool,
    /// What our HELLO says of it.
    pub(crate) resumption: Option<Resumption>,
    /// What our HELLO offers to go on with, until the remote has introduced itself.
    pub(crate) offer: Option<Offer>,
    /// The floor that our HELLO told.
    pub(crate) floor_told: Timestamp,
}

/// What a link is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Frames go both ways, or the sides introduce themselves.
    Steady,
    /// This side chose the link, and the remote has yet to say whether it goes on there.
    Moving {
        /// Since when.
        since: Duration,
    },
    /// The link in use was lost, and the remote has yet to choose another one.
    Adrift {
        /// Since when.
        since: Duration,
    },
}

/// What there is once the remote has introduced itself.
#[derive(Debug)]
struct Peering {
    version: u16,
    /// The largest frame that the remote takes.
    frame_bytes_taken: u32,
    /// The largest frame that both sides and the link in use carry.
    frame_bytes_max: u32,
    source: Source,
    sink: Sink,
    outlets: [Outlet; 2],
    inlets: [Inlet; 2],
    checks: Checks,
    confirmed: Confirmed,
    /// Under which both sides compare what they hold.
    salt: Salt,
    /// What would be compared waits so long for what the remote is about to ask for.
    waits_until: Option<Duration>,
    /// Whether the remote was told that others have the same.
    is_fed_by_others: bool,
}

impl Peering {
    /// Accounts a frame that is dealt with at once.
    fn consume(&mut self, lane: Lane, frame_bytes: usize) -> Result<(), Failure> {
        let inlet = &mut self.inlets[data_lane(lane)?];
        inlet.receive(frame_bytes)?;
        inlet.consume(frame_bytes);
        Ok(())
    }

    /// Whether what this side is to ask for waits for what the remote asks for: where both want the same,
    /// one comparison serves both. All of it waits, since what is asked for together starts together.
    fn is_waiting_to_ask(
        &self,
        now: Duration,
        replica: &impl Replica,
        wanted: &Wanted,
    ) -> Result<bool, Failure> {
        let comparable = self.sink.comparable(replica, wanted)?;
        let is_early =
            self.waits_until.is_some_and(|until| now < until) && !self.source.has_begun();
        let is_compared = self.source.is_comparing(&comparable);
        Ok(!comparable.is_empty() && (is_early || is_compared))
    }

    /// Takes a position, if everything up to one was queued.
    fn note_position(&mut self) {
        if let Some(commit) = self.source.read_to() {
            let made = self.outlets.each_ref().map(Outlet::batches_made);
            let acknowledged = self.outlets.each_ref().map(Outlet::batches_acknowledged);
            self.confirmed.queued(commit, made, acknowledged);
        }
    }

    /// The commit up to which the remote holds everything that it wants; `None` if it has not said yet
    /// what that is.
    fn confirmed(&self) -> Option<u64> {
        if !self.source.is_subscribed() {
            return None;
        }
        let confirmed = self.confirmed.commit();
        Some(match self.source.behind_from() {
            // It goes on from where an earlier link ended.
            Some(held_to) if confirmed == 0 => held_to,
            Some(held_to) => confirmed.min(held_to),
            None => confirmed,
        })
    }
}

/// What both sides found out of each other before anything is asked for.
pub(crate) struct Terms {
    pub(crate) remote: PeerId,
    pub(crate) version: u16,
    /// Under which both compare what they hold.
    pub(crate) salt: Salt,
    /// Whether this side greets first.
    pub(crate) is_leader: bool,
}

/// The parts of a session that outlive its links.
pub(crate) struct Lasting<'a> {
    pub(crate) known: &'a mut Known,
    /// What is outdated at the remote.
    pub(crate) stale: &'a mut Stale,
    /// Documents of the remote that were not taken in.
    pub(crate) untaken: &'a mut Untaken,
    pub(crate) wanted: &'a Wanted,
    pub(crate) statements: &'a mut Statements,
    /// What the remote subscribes to, so that it need not name it on the next link.
    pub(crate) standing: &'a mut Few<SubscriptionId, Service>,
    pub(crate) stats: &'a mut SessionStats,
    pub(crate) events: &'a mut Vec<Event>,
}

impl Lasting<'_> {
    /// `ours` are whole collections that this side is about to ask for, without a position.
    fn comparing<'a, R>(
        &'a mut self,
        now: Duration,
        replica: &'a R,
        ours: BTreeSet<SubscriptionId>,
    ) -> Comparing<'a, R> {
        Comparing {
            now,
            replica,
            known: self.known,
            ours,
        }
    }
}

impl Attachment {
    /// `spent` is what the remote has asked for on earlier links.
    pub(crate) fn new(
        now: Duration,
        link: LinkId,
        properties: LinkProperties,
        spent: Spent,
    ) -> Self {
        Self {
            link,
            phase: Phase::Steady,
            carriage: Carriage::default(),
            lost_at: None,
            properties,
            since: now,
            hello_due: false,
            actor: None,
            control: ControlQueue::default(),
            peer: None,
            texts: Texts::default(),
            spent,
            restarts: 0,
            early: Vec::new(),
            is_offer_made: false,
            resumption: None,
            offer: None,
            floor_told: Timestamp::ZERO,
        }
    }

    // Input.

    /// Takes in a frame of the remote that is not a HELLO or BYE.
    #[expect(clippy::too_many_lines, reason = "one entry for each message")]
    pub(crate) fn handle<R: Replica>(
        &mut self,
        now: Duration,
        replica: &mut R,
        lasting: &mut Lasting<'_>,
        frame_bytes: usize,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        self.follow_scopes(replica, lasting);
        let Some(peer) = self.peer.as_mut() else {
            let detail = "message before the handshake";
            return Err(Failure::new(CloseReason::Malformed, detail));
        };
        match message {
            Message::Ack {
                lane: Lane::Control,
                consumed_bytes,
                batches,
            } => self.carriage.confirm_control(consumed_bytes, batches)?,
            Message::Ack {
                lane,
                consumed_bytes,
                batches,
            } => {
                let lane = data_lane(lane)?;
                let outlet = &mut peer.outlets[lane];
                peer.source.settled(DATA_LANES[lane], batches);
                for (batch, keys) in outlet.acknowledge(now, consumed_bytes, batches)? {
                    for key in keys {
                        lasting.known.delivered(key, DATA_LANES[lane], batch);
                    }
                }
                self.carriage.confirm_data(lane, consumed_bytes);
                let acknowledged = peer.outlets.each_ref().map(Outlet::batches_acknowledged);
                peer.confirmed.acknowledged(acknowledged);
                peer.vouch(replica);
            }
            Message::Transfer(transfer) => {
                self.transfer(now, replica, lasting, frame_bytes, &transfer)?;
                self.note_news(replica, lasting)?;
            }
            Message::Have {
                lane,
                number,
                documents,
            } => {
                let inlet = &mut peer.inlets[data_lane(lane)?];
                inlet.receive(frame_bytes)?;
                inlet.consume(frame_bytes);
                let answers = peer.sink.answer(number, &documents, replica)?;
                answers.into_iter().try_for_each(|it| self.queue(it))?;
            }
            Message::Answer {
                number,
                more,
                holdings,
            } => {
                let known = &mut *lasting.known;
                if !peer.source.answered(number, more, holdings, known)? {
                    self.count_request(now)?;
                }
            }
            Message::Checked(checked) => {
                peer.consume(checked.lane, frame_bytes)?;
                self.checked(now, replica, lasting, checked)?;
            }
            Message::Floor { lane, floor } => {
                peer.consume(lane, frame_bytes)?;
                self.count_request(now)?;
                self.raise_floor(data_lane(lane)?, floor);
            }
            Message::Items(list) if list.alias >= Check::ALIAS_MIN => {
                peer.consume(list.lane, frame_bytes)?;
                peer.checks.answering.take_items(now, &list, replica)?;
            }
            Message::Items(list) => {
                let inlet = &mut peer.inlets[data_lane(list.lane)?];
                inlet.receive(frame_bytes)?;
                inlet.consume(frame_bytes);
                let ours = peer.sink.comparable(replica, lasting.wanted)?;
                let mut comparing = lasting.comparing(now, replica, ours);
                peer.source.take_items(&list, &mut comparing)?;
            }
            Message::Compared(compared) => {
                peer.consume(compared.lane, frame_bytes)?;
                let mut hearing = Hearing {
                    salt: peer.salt,
                    replica,
                    wanted: lasting.wanted,
                    known: lasting.known,
                };
                let lacks = peer.sink.mirrors.hear(compared, &mut hearing)?;
                let mut lacks = lacks.into_iter().map(Message::Lacks);
                lacks.try_for_each(|it| self.queue(it.to_bytes()))?;
            }
            Message::Accept(_) | Message::Extension { .. } => self.count_request(now)?,
            Message::Resumed {
                is_known,
                is_caught_up,
            } => {
                peer.sink.resumed(is_known, is_caught_up, lasting.events)?;
                self.note_news(replica, lasting)?;
            }
            Message::Refuse {
                alias,
                is_closed,
                detail,
            } => {
                self.count_request(now)?;
                self.refused(alias, is_closed, detail, lasting);
            }
            Message::Gossip { bytes } => {
                self.count_request(now)?;
                lasting.events.push(Event::Gossip(bytes.to_vec()));
            }
            Message::AskReach(question) => {
                self.count_request(now)?;
                self.asked_reach(replica, lasting, question)?;
            }
            Message::Reach(reach) => {
                self.count_request(now)?;
                lasting.events.push(told_reach(reach));
            }
            Message::Invite { alias } => {
                self.count_request(now)?;
                self.invited(alias, lasting)?;
            }
            request => {
                self.count_request(now)?;
                self.handle_request(now, replica, lasting, request)?;
            }
        }
        Ok(())
    }

    /// Notes what is caught up with, if something is since the last time.
    fn note_news<R: Replica>(
        &mut self,
        replica: &mut R,
        lasting: &mut Lasting<'_>,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        if !peer.sink.take_news() {
            return Ok(());
        }
        let collections: Vec<_> = peer.sink.caught_up(lasting.wanted).into_iter().collect();
        if !collections.is_empty() {
            let are_all = collections.len() == lasting.wanted.collections().count();
            lasting.events.push(Event::CollectionsCaughtUp {
                collections,
                are_all,
            });
        }
        self.note_synced(replica, lasting)
    }

    fn transfer<R: Replica>(
        &mut self,
        now: Duration,
        replica: &mut R,
        lasting: &mut Lasting<'_>,
        frame_bytes: usize,
        transfer: &Transfer<'_>,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let inlet = &mut peer.inlets[data_lane(transfer.lane)?];
        inlet.receive(frame_bytes)?;
        let Some(body) = inlet.take(now, frame_bytes, transfer)? else {
            return Ok(());
        };
        let batch = inlet.next_batch();
        let mut taking = Taking {
            now,
            lane: transfer.lane,
            batch,
            rewinds: &mut self.spent.rewinds,
            floor_told: self.floor_told,
            told_bytes_max: limits::TOLD_VERSIONS_BYTES_MAX.saturating_sub(self.control.bytes()),
            replica: &mut *replica,
            known: lasting.known,
            untaken: lasting.untaken,
            wanted: lasting.wanted,
            closed: peer.sink.closed_collections().clone(),
            stats: lasting.stats,
            events: lasting.events,
        };
        let taken = peer.sink.take(transfer.lane, &body, &mut taking)?;
        // What it announced may be here already, and not be durable.
        let gathering = replica.gathering().filter(|_| !taken.announced.is_empty());
        let held = gathering.map_or(0, |it| it.progress().1);
        inlet.settle(frame_bytes, taken.commit.max(held), taken.is_hearsay);
        let (known, stale) = (&*lasting.known, &mut *lasting.stale);
        peer.source
            .find_stale(taken.unchanged, replica, known, stale)?;
        peer.source.hear(&taken.announced, lasting.known);
        if taken.restarts {
            peer.inlets.iter_mut().for_each(Inlet::restart);
        }
        let mut frames = taken.told.frames;
        if taken.told.is_cut && !taken.restarts {
            let lane = transfer.lane;
            frames.push(Message::Unheld { lane, batch }.to_bytes());
        }
        frames.into_iter().try_for_each(|it| self.queue(it))
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        self.carriage.handle_timeout(now);
        if let Some(peer) = &mut self.peer {
            peer.source.handle_timeout(now);
            peer.waits_until.take_if(|until| *until <= now);
            peer.outlets.iter_mut().for_each(|outlet| outlet.rest(now));
            peer.inlets.iter_mut().for_each(|it| it.handle_timeout(now));
        }
    }

    // Commands.

    pub(crate) fn want(&mut self, subscription: SubscriptionId) {
        if let Some(peer) = &mut self.peer {
            peer.sink.want(subscription);
        }
    }

    pub(crate) fn unwant(&mut self, subscription: SubscriptionId) {
        if let Some(peer) = &mut self.peer
            && let Some(message) = peer.sink.unwant(subscription)
        {
            self.control.push(message.to_bytes());
        }
    }

    /// Has leave at once what waits for more to go with it.
    pub(crate) fn hasten(&mut self) {
        if let Some(peer) = &mut self.peer {
            peer.source.hasten_cursors();
        }
    }

    /// Queues an answer.
    pub(crate) fn queue(&mut self, frame: Vec<u8>) -> Result<(), Failure> {
        self.control.answer(frame)
    }

    // Getters.

    /// The largest frame that can be sent.
    fn frame_bytes_max(&self) -> usize {
        let agreed = self.peer.as_ref().map(|peer| peer.frame_bytes_max);
        agreed.unwrap_or(FRAME_BYTES_MIN) as usize
    }

    /// The local commit up to which the remote has confirmed to hold, durably, all that it wants;
    /// `None` if it has not said what that is.
    pub(crate) fn confirmed(&self) -> Option<u64> {
        self.peer.as_ref().and_then(Peering::confirmed)
    }

    /// The collections of which the remote wants documents.
    pub(crate) fn remote_collections(&self) -> impl Iterator<Item = &CollectionName> {
        let peer = self.peer.iter();
        peer.flat_map(|peer| peer.source.collections())
    }

    /// What the remote is served.
    pub(crate) fn remote_subscriptions(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        let peer = self.peer.iter();
        peer.flat_map(|peer| peer.source.subscriptions())
    }

    /// Bytes in memory that wait to be sent, or for the rest of their batch.
    pub(crate) fn queued_bytes(&self) -> u64 {
        let control = self.control.bytes();
        let lanes = self.peer.as_ref().map_or(0, |peer| {
            let outlets = peer.outlets.iter().map(Outlet::queued_bytes);
            let inlets = peer.inlets.iter().map(Inlet::queued_bytes);
            outlets.chain(inlets).sum::<usize>()
        });
        (control + lanes + self.carriage.kept_bytes()) as u64
    }

    /// What the remote has asked of this peer so far.
    pub(crate) fn spent(&self) -> Spent {
        let mut spent = self.spent;
        if let Some(peer) = &self.peer {
            spent.source = peer.source.scans;
            spent.answering = peer.checks.answering.scans;
            spent.asking = peer.checks.asking.scans;
        }
        spent
    }

    /// The protocol version, if the handshake is done.
    pub(crate) fn version(&self) -> Option<u16> {
        self.peer.as_ref().map(|peer| peer.version)
    }
}

/// The index of a lane that carries documents.
fn data_lane(lane: Lane) -> Result<usize, Failure> {
    let index = DATA_LANES.iter().position(|it| *it == lane);
    index.ok_or_else(|| Failure::new(CloseReason::Malformed, "documents on a wrong lane"))
}

#[cfg(test)]
mod tests {
    use idem_model::DatabaseId;
    use idem_wire::Hello;

    use super::*;
    use crate::{
        memory::MemoryReplica,
        session::{Session, SessionConfig},
        spent::Scans,
    };

    const NOW: Duration = Duration::from_secs(100);

    fn scans(documents: u64) -> Scans {
        Scans {
            documents,
            symbols: 2 * documents,
        }
    }

    fn counts(spent: Spent) -> [(u64, u64); 3] {
        [spent.source, spent.answering, spent.asking].map(|it| (it.documents, it.symbols))
    }

    /// The HELLO of the peer with the smaller id.
    fn hello() -> Hello {
        let mut session = Session::new(SessionConfig {
            database: DatabaseId([1; 16]),
            local: PeerId([1; 32]),
            remote: PeerId([2; 32]),
            seed: 1,
        });
        session.handle_link_up(NOW, LinkId(1), LinkProperties::default());
        let replica = MemoryReplica::new(ActorId([1; 16]), 1_000);
        let transmit = session.poll_transmit(NOW, &replica);
        match Message::decode(&transmit.expect("the leader greets").frame) {
            Ok(Message::Hello(hello)) => hello,
            other => panic!("{other:?} is no HELLO"),
        }
    }

    #[test]
    fn what_the_remote_caused_is_handed_from_link_to_link_until_a_window_is_over() {
        let mut spent = Spent::default();
        let begun = spent.count_request(NOW).expect("it is the first one");
        assert!(begun);
        (spent.source, spent.answering, spent.asking) = (scans(3), scans(5), scans(7));
        let properties = LinkProperties::default();
        let mut attachment = Attachment::new(NOW, LinkId(1), properties, spent);
        assert_eq!(counts(attachment.spent()), [(3, 6), (5, 10), (7, 14)]);
        let (mut known, mut stale) = (Known::default(), Stale::default());
        let (mut statements, mut standing) = (Statements::default(), Few::default());
        let mut untaken = Default::default();
        let (mut stats, mut events) = (SessionStats::default(), Vec::new());
        let mut lasting = Lasting {
            known: &mut known,
            stale: &mut stale,
            wanted: &Wanted::default(),
            statements: &mut statements,
            standing: &mut standing,
            untaken: &mut untaken,
            stats: &mut stats,
            events: &mut events,
        };
        let terms = Terms {
            remote: PeerId([1; 32]),
            version: 1,
            salt: Salt([0; 16]),
            is_leader: false,
        };
        let replica = MemoryReplica::new(ActorId([2; 16]), 1_000);
        let established = attachment.establish(NOW, &replica, &mut lasting, &hello(), terms);
        assert!(established.is_ok());
        assert_eq!(counts(attachment.spent()), [(3, 6), (5, 10), (7, 14)]);
        let peer = attachment.peer.as_mut().expect("just established");
        peer.source.scans.documents += 10;
        peer.checks.answering.scans.documents += 20;
        peer.checks.asking.scans.symbols += 30;
        assert_eq!(counts(attachment.spent()), [(13, 6), (25, 10), (7, 44)]);
        let later = NOW + Duration::from_secs(10);
        assert!(
            attachment
                .count_request(later - Duration::from_millis(1))
                .is_ok()
        );
        assert_eq!(counts(attachment.spent()), [(13, 6), (25, 10), (7, 44)]);
        assert!(attachment.count_request(later).is_ok());
        assert_eq!(counts(attachment.spent()), [(0, 0); 3]);
    }
}

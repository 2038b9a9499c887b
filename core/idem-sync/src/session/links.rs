//! The links of a session: which one is used, and how both sides come to use the same.
//!
//! The *leader* chooses, and counts its choices. It greets the other side on the link, or, where there
//! is something to go on with, says how far it is at the beginning of each lane of the link (MOVE); the
//! other side answers alike. A side takes nothing from a lane before that word came on it, since what
//! is older comes again. Who may not choose and has no link in use, because that one died or the session
//! is a fresh one, tells the leader on another link (LOST) until it has chosen.

use std::time::Duration;

use idem_model::{Lane, LinkId, limits};
use idem_wire::{Hello, Message, Move};

use super::{LinkProperties, Session, Transmit};
use crate::{
    attachment::{Attachment, HANDSHAKE_TIMEOUT, Phase},
    carriage::{LANES, counted_lane, place},
    event::{CloseReason, Event},
    failure::{Failure, cut},
};

/// So long the other side has to choose a link that is new, before it is told that none is in use here.
const CHOICE_DELAY: Duration = Duration::from_secs(1);

/// It is told again after this time, as long as nothing is chosen: the leader may have waited for an answer
/// over a link that is dead too.
const LOST_INTERVAL: Duration = Duration::from_secs(2);

/// The answer to a choice has so long to come before the leader listens to who says that no link is in use.
/// Over a slow link the two cross each other.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// A link that is up.
#[derive(Debug)]
pub(super) struct LinkState {
    properties: LinkProperties,
    /// Whether it was chosen before, so that something of then may still be on its way.
    is_used: bool,
    /// The last choice that a MOVE on it was about.
    choice: Option<u64>,
    /// The lanes on which nothing of before that can come any more.
    is_open: [bool; 3],
}

impl LinkState {
    fn new(properties: LinkProperties) -> Self {
        Self {
            properties,
            is_used: false,
            choice: None,
            is_open: [true; 3],
        }
    }

    /// It is begun anew with a choice: each lane waits for the word of the other side.
    fn begin(&mut self, choice: u64) {
        self.is_used = true;
        self.choice = Some(choice);
        self.is_open = [false; 3];
    }
}

impl Session {
    // Input.

    /// A link to the remote is up. Beyond `limits::LINKS_PER_SESSION_MAX` links, more are ignored: offer
    /// them again when another one is gone. Nothing happens for one that is known. One that the session
    /// gave up ([`Event::Closed`]) must not be offered again.
    pub fn handle_link_up(&mut self, now: Duration, link: LinkId, properties: LinkProperties) {
        let is_known = self.links.contains_key(&link);
        if is_known || self.links.len() >= limits::LINKS_PER_SESSION_MAX {
            return;
        }
        self.links.insert(link, LinkState::new(properties));
        if self.attachment.is_none() {
            self.go_on(now);
        }
        self.keep_frames(now);
    }

    /// A link has another rank from now on ([`LinkProperties::rank`]).
    pub fn handle_link_rank(&mut self, _now: Duration, link: LinkId, rank: u32) {
        if let Some(state) = self.links.get_mut(&link) {
            state.properties.rank = rank;
        }
    }

    /// A link is gone. Frames on their way over it may or may not have arrived.
    pub fn handle_link_down(&mut self, now: Duration, link: LinkId) {
        self.links.remove(&link);
        self.notices.retain(|notice| notice.link != link);
        if self.active_link() == Some(link) {
            self.go_on(now);
        }
        self.keep_frames(now);
    }

    // Commands.

    /// Has leave at once what waits for more to go with it: how far the remote is in what is here. A
    /// remote that does not hear of it does not know, when this side comes back after long, of what it
    /// had before. To be called before a link is closed on purpose, and before [`Session::close`]; after
    /// it [`Session::poll_transmit`] gives what is left to say, before any frame of the bulk lane.
    pub fn prepare_close(&mut self) {
        if let Some(attachment) = &mut self.attachment {
            attachment.hasten();
        }
    }

    /// Says goodbye on all links. Subscriptions stay for the next ones.
    pub fn close(&mut self, _now: Duration) {
        let links: Vec<_> = self.links.keys().copied().collect();
        let active = self.active_link().filter(|_| self.is_established());
        for link in links {
            self.give_up(link, Failure::new(CloseReason::Goodbye, ""));
            if active == Some(link)
                && let Some(goodbye) = self.notices.back_mut()
            {
                // Behind what was said last: nothing that comes after a goodbye is heard.
                goodbye.lane = Lane::Interactive;
            }
        }
        if self.attachment.is_some() {
            self.leave_link();
            self.push_event(Event::Suspended);
        }
    }

    // Whether a frame counts.

    /// Whether a message is of the link in use, and behind the word that begins its lane.
    pub(super) fn takes(&self, link: LinkId, message: &Message<'_>) -> bool {
        let Some(attachment) = self.attachment.as_ref().filter(|it| it.link == link) else {
            return false;
        };
        let Some(state) = self.links.get(&link) else {
            return false;
        };
        // A lane that sessions do not use is refused where the message is read.
        let lane = counted_lane(message).unwrap_or(Lane::Control);
        let is_open = place(lane).is_none_or(|lane| state.is_open[lane]);
        // Who is yet to be greeted on a link that was used before hears what is left of then.
        let is_leftover = attachment.version().is_none() && !self.is_leader() && state.is_used;
        attachment.phase == Phase::Steady && is_open && !is_leftover
    }

    /// Whether a HELLO is about a choice that was replaced since.
    pub(super) fn is_outdated(&self, link: LinkId, hello: &Hello) -> bool {
        if self.is_leader() {
            return self.active_link() != Some(link) || hello.choice != self.choice;
        }
        let is_same = |(instance, _)| instance == hello.instance;
        self.remote_instance.is_some_and(is_same) && hello.choice <= self.choice
    }

    // The link in use.

    /// Of two peers, one chooses the link, or they might choose differently.
    pub(super) fn is_leader(&self) -> bool {
        self.config.local < self.config.remote
    }

    /// The link to use. Of equals the latest: what cut one link may have cut those before it.
    fn best_link(&self) -> Option<LinkId> {
        let links = self.links.iter();
        let best = links.min_by_key(|(link, it)| (it.properties.rank, std::cmp::Reverse(**link)));
        best.map(|(link, _)| *link)
    }

    fn properties(&self, link: LinkId) -> LinkProperties {
        let state = self.links.get(&link);
        state.map(|it| it.properties).unwrap_or_default()
    }

    /// Frames are kept as long as another link could go on with them.
    fn keep_frames(&mut self, now: Duration) {
        let is_keeping = self.links.len() > 1;
        if let Some(attachment) = &mut self.attachment {
            attachment.carriage.keep(now, is_keeping);
        }
    }

    pub(super) fn attach(&mut self, now: Duration, link: LinkId, hello_due: bool) {
        let properties = self.properties(link);
        self.leave_link();
        let mut attachment = Attachment::new(now, link, properties, self.spent);
        let (is_leader, choice) = (self.is_leader(), self.choice);
        attachment.hello_due = hello_due;
        attachment.lost_at = (!is_leader && !hello_due).then_some(now + CHOICE_DELAY);
        self.attachment = Some(attachment);
        self.keep_frames(now);
        let Some(state) = self.links.get_mut(&link).filter(|_| hello_due) else {
            return;
        };
        let is_used = std::mem::replace(&mut state.is_used, true);
        if is_leader && is_used {
            state.begin(choice);
            self.push_moves(link, self.config.seed, choice, None);
        }
    }

    /// Drops the state of the link in use, if there is one.
    fn leave_link(&mut self) {
        if let Some(attachment) = self.attachment.take() {
            self.spent = attachment.spent();
            if let Some(closed) = attachment.closed_there() {
                self.closed_there = closed;
            }
            self.known.forget_sent();
        }
    }

    /// Goes on without the link in use, if there was one.
    fn go_on(&mut self, now: Duration) {
        let Some(next) = self.best_link() else {
            if self.attachment.is_some() {
                self.leave_link();
                self.push_event(Event::Suspended);
            }
            return;
        };
        if self.is_leader() {
            self.choose(now, next);
            return;
        }
        let properties = self.properties(next);
        match &mut self.attachment {
            Some(attachment) if attachment.version().is_some() => {
                attachment.move_to(next, properties, Phase::Adrift { since: now });
                self.push_lost(now, next);
            }
            // The leader had time enough to greet.
            Some(_) => {
                self.attach(now, next, false);
                self.push_lost(now, next);
            }
            None => self.attach(now, next, false),
        }
    }

    /// The leader uses a link from now on.
    fn choose(&mut self, now: Duration, link: LinkId) {
        self.choice += 1;
        let (choice, properties) = (self.choice, self.properties(link));
        let attachment = self.attachment.as_mut();
        let Some(attachment) =
            attachment.filter(|it| it.version().is_some() && it.fits(properties))
        else {
            self.attach(now, link, true);
            return;
        };
        attachment.move_to(link, properties, Phase::Moving { since: now });
        let received = attachment.carriage.received();
        if let Some(state) = self.links.get_mut(&link) {
            state.begin(choice);
        }
        self.push_moves(link, self.config.seed, choice, Some(received));
    }

    /// The leader changes to a link that is better than the one in use, once nothing is lost by it.
    pub(super) fn move_to_better(&mut self, now: Duration) {
        if self.links.len() < 2 || !self.is_leader() {
            return;
        }
        let (Some(attachment), Some(best)) = (&self.attachment, self.best_link()) else {
            return;
        };
        let properties = self.properties(best);
        let is_better = properties.rank < self.properties(attachment.link).rank;
        if is_better && attachment.is_movable(properties) {
            self.choose(now, best);
        }
    }

    /// Says on each lane of a link whether this side goes on there.
    fn push_moves(&mut self, link: LinkId, instance: u64, number: u64, received: Option<[u64; 3]>) {
        for lane in LANES {
            let message = Message::Move(Move {
                lane,
                instance,
                number,
                received,
            });
            self.notices.push_back(Transmit {
                link,
                lane,
                frame: message.to_bytes(),
            });
        }
    }

    /// Says that no link is in use here, and will again.
    fn push_lost(&mut self, now: Duration, link: LinkId) {
        if let Some(attachment) = &mut self.attachment {
            attachment.lost_at = Some(now + LOST_INTERVAL);
        }
        let (instance, number) = (self.config.seed, self.choice);
        self.notices.push_back(Transmit {
            link,
            lane: Lane::Control,
            frame: Message::Lost { instance, number }.to_bytes(),
        });
    }

    /// The other side goes on over a link, or does not.
    pub(super) fn handle_move(
        &mut self,
        now: Duration,
        link: LinkId,
        it: Move,
    ) -> Result<(), Failure> {
        self.with_attachment(|attachment, _| attachment.count_request(now))?;
        let Some(lane) = place(it.lane) else {
            let detail = "move on a wrong lane";
            return Err(Failure::new(CloseReason::Malformed, detail));
        };
        match self.is_leader() {
            true => self.handle_answer(now, link, lane, it),
            false => self.handle_choice(now, link, lane, it),
        }
    }

    /// The answer to a choice.
    fn handle_answer(
        &mut self,
        now: Duration,
        link: LinkId,
        lane: usize,
        it: Move,
    ) -> Result<(), Failure> {
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        if it.instance != self.config.seed || state.choice != Some(it.number) {
            return Ok(());
        }
        state.is_open[lane] = true;
        let Some(attachment) = &mut self.attachment else {
            return Ok(());
        };
        let is_awaited = attachment.link == link && self.choice == it.number;
        if !is_awaited || !matches!(attachment.phase, Phase::Moving { .. }) {
            return Ok(());
        }
        let is_kept = match it.received {
            Some(received) => attachment.carriage.go_on(received)?,
            None => false,
        };
        if is_kept {
            attachment.phase = Phase::Steady;
            self.note_move(link);
        } else {
            self.choice += 1;
            self.attach(now, link, true);
        }
        Ok(())
    }

    /// The leader chose a link.
    fn handle_choice(
        &mut self,
        now: Duration,
        link: LinkId,
        lane: usize,
        it: Move,
    ) -> Result<(), Failure> {
        let known = self.remote_instance.map(|(instance, _)| instance);
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        if known.is_some_and(|known| known != it.instance) {
            return Ok(());
        }
        if state.choice == Some(it.number) {
            state.is_open[lane] = true;
            return Ok(());
        }
        if known.is_some() && it.number <= self.choice {
            return Ok(());
        }
        // Lanes overtake each other, also before the greeting: what was chosen earlier is no newer choice.
        let is_later = |(instance, number)| instance == it.instance && number > it.number;
        if self.followed.is_some_and(is_later) {
            return Ok(());
        }
        self.followed = Some((it.instance, it.number));
        state.begin(it.number);
        state.is_open[lane] = true;
        let properties = state.properties;
        let Some(received) = it.received else {
            // A HELLO follows, and behind the answer nothing of before may come.
            self.attach(now, link, false);
            self.push_moves(link, it.instance, it.number, None);
            return Ok(());
        };
        let attachment = self.attachment.as_mut();
        let under_way = attachment.filter(|it| it.version().is_some() && it.fits(properties));
        let mut goes_on = None;
        if let Some(attachment) = under_way
            && attachment.carriage.go_on(received)?
        {
            attachment.move_to(link, properties, Phase::Steady);
            goes_on = Some(attachment.carriage.received());
        }
        self.choice = it.number;
        self.push_moves(link, it.instance, it.number, goes_on);
        match goes_on {
            Some(_) => self.note_move(link),
            None => self.attach(now, link, false),
        }
        Ok(())
    }

    fn note_move(&mut self, link: LinkId) {
        self.stats.moves += 1;
        self.push_event(Event::Moved { link });
    }

    /// For the other side no link is in use, and it asks for one.
    pub(super) fn handle_lost(
        &mut self,
        now: Duration,
        link: LinkId,
        (instance, number): (u64, u64),
    ) -> Result<(), Failure> {
        self.with_attachment(|attachment, _| attachment.count_request(now))?;
        let attachment = self.attachment.as_ref().filter(|it| it.link != link);
        let Some(attachment) = attachment.filter(|_| self.is_leader()) else {
            return Ok(());
        };
        let active = attachment.link;
        let is_over = number >= self.choice
            || match attachment.stands_since() {
                // It will hear of the choice, if the link carries that.
                Some(since) => now >= since + ANSWER_PATIENCE,
                // It answered, but for another life of it.
                None => self.remote_instance.is_some_and(|(it, _)| it != instance),
            };
        if !is_over {
            return Ok(());
        }
        self.links.remove(&active);
        self.notices.retain(|notice| notice.link != active);
        self.push_event(Event::Closed {
            link: active,
            reason: CloseReason::Lost,
            detail: String::new(),
            by_remote: true,
        });
        // Whatever else there is may be dead as well; this one carries.
        self.choose(now, link);
        self.keep_frames(now);
        Ok(())
    }

    // The end of a link.

    pub(super) fn handle_overdue(&mut self, now: Duration) {
        let Some(attachment) = &mut self.attachment else {
            return;
        };
        let link = attachment.link;
        if !attachment.is_overdue(now) {
            if attachment.lost_at.is_some_and(|at| at <= now) {
                self.push_lost(now, link);
            }
            return;
        }
        let failure = Failure::new(CloseReason::Timeout, "what was due did not come in time");
        match attachment.phase {
            Phase::Steady => self.fail(now, link, failure),
            // What is under way may go on elsewhere.
            Phase::Moving { .. } => {
                self.give_up(link, failure);
                self.go_on(now);
                self.keep_frames(now);
            }
            // The leader may have nothing to go on with.
            Phase::Adrift { .. } => self.attach(now, link, false),
        }
    }

    /// Gives a link up, and with it what was under way if it was in use.
    pub(super) fn fail(&mut self, now: Duration, link: LinkId, failure: Failure) {
        self.give_up(link, failure);
        self.detach(now, link);
    }

    /// Says goodbye on a link, which is used no more.
    fn give_up(&mut self, link: LinkId, failure: Failure) {
        let detail = if failure.is_public {
            cut(&failure.detail)
        } else {
            ""
        };
        let code = failure.reason.number();
        self.notices.retain(|notice| notice.link != link);
        self.notices.push_back(Transmit {
            link,
            lane: Lane::Control,
            frame: Message::Bye { code, detail }.to_bytes(),
        });
        self.push_event(Event::Closed {
            link,
            reason: failure.reason,
            detail: failure.detail,
            by_remote: false,
        });
        self.links.remove(&link);
    }

    pub(super) fn handle_bye(&mut self, now: Duration, link: LinkId, code: u8, detail: &str) {
        self.push_event(Event::Closed {
            link,
            reason: CloseReason::from_number(code),
            detail: detail.to_owned(),
            by_remote: true,
        });
        self.links.remove(&link);
        self.notices.retain(|notice| notice.link != link);
        self.detach(now, link);
    }

    /// Forgets what was under way on a link, if it was in use.
    fn detach(&mut self, now: Duration, link: LinkId) {
        if self.active_link() == Some(link) {
            self.leave_link();
            if self.links.is_empty() {
                self.push_event(Event::Suspended);
            }
            self.go_on(now);
        }
        self.keep_frames(now);
    }
}

const _: () = assert!(CHOICE_DELAY.as_secs() < HANDSHAKE_TIMEOUT.as_secs());

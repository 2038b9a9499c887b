//! How peers of a database come to know the same of whom it trusts (docs/format/auth.md, "Passing it on").

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use idem_model::{
    DecodeError, PeerId,
    codec::{Reader, put_bytes, put_varint},
    limits,
};

use crate::{
    authorities::{Authorities, AuthoritiesError, AuthorityChange, ChangeTaken},
    clock::{self, TimeBeacon},
    passing::{ListName, TrustFrame},
    revocation::{RevocationError, RevocationList},
    signed::{AuthorityKey, put_time, read_time},
    trust::{Trust, TrustError},
};

/// The form in which a peer keeps what it knows.
const KEPT_VERSION: u8 = 1;

/// Something that an authority signed and that holds for the whole database.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TrustItem {
    /// Which keys are trusted.
    Change(AuthorityChange),
    /// What is revoked.
    Revocations(RevocationList),
    /// How late it is.
    Time(TimeBeacon),
}

/// Why something that an authority is said to have signed is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustItemError {
    /// A change of authorities.
    #[error(transparent)]
    Change(#[from] AuthoritiesError),
    /// A revocation list.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// A signed time.
    #[error(transparent)]
    Time(#[from] TrustError),
}

impl TrustItemError {
    /// Whether nobody could pass it on who looked at it first.
    fn is_forged(&self) -> bool {
        matches!(
            self,
            Self::Change(AuthoritiesError::Signature)
                | Self::Revocations(RevocationError::Signature)
                | Self::Time(TrustError::Signature)
        )
    }
}

/// What a neighbour did that no honest peer does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// Its bytes are no frame.
    #[error("it sent what is no frame about trust: {0}")]
    Malformed(#[from] DecodeError),
    /// It passed on what nobody signed.
    #[error("it passed on what no authority signed: {0}")]
    Forged(TrustItemError),
}

/// What came of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Heard {
    /// Nothing that was not known.
    Nothing,
    /// Something new is known: what is in use is to be judged again, and what is known to be kept.
    Changed,
    /// The neighbour shows another certificate, which may be anything.
    Certificate(Vec<u8>),
}

struct Neighbour {
    frames: Allowance,
    /// Summaries, which are short and may have long answers.
    summaries: Allowance,
    /// What was known here when a change of it did not connect.
    lacked_at: Option<[u8; 32]>,
    /// Frames of it were not looked at, or some to it were lost.
    summary_at: Option<Duration>,
    /// A list that comes in parts.
    coming: Option<Coming>,
}

struct Coming {
    issuer: AuthorityKey,
    epoch: u64,
    bytes_total: usize,
    bytes: Vec<u8>,
}

/// How long it takes until something that was lost is made good.
const RETRY: Duration = Duration::from_secs(1);

/// What a peer knows of whom its database trusts, and what it tells its neighbours of that.
///
/// Order of calls: [`handle_neighbour_up`](Self::handle_neighbour_up) when a session is established, and again when
/// it goes on over another link; [`handle_frame`](Self::handle_frame) and [`apply`](Self::apply) as things come;
/// then [`poll_frame`](Self::poll_frame) until nothing is left. Only what an authority signed is passed on, and only
/// when it is newer than what was known, so whoever repeats old things is not echoed.
pub struct TrustExchange {
    trust: Trust,
    /// Names the authorities that were configured.
    configured: [u8; 32],
    /// The latest signed times as they were signed, to be passed on.
    beacons: BTreeMap<AuthorityKey, TimeBeacon>,
    neighbours: BTreeMap<PeerId, Neighbour>,
    outbox: VecDeque<(PeerId, Vec<u8>)>,
}

impl TrustExchange {
    /// Begins with the authorities that are configured.
    pub fn new(configured: Authorities) -> Self {
        Self {
            configured: configured.head(),
            trust: Trust::new(configured),
            beacons: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Goes on from [`TrustExchange::to_bytes`] of an earlier life. If other authorities are configured since then, only
    /// what their keys signed counts.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are damaged.
    pub fn restore(configured: Authorities, bytes: &[u8]) -> Result<Self, DecodeError> {
        let database = configured.database();
        let mut exchange = Self::new(configured);
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if version != KEPT_VERSION {
            let what = "what is known of authorities";
            return Err(DecodeError::UnknownVersion { what, version });
        }
        let was_configured: [u8; 32] = reader.array()?;
        let authorities = Authorities::decode(database, &mut reader)?;
        if was_configured == exchange.configured {
            exchange.trust.set_authorities(authorities);
        }
        let count = reader.count("lists", limits::AUTHORITIES_MAX, 1)?;
        for _ in 0..count {
            let list = reader.bytes("list", limits::REVOCATION_LIST_BYTES_MAX)?;
            // One by a key that is not trusted any more has no effect.
            let _ = exchange.take(TrustItem::Revocations(RevocationList::decode(list)?));
        }
        let count = reader.count("times", limits::AUTHORITIES_MAX, 33)?;
        for _ in 0..count {
            let issuer = AuthorityKey(reader.array()?);
            exchange.trust.remember(issuer, read_time(&mut reader)?);
        }
        let count = reader.count("signed times", limits::AUTHORITIES_MAX, 1)?;
        for _ in 0..count {
            let beacon = reader.bytes("signed time", clock::BYTES_MAX)?;
            let beacon = TimeBeacon::decode(beacon)?;
            if exchange.trust.handle_beacon(&beacon).is_ok() {
                exchange.beacons.insert(beacon.issuer(), beacon);
            }
        }
        reader.finish()?;
        Ok(exchange)
    }

    /// What is to be kept over restarts, for this peer alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![KEPT_VERSION];
        out.extend(self.configured);
        self.trust.authorities().encode(&mut out);
        let lists: Vec<_> = self.lists().collect();
        put_varint(&mut out, lists.len() as u64);
        for list in lists {
            put_bytes(&mut out, &list.to_bytes());
        }
        let times: Vec<_> = self.trust.signed_times().collect();
        put_varint(&mut out, times.len() as u64);
        for (issuer, time_ms) in times {
            out.extend(issuer.0);
            put_time(&mut out, time_ms);
        }
        let beacons: Vec<_> = self.beacons().collect();
        put_varint(&mut out, beacons.len() as u64);
        for beacon in beacons {
            put_bytes(&mut out, &beacon.to_bytes());
        }
        out
    }

    // What comes in.

    /// A neighbour can hear frames from now on, or may have lost some that it was sent.
    pub fn handle_neighbour_up(&mut self, now: Duration, peer: PeerId) {
        let neighbour = self.neighbours.entry(peer).or_insert(Neighbour {
            frames: Allowance::new(
                now,
                limits::TRUST_FRAMES_AT_ONCE_MAX,
                limits::TRUST_FRAMES_PER_SECOND_MAX,
            ),
            summaries: Allowance::new(now, SUMMARIES_AT_ONCE_MAX, 1),
            lacked_at: None,
            summary_at: None,
            coming: None,
        });
        neighbour.summary_at = None;
        self.tell_summary(peer, false);
    }

    /// A neighbour is none any more.
    pub fn handle_neighbour_down(&mut self, peer: PeerId) {
        self.neighbours.remove(&peer);
        self.outbox.retain(|(to, _)| *to != peer);
    }

    /// A frame of [`TrustExchange::poll_frame`] could not be sent.
    pub fn handle_unsent(&mut self, now: Duration, peer: PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.summary_at.get_or_insert(now + RETRY);
        }
    }

    /// Takes a frame of a neighbour. What it sends beyond [`limits::TRUST_FRAMES_AT_ONCE_MAX`], and then
    /// [`limits::TRUST_FRAMES_PER_SECOND_MAX`], is not looked at.
    ///
    /// # Errors
    /// [`Misbehaviour`]: the link with it is to be ended.
    pub fn handle_frame(
        &mut self,
        now: Duration,
        peer: PeerId,
        frame: &[u8],
    ) -> Result<Heard, Misbehaviour> {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return Ok(Heard::Nothing);
        };
        if !neighbour.frames.admits(now) {
            neighbour.summary_at.get_or_insert(now + RETRY);
            return Ok(Heard::Nothing);
        }
        match TrustFrame::decode(frame)? {
            TrustFrame::Summary {
                is_answer,
                last_number,
                head,
                lists,
                times,
            } => {
                if !neighbour.summaries.admits(now) {
                    neighbour.summary_at.get_or_insert(now + RETRY);
                    return Ok(Heard::Nothing);
                }
                self.compare(peer, is_answer, (last_number, head), &lists, &times);
                Ok(Heard::Nothing)
            }
            TrustFrame::Change(bytes) => {
                let change = AuthorityChange::decode(&bytes)?;
                self.hear(peer, TrustItem::Change(change))
            }
            TrustFrame::Revocations {
                issuer,
                epoch,
                bytes_total,
                offset,
                part,
            } => match self.assemble(peer, issuer, epoch, bytes_total, offset, &part) {
                Some(bytes) => {
                    let list = RevocationList::decode(&bytes)?;
                    self.hear(peer, TrustItem::Revocations(list))
                }
                None => Ok(Heard::Nothing),
            },
            TrustFrame::WantRevocations {
                issuer,
                epoch,
                offset,
            } => {
                self.tell_part(peer, issuer, Some(epoch), offset);
                Ok(Heard::Nothing)
            }
            TrustFrame::Time(bytes) => {
                let beacon = TimeBeacon::decode(&bytes)?;
                self.hear(peer, TrustItem::Time(beacon))
            }
            TrustFrame::Certificate(bytes) => Ok(Heard::Certificate(bytes)),
        }
    }

    /// Tells neighbours again what was lost on the way to them.
    pub fn handle_timeout(&mut self, now: Duration) {
        let is_due = |it: &Neighbour| it.summary_at.is_some_and(|at| at <= now);
        let due = self.neighbours.iter_mut().filter(|(_, it)| is_due(it));
        let due: Vec<_> = due
            .map(|(peer, neighbour)| {
                neighbour.summary_at = None;
                *peer
            })
            .collect();
        for peer in due {
            self.tell_summary(peer, false);
        }
    }

    // Commands.

    /// Takes what an authority signed, from the app. `true` if it was not known.
    ///
    /// # Errors
    /// [`TrustItemError`] with what is wrong.
    pub fn apply(&mut self, item: TrustItem) -> Result<bool, TrustItemError> {
        self.take_and_pass(item, None)
    }

    /// Has a peer see another certificate of this one. `false`, and nothing, if it is no neighbour.
    pub fn tell_certificate(&mut self, peer: PeerId, bytes: &[u8]) -> bool {
        let is_neighbour = self.neighbours.contains_key(&peer);
        if is_neighbour {
            let frame = TrustFrame::Certificate(bytes.to_vec()).to_bytes();
            self.outbox.push_back((peer, frame));
        }
        is_neighbour
    }

    // What goes out.

    /// The next frame, and whom it is for.
    pub fn poll_frame(&mut self) -> Option<(PeerId, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// When to call [`TrustExchange::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.neighbours
            .values()
            .filter_map(|it| it.summary_at)
            .min()
    }

    /// What is known.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// What is known, to judge certificates with.
    pub fn trust_mut(&mut self) -> &mut Trust {
        &mut self.trust
    }

    fn lists(&self) -> impl Iterator<Item = &RevocationList> {
        let authorities = self.trust.authorities();
        let lists = self.trust.revocations().lists();
        lists.filter(|list| authorities.find(&list.issuer()).is_some())
    }

    fn beacons(&self) -> impl Iterator<Item = &TimeBeacon> {
        let authorities = self.trust.authorities();
        let beacons = self.beacons.values();
        beacons.filter(|beacon| authorities.find(&beacon.issuer()).is_some())
    }

    fn hear(&mut self, from: PeerId, item: TrustItem) -> Result<Heard, Misbehaviour> {
        match self.take_and_pass(item, Some(from)) {
            Ok(true) => Ok(Heard::Changed),
            Ok(false) => Ok(Heard::Nothing),
            Err(TrustItemError::Change(AuthoritiesError::Unconnected { .. })) => {
                // It has those before as well, unless it began with other keys.
                let head = self.trust.authorities().head();
                let neighbour = self.neighbours.get_mut(&from);
                if neighbour.is_some_and(|it| it.lacked_at.replace(head) != Some(head)) {
                    self.tell_summary(from, false);
                }
                Ok(Heard::Nothing)
            }
            Err(error) if error.is_forged() => Err(Misbehaviour::Forged(error)),
            // Older than what is known, or by a key that this peer knows not yet, or no more.
            Err(_) => Ok(Heard::Nothing),
        }
    }

    fn take_and_pass(
        &mut self,
        item: TrustItem,
        from: Option<PeerId>,
    ) -> Result<bool, TrustItemError> {
        let (is_new, is_told) = self.take(item.clone())?;
        let others: Vec<_> = self.neighbours.keys().copied().collect();
        for peer in others.into_iter().filter(|peer| Some(*peer) != from) {
            match &item {
                _ if !is_told => {}
                TrustItem::Change(change) => {
                    let frame = TrustFrame::Change(change.to_bytes());
                    self.outbox.push_back((peer, frame.to_bytes()));
                }
                TrustItem::Revocations(list) => self.tell_part(peer, list.issuer(), None, 0),
                TrustItem::Time(beacon) => {
                    let frame = TrustFrame::Time(beacon.to_bytes());
                    self.outbox.push_back((peer, frame.to_bytes()));
                }
            }
        }
        if is_new && matches!(item, TrustItem::Change(_)) {
            // What was not taken from a key that was not trusted then is now.
            let all: Vec<_> = self.neighbours.keys().copied().collect();
            all.into_iter()
                .for_each(|peer| self.tell_summary(peer, false));
        }
        Ok(is_new)
    }

    /// Whether something is new, and whether it is to be passed on.
    fn take(&mut self, item: TrustItem) -> Result<(bool, bool), TrustItemError> {
        match item {
            TrustItem::Change(change) => {
                let taken = self.trust.handle_change(change)?;
                let is_new = taken != ChangeTaken::Known;
                Ok((is_new, is_new))
            }
            TrustItem::Revocations(list) => {
                let is_new = self.trust.handle_revocations(list)?;
                Ok((is_new, is_new))
            }
            TrustItem::Time(beacon) => {
                let is_later = self.trust.handle_beacon(&beacon)?;
                let issuer = beacon.issuer();
                let told_ms = self.beacons.get(&issuer).map_or(0, TimeBeacon::time_ms);
                // Times come as often as somebody signs them.
                let is_told =
                    beacon.time_ms() >= told_ms.saturating_add(limits::SIGNED_TIME_STEP_MS);
                if is_told {
                    self.beacons.insert(issuer, beacon);
                    let authorities = self.trust.authorities();
                    self.beacons
                        .retain(|key, _| authorities.find(key).is_some());
                }
                Ok((is_later, is_told))
            }
        }
    }

    fn tell_summary(&mut self, peer: PeerId, is_answer: bool) {
        let authorities = self.trust.authorities();
        let lists = self.lists().map(|list| ListName {
            issuer: list.issuer(),
            epoch: list.epoch(),
            hash: list.hash(),
        });
        let times = self.beacons().map(|it| (it.issuer(), it.time_ms()));
        let summary = TrustFrame::Summary {
            is_answer,
            last_number: authorities.last_number(),
            head: authorities.head(),
            lists: lists.collect(),
            times: times.collect(),
        };
        self.outbox.push_back((peer, summary.to_bytes()));
    }

    /// Tells a neighbour what it does not know, and asks it for what it knows more.
    fn compare(
        &mut self,
        peer: PeerId,
        is_answer: bool,
        (last_number, head): (u64, [u8; 32]),
        lists: &[ListName],
        times: &[(AuthorityKey, u64)],
    ) {
        let authorities = self.trust.authorities();
        let mut frames = Vec::new();
        let mut knows_more = false;
        if head != authorities.head() {
            let changes = authorities.changes();
            let known = changes.iter().position(|change| change.hash() == head);
            knows_more = known.is_none() && last_number > 0;
            // All that are kept, where the two have not gone one way.
            let missing = &changes[known.map_or(0, |at| at + 1)..];
            frames.extend(missing.iter().map(|it| TrustFrame::Change(it.to_bytes())));
        }
        let theirs = |issuer: AuthorityKey| lists.iter().find(|it| it.issuer == issuer);
        let ours: Vec<_> = self.lists().collect();
        let newer: Vec<_> = ours
            .iter()
            .filter(|list| {
                let theirs = theirs(list.issuer());
                theirs.is_none_or(|it| (list.epoch(), list.hash()) > (it.epoch, it.hash))
            })
            .map(|list| list.issuer())
            .collect();
        knows_more |= lists.iter().any(|theirs| {
            let is_trusted = authorities.find(&theirs.issuer).is_some();
            let ours = ours.iter().find(|list| list.issuer() == theirs.issuer);
            is_trusted
                && ours.is_none_or(|it| (it.epoch(), it.hash()) < (theirs.epoch, theirs.hash))
        });
        let step = limits::SIGNED_TIME_STEP_MS;
        for beacon in self.beacons() {
            let theirs = times.iter().find(|(issuer, _)| *issuer == beacon.issuer());
            let theirs = theirs.map_or(0, |(_, time_ms)| *time_ms);
            if beacon.time_ms() >= theirs.saturating_add(step) {
                frames.push(TrustFrame::Time(beacon.to_bytes()));
            }
        }
        knows_more |= times.iter().any(|(issuer, time_ms)| {
            let ours = self.beacons.get(issuer).map_or(0, TimeBeacon::time_ms);
            authorities.find(issuer).is_some() && *time_ms >= ours.saturating_add(step)
        });
        let frames = frames.iter().map(|frame| (peer, frame.to_bytes()));
        self.outbox.extend(frames);
        for issuer in newer {
            self.tell_part(peer, issuer, None, 0);
        }
        if knows_more && !is_answer {
            self.tell_summary(peer, true);
        }
    }

    /// Sends a part of the list of an authority. If it is another one than is asked for, its beginning.
    fn tell_part(&mut self, peer: PeerId, issuer: AuthorityKey, epoch: Option<u64>, offset: usize) {
        let Some(list) = self.lists().find(|list| list.issuer() == issuer) else {
            return;
        };
        let bytes = list.to_bytes();
        let is_as_asked = epoch.is_none_or(|epoch| epoch == list.epoch());
        let offset = if is_as_asked { offset } else { 0 };
        if offset >= bytes.len() {
            return;
        }
        let end = bytes.len().min(offset + limits::TRUST_PART_BYTES_MAX);
        let frame = TrustFrame::Revocations {
            issuer,
            epoch: list.epoch(),
            bytes_total: bytes.len(),
            offset,
            part: bytes[offset..end].to_vec(),
        };
        self.outbox.push_back((peer, frame.to_bytes()));
    }

    /// Puts the parts of a list together, and asks for the next one. Gives the whole.
    fn assemble(
        &mut self,
        peer: PeerId,
        issuer: AuthorityKey,
        epoch: u64,
        bytes_total: usize,
        offset: usize,
        part: &[u8],
    ) -> Option<Vec<u8>> {
        let is_trusted = self.trust.authorities().find(&issuer).is_some();
        let known = self.lists().find(|list| list.issuer() == issuer);
        if !is_trusted || known.is_some_and(|list| list.epoch() > epoch) {
            return None;
        }
        let neighbour = self.neighbours.get_mut(&peer)?;
        if offset == 0 {
            neighbour.coming = Some(Coming {
                issuer,
                epoch,
                bytes_total,
                bytes: Vec::new(),
            });
        }
        let coming = neighbour.coming.as_mut()?;
        let is_next = (coming.issuer, coming.epoch, coming.bytes_total)
            == (issuer, epoch, bytes_total)
            && coming.bytes.len() == offset;
        if !is_next {
            return None;
        }
        coming.bytes.extend_from_slice(part);
        let offset = coming.bytes.len();
        if offset == bytes_total {
            return neighbour.coming.take().map(|coming| coming.bytes);
        }
        let want = TrustFrame::WantRevocations {
            issuer,
            epoch,
            offset,
        };
        self.outbox.push_back((peer, want.to_bytes()));
        None
    }
}

/// Summaries that a neighbour may send at once; then one a second.
const SUMMARIES_AT_ONCE_MAX: u64 = 8;

/// How many more of something a neighbour may send.
struct Allowance {
    /// In thousandths.
    left: u64,
    left_max: u64,
    each_second: u64,
    filled_at: Duration,
}

impl Allowance {
    fn new(now: Duration, at_once: u64, each_second: u64) -> Self {
        Self {
            left: at_once * 1000,
            left_max: at_once * 1000,
            each_second,
            filled_at: now,
        }
    }

    /// Whether there may be one more.
    fn admits(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled_at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        if passed > 0 {
            let added = passed.saturating_mul(self.each_second);
            self.left = self.left.saturating_add(added).min(self.left_max);
            self.filled_at = now;
        }
        let rest = self.left.checked_sub(1000);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }
}

impl fmt::Debug for TrustExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustExchange")
            .field("neighbours", &self.neighbours.len())
            .finish_non_exhaustive()
    }
}

//! Knows whom the database trusts, judges the certificates of other peers, and keeps this peer's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use idem_auth::{
    Access, Authorities, Authority, Heard, Misbehaviour, Permit, Refused, SignedCertificate,
    TrustExchange, TrustFrame, TrustItem, Verdict, in_words,
};
use idem_model::{
    DatabaseId, DecodeError, PeerId,
    codec::{Reader, put_bytes},
    limits,
};
use idem_transport::{CertificateFault, CertificateRefusal, Certifier};
use idem_vault::Vault;

use crate::{
    auth::{AuthorityConfig, CertificateExpiry},
    driver::unix_ms,
    error::{Error, ErrorKind},
    identity,
    inbox::{Inbox, Input},
};

const FILE: &str = "trust";
const MAGIC: &[u8; 8] = b"idemtrst";

/// Much more than there can be: 64 changes, 8 lists, times, a certificate.
const FILE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Clocks that differ by less explain nothing.
const CLOCK_DIFFERENCE_MS: u64 = 60_000;

/// What is in use is judged again at least so often, because clocks are set.
const JUDGE_INTERVAL_MS: u64 = 60_000;

/// The app is asked for another certificate when a fifth of the time of the one in use is left, or this if that is
/// less or more.
const EXPIRY_LEAD_MS: std::ops::RangeInclusive<u64> = 60_000..=24 * 3_600_000;

/// And again when half of what is left has passed, or this.
const EXPIRY_AGAIN_MS: std::ops::RangeInclusive<u64> = 10_000..=3_600_000;

/// The file is read and written from several threads, each rarely and briefly.
static FILE_TURN: Mutex<()> = Mutex::new(());

type Handler = Arc<dyn Fn(CertificateExpiry) + Send + Sync>;

/// Outlives starts and stops of sync.
pub(crate) struct Desk {
    local: PeerId,
    database: DatabaseId,
    place: Option<(PathBuf, Option<Vault>)>,
    state: Mutex<State>,
}

struct State {
    exchange: TrustExchange,
    own: Option<SignedCertificate>,
    /// The certificates of the peers that there are links with.
    live: BTreeMap<PeerId, SignedCertificate>,
    /// Those of them that were shown a certificate in the handshake which is not that of this peer any more.
    outdated: BTreeSet<PeerId>,
    /// Those that show another certificate than when their link came up.
    renewed: BTreeSet<PeerId>,
    /// When those are judged again, and when they were.
    judge_at_ms: u64,
    judged_at_ms: u64,
    /// What is on disk is older.
    is_dirty: bool,
    kept_time_ms: u64,
    handler: Option<Handler>,
    /// When it is called, unless another certificate comes.
    call_at_ms: u64,
    inbox: Option<Arc<Inbox>>,
}

/// What the driver is to do.
#[derive(Default)]
pub(crate) struct Tasks {
    /// Whose links are to be ended, and why.
    pub(crate) refused: Vec<(PeerId, CertificateRefusal)>,
    pub(crate) frames: Vec<(PeerId, Vec<u8>)>,
    /// Whose certificate is another one.
    pub(crate) permits: Vec<(PeerId, Option<Arc<Permit>>)>,
}

impl Desk {
    pub(crate) fn open(
        local: PeerId,
        database: DatabaseId,
        directory: Option<&Path>,
        vault: Option<&Vault>,
        config: &AuthorityConfig,
    ) -> Result<Arc<Self>, Error> {
        let keys = config.authorities.iter().copied().map(Authority::always);
        let configured = Authorities::new(database, keys.collect()).map_err(|error| {
            let message = "the authorities of the database are not valid";
            Error::new(ErrorKind::ValidationConfiguration, message).with_source(error)
        })?;
        let place = directory.map(|directory| (directory.to_owned(), vault.cloned()));
        let kept = match &place {
            Some((directory, vault)) => read(directory, vault.as_ref())?,
            None => None,
        };
        let (mut exchange, kept) = match kept {
            Some((exchange, own)) => {
                let exchange = TrustExchange::restore(configured, &exchange)
                    .map_err(|error| corrupt(directory).with_source(error))?;
                (exchange, own)
            }
            None => (TrustExchange::new(configured), Vec::new()),
        };
        let kept = SignedCertificate::decode(&kept).ok();
        let given = config.read_certificate()?;
        let given = given.map(|bytes| decode_own(&bytes, local, database));
        // The app may have renewed it after it was configured.
        let own = [given.transpose()?, kept].into_iter().flatten();
        let own = own
            .filter(|own| is_own(own, local, database))
            .max_by_key(|own| own.certificate().issued_at_ms);
        if let Some(own) = &own {
            // It tells how late it is at least.
            let trust = exchange.trust_mut();
            trust.handle_certificate(own, &local, unix_ms());
        }
        let kept_time_ms = exchange.trust().latest_signed_ms();
        Ok(Arc::new(Self {
            local,
            database,
            place,
            state: Mutex::new(State {
                exchange,
                own,
                live: BTreeMap::new(),
                outdated: BTreeSet::new(),
                renewed: BTreeSet::new(),
                judge_at_ms: 0,
                judged_at_ms: 0,
                is_dirty: true,
                kept_time_ms,
                handler: None,
                call_at_ms: 0,
                inbox: None,
            }),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sync runs from now on, with this driver, or runs no more.
    pub(crate) fn set_inbox(&self, inbox: Option<Arc<Inbox>>) {
        let mut state = self.lock();
        state.inbox = inbox;
        state.wake();
    }

    /// Whether it makes sense to begin to sync.
    pub(crate) fn check_start(&self) -> Result<(), Error> {
        let state = self.lock();
        let invalid = |message: String| Error::new(ErrorKind::AuthCertificateInvalid, message);
        if state.handler.is_some() {
            // It is about to be asked for a better one.
            return Ok(());
        }
        let Some(own) = &state.own else {
            let message = format!("peer {} has no certificate", self.local);
            return Err(invalid(message));
        };
        let verdict = state.exchange.trust().judge(own, &self.local, unix_ms());
        match verdict {
            Verdict::Holds { .. } if is_whole(own) => Ok(()),
            Verdict::Holds { .. } => Err(invalid(UNSUPPORTED.to_owned())),
            Verdict::Refused(reason) => Err(invalid(format!(
                "the certificate of this peer does not hold: {reason}"
            ))),
        }
    }

    pub(crate) fn own(&self) -> Option<SignedCertificate> {
        self.lock().own.clone()
    }

    /// Whether it holds now, in words and as a verdict.
    pub(crate) fn own_verdict(&self) -> Option<Verdict> {
        let state = self.lock();
        let own = state.own.as_ref()?;
        Some(state.exchange.trust().judge(own, &self.local, unix_ms()))
    }

    pub(crate) fn authorities(&self) -> Authorities {
        self.lock().exchange.trust().authorities().clone()
    }

    /// Uses another certificate from now on, also on links that there are.
    pub(crate) fn set_certificate(&self, bytes: &[u8]) -> Result<(), Error> {
        let own = decode_own(bytes, self.local, self.database)?;
        let mut state = self.lock();
        let trust = state.exchange.trust_mut();
        let verdict = trust.handle_certificate(&own, &self.local, unix_ms());
        if let Verdict::Refused(reason) = verdict {
            let message = format!("the certificate does not hold: {reason}");
            return Err(Error::new(ErrorKind::AuthCertificateInvalid, message));
        }
        state.own = Some(own);
        state.outdated = state.live.keys().copied().collect();
        state.tell_outdated();
        state.call_at_ms = 0;
        state.is_dirty = true;
        state.wake();
        self.keep(&mut state)
    }

    /// Takes what an authority signed.
    pub(crate) fn apply(&self, item: TrustItem) -> Result<bool, Error> {
        let mut state = self.lock();
        let taken = state.exchange.apply(item);
        let is_new = taken.map_err(|error| {
            let message = "what the authority is said to have signed is not taken";
            Error::new(ErrorKind::AuthTrustRefused, message).with_source(error)
        })?;
        if is_new {
            state.changed();
            state.wake();
            self.keep(&mut state)?;
        }
        Ok(is_new)
    }

    pub(crate) fn set_handler(&self, handler: Option<Handler>) {
        let mut state = self.lock();
        state.handler = handler;
        state.call_at_ms = 0;
        state.wake();
    }

    // For the driver.

    /// A link is up. Its certificate was judged in the handshake; much may have become known since.
    pub(crate) fn link_up(
        &self,
        peer: PeerId,
        certificate: &[u8],
        shown: &[u8],
    ) -> Result<(), CertificateRefusal> {
        let mut state = self.lock();
        let now_ms = unix_ms();
        let signed = state.judge(&peer, certificate, now_ms, now_ms)?;
        state.use_certificate(peer, signed);
        let own = state.own.as_ref().map(SignedCertificate::to_bytes);
        if own.is_some_and(|own| own != shown) {
            state.outdated.insert(peer);
        }
        Ok(())
    }

    /// What a linked peer may do; `None` is everything.
    pub(crate) fn permit(&self, peer: &PeerId) -> Option<Arc<Permit>> {
        let state = self.lock();
        permit_of(state.live.get(peer)?)
    }

    /// There is no link with a peer any more.
    pub(crate) fn peer_down(&self, peer: PeerId) {
        let mut state = self.lock();
        state.live.remove(&peer);
        state.outdated.remove(&peer);
        state.renewed.remove(&peer);
        state.exchange.handle_neighbour_down(peer);
    }

    /// The session with a peer is established, or goes on elsewhere.
    pub(crate) fn speak_anew(&self, now: Duration, peer: PeerId) {
        let mut state = self.lock();
        state.exchange.handle_neighbour_up(now, peer);
        state.tell_outdated();
    }

    /// A neighbour says something about trust.
    pub(crate) fn hear(
        &self,
        now: Duration,
        peer: PeerId,
        frame: &[u8],
    ) -> Result<(), Misbehaviour> {
        let mut state = self.lock();
        match state.exchange.handle_frame(now, peer, frame)? {
            Heard::Changed => state.changed(),
            Heard::Certificate(bytes) => state.hear_certificate(peer, &bytes),
            _ => {}
        }
        Ok(())
    }

    /// A frame could not be sent.
    pub(crate) fn unsent(&self, now: Duration, peer: PeerId, frame: &[u8]) {
        let mut state = self.lock();
        state.exchange.handle_unsent(now, peer);
        let is_certificate = matches!(TrustFrame::decode(frame), Ok(TrustFrame::Certificate(_)));
        if is_certificate {
            state.outdated.insert(peer);
        }
    }

    /// What is to be done now.
    pub(crate) fn act(&self, now: Duration) -> Tasks {
        let mut state = self.lock();
        let now_ms = unix_ms();
        if state.exchange.poll_timeout().is_some_and(|at| at <= now) {
            state.exchange.handle_timeout(now);
            state.tell_outdated();
        }
        let refused = state.judge_live(now_ms);
        let mut frames = Vec::new();
        while let Some(frame) = state.exchange.poll_frame() {
            frames.push(frame);
        }
        if state.exchange.trust().latest_signed_ms() >= state.kept_time_ms + JUDGE_INTERVAL_MS {
            state.is_dirty = true;
        }
        if let Err(error) = self.keep(&mut state) {
            tracing::error!(%error, "what is known of authorities could not be kept");
        }
        state.ask_app(now_ms);
        let renewed = std::mem::take(&mut state.renewed).into_iter();
        let permits = renewed.filter_map(|peer| {
            let signed = state.live.get(&peer)?;
            Some((peer, permit_of(signed)))
        });
        Tasks {
            refused,
            frames,
            permits: permits.collect(),
        }
    }

    /// How long there is nothing to do.
    pub(crate) fn pause(&self, now: Duration) -> Option<Duration> {
        let state = self.lock();
        let now_ms = unix_ms();
        let in_ms = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(now_ms));
        let judge = (!state.live.is_empty()).then(|| in_ms(state.judge_at_ms));
        let call = state.handler.as_ref().map(|_| in_ms(state.call_at_ms));
        let exchange = state.exchange.poll_timeout();
        let exchange = exchange.map(|at| at.saturating_sub(now));
        [judge, call, exchange].into_iter().flatten().min()
    }

    fn keep(&self, state: &mut State) -> Result<(), Error> {
        let Some((directory, vault)) = self.place.as_ref().filter(|_| state.is_dirty) else {
            return Ok(());
        };
        let mut bytes = MAGIC.to_vec();
        put_bytes(&mut bytes, &state.exchange.to_bytes());
        let own = state.own.as_ref().map(SignedCertificate::to_bytes);
        put_bytes(&mut bytes, &own.unwrap_or_default());
        let _turn = FILE_TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = identity::seal(MAGIC, &bytes, vault.as_ref())?;
        let path = directory.join(FILE);
        identity::write(directory, &path, &sealed).map_err(|source| {
            let message = format!("cannot write {}", path.display());
            Error::new(ErrorKind::StorePersistenceDirectoryDenied, message).with_source(source)
        })?;
        state.is_dirty = false;
        state.kept_time_ms = state.exchange.trust().latest_signed_ms();
        Ok(())
    }
}

impl State {
    fn wake(&self) {
        if let Some(inbox) = &self.inbox {
            inbox.push(Input::TrustChanged);
        }
    }

    /// Has those see the certificate of this peer that know another one, as soon as their session is established.
    fn tell_outdated(&mut self) {
        if let Some(own) = self.own.as_ref().map(SignedCertificate::to_bytes) {
            let exchange = &mut self.exchange;
            self.outdated
                .retain(|peer| !exchange.tell_certificate(*peer, &own));
        }
    }

    fn changed(&mut self) {
        self.is_dirty = true;
        self.judge_at_ms = 0;
    }

    fn use_certificate(&mut self, peer: PeerId, signed: SignedCertificate) {
        let issued_at_ms = |signed: &SignedCertificate| signed.certificate().issued_at_ms;
        let known = self.live.get(&peer);
        if known.is_none_or(|known| issued_at_ms(known) <= issued_at_ms(&signed)) {
            self.live.insert(peer, signed);
            self.renewed.insert(peer);
        }
        self.judge_at_ms = 0;
    }

    fn judge(
        &mut self,
        peer: &PeerId,
        certificate: &[u8],
        clock_ms: u64,
        now_ms: u64,
    ) -> Result<SignedCertificate, CertificateRefusal> {
        let refusal = |fault, words: String| CertificateRefusal { fault, words };
        if certificate.is_empty() {
            let words = "it shows no certificate, and this database asks for one".to_owned();
            return Err(refusal(CertificateFault::Missing, words));
        }
        let signed = SignedCertificate::decode(certificate).map_err(|error| {
            let words = format!("what it shows is no certificate: {error}");
            refusal(CertificateFault::Unreadable, words)
        })?;
        let trust = self.exchange.trust_mut();
        match trust.handle_certificate(&signed, peer, now_ms) {
            Verdict::Holds { .. } => check_whole(&signed).map(|()| signed),
            Verdict::Refused(reason) => {
                let words = format!("{reason}{}", clock_words("its clock", clock_ms, now_ms));
                Err(refusal(told_fault(&reason, &signed), words))
            }
        }
    }

    /// A neighbour shows another certificate. One that does not hold ends its links.
    fn hear_certificate(&mut self, peer: PeerId, bytes: &[u8]) {
        let Some(known) = self.live.get(&peer) else {
            return;
        };
        let Ok(signed) = SignedCertificate::decode(bytes) else {
            return;
        };
        // One that was shown before, again.
        let issued_at_ms = signed.certificate().issued_at_ms;
        let is_newer = issued_at_ms >= known.certificate().issued_at_ms;
        // Whose signature does not hold says nothing, so the one that does stays.
        if is_newer && signed.certificate().subject == peer && signed.signature_holds() {
            let trust = self.exchange.trust_mut();
            trust.handle_certificate(&signed, &peer, unix_ms());
            self.use_certificate(peer, signed);
        }
    }

    /// Judges the certificates in use, where time or something new may have changed what they are worth.
    fn judge_live(&mut self, now_ms: u64) -> Vec<(PeerId, CertificateRefusal)> {
        let is_due = now_ms >= self.judge_at_ms || now_ms < self.judged_at_ms;
        if self.live.is_empty() || !is_due {
            return Vec::new();
        }
        let trust = self.exchange.trust();
        let (mut refused, mut next_ms) = (Vec::new(), now_ms + JUDGE_INTERVAL_MS);
        for (peer, signed) in &self.live {
            match trust.judge_again(signed, now_ms) {
                Verdict::Holds { until_ms, .. } => {
                    next_ms = next_ms.min(until_ms + limits::CERTIFICATE_GRACE_MS + 1);
                    if let Err(refusal) = check_whole(signed) {
                        refused.push((*peer, refusal));
                    }
                }
                Verdict::Refused(reason) => {
                    let fault = fault(&reason);
                    let words = reason.to_string();
                    refused.push((*peer, CertificateRefusal { fault, words }));
                }
            }
        }
        for (peer, _) in &refused {
            self.live.remove(peer);
        }
        (self.judge_at_ms, self.judged_at_ms) = (next_ms, now_ms);
        refused
    }

    /// Asks the app for another certificate when the one in use is about to end.
    fn ask_app(&mut self, now_ms: u64) {
        let Some(handler) = self.handler.clone() else {
            return;
        };
        if now_ms < self.call_at_ms {
            return;
        }
        let at_ms = now_ms.max(self.exchange.trust().latest_signed_ms());
        let certificate = self.own.as_ref().map(SignedCertificate::certificate);
        let (until_ms, lasts_ms) = certificate.map_or((0, 0), |own| {
            (own.not_after_ms, own.not_after_ms - own.not_before_ms)
        });
        let left_ms = until_ms.saturating_sub(at_ms);
        let lead_ms = clamp(lasts_ms / 5, EXPIRY_LEAD_MS);
        if left_ms > lead_ms {
            self.call_at_ms = now_ms + (left_ms - lead_ms).min(JUDGE_INTERVAL_MS);
            return;
        }
        self.call_at_ms = now_ms + clamp(left_ms / 2, EXPIRY_AGAIN_MS);
        let expiry = CertificateExpiry {
            left: Duration::from_millis(left_ms),
            has_certificate: certificate.is_some(),
        };
        let called = thread::Builder::new()
            .name("idem-expiry".to_owned())
            .spawn(move || handler(expiry));
        if let Err(error) = called {
            tracing::error!(%error, "cannot start a thread to ask for another certificate");
        }
    }
}

impl Certifier for Desk {
    fn own_certificate(&self) -> Vec<u8> {
        let state = self.lock();
        let own = state.own.as_ref().map(SignedCertificate::to_bytes);
        own.unwrap_or_default()
    }

    fn now_ms(&self) -> u64 {
        unix_ms()
    }

    fn judge(
        &self,
        peer: &PeerId,
        certificate: &[u8],
        clock_ms: u64,
    ) -> Result<(), CertificateRefusal> {
        let judged = self.lock().judge(peer, certificate, clock_ms, unix_ms());
        judged.map(drop)
    }

    fn explain(&self, fault: CertificateFault, their_ms: u64) -> String {
        let state = self.lock();
        let own = state.own.as_ref().map(SignedCertificate::certificate);
        let clock = clock_words("the clock of the other side", their_ms, unix_ms());
        let why = match (fault, own) {
            (CertificateFault::Missing, _) => "it asks for one, and this peer has none".to_owned(),
            (CertificateFault::Unreadable, _) => "it cannot read it".to_owned(),
            (CertificateFault::OtherDatabase, _) => "it is for another database".to_owned(),
            (CertificateFault::OtherSubject, _) => "it is about another peer".to_owned(),
            (CertificateFault::UnknownAuthority, _) => "it does not trust who signed it".to_owned(),
            (CertificateFault::RemovedAuthority, _) => "it trusts who signed it no more".to_owned(),
            (CertificateFault::IssuedOutsideTrust, _) => {
                "it was signed at a time at which it does not trust who signed it".to_owned()
            }
            (CertificateFault::Signature, _) => "its signature is wrong".to_owned(),
            (CertificateFault::Expired, Some(own)) => {
                // By their clock, or by a time that an authority signed, which may be later.
                let ago_ms = their_ms.saturating_sub(own.not_after_ms);
                match ago_ms {
                    0 => format!("it has expired{clock}"),
                    _ => format!("it expired {} ago{clock}", in_words(ago_ms)),
                }
            }
            (CertificateFault::NotYetValid, Some(own)) => {
                let in_ms = own.not_before_ms.saturating_sub(their_ms);
                format!("it is not valid before {} from now{clock}", in_words(in_ms))
            }
            (CertificateFault::Expired, None) => format!("it has expired{clock}"),
            (CertificateFault::NotYetValid, None) => format!("it is not valid yet{clock}"),
            (CertificateFault::Revoked, _) => "an authority revoked it".to_owned(),
            (CertificateFault::GrantsUnsupported, _) => UNSUPPORTED.to_owned(),
            _ => fault.reason().to_owned(),
        };
        format!("the other side does not take the certificate of this peer: {why}")
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

fn clamp(value: u64, bounds: std::ops::RangeInclusive<u64>) -> u64 {
    value.clamp(*bounds.start(), *bounds.end())
}

const UNSUPPORTED: &str = "this version links only peers that may read and write everything: it does not \
                           keep to other grants yet";

/// Whether all that the peer is sent, and all that it sends, is within what it is granted. Nothing is filtered and no
/// author is judged yet, so whoever may do less gets no link.
fn is_whole(signed: &SignedCertificate) -> bool {
    let grants = &signed.certificate().grants;
    grants.read == Access::Everything && grants.write == Access::Everything
}

fn check_whole(signed: &SignedCertificate) -> Result<(), CertificateRefusal> {
    match is_whole(signed) {
        true => Ok(()),
        false => Err(CertificateRefusal {
            fault: CertificateFault::GrantsUnsupported,
            words: UNSUPPORTED.to_owned(),
        }),
    }
}

/// What is granted, compiled; `None` if that is everything.
fn permit_of(signed: &SignedCertificate) -> Option<Arc<Permit>> {
    if is_whole(signed) {
        return None;
    }
    // A certificate with a predicate that is none grants nothing.
    let permit = Permit::compile(signed.certificate()).unwrap_or_else(|_| Permit::nothing());
    Some(Arc::new(permit))
}

/// What clocks have to do with it: `; its clock is 2 days behind`.
fn clock_words(whose: &str, theirs_ms: u64, ours_ms: u64) -> String {
    let difference_ms = theirs_ms.abs_diff(ours_ms);
    if difference_ms < CLOCK_DIFFERENCE_MS {
        return String::new();
    }
    let side = if theirs_ms < ours_ms {
        "behind"
    } else {
        "ahead of"
    };
    format!("; {whose} is {} {side} this one", in_words(difference_ms))
}

/// What the other side is told. What authorities there were is said only to who has a certificate of one.
fn told_fault(reason: &Refused, signed: &SignedCertificate) -> CertificateFault {
    match reason {
        Refused::RemovedAuthority { .. } | Refused::IssuedOutsideTrust { .. }
            if !signed.signature_holds() =>
        {
            CertificateFault::UnknownAuthority
        }
        reason => fault(reason),
    }
}

fn fault(reason: &Refused) -> CertificateFault {
    match reason {
        Refused::OtherDatabase { .. } => CertificateFault::OtherDatabase,
        Refused::OtherSubject { .. } => CertificateFault::OtherSubject,
        Refused::UnknownAuthority { .. } => CertificateFault::UnknownAuthority,
        Refused::RemovedAuthority { .. } => CertificateFault::RemovedAuthority,
        Refused::IssuedOutsideTrust { .. } => CertificateFault::IssuedOutsideTrust,
        Refused::Expired { .. } => CertificateFault::Expired,
        Refused::NotYetValid { .. } => CertificateFault::NotYetValid,
        Refused::Revoked(_) => CertificateFault::Revoked,
        _ => CertificateFault::Signature,
    }
}

fn is_own(signed: &SignedCertificate, local: PeerId, database: DatabaseId) -> bool {
    let certificate = signed.certificate();
    certificate.subject == local && certificate.database == database
}

fn decode_own(
    bytes: &[u8],
    local: PeerId,
    database: DatabaseId,
) -> Result<SignedCertificate, Error> {
    let invalid = |message: String| Error::new(ErrorKind::AuthCertificateInvalid, message);
    let signed = SignedCertificate::decode(bytes)
        .map_err(|error| invalid("the bytes are no certificate".to_owned()).with_source(error))?;
    let certificate = signed.certificate();
    if certificate.database != database {
        return Err(invalid(format!(
            "the certificate is for database {}, and this one is {database}",
            certificate.database
        )));
    }
    if certificate.subject != local {
        return Err(invalid(format!(
            "the certificate is about peer {}, and this one is {local}",
            certificate.subject
        )));
    }
    Ok(signed)
}

fn corrupt(directory: Option<&Path>) -> Error {
    let path = directory.map(|directory| directory.join(FILE));
    let path = path.unwrap_or_default();
    let message = format!("{} is not what is known of authorities", path.display());
    Error::new(ErrorKind::StoreCorrupt, message)
}

/// What is known, and the certificate.
type Kept = (Vec<u8>, Vec<u8>);

fn read(directory: &Path, vault: Option<&Vault>) -> Result<Option<Kept>, Error> {
    let path = directory.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let message = format!("cannot read {}", path.display());
            let kind = ErrorKind::StorePersistenceDirectoryDenied;
            return Err(Error::new(kind, message).with_source(source));
        }
    };
    let corrupt = || corrupt(Some(directory));
    let bytes = identity::unseal(MAGIC, bytes.into(), vault).ok_or_else(corrupt)?;
    let bytes = bytes.strip_prefix(MAGIC).ok_or_else(corrupt)?;
    let parts = || {
        let mut reader = Reader::new(bytes);
        let exchange = reader.bytes("trust", FILE_BYTES_MAX)?.to_vec();
        let own = reader.bytes("certificate", limits::CERTIFICATE_BYTES_MAX)?;
        let parts = (exchange, own.to_vec());
        reader.finish()?;
        Ok::<_, DecodeError>(parts)
    };
    let parts = parts().map_err(|error| corrupt().with_source(error))?;
    Ok(Some(parts))
}

/// Seals what is kept in `directory` anew, under the key that seals now.
pub(crate) fn rekey(directory: &Path, vault: &Vault) -> Result<(), Error> {
    let _turn = FILE_TURN.lock().unwrap_or_else(PoisonError::into_inner);
    identity::reseal(directory, &directory.join(FILE), MAGIC, vault)
}

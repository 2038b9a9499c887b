//! Peers of a database with authorities: who gets a link, who loses it, and what both sides hear.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use idem::{
    Access, AuthorityConfig, AuthorityKey, Certificate, CertificateRequest, CertificateSerial,
    ConditionKind, ConnectMode, DatabaseAuthority, DatabaseId, ErrorKind, Grants, Idem, IdemConfig,
    Object, PeerId, RevokedId, SharedKey, SignedCertificate, SignedText, StoreKey, TransportConfig,
};
use idem_auth::{Signer, TrustFrame};
use idem_transport::{
    CertificateFault, CertificateRefusal, Certifier, LinkCredentials, LinkError, LinkIdentity,
    tcp_connect,
};

use crate::{
    fixture::{
        DATABASE, Heard, conditions, count, dial, link, listen, run, wait_for_kind, wait_until,
    },
    scripted::Scripted,
};

const HOUR: u64 = 3_600_000;
const GRACE: u64 = 10 * 60_000;

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// An authority that signs anything, also what `DatabaseAuthority` does not.
struct Key(LinkIdentity);

impl Key {
    fn new(byte: u8) -> Self {
        Self(LinkIdentity::from_secret(&[byte; 32]))
    }

    fn authority(&self) -> AuthorityKey {
        AuthorityKey(self.public_key())
    }

    fn certificate(&self, subject: PeerId) -> Certificate {
        Certificate {
            database: DATABASE,
            serial: CertificateSerial([9; 16]),
            subject,
            user: "ada".to_owned(),
            issued_at_ms: now_ms() - HOUR,
            not_before_ms: now_ms() - HOUR,
            not_after_ms: now_ms() + HOUR,
            claims: Object::new(),
            grants: Grants::everything(),
        }
    }

    fn sign(&self, certificate: Certificate) -> SignedCertificate {
        certificate.sign(self).unwrap()
    }
}

impl Signer for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.peer_id().0
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

fn mode(key: AuthorityKey) -> ConnectMode {
    ConnectMode::Authority(AuthorityConfig::new([key]))
}

fn config(key: AuthorityKey) -> IdemConfig {
    IdemConfig::new(DATABASE, mode(key))
}

fn certify(idem: &Idem, key: &Key) {
    let certificate = key.sign(key.certificate(idem.peer_key()));
    idem.auth()
        .unwrap()
        .set_certificate(&certificate.to_bytes())
        .unwrap();
}

/// A peer with a certificate of `key`.
fn member(key: &Key) -> Idem {
    let idem = Idem::open_sync(config(key.authority())).unwrap();
    certify(&idem, key);
    idem
}

fn apply(idem: &Idem, signed: SignedText) {
    assert!(idem.auth().unwrap().apply(signed).unwrap());
}

fn is_alone(idem: &Idem) -> bool {
    idem.presence().graph().remote_peers.is_empty()
}

#[test]
fn peers_with_certificates_sync() {
    let key = Key::new(1);
    let (a, b) = (member(&key), member(&key));
    run(&a, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    link(&a, &b, "cars");
    wait_until("the car is there", || count(&b, "cars") == 1);
}

#[test]
fn an_authority_in_a_file_admits_and_revokes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority");
    DatabaseAuthority::generate(DATABASE)
        .unwrap()
        .write_file(&path)
        .unwrap();
    let mut authority = DatabaseAuthority::from_file(&path).unwrap();
    let open = || Idem::open_sync(config(authority.key())).unwrap();
    let (a, b, c) = (open(), open(), open());
    for idem in [&a, &b, &c] {
        let request = CertificateRequest::new(idem.peer_key(), "ada");
        let certificate = authority.issue(request).unwrap();
        let line = SignedText::Certificate(certificate).to_line();
        let [signed] = SignedText::parse(&line).unwrap().try_into().unwrap();
        apply(idem, signed);
    }
    let address = listen(&a);
    dial(&b, &address);
    dial(&c, &address);
    wait_until("all are linked", || {
        a.presence().graph().remote_peers.len() == 2
    });
    let (at_a, _observer) = conditions(&a);
    let (at_b, _observer_b) = conditions(&b);
    // Said to one that has no link with the one that it is about.
    let list = authority
        .revoke(&[RevokedId::peer(DATABASE, &b.peer_key())])
        .unwrap();
    authority.write_file(&path).unwrap();
    apply(&c, SignedText::Revocations(list.clone()));
    let heard = wait_for_kind(&at_a, ConditionKind::Revoked);
    assert_eq!(heard.peer, Some(b.peer_key()));
    assert_eq!(
        heard.message,
        "an authority revoked the certificates of that peer"
    );
    // It tries again, and is told why not.
    let heard = wait_for_kind(&at_b, ConditionKind::Revoked);
    assert_eq!(
        heard.message,
        "the other side does not take the certificate of this peer: an authority revoked it"
    );
    wait_until("c stays", || {
        let peers = a.presence().graph().remote_peers;
        peers.len() == 1 && peers[0].peer_key == c.peer_key()
    });
    let again = DatabaseAuthority::from_file(&path).unwrap();
    assert_eq!(again.revocations(), Some(&list));
}

/// Shows what it wants to, and takes everything.
struct Liar {
    shows: Vec<u8>,
    clock_ms: u64,
}

impl Certifier for Liar {
    fn own_certificate(&self) -> Vec<u8> {
        self.shows.clone()
    }

    fn now_ms(&self) -> u64 {
        self.clock_ms
    }

    fn judge(&self, _: &PeerId, _: &[u8], _: u64) -> Result<(), CertificateRefusal> {
        Ok(())
    }

    fn explain(&self, fault: CertificateFault, _: u64) -> String {
        fault.reason().to_owned()
    }
}

/// Who dials with what it likes.
fn attacker() -> LinkIdentity {
    LinkIdentity::from_secret(&[0xa7; 32])
}

/// Dials `host`, and gives what the attacker and the host hear.
fn attack(host: &Idem, shows: Vec<u8>, clock_ms: u64) -> (&'static str, String) {
    let (heard, _observer) = conditions(host);
    let address = listen(host);
    let liar = Arc::new(Liar { shows, clock_ms });
    let credentials =
        LinkCredentials::with_certificates(attacker(), DATABASE, None, "attacker", liar);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dialled = runtime.block_on(tcp_connect(&address, &credentials));
    let Err(error @ LinkError::NotCertified { .. }) = dialled else {
        panic!("{dialled:?}");
    };
    let found = heard.wait_for("a refusal", |condition| {
        condition.peer == Some(attacker().peer_id())
    });
    assert!(is_alone(host));
    (error.reason(), found.message)
}

/// The certificate of the attacker by `key`, with a change.
fn changed(key: &Key, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
    let mut certificate = key.certificate(attacker().peer_id());
    change(&mut certificate);
    key.sign(certificate).to_bytes()
}

fn ended(certificate: &mut Certificate) {
    certificate.issued_at_ms -= 5 * HOUR;
    certificate.not_before_ms -= 5 * HOUR;
    certificate.not_after_ms -= 4 * HOUR;
}

/// Shows each to a peer of its own that trusts `key`, and compares what both hear.
fn check_refused(key: &Key, cases: Vec<(Vec<u8>, &str, String)>) {
    for (shows, reason, words) in cases {
        let host = member(key);
        let (told, heard) = attack(&host, shows, now_ms());
        assert_eq!(told, reason);
        assert!(heard.starts_with(&words), "{heard} is not {words}");
        assert!(!heard.contains("its clock"), "{heard}");
    }
}

#[test]
fn certificates_of_others_open_nothing() {
    let (key, other) = (Key::new(1), Key::new(9));
    let me = attacker().peer_id();
    let (victim, stranger) = (other.0.peer_id(), other.authority());
    let another = DatabaseId([8; 16]);
    let mut widened = changed(&key, |it| it.grants.admin = false);
    let flags = widened.len() - 64 - 3;
    assert_eq!(widened[flags] & 2, 0);
    widened[flags] |= 2;
    check_refused(
        &key,
        vec![
            (
                Vec::new(),
                "certificate-missing",
                "it shows no certificate, and this database asks for one".to_owned(),
            ),
            (
                b"certificate".to_vec(),
                "certificate-unreadable",
                "what it shows is no certificate: ".to_owned(),
            ),
            (
                changed(&key, |it| it.database = another),
                "certificate-other-database",
                format!("its certificate is for database {another}, and this one is {DATABASE}"),
            ),
            (
                changed(&key, |it| it.subject = victim),
                "certificate-other-peer",
                format!("it is {me} and shows the certificate of {victim}"),
            ),
            (
                changed(&other, |_| {}),
                "certificate-unknown-authority",
                format!(
                    "its certificate is signed by {stranger}, which this database does not trust"
                ),
            ),
            (
                widened,
                "certificate-signature",
                "the signature of its certificate is wrong".to_owned(),
            ),
        ],
    );
}

#[test]
fn certificates_that_do_not_hold_now_or_not_here_open_nothing() {
    let key = Key::new(1);
    let unsupported = "this version links only peers that may read and write everything";
    let later = |it: &mut Certificate| {
        it.not_before_ms += 4 * HOUR;
        it.not_after_ms += 5 * HOUR;
    };
    check_refused(
        &key,
        vec![
            (
                changed(&key, ended),
                "certificate-expired",
                "its certificate expired 3 h ago; this clock is 1 h ahead of the latest signed time"
                    .to_owned(),
            ),
            (
                changed(&key, later),
                "certificate-not-yet-valid",
                "its certificate is not valid before 2 h from now".to_owned(),
            ),
            (
                changed(&key, |it| {
                    it.grants.read = Access::of(&[("notes", &["true"])]);
                }),
                "certificate-grants-unsupported",
                unsupported.to_owned(),
            ),
            (
                changed(&key, |it| it.grants.write = Access::Nothing),
                "certificate-grants-unsupported",
                unsupported.to_owned(),
            ),
        ],
    );
    let host = member(&key);
    let (_, heard) = attack(&host, changed(&key, ended), now_ms() - 49 * HOUR);
    assert!(
        heard.contains("; its clock is 2 days behind this one"),
        "{heard}"
    );
}

/// A peer that trusts `first`, has heard that `second` takes over, and has a certificate of that.
fn host_after_rotation(first: &DatabaseAuthority, second: &DatabaseAuthority) -> Idem {
    let host = Idem::open_sync(config(first.key())).unwrap();
    let change = second.authorities().changes()[0].clone();
    apply(&host, SignedText::Authorities(change));
    let request = CertificateRequest::new(host.peer_key(), "host");
    apply(
        &host,
        SignedText::Certificate(second.issue(request).unwrap()),
    );
    host
}

#[test]
fn an_authority_that_was_replaced_signs_for_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = DatabaseAuthority::generate(DATABASE).unwrap();
    let mut second = DatabaseAuthority::generate_beside(&first).unwrap();
    first.rotate_to(&mut second, Duration::ZERO).unwrap();
    let path = directory.path().join("second");
    second.write_file(&path).unwrap();
    let second = DatabaseAuthority::from_file(&path).unwrap();
    let ended_at = second.authorities().find(&first.key()).unwrap().until_ms;
    wait_until("the first one is not trusted any more", || {
        now_ms() > ended_at
    });
    let request = CertificateRequest::new(attacker().peer_id(), "ada");
    let late = first.issue(request).unwrap().to_bytes();
    let host = host_after_rotation(&first, &second);
    let (told, _) = attack(&host, late.clone(), now_ms());
    assert_eq!(told, "certificate-issued-outside-trust");
    // Whoever only says that the first one signed it does not hear that there was such a one.
    let mut forged = late;
    *forged.last_mut().unwrap() ^= 1;
    let host = host_after_rotation(&first, &second);
    let (told, _) = attack(&host, forged, now_ms());
    assert_eq!(told, "certificate-unknown-authority");
}

/// A peer that is not ours, with a certificate that is good.
fn scripted(host: &Idem, certificate: &SignedCertificate) -> Scripted {
    let liar = Arc::new(Liar {
        shows: certificate.to_bytes(),
        clock_ms: now_ms(),
    });
    let credentials =
        LinkCredentials::with_certificates(attacker(), DATABASE, None, "scripted", liar);
    Scripted::showing(credentials, host.peer_key())
}

#[test]
fn a_revoked_peer_that_keeps_its_link_is_cut_off() {
    let mut authority = DatabaseAuthority::generate(DATABASE).unwrap();
    let host = Idem::open_sync(config(authority.key())).unwrap();
    let own = authority.issue(CertificateRequest::new(host.peer_key(), "host"));
    apply(&host, SignedText::Certificate(own.unwrap()));
    let (heard, _observer) = conditions(&host);
    let eve = attacker().peer_id();
    let certificate = authority
        .issue(CertificateRequest::new(eve, "eve"))
        .unwrap();
    let mut guest = scripted(&host, &certificate);
    guest.dial(&listen(&host));
    wait_until("the session is established", || {
        guest.run("a step", |frame| frame, || true);
        guest.session.is_established()
    });
    let list = authority.revoke(&[RevokedId::certificate(
        DATABASE,
        &certificate.certificate().serial,
    )]);
    apply(&host, SignedText::Revocations(list.unwrap()));
    let told = wait_for_kind(&heard, ConditionKind::Revoked);
    assert_eq!(told.message, "an authority revoked its certificate");
    // It neither says goodbye nor closes anything, and what it is sent from now on is nothing.
    run(&host, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    wait_until("it is cut off", || {
        guest.run("a step", |frame| frame, || true);
        !guest.is_linked()
    });
    let (told, _) = attack(&host, certificate.to_bytes(), now_ms());
    assert_eq!(told, "certificate-revoked");
}

#[test]
fn a_member_that_forges_revocations_loses_its_link() {
    let key = Key::new(1);
    let (host, victim) = (member(&key), member(&key));
    let (heard, _observer) = conditions(&host);
    let address = listen(&host);
    dial(&victim, &address);
    wait_for_kind(&heard, ConditionKind::Linked);
    let certificate = key.sign(key.certificate(attacker().peer_id()));
    let mut guest = scripted(&host, &certificate);
    guest.dial(&address);
    wait_until("the session is established", || {
        guest.run("a step", |frame| frame, || true);
        guest.session.is_established()
    });
    let mut authority = DatabaseAuthority::generate(DATABASE).unwrap();
    let id = RevokedId::peer(DATABASE, &victim.peer_key());
    let list = authority.revoke(&[id]).unwrap().to_bytes();
    // Under the name of the authority that is trusted.
    let part = [&list[..17], &key.authority().0, &list[49..]].concat();
    let forged = TrustFrame::Revocations {
        issuer: key.authority(),
        epoch: 1,
        bytes_total: part.len(),
        offset: 0,
        part,
    };
    assert!(guest.session.gossip(&forged.to_bytes()));
    wait_until("it is cut off", || {
        guest.run("a step", |frame| frame, || true);
        !guest.is_linked()
    });
    let told = wait_for_kind(&heard, ConditionKind::ProtocolViolated);
    assert_eq!(told.peer, Some(attacker().peer_id()));
    assert!(
        told.message
            .contains("the signature of the revocation list is wrong"),
        "{}",
        told.message
    );
    let peers = host.presence().graph().remote_peers;
    let stays = |it: &idem::Peer| it.peer_key == victim.peer_key();
    assert!(peers.iter().any(stays), "{peers:?}");
}

#[test]
fn a_certificate_that_ends_ends_its_links() {
    let key = Key::new(1);
    let host = member(&key);
    let (heard, _observer) = conditions(&host);
    let guest = Idem::open_sync(config(key.authority())).unwrap();
    let mut certificate = key.certificate(guest.peer_key());
    certificate.not_after_ms = now_ms() - GRACE + 3000;
    let certificate = key.sign(certificate);
    guest
        .auth()
        .unwrap()
        .set_certificate(&certificate.to_bytes())
        .unwrap();
    dial(&guest, &listen(&host));
    wait_for_kind(&heard, ConditionKind::Linked);
    let ended = wait_for_kind(&heard, ConditionKind::CertificateExpired);
    assert_eq!(ended.peer, Some(guest.peer_key()));
    assert!(
        ended
            .message
            .starts_with("its certificate expired 10 min ago"),
        "{}",
        ended.message
    );
    wait_until("it is gone", || is_alone(&host));
}

#[test]
fn a_renewed_certificate_counts_on_the_link_that_there_is() {
    let key = Arc::new(Key::new(1));
    let host = member(&key);
    let (heard, _observer) = conditions(&host);
    let guest = Idem::open_sync(config(key.authority())).unwrap();
    let mut certificate = key.certificate(guest.peer_key());
    certificate.not_after_ms = now_ms() - GRACE + 3000;
    let ends = Duration::from_millis(3000);
    let certificate = key.sign(certificate);
    let auth = guest.auth().unwrap();
    auth.set_certificate(&certificate.to_bytes()).unwrap();
    // The app is asked at once, for it has ended already but for the grace.
    let asked = Heard::new();
    let push = asked.clone();
    auth.set_expiration_handler(move |expiry| push.push(expiry));
    let begun = std::time::Instant::now();
    dial(&guest, &listen(&host));
    wait_for_kind(&heard, ConditionKind::Linked);
    let expiry = asked.wait_for("a question for another certificate", |_| true);
    assert_eq!(
        (expiry.left, expiry.has_certificate),
        (Duration::ZERO, true)
    );
    certify(&guest, &key);
    wait_until("the first one would have ended its links", || {
        begun.elapsed() > ends + Duration::from_millis(500)
    });
    run(&guest, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    host.sync()
        .register_subscription("SELECT * FROM cars")
        .unwrap()
        .keep();
    wait_until("the car is there", || count(&host, "cars") == 1);
    let links = heard.all().into_iter();
    let links = links.filter(|it| it.kind == ConditionKind::Linked).count();
    assert_eq!(links, 1, "{:?}", heard.all());
}

#[test]
fn what_is_revoked_stays_so_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut authority = DatabaseAuthority::generate(DATABASE).unwrap();
    let key = StoreKey::from_bytes([3; 32]);
    let open = |authority: &DatabaseAuthority| {
        let config = config(authority.key()).with_persistence_directory(directory.path());
        Idem::open_sync(config.with_encryption_key(key.clone())).unwrap()
    };
    let stranger = attacker().peer_id();
    let certificate = authority
        .issue(CertificateRequest::new(stranger, "eve"))
        .unwrap();
    let host = open(&authority);
    let own = authority
        .issue(CertificateRequest::new(host.peer_key(), "host"))
        .unwrap();
    apply(&host, SignedText::Certificate(own.clone()));
    let list = authority.revoke(&[RevokedId::user(DATABASE, "eve")]);
    apply(&host, SignedText::Revocations(list.unwrap()));
    host.encryption().unwrap().rotate_data_key().unwrap();
    host.encryption()
        .unwrap()
        .wait_for_rotation(|_| {})
        .unwrap();
    host.close_blocking().unwrap();
    drop(host);
    let file = std::fs::read(directory.path().join("trust")).unwrap();
    let own_bytes = own.to_bytes();
    assert!(!file.windows(16).any(|it| it == &own_bytes[1..17]));
    let host = open(&authority);
    assert_eq!(host.auth().unwrap().certificate(), Some(own));
    let (told, heard) = attack(&host, certificate.to_bytes(), now_ms());
    assert_eq!(told, "certificate-revoked");
    assert_eq!(heard, "an authority revoked the certificates of its user");
    damaged(host, directory.path(), &open, &authority);
}

/// A file that was changed is named, and is not taken for one that says nothing.
fn damaged(
    host: Idem,
    directory: &Path,
    open: &impl Fn(&DatabaseAuthority) -> Idem,
    authority: &DatabaseAuthority,
) {
    host.close_blocking().unwrap();
    drop(host);
    let path = directory.join("trust");
    let bytes = std::fs::read(&path).unwrap();
    let mut altered = bytes.clone();
    *altered.last_mut().unwrap() ^= 1;
    std::fs::write(&path, altered).unwrap();
    let config = config(authority.key()).with_persistence_directory(directory);
    let key = StoreKey::from_bytes([3; 32]);
    let error = Idem::open_sync(config.with_encryption_key(key)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreCorrupt);
    std::fs::write(&path, bytes).unwrap();
    drop(open(authority));
}

#[test]
fn sync_does_not_start_without_a_certificate_that_holds() {
    let key = Key::new(1);
    let idem = Idem::open_sync(config(key.authority())).unwrap();
    let check = |idem: &Idem, words: &str| {
        let error = idem.sync().start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthCertificateInvalid);
        assert!(error.to_string().contains(words), "{error}");
    };
    check(&idem, "has no certificate");
    let auth = idem.auth().unwrap();
    let elsewhere = key.sign(key.certificate(PeerId([2; 32]))).to_bytes();
    let error = auth.set_certificate(&elsewhere).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthCertificateInvalid);
    let mut narrow = key.certificate(idem.peer_key());
    narrow.grants.read = Access::Nothing;
    auth.set_certificate(&key.sign(narrow).to_bytes()).unwrap();
    check(&idem, "may read and write everything");
    certify(&idem, &key);
    idem.sync().start().unwrap();
}

#[test]
fn other_modes_are_named_on_both_sides() {
    let key = Key::new(1);
    let shared = SharedKey::from_bytes([1; 32]);
    let open = |mode| Idem::open_sync(IdemConfig::new(DATABASE, mode)).unwrap();
    let both = AuthorityConfig::new([key.authority()]).with_shared_key(shared.clone());
    let with_both = open(ConnectMode::Authority(both));
    certify(&with_both, &key);
    let others = [
        open(ConnectMode::SharedKey {
            key: shared.clone(),
        }),
        open(ConnectMode::Development { token: shared }),
        with_both,
    ];
    for other in others {
        let host = member(&key);
        let (at_host, _observer) = conditions(&host);
        let (at_other, _other_observer) = conditions(&other);
        dial(&other, &listen(&host));
        let heard = wait_for_kind(&at_host, ConditionKind::ModeMismatch);
        assert!(heard.message.contains("this side for certificates"));
        wait_for_kind(&at_other, ConditionKind::ModeMismatch);
        assert!(is_alone(&host));
    }
}

#[test]
fn a_token_for_development_is_loud() {
    let open = || {
        let token = SharedKey::from_secret("playground");
        Idem::open_sync(IdemConfig::new(
            DATABASE,
            ConnectMode::Development { token },
        ))
        .unwrap()
    };
    let (a, b) = (open(), open());
    let (heard, _observer) = conditions(&a);
    run(&a, "INSERT INTO cars DOCUMENTS ({'_id': 1})");
    link(&a, &b, "cars");
    wait_for_kind(&heard, ConditionKind::Insecure);
    wait_until("the car is there", || count(&b, "cars") == 1);
}

#[test]
fn nothing_about_trust_is_asked_of_peers_with_a_shared_key() {
    let idem = crate::fixture::memory();
    assert!(idem.auth().is_none());
    idem.set_transport_config(TransportConfig::new()).unwrap();
    idem.sync().start().unwrap();
}

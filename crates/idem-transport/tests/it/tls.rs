//! TLS around WebSockets: whose certificate is accepted, and what is said of those that are not.

use std::path::{Path, PathBuf};

use idem_transport::{
    HttpLinkListener, Lane, Link, LinkError, LinkKind, TlsCertificate, TlsError, TlsTrust,
    WebSocketUrl, websocket_connect,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

use crate::{DATABASE, credentials, on_runtime};

/// An authority, and a folder for what it certifies.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn trust(&self) -> TlsTrust {
        TlsTrust::of_file(&self.folder.path().join("ca.pem")).unwrap()
    }

    /// The files of a certificate for `name`, and of its key.
    fn certify(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let written = [
            ("certificate", certificate.pem()),
            ("key", key.serialize_pem()),
        ];
        let count = std::fs::read_dir(self.folder.path()).unwrap().count();
        written.map(|(what, pem)| {
            let path = self.folder.path().join(format!("{count}.{what}.pem"));
            std::fs::write(&path, pem).unwrap();
            path
        })
    }
}

async fn listen([certificate, key]: &[PathBuf; 2]) -> (HttpLinkListener, WebSocketUrl) {
    let listener = HttpLinkListener::bind("127.0.0.1:0").await.unwrap();
    let listener = listener.with_tls(TlsCertificate::read(certificate, key).unwrap());
    let url = format!("wss://localhost:{}", listener.address().port());
    (listener, url.parse().unwrap())
}

/// What becomes of a dial, here and there.
async fn meet(
    listener: &HttpLinkListener,
    url: &WebSocketUrl,
    trust: &TlsTrust,
) -> (Result<Link, LinkError>, Result<Option<Link>, LinkError>) {
    let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
    tokio::join!(websocket_connect(url, Some(trust), &a), async {
        listener.accept().await.unwrap().handshake(&b).await
    })
}

fn words(error: &LinkError) -> (&'static str, String) {
    (error.reason(), error.to_string())
}

#[test]
fn a_link_comes_about_inside_of_tls() {
    on_runtime(async {
        let authority = Authority::new("ours");
        let (listener, url) = listen(&authority.certify("localhost", |_| {})).await;
        let (at_a, at_b) = meet(&listener, &url, &authority.trust()).await;
        let (mut at_a, mut at_b) = (at_a.unwrap(), at_b.unwrap().unwrap());
        assert_eq!(at_a.properties().kind, LinkKind::WebSocket);
        for len in [1, 1000, 200_000] {
            let frame = vec![7; len];
            at_a.send(Lane::Bulk, frame.clone()).await.unwrap();
            at_b.send(Lane::Bulk, frame.clone()).await.unwrap();
            assert_eq!(
                at_b.recv().await.unwrap(),
                Some((Lane::Bulk, frame.clone()))
            );
            assert_eq!(at_a.recv().await.unwrap(), Some((Lane::Bulk, frame)));
        }
    });
}

#[test]
fn a_certificate_may_be_for_an_address_and_its_own_authority() {
    on_runtime(async {
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let [certificate, key] = ["c.pem", "k.pem"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let (listener, _) = listen(&[certificate.clone(), key]).await;
        let url = format!("wss://{}", listener.address()).parse().unwrap();
        let trust = TlsTrust::of_file(&certificate).unwrap();
        let (at_a, at_b) = meet(&listener, &url, &trust).await;
        assert!(at_a.is_ok() && at_b.is_ok());
    });
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_on_both_sides() {
    on_runtime(async {
        let authority = Authority::new("ours");
        let trust = authority.trust();
        let expired = authority.certify("localhost", |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        });
        let early = authority.certify("localhost", |params| {
            params.not_before = date_time_ymd(2997, 1, 1);
            params.not_after = date_time_ymd(2998, 1, 1);
        });
        let elsewhere = authority.certify("example.org", |_| {});
        let stranger = Authority::new("another");
        let unknown = stranger.certify("localhost", |_| {});
        let pretender = Authority::new("ours");
        let forged = pretender.certify("localhost", |_| {});
        for (files, what) in [
            (&expired, "it has expired"),
            (
                &early,
                "it is not valid yet, or the clock of this machine is behind",
            ),
            (&elsewhere, "it is for example.org"),
            (&unknown, "no authority that is trusted here has signed it"),
            (
                &forged,
                "its signature is not that of the authority that it names",
            ),
        ] {
            check_refused(files, &trust, what).await;
        }
    });
}

async fn check_refused(files: &[PathBuf; 2], trust: &TlsTrust, what: &str) {
    let (listener, url) = listen(files).await;
    let (at_a, at_b) = meet(&listener, &url, trust).await;
    let told = format!("the certificate of localhost is not accepted: {what}");
    assert_eq!(words(&at_a.unwrap_err()), ("certificate-invalid", told));
    let told = "TLS could not begin: the other side does not accept the certificate of this one";
    assert_eq!(words(&at_b.unwrap_err()), ("tls-failed", told.to_owned()));
}

#[test]
fn who_speaks_no_tls_where_there_is_some_hears_so() {
    on_runtime(async {
        let authority = Authority::new("ours");
        let (listener, secured) = listen(&authority.certify("localhost", |_| {})).await;
        let bare = format!("ws://{}", listener.address()).parse().unwrap();
        let (at_a, at_b) = meet(&listener, &bare, &authority.trust()).await;
        assert!(at_a.is_err());
        let told = (
            "tls-failed",
            "TLS could not begin: the other side speaks no TLS",
        );
        assert_eq!(words(&at_b.unwrap_err()), (told.0, told.1.to_owned()));

        let plain = HttpLinkListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("wss://localhost:{}", plain.address().port());
        let (at_a, at_b) = meet(&plain, &url.parse().unwrap(), &authority.trust()).await;
        assert!(at_a.is_err());
        assert_eq!(at_b.unwrap_err().reason(), "not-a-peer");

        // Nobody is trusted by an oversight.
        let a = credentials(1, DATABASE, 7);
        let (dialled, _) = tokio::join!(websocket_connect(&secured, None, &a), listener.accept());
        assert_eq!(dialled.unwrap_err().reason(), "certificate-invalid");
    });
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let authority = Authority::new("ours");
    let [certificate, key] = authority.certify("localhost", |_| {});
    let [_, other_key] = authority.certify("example.org", |_| {});
    let path = |name: &str| authority.folder.path().join(name);
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(
        path("damaged"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    std::fs::write(path("large"), vec![b'\n'; 5 << 20]).unwrap();
    let check = |certificate: &Path, key: &Path, fits: fn(&TlsError) -> bool, named: &Path| {
        let error = TlsCertificate::read(certificate, key).unwrap_err();
        assert!(fits(&error), "{error:?}");
        let name = named.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    };
    let (lost, empty, damaged) = (path("lost"), path("empty"), path("damaged"));
    let unreadable = |error: &TlsError| matches!(error, TlsError::Unreadable { .. });
    check(&lost, &key, unreadable, &lost);
    check(&certificate, &lost, unreadable, &lost);
    let none = |error: &TlsError| matches!(error, TlsError::NoCertificate { .. });
    check(&empty, &key, none, &empty);
    check(&key, &key, none, &key);
    let no_key = |error: &TlsError| matches!(error, TlsError::NoKey { .. });
    check(&certificate, &empty, no_key, &empty);
    check(&certificate, &certificate, no_key, &certificate);
    let unusable = |error: &TlsError| matches!(error, TlsError::Damaged { .. });
    check(&damaged, &key, unusable, &damaged);
    check(&path("large"), &key, unusable, &path("large"));
    let mismatch = |error: &TlsError| matches!(error, TlsError::Mismatch { .. });
    check(&certificate, &other_key, mismatch, &other_key);
    for (file, what) in [
        (&lost, "cannot read"),
        (&empty, "no certificate"),
        (&damaged, "cannot be used"),
    ] {
        let error = TlsTrust::of_file(file).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

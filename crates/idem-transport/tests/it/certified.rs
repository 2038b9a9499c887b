//! Certificates in the handshake: who shows what, who is told what, and what nobody else sees.

use std::sync::Arc;

use idem_model::{PeerId, limits};
use idem_transport::{
    CertificateFault, CertificateRefusal, Certifier, Link, LinkCredentials, LinkError,
    LinkIdentity, LinkKind, LinkMode, Role, SharedSecret, link_over, memory_streams,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{DATABASE, credentials, handshake::record_initiator, on_runtime};

/// Takes certificates that begin with `good`, and has one.
struct Judge {
    own: Vec<u8>,
    now_ms: u64,
}

impl Certifier for Judge {
    fn own_certificate(&self) -> Vec<u8> {
        self.own.clone()
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn judge(
        &self,
        peer: &PeerId,
        certificate: &[u8],
        clock_ms: u64,
    ) -> Result<(), CertificateRefusal> {
        if certificate.starts_with(b"good") {
            return Ok(());
        }
        let fault = match certificate {
            [] => CertificateFault::Missing,
            _ => CertificateFault::Expired,
        };
        let words = format!(
            "{peer} is refused at {}, its clock is {clock_ms}",
            self.now_ms
        );
        Err(CertificateRefusal { fault, words })
    }

    fn explain(&self, fault: CertificateFault, their_ms: u64) -> String {
        format!("{} at {their_ms} here {}", fault.reason(), self.now_ms)
    }
}

fn certified(identity: u8, own: &[u8], key: Option<u8>) -> LinkCredentials {
    LinkCredentials::with_certificates(
        LinkIdentity::from_secret(&[identity; 32]),
        DATABASE,
        key.map(|key| SharedSecret::new([key; 32])).as_ref(),
        "certified",
        Arc::new(Judge {
            own: own.to_vec(),
            now_ms: 1000 + u64::from(identity),
        }),
    )
}

fn meet(
    a: &LinkCredentials,
    b: &LinkCredentials,
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let (at_a, at_b) = memory_streams();
    on_runtime(async {
        tokio::join!(
            link_over(Box::new(at_a), Role::Initiator, LinkKind::Memory, None, a),
            link_over(Box::new(at_b), Role::Responder, LinkKind::Memory, None, b),
        )
    })
}

#[test]
fn both_get_the_certificate_of_the_other() {
    let mut longest = b"good".to_vec();
    longest.resize(limits::CERTIFICATE_BYTES_MAX, b'b');
    for key in [None, Some(3)] {
        let (a, b) = (certified(1, b"good a", key), certified(2, &longest, key));
        let (at_a, at_b) = meet(&a, &b);
        assert_eq!(at_a.unwrap().properties().remote_certificate, longest);
        let at_b = at_b.unwrap();
        assert_eq!(at_b.properties().remote_certificate, b"good a");
        assert_eq!(at_b.properties().remote_peer, a.identity().peer_id());
        assert_eq!(at_b.properties().remote_metadata, b"");
    }
}

#[test]
fn a_certificate_that_is_not_taken_is_explained_on_both_sides() {
    for (shown, reason) in [
        (&b""[..], "certificate-missing"),
        (b"bad", "certificate-expired"),
    ] {
        for is_dialling in [true, false] {
            let (bad, good) = (certified(1, shown, None), certified(2, b"good", None));
            let (at_bad, at_good) = match is_dialling {
                true => meet(&bad, &good),
                false => {
                    let (at_good, at_bad) = meet(&good, &bad);
                    (at_bad, at_good)
                }
            };
            let told = at_bad.unwrap_err();
            assert_eq!(told.reason(), reason);
            assert_eq!(told.to_string(), format!("{reason} at 1002 here 1001"));
            let judged = at_good.unwrap_err();
            assert_eq!(judged.reason(), reason);
            let peer = bad.identity().peer_id();
            let words = format!("{peer} is refused at 1002, its clock is 1001");
            assert_eq!(judged.to_string(), words);
        }
    }
}

#[test]
fn modes_are_told_apart_on_both_sides() {
    let development = |identity: u8| {
        LinkCredentials::for_development(
            LinkIdentity::from_secret(&[identity; 32]),
            DATABASE,
            &SharedSecret::new([7; 32]),
            "developer",
        )
    };
    let all = |identity: u8| {
        [
            credentials(identity, DATABASE, 7),
            certified(identity, b"good", None),
            certified(identity, b"good", Some(7)),
            development(identity),
        ]
    };
    for (at_a, a) in all(1).iter().enumerate() {
        for (at_b, b) in all(2).iter().enumerate() {
            let (one, two) = meet(a, b);
            if at_a == at_b {
                one.unwrap();
                two.unwrap();
                continue;
            }
            for (error, ours, theirs) in [
                (one.unwrap_err(), a.mode(), b.mode()),
                (two.unwrap_err(), b.mode(), a.mode()),
            ] {
                assert_eq!(error.reason(), "mode-mismatch");
                let words = format!("the other side asks for {theirs}, and this side for {ours}");
                assert_eq!(error.to_string(), words);
            }
        }
    }
}

#[test]
fn another_key_beside_certificates_opens_nothing() {
    let (a, b) = (
        certified(1, b"good", Some(1)),
        certified(2, b"good", Some(2)),
    );
    let (at_a, at_b) = meet(&a, &b);
    assert_eq!(at_a.unwrap_err().reason(), "key-mismatch");
    assert_eq!(at_b.unwrap_err().reason(), "key-mismatch");
}

/// Without a shared key everybody can begin the handshake that was recorded, and still it proves nothing again.
#[test]
fn a_recorded_handshake_opens_nothing_and_shows_nothing() {
    on_runtime(async {
        let certificate = b"good and to be seen by the other side only";
        let (a, b) = (certified(1, certificate, None), certified(2, b"good", None));
        let recorded = record_initiator(&a, &b).await;
        let is_seen = |part: &[u8]| recorded.windows(part.len()).any(|it| it == part);
        assert!(!is_seen(&certificate[..8]));
        assert!(!is_seen(&a.identity().peer_id().0[..8]));
        let (mut raw, stream) = memory_streams();
        raw.write_all(&recorded).await.unwrap();
        let host = link_over(
            Box::new(stream),
            Role::Responder,
            LinkKind::Memory,
            None,
            &b,
        );
        let (linked, ()) = tokio::join!(host, async {
            let mut answer = Vec::new();
            raw.read_to_end(&mut answer).await.unwrap();
        });
        let reason = linked.unwrap_err().reason();
        assert!(["tampered", "key-mismatch"].contains(&reason), "{reason}");
    });
}

/// Somebody on the way who rewrites the mode or the version of a preamble breaks the handshake.
#[test]
fn a_preamble_that_was_altered_breaks_the_handshake() {
    for at in [10, 12, 40] {
        on_runtime(async move {
            let (a, b) = (certified(1, b"good", None), certified(2, b"good", None));
            let (stream_a, mut tap_a) = memory_streams();
            let (mut tap_b, stream_b) = memory_streams();
            let tap = async {
                let mut preamble = [0; 60];
                tap_a.read_exact(&mut preamble).await.unwrap();
                // The greatest version that is spoken becomes one that nobody speaks yet; the rest is the tag.
                preamble[at] ^= 0x7f;
                tap_b.write_all(&preamble).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tap_a, &mut tap_b).await;
            };
            let both = async {
                tokio::join!(
                    link_over(
                        Box::new(stream_a),
                        Role::Initiator,
                        LinkKind::Memory,
                        None,
                        &a
                    ),
                    link_over(
                        Box::new(stream_b),
                        Role::Responder,
                        LinkKind::Memory,
                        None,
                        &b
                    ),
                )
            };
            tokio::pin!(both);
            let (at_a, at_b) = tokio::select! {
                ends = &mut both => ends,
                () = tap => both.await,
            };
            assert!(at_a.is_err() && at_b.is_err(), "byte {at}");
        });
    }
}

#[test]
fn modes_say_what_they_ask_for() {
    assert_eq!(LinkMode::Certificates.to_string(), "certificates");
    assert!(LinkMode::CertificatesAndKey.has_certificates());
    assert!(!LinkMode::Development.has_certificates());
}

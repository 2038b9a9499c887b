//! Who gets a link, and what the others are told.

use std::time::Duration;

use idem_model::{DatabaseId, PeerId, limits};
use idem_transport::{
    ByteStream, Lane, Link, LinkCredentials, LinkError, LinkKind, LinkMode, PROTOCOL_VERSION_MAX,
    Preamble, Refusal, Role, TcpLinkListener, Verdict, VersionRange, link_over, memory_link_pair,
    memory_streams, tcp_connect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{DATABASE, credentials, on_runtime};

/// Both sides' failures over TCP, the dialling side's first.
fn failures(a: LinkCredentials, b: LinkCredentials) -> (&'static str, &'static str) {
    on_runtime(async {
        let listener = TcpLinkListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.address().to_string();
        let (dialled, answered) = tokio::join!(tcp_connect(&address, &a), async {
            listener.accept().await.unwrap().handshake(&b).await
        });
        let reason = |result: Result<_, LinkError>| result.map(drop).unwrap_err().reason();
        (reason(dialled), reason(answered))
    })
}

#[test]
fn peers_learn_who_the_other_is() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let listener = TcpLinkListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.address().to_string();
        let (at_a, at_b) = tokio::join!(tcp_connect(&address, &a), async {
            listener.accept().await.unwrap().handshake(&b).await
        });
        let (mut at_a, at_b) = (at_a.unwrap(), at_b.unwrap());
        assert_eq!(at_a.properties().remote_peer, b.identity().peer_id());
        assert_eq!(at_b.properties().remote_peer, a.identity().peer_id());
        assert_eq!(at_b.properties().remote_device_name, "device 1");
        assert_eq!(at_b.properties().role, Role::Responder);
        at_b.send(Lane::Interactive, b"hello".to_vec())
            .await
            .unwrap();
        assert_eq!(
            at_a.recv().await.unwrap(),
            Some((Lane::Interactive, b"hello".to_vec()))
        );
    });
}

#[test]
fn another_key_is_told_to_both() {
    assert_eq!(
        failures(credentials(1, DATABASE, 7), credentials(2, DATABASE, 8)),
        ("key-mismatch", "key-mismatch")
    );
}

#[test]
fn another_database_is_told_to_both() {
    let other = DatabaseId([2; 16]);
    assert_eq!(
        failures(credentials(1, DATABASE, 7), credentials(2, other, 7)),
        ("database-mismatch", "database-mismatch")
    );
}

#[test]
fn a_peer_does_not_link_with_itself() {
    assert_eq!(
        failures(credentials(1, DATABASE, 7), credentials(1, DATABASE, 7)),
        ("self-link", "self-link")
    );
}

#[test]
fn a_peer_that_is_not_admitted_is_told() {
    for refusal in [Refusal::Full, Refusal::Denied] {
        let b = credentials(2, DATABASE, 7).with_admission(move |_| Err(refusal));
        let (dialled, answered) = failures(credentials(1, DATABASE, 7), b);
        assert_eq!(dialled, answered);
        let expected = if refusal == Refusal::Full {
            "full"
        } else {
            "denied"
        };
        assert_eq!(dialled, expected);
    }
}

/// Runs on a clock that jumps to the next thing that is waited for.
fn on_jumping_clock(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work);
}

/// Both ends of a link in memory, or why there is none, the dialling side's first.
async fn meet(
    a: &LinkCredentials,
    b: &LinkCredentials,
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let (at_a, at_b) = memory_streams();
    let (at_a, at_b): (Box<dyn ByteStream>, Box<dyn ByteStream>) = (Box::new(at_a), Box::new(at_b));
    tokio::join!(
        link_over(at_a, Role::Initiator, LinkKind::Memory, None, a),
        link_over(at_b, Role::Responder, LinkKind::Memory, None, b),
    )
}

/// What one side makes of the other, and the words for it on both sides.
fn judged(verdict: fn() -> Verdict, judge: Role) -> [(String, Option<PeerId>); 2] {
    let mut sides = [credentials(1, DATABASE, 7), credentials(2, DATABASE, 7)];
    let at = usize::from(judge == Role::Responder);
    sides[at] = sides[at].clone().with_approval(move |_| verdict());
    let mut told = Vec::new();
    on_jumping_clock(async {
        let [a, b] = &sides;
        let (at_a, at_b) = meet(a, b).await;
        for side in [at_a, at_b] {
            let error = side.map(drop).unwrap_err();
            let LinkError::Refused { peer, .. } = error else {
                panic!("{error}");
            };
            told.push((error.to_string(), peer));
        }
    });
    told.try_into().unwrap()
}

#[test]
fn an_app_that_does_not_want_a_peer_is_heard_by_both() {
    let denied = || -> Verdict { Box::pin(std::future::ready(Err(Refusal::Denied))) };
    let silent = || -> Verdict { Box::pin(std::future::pending()) };
    let failed = || -> Verdict { Box::pin(std::future::ready(Err(Refusal::Undecided))) };
    let ids = [1, 2].map(|id| credentials(id, DATABASE, 7).identity().peer_id());
    for (verdict, here, there) in [
        (
            denied as fn() -> Verdict,
            "the app does not want the peer",
            "the app of the other side does not want this peer",
        ),
        (
            silent,
            "the app did not say in time whether it wants the peer",
            "the app of the other side did not say in time whether it wants this peer",
        ),
        (
            failed,
            "the app panicked when it was asked whether it wants the peer",
            "the app of the other side failed to say whether it wants this peer",
        ),
    ] {
        // Who refuses in place of a proof is not known.
        let [at_a, at_b] = judged(verdict, Role::Responder);
        assert_eq!((at_a.0.as_str(), at_a.1), (there, None));
        assert_eq!((at_b.0.as_str(), at_b.1), (here, Some(ids[0])));
        let [at_a, at_b] = judged(verdict, Role::Initiator);
        assert_eq!((at_a.0.as_str(), at_a.1), (here, Some(ids[1])));
        assert_eq!((at_b.0.as_str(), at_b.1), (there, Some(ids[0])));
    }
}

#[test]
fn apps_may_think_for_almost_ten_seconds_each() {
    on_jumping_clock(async {
        let [a, b] = [1, 2].map(|id| {
            credentials(id, DATABASE, 7).with_approval(|_| {
                Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(9_900)).await;
                    Ok(())
                })
            })
        });
        let (at_a, at_b) = meet(&a, &b).await;
        drop((at_a.unwrap(), at_b.unwrap()));
    });
}

#[test]
fn apps_are_told_who_asks() {
    let (told, asked) = std::sync::mpsc::channel();
    let longest = vec![b'm'; limits::PRESENCE_METADATA_BYTES_MAX];
    let said = longest.clone();
    let a = credentials(1, DATABASE, 7).with_metadata(move || said.clone());
    let b = credentials(2, DATABASE, 7).with_approval(move |applicant| {
        told.send(applicant).unwrap();
        Box::pin(std::future::ready(Ok(())))
    });
    on_runtime(async {
        let (at_a, at_b) = meet(&a, &b).await;
        assert_eq!(at_a.unwrap().properties().remote_metadata, b"");
        assert_eq!(at_b.unwrap().properties().remote_metadata, longest);
    });
    let applicant = asked.recv().unwrap();
    assert_eq!(applicant.peer, a.identity().peer_id());
    assert_eq!(applicant.device_name, "device 1");
    assert_eq!(applicant.metadata, longest);
    assert_eq!(applicant.kind, LinkKind::Memory);
    assert_eq!(applicant.role, Role::Responder);
}

/// One that proves who it is, and then neither consents nor refuses.
#[test]
fn a_peer_that_does_not_consent_gets_no_link() {
    on_jumping_clock(async {
        let a = credentials(1, DATABASE, 7).with_approval(|_| Box::pin(std::future::pending()));
        let b = credentials(2, DATABASE, 7);
        let (at_a, at_b) = memory_streams();
        let dialled = tokio::spawn(async move {
            let stream = Box::new(at_a);
            let linked = link_over(stream, Role::Initiator, LinkKind::Memory, None, &a);
            // It would refuse after ten seconds.
            tokio::time::timeout(Duration::from_secs(9), linked).await
        });
        let accept = link_over(Box::new(at_b), Role::Responder, LinkKind::Memory, None, &b);
        assert_eq!(accept.await.unwrap_err().reason(), "lost");
        assert!(dialled.await.unwrap().is_err());
    });
}

#[test]
fn another_version_is_told_to_both() {
    on_runtime(async {
        let a = credentials(1, DATABASE, 7);
        for role in [Role::Initiator, Role::Responder] {
            let (mut raw, stream) = memory_streams();
            let newer = VersionRange {
                min: PROTOCOL_VERSION_MAX + 1,
                max: PROTOCOL_VERSION_MAX + 3,
            };
            let preamble = Preamble::new(newer, DATABASE, LinkMode::SharedKey, [0; 16]).to_bytes();
            let (linked, answer) = tokio::join!(
                link_over(Box::new(stream), role, LinkKind::Memory, None, &a),
                async {
                    raw.write_all(&preamble).await.unwrap();
                    let mut answer = [0; 60];
                    raw.read_exact(&mut answer).await.unwrap();
                    drop(raw);
                    answer
                }
            );
            assert_eq!(linked.unwrap_err().reason(), "version-mismatch");
            // The other side got what it needs to come to the same conclusion.
            let theirs = Preamble::decode(&answer).unwrap().versions();
            assert_eq!(newer.common(theirs), None);
        }
    });
}

#[test]
fn garbage_is_not_a_peer_and_gets_no_answer() {
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"x", b"\xf5ideM"] {
        on_runtime(async {
            let (mut raw, stream) = memory_streams();
            let b = credentials(2, DATABASE, 7);
            raw.write_all(garbage).await.unwrap();
            let linked = link_over(
                Box::new(stream),
                Role::Responder,
                LinkKind::Memory,
                None,
                &b,
            );
            let (linked, answer) = tokio::join!(linked, async {
                let mut answer = Vec::new();
                raw.read_to_end(&mut answer).await.unwrap();
                answer
            });
            assert_eq!(linked.unwrap_err().reason(), "not-a-peer");
            assert_eq!(answer, b"");
        });
    }
}

#[test]
fn nobody_at_the_address_is_unreachable() {
    on_runtime(async {
        let free = TcpLinkListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.address().to_string();
        drop(free);
        let error = tcp_connect(&address, &credentials(1, DATABASE, 7)).await;
        assert_eq!(error.unwrap_err().reason(), "unreachable");
    });
}

#[test]
fn a_stranger_that_says_nothing_is_timed_out() {
    on_jumping_clock(async {
        for role in [Role::Initiator, Role::Responder] {
            let (raw, stream) = memory_streams();
            let b = credentials(2, DATABASE, 7);
            let linked = link_over(Box::new(stream), role, LinkKind::Memory, None, &b).await;
            assert_eq!(linked.unwrap_err().reason(), "handshake-timed-out");
            drop(raw);
        }
    });
}

/// Everything that a side of a real handshake sent, given to a peer again.
#[test]
fn a_recorded_handshake_opens_nothing() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let recorded = record_initiator(&a, &b).await;
        let (mut raw, stream) = memory_streams();
        raw.write_all(&recorded).await.unwrap();
        let linked = link_over(
            Box::new(stream),
            Role::Responder,
            LinkKind::Memory,
            None,
            &b,
        );
        let (linked, ()) = tokio::join!(linked, async {
            let mut answer = Vec::new();
            raw.read_to_end(&mut answer).await.unwrap();
        });
        let reason = linked.unwrap_err().reason();
        assert!(["tampered", "key-mismatch"].contains(&reason), "{reason}");
    });
}

/// Runs a handshake through a tap and gives the bytes of the initiator.
pub(crate) async fn record_initiator(a: &LinkCredentials, b: &LinkCredentials) -> Vec<u8> {
    let (stream_a, tap_a) = memory_streams();
    let (tap_b, stream_b) = memory_streams();
    let (mut read_a, mut write_a) = tokio::io::split(tap_a);
    let (mut read_b, mut write_b) = tokio::io::split(tap_b);
    let tap = tokio::spawn(async move {
        let mut recorded = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = read_a.read(&mut buffer).await {
            recorded.extend_from_slice(&buffer[..len]);
            if write_b.write_all(&buffer[..len]).await.is_err() {
                break;
            }
        }
        recorded
    });
    tokio::spawn(async move { tokio::io::copy(&mut read_b, &mut write_a).await });
    let (at_a, at_b) = tokio::join!(
        link_over(
            Box::new(stream_a),
            Role::Initiator,
            LinkKind::Memory,
            None,
            a
        ),
        link_over(
            Box::new(stream_b),
            Role::Responder,
            LinkKind::Memory,
            None,
            b
        ),
    );
    drop((at_a.unwrap(), at_b.unwrap()));
    tap.await.unwrap()
}

#[test]
fn memory_links_shake_hands_as_well() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 8));
        assert!(memory_link_pair(&a, &b).await.is_err());
        let b = credentials(2, DATABASE, 7);
        let (at_a, _at_b) = memory_link_pair(&a, &b).await.unwrap();
        assert_eq!(at_a.properties().remote_peer, b.identity().peer_id());
    });
}

//! Damage on the way: every byte of a handshake and of a link matters.

use std::time::Duration;

use idem_model::limits;
use idem_transport::{Lane, Link, LinkKind, Role, link_over, memory_streams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{DATABASE, credentials, on_runtime};

/// Links two peers through a wire that flips one bit of the `position`-th byte from the initiator
/// to the responder (or back), and sends a frame both ways. Gives the failures of both sides.
async fn link_with_flip(
    position: usize,
    back: bool,
) -> (Option<&'static str>, Option<&'static str>) {
    let (stream_a, tap_a) = memory_streams();
    let (tap_b, stream_b) = memory_streams();
    let (mut read_a, mut write_a) = tokio::io::split(tap_a);
    let (mut read_b, mut write_b) = tokio::io::split(tap_b);
    let flip = |on: bool| if on { position } else { usize::MAX };
    let (there, here) = (flip(!back), flip(back));
    tokio::spawn(async move { carry(&mut read_a, &mut write_b, there).await });
    tokio::spawn(async move { carry(&mut read_b, &mut write_a, here).await });
    let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
    let side = |stream, role, credentials| async move {
        let mut link = link_over(Box::new(stream), role, LinkKind::Memory, None, credentials)
            .await
            .map_err(|e| e.reason())?;
        let sent = link.send(Lane::Bulk, vec![5; 100]).await;
        sent.map_err(|e| e.reason())?;
        match link.recv().await {
            Ok(Some((lane, frame))) => {
                assert_eq!((lane, frame), (Lane::Bulk, vec![5; 100]), "altered data");
                Ok(())
            }
            Ok(None) => Err("ended"),
            Err(error) => Err(error.reason()),
        }
    };
    let (at_a, at_b) = tokio::join!(
        side(stream_a, Role::Initiator, &a),
        side(stream_b, Role::Responder, &b)
    );
    (at_a.err(), at_b.err())
}

async fn carry<R, W>(read: &mut R, write: &mut W, flip: usize)
where
    R: AsyncReadExt + Unpin,
    W: AsyncWriteExt + Unpin,
{
    let mut at = 0;
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = read.read(&mut buffer).await {
        if (at..at + len).contains(&flip) {
            buffer[flip - at] ^= 0x10;
        }
        at += len;
        if write.write_all(&buffer[..len]).await.is_err() {
            break;
        }
    }
    let _ = write.shutdown().await;
}

#[test]
fn an_altered_byte_never_passes() {
    on_runtime(async {
        assert_eq!(link_with_flip(usize::MAX, false).await, (None, None));
        // 60 of preamble, the handshake, the proof, and the record of the frame.
        let sent = 60 + (2 + 48) + (2 + 64) + (2 + 96 + 8 + 16) + (2 + 107 + 16);
        for position in (0..sent).step_by(5) {
            let (at_a, at_b) = link_with_flip(position, false).await;
            assert!(at_a.is_some() || at_b.is_some(), "byte {position}");
        }
        for position in (0..60 + (2 + 96) + (2 + 96 + 8 + 16) + (2 + 107 + 16)).step_by(5) {
            let (at_a, at_b) = link_with_flip(position, true).await;
            assert!(at_a.is_some() || at_b.is_some(), "byte {position} back");
        }
    });
}

#[test]
fn a_link_that_breaks_is_lost_and_one_that_closes_is_not() {
    on_runtime(async {
        for on_purpose in [false, true] {
            let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
            let (at_a, mut at_b) = idem_transport::memory_link_pair(&a, &b).await.unwrap();
            at_a.send(Lane::Bulk, vec![1; 200_000]).await.unwrap();
            let (_, sender, _receiver) = at_a.split();
            if on_purpose {
                sender.close();
                // What was queued before still arrives.
                let frame = at_b.recv().await.unwrap();
                assert_eq!(frame, Some((Lane::Bulk, vec![1; 200_000])));
                assert_eq!(at_b.recv().await.unwrap(), None);
                assert_eq!(at_b.recv().await.unwrap(), None);
            } else {
                drop(_receiver);
                sender.abort();
                let mut last = at_b.recv().await;
                if matches!(last, Ok(Some(_))) {
                    last = at_b.recv().await;
                }
                assert_eq!(last.unwrap_err().reason(), "lost");
            }
        }
    });
}

/// On a clock that jumps over waiting.
fn on_paused_clock<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

/// Two ends of a link, and the tasks that carry bytes from the first to the second, and back. Without
/// them the wire hangs: it neither carries nor breaks.
async fn tapped() -> (Link, Link, [JoinHandle<std::io::Result<u64>>; 2]) {
    let (stream_a, tap_a) = memory_streams();
    let (tap_b, stream_b) = memory_streams();
    let (mut read_a, mut write_a) = tokio::io::split(tap_a);
    let (mut read_b, mut write_b) = tokio::io::split(tap_b);
    let there = tokio::spawn(async move { tokio::io::copy(&mut read_a, &mut write_b).await });
    let back = tokio::spawn(async move { tokio::io::copy(&mut read_b, &mut write_a).await });
    let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
    let link = |stream, role, credentials| {
        link_over(Box::new(stream), role, LinkKind::Memory, None, credentials)
    };
    let (at_a, at_b) = tokio::join!(
        link(stream_a, Role::Initiator, &a),
        link(stream_b, Role::Responder, &b)
    );
    (at_a.unwrap(), at_b.unwrap(), [there, back])
}

const FIVE_MINUTES: Duration = Duration::from_secs(300);

#[test]
fn a_silent_link_is_kept_alive_and_a_dead_one_is_not() {
    on_paused_clock(async {
        let (at_a, mut at_b, [there, _back]) = tapped().await;
        let quiet = timeout(FIVE_MINUTES, at_b.recv()).await;
        assert!(quiet.is_err(), "nothing arrives and nothing fails");
        there.abort();
        let _keep = there.await;
        let dead = timeout(FIVE_MINUTES, at_b.recv()).await;
        let reason = dead.expect("noticed").unwrap_err().reason();
        assert!(["idle-timed-out", "lost"].contains(&reason), "{reason}");
        drop(at_a);
    });
}

/// How long a link lasts after the wire hung on the way back, if a frame was sent then.
async fn lasts(watched: Option<Duration>, is_sending: bool) -> Duration {
    let (at_a, mut at_b, [_there, back]) = tapped().await;
    let (_, sender, mut receiver) = at_a.split();
    tokio::spawn(async move { while let Ok(Some(_)) = at_b.recv().await {} });
    sender.watch(watched);
    sender.try_send(Lane::Control, vec![1]).unwrap();
    let quiet = timeout(FIVE_MINUTES, receiver.recv()).await;
    assert!(quiet.is_err(), "who is asked answers");
    // Nothing is owed from here on.
    back.abort();
    let _keep = back.await;
    let began = Instant::now();
    if is_sending {
        sender.try_send(Lane::Control, vec![2]).unwrap();
    }
    let dead = timeout(FIVE_MINUTES, receiver.recv()).await;
    assert!(dead.expect("noticed").is_err());
    began.elapsed()
}

#[test]
fn a_link_that_is_watched_is_found_dead_soon_after_something_was_sent() {
    on_paused_clock(async {
        let limit = Duration::from_millis(limits::LINK_SILENCE_MS);
        let soon = lasts(Some(limit), true).await;
        assert!(soon <= limit + Duration::from_millis(1), "{soon:?}");
        let idle = Duration::from_millis(limits::LINK_IDLE_TIMEOUT_MS);
        for (watched, is_sending) in [(None, true), (Some(limit), false), (None, false)] {
            let late = lasts(watched, is_sending).await;
            // The last sign of life came some seconds before the wire hung.
            assert!(late > idle - Duration::from_secs(11), "{late:?}");
            assert!(late <= idle, "{late:?}");
        }
    });
}

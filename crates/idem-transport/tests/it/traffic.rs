//! Frames under load: order of urgency, bounds, and a peer that lies inside the encryption.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use idem_model::limits;
use idem_transport::{Lane, TcpLinkListener, TrySendError, memory_link_pair, tcp_connect};

use crate::{DATABASE, credentials, on_runtime};

#[test]
fn an_urgent_frame_overtakes_a_queue_of_bulk() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let (at_a, mut at_b) = memory_link_pair(&a, &b).await.unwrap();
        let (_, sender, _receiver) = at_a.split();
        let mut queued = 0;
        while sender.try_send(Lane::Bulk, vec![0; 60_000]).is_ok() {
            queued += 1;
        }
        sender.try_send(Lane::Control, b"now".to_vec()).unwrap();
        let mut before = 0;
        while at_b.recv().await.unwrap().unwrap().0 != Lane::Control {
            before += 1;
        }
        assert!(
            before < queued,
            "{before} of {queued} bulk frames came first"
        );
    });
}

#[test]
fn a_queue_that_nobody_empties_is_bounded() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let (at_a, mut at_b) = memory_link_pair(&a, &b).await.unwrap();
        let (_, sender, _receiver) = at_a.split();
        // The receiver reads nothing, so only the stream's buffer and the queue take frames.
        let mut refused = 0;
        let mut accepted = 0u32;
        while refused < 100 {
            match sender.try_send(Lane::Bulk, vec![0; 10_000]) {
                Ok(()) => accepted += 1,
                Err(TrySendError::Full(frame)) => {
                    assert_eq!(frame.len(), 10_000, "the frame comes back");
                    refused += 1;
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
            assert!(sender.queued_bytes() <= limits::LINK_LANE_QUEUE_BYTES_MAX);
        }
        assert!(!sender.has_room(Lane::Bulk));
        let (told, mut room) = tokio::sync::mpsc::unbounded_channel();
        sender.set_room_hook(move || {
            let _ = told.send(());
        });
        assert!(!sender.has_room(Lane::Bulk));
        for _ in 0..accepted {
            at_b.recv().await.unwrap().unwrap();
        }
        room.recv().await.expect("the hook was called");
        assert!(sender.has_room(Lane::Bulk));
    });
}

/// 16 MiB in frames of 64 KiB, with the peer answering: prints nothing, holds only that it ends.
#[test]
fn a_bulk_transfer_over_tcp_arrives() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let listener = TcpLinkListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.address().to_string();
        let (at_a, at_b) = tokio::join!(tcp_connect(&address, &a), async {
            listener.accept().await.unwrap().handshake(&b).await
        });
        let (at_a, mut at_b) = (at_a.unwrap(), at_b.unwrap());
        let sending = tokio::spawn(async move {
            for n in 0..256u32 {
                let mut frame = vec![0; 64 * 1024];
                frame[..4].copy_from_slice(&n.to_le_bytes());
                at_a.send(Lane::Bulk, frame).await.unwrap();
            }
        });
        for n in 0..256u32 {
            let (_, frame) = at_b.recv().await.unwrap().unwrap();
            assert_eq!(frame[..4], n.to_le_bytes());
        }
        sending.await.unwrap();
        assert_eq!(at_b.recv().await.unwrap(), None);
    });
}

#[test]
fn a_small_frame_on_an_idle_link_needs_no_task() {
    // Tasks of this runtime run only while the test waits.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let (at_a, mut at_b) = memory_link_pair(&a, &b).await.unwrap();
        let (_, sender, _receiver) = at_a.split();
        let mut ready = |what: &str| {
            let received = pin!(at_b.recv());
            match received.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(frame) => frame.unwrap().unwrap().1,
                Poll::Pending => panic!("{what} has not left"),
            }
        };
        sender.try_send(Lane::Interactive, vec![7; 1000]).unwrap();
        assert_eq!(ready("a small frame"), [7; 1000]);
        sender.try_send(Lane::Control, vec![8]).unwrap();
        assert_eq!(ready("the next one"), [8]);
    });
}

#[test]
fn queued_frames_leave_together_when_the_queue_is_flushed() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let (at_a, at_b) = memory_link_pair(&a, &b).await.unwrap();
        let (_, sender, _receiver) = at_a.split();
        let (_, _sender, mut at_b) = at_b.split();
        for number in 0..3 {
            sender.try_queue(Lane::Interactive, vec![number]).unwrap();
        }
        sender.try_queue(Lane::Control, vec![3]).unwrap();
        assert_eq!(sender.queued_bytes(), 4, "nothing left yet");
        sender.flush();
        let first = at_b.recv().await.unwrap().unwrap();
        assert_eq!(first, (Lane::Control, vec![3]));
        for number in 0..3 {
            // Of the same record.
            let frame = at_b.recv_ready().unwrap();
            assert_eq!(frame, (Lane::Interactive, vec![number]));
        }
        // Much does not wait for the flush.
        sender.try_queue(Lane::Bulk, vec![0; 100_000]).unwrap();
        assert_eq!(at_b.recv().await.unwrap().unwrap().1.len(), 100_000);
    });
}

/// The stream remembers one waker, which must stay that of the task.
#[test]
fn a_small_frame_does_not_take_the_turn_of_a_large_one() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let (at_a, mut at_b) = memory_link_pair(&a, &b).await.unwrap();
        let (_, sender, _receiver) = at_a.split();
        // The task takes both, and waits with the second for room in the stream.
        for _ in 0..2 {
            sender.try_send(Lane::Bulk, vec![0; 200_000]).unwrap();
            while sender.queued_bytes() > 0 {
                tokio::task::yield_now().await;
            }
        }
        sender.try_send(Lane::Interactive, vec![1]).unwrap();
        // Without its waker the task would move only when the link's own limit of time has passed.
        let limit = std::time::Duration::from_secs(15);
        for len in [200_000, 200_000, 1] {
            let received = tokio::time::timeout(limit, at_b.recv()).await.unwrap();
            assert_eq!(received.unwrap().unwrap().1.len(), len);
        }
    });
}

const FRAMES: u32 = 20_000;

/// Frames leave from two places, the thread that sends and the task, and still in order.
#[test]
fn frames_of_all_sizes_keep_their_order() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let listener = TcpLinkListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.address().to_string();
        let (at_a, at_b) = tokio::join!(tcp_connect(&address, &a), async {
            listener.accept().await.unwrap().handshake(&b).await
        });
        let (_, sender, _receiver) = at_a.unwrap().split();
        let mut at_b = at_b.unwrap();
        let sending = std::thread::spawn(move || {
            for n in 0..FRAMES {
                let mixed = n.wrapping_mul(2_654_435_761) >> 16;
                let len = match mixed % 50 {
                    0 => 40_000 + mixed as usize,
                    1..10 => 4_000 + mixed as usize % 10_000,
                    _ => 4 + mixed as usize % 200,
                };
                let mut frame = vec![n as u8; len];
                frame[..4].copy_from_slice(&n.to_le_bytes());
                let lane = [Lane::Interactive, Lane::Bulk][n as usize % 2];
                while let Err(error) = sender.try_send(lane, frame) {
                    match error {
                        TrySendError::Full(back) => frame = back,
                        error => panic!("{error}"),
                    }
                    std::thread::yield_now();
                }
            }
        });
        let mut next = [0, 1];
        for _ in 0..FRAMES {
            let (lane, frame) = at_b.recv().await.unwrap().unwrap();
            let next = &mut next[usize::from(lane == Lane::Bulk)];
            assert_eq!(frame[..4], u32::to_le_bytes(*next));
            assert!(frame[4..].iter().all(|byte| *byte == *next as u8));
            *next += 2;
        }
        sending.join().unwrap();
        assert_eq!(at_b.recv().await.unwrap(), None);
    });
}

#[test]
fn both_ends_count_the_same_bytes_and_measure_the_way_there_and_back() {
    on_runtime(async {
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7));
        let (at_a, mut at_b) = memory_link_pair(&a, &b).await.unwrap();
        let (_, sender, mut receiver) = at_a.split();
        let probe = sender.probe();
        // Someone must read for the answer to be heard.
        let reading = tokio::spawn(async move { receiver.recv().await });
        for _ in 0..10 {
            sender.send(Lane::Bulk, vec![7; 1000]).await.unwrap();
            at_b.recv().await.unwrap().unwrap();
        }
        assert_eq!(probe.traffic().round_trip, None);
        probe.measure();
        let (_, other, mut receiver_b) = at_b.split();
        let seen = tokio::select! {
            _ = receiver_b.recv() => panic!("nothing was sent"),
            seen = async {
                while probe.traffic().round_trip.is_none() {
                    tokio::task::yield_now().await;
                }
                probe.traffic()
            } => seen,
        };
        let there = other.probe().traffic();
        assert!(
            seen.sent_bytes > 10_000 && seen.sent_bytes < 11_000,
            "{seen:?}"
        );
        assert_eq!(seen.sent_bytes, there.received_bytes);
        assert_eq!(seen.received_bytes, there.sent_bytes);
        assert!(seen.received_bytes > 0, "the answer came");
        assert_eq!(seen.queued_bytes, 0);
        // A probe keeps nothing open.
        drop((sender, other, receiver_b));
        let ended = reading.await.unwrap();
        assert!(ended.is_ok_and(|frame| frame.is_none()));
    });
}

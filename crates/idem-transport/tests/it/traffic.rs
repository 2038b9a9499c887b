//! Frames under load: order of urgency, bounds, and a peer that lies inside the encryption.

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

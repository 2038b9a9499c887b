//! Messages about blobs: what decodes, encodes to the same frame.

use idem_model::{BlobId, BlobKey};
use idem_wire::BlobMessage;

use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "blob_message_decode",
    run,
    seeds: || messages().iter().map(BlobMessage::to_bytes).collect(),
};

fn messages() -> Vec<BlobMessage<'static>> {
    let key = BlobKey {
        id: BlobId([3; 32]),
        len: 5_000_000,
    };
    let part = key.part_around(33, 4);
    let runs = vec![0..5, 7..300];
    vec![
        BlobMessage::Ask {
            key,
            hops: 2,
            question: 77,
        },
        BlobMessage::HaveAll { key },
        BlobMessage::HaveSome { key, runs },
        BlobMessage::Lack {
            key,
            hops: 2,
            question: 77,
            is_busy: true,
        },
        BlobMessage::Withdraw { key, keeps: true },
        BlobMessage::Wait { key, is_own: true },
        BlobMessage::Get { key, part },
        BlobMessage::Piece {
            key,
            part,
            offset: 64,
            bytes: b"content",
        },
        BlobMessage::Refuse { key, part },
        BlobMessage::Cancel { key },
    ]
}

fn run(data: &[u8]) -> Verdict {
    let Ok(message) = BlobMessage::decode(data) else {
        return Verdict::Rejected;
    };
    assert_eq!(message.to_bytes(), data, "one message has one frame");
    Verdict::Accepted
}

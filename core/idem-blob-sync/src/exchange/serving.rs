//! Giving neighbours what they ask for.

use idem_model::{BlobKey, BlobPart, Lane, PeerId, limits};
use idem_wire::BlobMessage;

use super::Exchange;
use crate::{neighbour::Sending, port::Blobs};

impl Exchange {
    /// A neighbour asks for a part. It is read when the link has room for it.
    pub(super) fn handle_get(&mut self, peer: PeerId, key: BlobKey, part: BlobPart) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        if neighbour.gets.len() >= limits::BLOB_GETS_PER_PEER_MAX {
            self.misbehaved(peer, "asks for too many parts at one time");
            return;
        }
        neighbour.gets.push_back((key, part));
    }

    /// The next frame of a piece that a neighbour asked for, or a refusal.
    pub(super) fn next_piece(
        &mut self,
        blobs: &mut impl Blobs,
        peer: PeerId,
    ) -> Option<(Lane, Vec<u8>)> {
        let neighbour = self.neighbours.get_mut(&peer)?;
        if neighbour.sending.is_none() {
            let (key, part) = neighbour.gets.pop_front()?;
            let Some(piece) = blobs.piece(key, part) else {
                let refusal = BlobMessage::Refuse { key, part };
                return Some((Lane::Control, refusal.to_bytes()));
            };
            neighbour.sending = Some(Sending {
                key,
                part,
                piece,
                at: 0,
            });
        }
        let sending = neighbour.sending.as_mut()?;
        let room = neighbour.frame_bytes_max - BlobMessage::PIECE_HEADER_BYTES_MAX;
        let rest = &sending.piece[sending.at..];
        let bytes = &rest[..rest.len().min(room)];
        let frame = BlobMessage::Piece {
            key: sending.key,
            part: sending.part,
            offset: sending.at as u64,
            bytes,
        }
        .to_bytes();
        sending.at += bytes.len();
        if sending.at == sending.piece.len() {
            neighbour.sending = None;
        }
        Some((Lane::Blobs, frame))
    }
}

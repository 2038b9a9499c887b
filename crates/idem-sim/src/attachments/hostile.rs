//! Peers that cheat about attachments.

use idem_model::{BlobId, BlobKey, Lane, limits};
use idem_wire::BlobMessage;

use super::{Attachments, Happening};
use crate::conduct::Conduct;

/// Frames that a peer remembers to say them again.
const REMEMBERED: usize = 50;

/// How often it does something of its own.
const EVERY_US: u64 = 100_000;

/// What a hostile peer has said.
#[derive(Default)]
pub(super) struct Memory {
    said: Vec<(usize, Vec<u8>)>,
}

impl Attachments {
    /// What a peer makes of a frame that it should send.
    pub(super) fn twist(&mut self, peer: usize, to: usize, mut frame: Vec<u8>) -> Option<Vec<u8>> {
        let random = &mut self.random;
        match self.options.conducts[peer] {
            Conduct::Truncate if random.chance(10) => {
                let len = random.index(frame.len());
                frame.truncate(len);
            }
            Conduct::FlipBits if random.chance(10) => {
                let at = random.index(frame.len());
                frame[at] ^= 1 << random.below(8);
            }
            Conduct::Mute => return None,
            Conduct::Replay => {
                let said = &mut self.hostile[peer].said;
                if said.len() < REMEMBERED {
                    said.push((to, frame.clone()));
                }
            }
            _ => {}
        }
        Some(frame)
    }

    /// A peer hears a frame. One that lies has everything, and gives something else.
    pub(super) fn listen(&mut self, peer: usize, from: usize, frame: &[u8]) {
        if self.options.conducts[peer] != Conduct::Equivocate {
            return;
        }
        let answer = match BlobMessage::decode(frame) {
            Ok(BlobMessage::Ask { key, .. }) => BlobMessage::HaveAll { key }.to_bytes(),
            Ok(BlobMessage::Get { key, part }) => {
                let most = limits::BLOB_WITHOUT_TREE_BYTES_MAX.min(key.piece_bytes_of(part));
                let bytes = vec![7; usize::try_from(most).expect("small")];
                let piece = BlobMessage::Piece {
                    key,
                    part,
                    offset: 0,
                    bytes: &bytes,
                };
                piece.to_bytes()
            }
            _ => return,
        };
        self.send(peer, from, Lane::Control, answer);
    }

    /// What a hostile peer does now and then.
    pub(super) fn cheat(&mut self, peer: usize) {
        if self.is_healed {
            return;
        }
        self.schedule(EVERY_US, Happening::Cheat { peer });
        let beside = self.edges.iter().filter(|it| it.side_of(peer).is_some());
        let beside: Vec<usize> = beside
            .flat_map(|edge| edge.options.peers)
            .filter(|it| *it != peer)
            .collect();
        let Some(to) = beside.get(self.random.index(beside.len().max(1))).copied() else {
            return;
        };
        match self.options.conducts[peer] {
            Conduct::Garbage => {
                let number = 0x90 + u8::try_from(self.random.below(9)).expect("small");
                let rest = (0..self.random.below(80)).map(|_| 0xa5);
                let frame: Vec<u8> = std::iter::once(number).chain(rest).collect();
                self.send(peer, to, Lane::Control, frame);
            }
            Conduct::Replay => {
                let said = &self.hostile[peer].said;
                if !said.is_empty() {
                    let (to, frame) = said[self.random.index(said.len())].clone();
                    self.send(peer, to, Lane::Control, frame);
                }
            }
            Conduct::Flood => {
                for _ in 0..30 {
                    let mut id = [0; 32];
                    id[..8].copy_from_slice(&self.random.next().to_be_bytes());
                    let key = BlobKey {
                        id: BlobId(id),
                        len: self.random.below(limits::BLOB_BYTES_MAX),
                    };
                    let ask = BlobMessage::Ask {
                        key,
                        hops: limits::BLOB_HOPS_MAX,
                        question: self.random.next().max(1),
                    };
                    self.send(peer, to, Lane::Control, ask.to_bytes());
                }
            }
            _ => {}
        }
    }
}

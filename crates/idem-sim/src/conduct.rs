//! Peers that do not behave, or speak a later version of the protocol.
//!
//! Such a peer runs the real session on a real replica; what it says is changed on its way out. So it
//! knows the right moments, and what it says is nearly right, which finds more than noise does.
//!
//! What a peer that lies about itself holds may be torn: it gets what it claims to lack. If it passes
//! that on, it passes on half a transaction, and nothing but signatures over transactions could tell.
//! So either it passes on no documents, or P4 is not looked at ([`crate::Options::hostile_relays`]).

use idem_mesh::{Gossip, PeerHash, PresenceRecord, RecordLink, SignedRecord};
use idem_model::{Lane, PeerId, limits};
use idem_sync::SubscriptionId;
use idem_wire::{BatchReader, CAPABILITY_BIG_PEER, Hello, Message};

use crate::{field::SimulatedSigner, peer::DATABASE, random::Random};

/// The number of a HELLO on the wire.
const HELLO: u8 = 0x01;

/// The number of a TRANSFER on the wire: the only message that holds documents.
const TRANSFER: u8 = 0x0a;

/// Frames that a flooding peer adds to one of its own.
const FLOOD_FRAMES: u64 = 40;

/// Frames that a replaying peer remembers.
const REMEMBERED_MAX: usize = 32;

/// How a peer behaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Conduct {
    /// As it should.
    Honest,
    /// As it should, in a build that speaks later versions of the protocol too and sends messages that
    /// this one may skip.
    LaterVersion,
    /// Says random bytes between what it should say.
    Garbage,
    /// Cuts frames short, but for pieces of a batch that still read as one: the next ones build on what is
    /// missing, and become other documents.
    Truncate,
    /// Flips bits in what is no document. (A document with a flipped bit is another document, and only
    /// signatures could tell.)
    FlipBits,
    /// Says again what it said before, but for documents.
    Replay,
    /// Asks without end: for statements, for subscriptions, for everything again.
    Flood,
    /// Never acknowledges what it takes.
    Mute,
    /// Gives one dot two contents, and tells some neighbours the one and some the other, in documents
    /// of a collection that nobody else writes.
    Equivocate,
    /// Lies about who is there: forges, makes up and repeats what meshes tell each other, and advertises
    /// that it is somebody else. In a field only.
    Liar,
}

impl Conduct {
    /// Those of peers that cheat wherever they are.
    pub const HOSTILE: [Self; 7] = [
        Self::Garbage,
        Self::Truncate,
        Self::FlipBits,
        Self::Replay,
        Self::Flood,
        Self::Mute,
        Self::Equivocate,
    ];

    /// Whether all promises hold for such a peer.
    pub fn is_honest(self) -> bool {
        matches!(self, Self::Honest | Self::LaterVersion)
    }
}

/// What a peer does to its frames.
#[derive(Debug)]
pub(crate) struct Mouth {
    conduct: Conduct,
    /// Documents do not leave it.
    is_selfish: bool,
    /// It introduces itself as a Big Peer.
    is_big: bool,
    said: Vec<(Lane, Vec<u8>)>,
    /// What a liar has heard of others, or made up.
    tales: Vec<SignedRecord>,
}

impl Mouth {
    pub(crate) fn new(conduct: Conduct, relays: bool, is_big: bool) -> Self {
        let may_tear = matches!(
            conduct,
            Conduct::Truncate | Conduct::FlipBits | Conduct::Replay | Conduct::Flood
        );
        Self {
            conduct,
            is_selfish: may_tear && !relays,
            is_big,
            said: Vec::new(),
            tales: Vec::new(),
        }
    }

    /// What leaves in place of a frame.
    pub(crate) fn say(
        &mut self,
        lane: Lane,
        frame: Vec<u8>,
        random: &mut Random,
    ) -> Vec<(Lane, Vec<u8>)> {
        let mut out = Vec::new();
        let frame = self.announce_size(frame);
        if self.is_selfish && frame[0] == TRANSFER {
            return out;
        }
        match self.conduct {
            Conduct::Honest | Conduct::Equivocate => out.push((lane, frame)),
            Conduct::LaterVersion => {
                out.push((lane, announce_later(frame)));
                if random.chance(20) {
                    let number = u8::try_from(random.between(0x80, 0xff)).expect("a byte");
                    let mut extension = bytes(random, 40);
                    extension.insert(0, number);
                    // It may not come before the handshake.
                    out.push((Lane::Control, extension));
                }
            }
            Conduct::Garbage => {
                out.push((lane, frame));
                if random.chance(10) {
                    out.push((lane, bytes(random, 300)));
                }
            }
            Conduct::Truncate => {
                let is_cut = random.chance(10);
                let len = if is_cut {
                    random.index(frame.len())
                } else {
                    frame.len()
                };
                let is_noticed = is_broken(&frame[..len]);
                let len = if is_noticed { len } else { frame.len() };
                out.push((lane, frame[..len].to_vec()));
            }
            Conduct::FlipBits => {
                let mut frame = frame;
                if frame[0] != TRANSFER && random.chance(20) {
                    let at = random.index(frame.len());
                    frame[at] ^= 1 << random.below(8);
                }
                out.push((lane, frame));
            }
            Conduct::Replay => {
                if !self.said.is_empty() && random.chance(20) {
                    out.push(self.said[random.index(self.said.len())].clone());
                }
                // A TRANSFER that is said again shifts the dictionary of all that follow it, so that what
                // they hold becomes other documents.
                if frame[0] != TRANSFER {
                    if self.said.len() >= REMEMBERED_MAX {
                        self.said.remove(random.index(REMEMBERED_MAX));
                    }
                    self.said.push((lane, frame.clone()));
                }
                out.push((lane, frame));
            }
            Conduct::Flood => {
                out.push((lane, frame));
                out.extend(
                    (0..random.below(FLOOD_FRAMES)).map(|_| (Lane::Control, request(random))),
                );
            }
            Conduct::Liar => {
                let lie = self.lie(&frame, random);
                out.push((lane, lie.unwrap_or(frame)));
            }
            Conduct::Mute => {
                if !matches!(Message::decode(&frame), Ok(Message::Ack { .. })) {
                    out.push((lane, frame));
                }
            }
        }
        out
    }

    fn announce_size(&self, frame: Vec<u8>) -> Vec<u8> {
        match self.is_big {
            true => announce(frame, |hello| hello.capabilities |= CAPABILITY_BIG_PEER),
            false => frame,
        }
    }
}

impl Mouth {
    /// What a liar says in place of true gossip; `None` is the truth.
    fn lie(&mut self, frame: &[u8], random: &mut Random) -> Option<Vec<u8>> {
        let Ok(Message::Gossip { bytes }) = Message::decode(frame) else {
            return None;
        };
        let bytes = self.tell_tales(bytes, random)?;
        Some(Message::Gossip { bytes: &bytes }.to_bytes())
    }

    fn tell_tales(&mut self, bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
        let Ok(Gossip::Records(mut records)) = Gossip::decode(bytes) else {
            return None;
        };
        for (_, record) in &records {
            if self.tales.len() < REMEMBERED_MAX {
                self.tales.push(record.clone());
            }
        }
        match random.below(20) {
            // A signature that does not hold.
            0 => {
                let mut bytes = bytes.to_vec();
                *bytes.last_mut()? ^= 1;
                return Some(bytes);
            }
            // What was true once.
            1..6 => records.extend(self.tales.iter().map(|record| (0, record.clone()))),
            // Peers that do not exist, linked with those that do.
            6..12 => {
                let links = records.iter().map(|(_, record)| RecordLink {
                    peer: PeerHash::of(DATABASE, record.peer),
                    medium: 2,
                });
                let record = PresenceRecord {
                    seq: u64::MAX / 4,
                    lifetime_s: 600,
                    name: "nobody".to_owned(),
                    links: links.take(1).collect(),
                    ..PresenceRecord::default()
                };
                let drawn = random.next();
                let nobody = PeerId([drawn.to_be_bytes()[0]; 32]);
                let signer = SimulatedSigner(nobody);
                records.push((0, SignedRecord::new(DATABASE, nobody, &record, &signer)));
            }
            _ => return None,
        }
        let lie = Gossip::Records(records).to_bytes();
        (lie.len() <= limits::GOSSIP_BYTES_MAX).then_some(lie)
    }
}

/// Whether a frame, or what is left of one, cannot be taken for documents that were sent.
fn is_broken(frame: &[u8]) -> bool {
    let Ok(Message::Transfer(transfer)) = Message::decode(frame) else {
        return true;
    };
    // A block that was cut is shorter than it says.
    transfer.raw_bytes.is_some() || !transfer.more && !reads(transfer.payload)
}

/// Whether bytes are a batch.
fn reads(batch: &[u8]) -> bool {
    let mut reader = BatchReader::new(batch);
    loop {
        match reader.next_item() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// The HELLO of a build that also speaks version 9.
fn announce_later(frame: Vec<u8>) -> Vec<u8> {
    announce(frame, |hello| {
        hello.version_max = 9;
        hello.capabilities |= 1 << 40;
    })
}

/// A frame as it was, but for what a HELLO says.
fn announce(frame: Vec<u8>, change: impl FnOnce(&mut Hello)) -> Vec<u8> {
    if frame[0] != HELLO {
        return frame;
    }
    match Message::decode(&frame) {
        Ok(Message::Hello(mut hello)) => {
            change(&mut hello);
            Message::Hello(hello).to_bytes()
        }
        _ => frame,
    }
}

/// Something that costs the other side more than this one.
fn request(random: &mut Random) -> Vec<u8> {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&random.next().to_be_bytes());
    let subscription = SubscriptionId(name);
    match random.below(4) {
        0 => Message::AskStatement { subscription }.to_bytes(),
        1 => Message::Statement {
            subscription,
            more: false,
            text: "SELECT * FROM things WHERE a = 1",
        }
        .to_bytes(),
        2 => Message::Unsubscribe {
            alias: u32::try_from(random.below(300)).expect("a small number"),
        }
        .to_bytes(),
        _ => Message::Want {
            documents: Vec::new(),
        }
        .to_bytes(),
    }
}

fn bytes(random: &mut Random, len_max: u64) -> Vec<u8> {
    let len = random.between(1, len_max);
    (0..len).map(|_| random.next().to_be_bytes()[0]).collect()
}

#[cfg(test)]
mod tests {
    use idem_wire::{BatchWriter, Transfer};

    use super::*;

    #[test]
    fn a_batch_that_was_cut_is_none() {
        let mut writer = BatchWriter::default();
        writer.cursor(1, 5, false);
        writer.cursor(2, 7, true);
        let batch = writer.into_bytes();
        let whole = Message::Transfer(Transfer {
            lane: Lane::Bulk,
            more: false,
            round: 0,
            raw_bytes: None,
            payload: &batch,
        });
        let whole = whole.to_bytes();
        let mut mouth = Mouth::new(Conduct::Truncate, true, false);
        let mut random = Random::new(1);
        let mut cuts = 0;
        for _ in 0..1_000 {
            for (_, said) in mouth.say(Lane::Bulk, whole.clone(), &mut random) {
                cuts += u32::from(said != whole);
                let read = Message::decode(&said);
                let is_batch = matches!(read, Ok(Message::Transfer(it)) if reads(it.payload));
                assert!(said == whole || !is_batch, "{said:02x?}");
            }
        }
        assert!(cuts > 50, "{cuts}");
    }
}

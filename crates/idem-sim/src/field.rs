//! Peers at places in a plane, with radios and local networks, and what decides over their links.

mod plane;
mod signer;

use idem_mesh::MediumLimits;

use crate::network::LinkModel;

pub(crate) use plane::{Place, Plane, pairs_within};
pub(crate) use signer::SimulatedSigner;

/// Peers at places in a plane. Who links with whom is decided by the real `idem_mesh::Mesh` of each, from
/// what its discovery sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FieldOptions {
    /// Local networks, side by side in the plane; 0 is none. A peer is in the one that it stands in.
    pub lans: usize,
    /// Of how many others in its local network a peer hears, at most.
    pub lan_sight: usize,
    /// What links in a local network are like.
    pub lan: LinkModel,
    /// What the radio of every peer is like, if they have one: its bytes a second are shared by all links
    /// of the peer, in both directions.
    pub radio: Option<LinkModel>,
    /// How far radios reach, in millimetres.
    pub range_mm: u64,
    /// How many peers are in range of another one, on average: the plane is as large as that takes.
    pub neighbours: u64,
    /// How fast peers walk, in millimetres a second, least and most. 0 and 0 stay where they are.
    pub speed_mm_s: (u64, u64),
    /// How many links a mesh keeps and accepts, over each medium; `None` leaves it to `MeshLimits`.
    pub links: Option<MediumLimits>,
    /// How long the peers have to find each other before the first write, in microseconds.
    pub settle_us: u64,
    /// Whether the left half and the right half do not see each other between the first write and the end
    /// of the faults.
    pub is_split: bool,
    /// How often an interface vanishes in mid-frame, per second and for all peers together. It comes back
    /// within ten seconds.
    pub vanishings: u64,
}

impl Default for FieldOptions {
    /// Bluetooth radios that reach 30 m, 16 others in range, and nobody moves.
    fn default() -> Self {
        Self {
            lans: 0,
            lan_sight: 40,
            lan: LinkModel::wifi(),
            radio: Some(Self::bluetooth()),
            range_mm: 30_000,
            neighbours: 16,
            speed_mm_s: (0, 0),
            links: None,
            settle_us: 20_000_000,
            is_split: false,
            vanishings: 0,
        }
    }
}

impl FieldOptions {
    /// A radio as phones have it: 400 kbit/s for all links together, 45 to 68 ms for each frame beside that,
    /// and 3 of 100 packets lost, each of which costs another connection interval.
    pub(crate) fn bluetooth() -> LinkModel {
        LinkModel {
            latency_us: (45_000, 68_000),
            bytes_per_second: 400_000 / 8,
            loss_percent: 3,
            retransmit_us: 30_000,
            packet_bytes: 244,
            frame_bytes_max: 16 * 1024,
            frames_max: 8,
        }
    }
}

//! What a run tells of its mesh.

use idem_mesh::Medium;

use super::World;

/// A mesh at a moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct MeshPicture {
    /// Where the peers are, in thousandths of the side of the plane.
    pub places: Vec<(u16, u16)>,
    /// The links: between whom, and whether over radios.
    pub links: Vec<(usize, usize, bool)>,
    /// Which island each peer is on, named by a peer of it; hostile ones, and those that do not run, are on none.
    pub islands: Vec<Option<usize>>,
}

/// What became of the meshes of a run.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct MeshReport {
    /// The mesh at the end of the faults.
    pub at_worst: MeshPicture,
    /// The mesh at rest.
    pub at_rest: MeshPicture,
    /// Links that were made.
    pub links_made: u64,
    /// Dials that meshes asked for.
    pub dials: u64,
    /// How long a link lived that has ended, on average, in microseconds.
    pub link_life_us: u64,
    /// The most links that a peer had over one medium.
    pub links_max: usize,
    /// Bytes of gossip that meshes handed to sessions, over all peers.
    pub gossip_bytes: u64,
    /// From the end of the faults until there were no islands that could have been joined, in microseconds.
    pub joined_us: u64,
    /// And until all peers showed who was there and who was linked, as far as it is looked at: each second,
    /// and each five in large fields.
    pub known_us: u64,
}

impl World {
    /// How the mesh looks now.
    pub(super) fn mesh_picture(&mut self) -> MeshPicture {
        let links = self.true_links();
        let islands = self.islands(&links);
        let now_us = self.now_us;
        let count = self.peers.len();
        let plane = &self.field().plane;
        let share = |at: u64| {
            let share = at * 1000 / plane.side.max(1);
            u16::try_from(share.min(1000)).expect("a share")
        };
        let places = plane.places(now_us);
        let links = links.into_iter();
        MeshPicture {
            places: places.iter().map(|it| (share(it.x), share(it.y))).collect(),
            links: links
                .map(|(a, b, medium)| (a, b, medium == Medium::Ble))
                .collect(),
            islands: (0..count).map(|peer| islands.get(&peer).copied()).collect(),
        }
    }

    /// What is told of the mesh, if there is one.
    pub(in crate::world) fn mesh_report(&mut self) -> Option<MeshReport> {
        let field = self.field.as_mut()?;
        let tally = field.tally;
        let [at_worst, at_rest] = std::mem::take(&mut field.pictures);
        Some(MeshReport {
            at_worst,
            at_rest,
            links_made: tally.links,
            dials: tally.dials,
            link_life_us: tally.lives_us.checked_div(tally.lives).unwrap_or(0),
            links_max: tally.links_max,
            gossip_bytes: tally.gossip_bytes,
            joined_us: tally.joined_us.unwrap_or(0),
            known_us: tally.known_us,
        })
    }
}

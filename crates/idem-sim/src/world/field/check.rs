//! What must hold of meshes: their limits at all times, and in the end that they are one and know it.

use std::collections::{BTreeMap, BTreeSet};

use idem_mesh::Medium;

use super::{FieldLink, Happening, World};
use crate::{check::Violation, peer::number_of, world::Checked};

/// Up to so many peers all are looked at again and again; of more, some first.
const LOOKED_AT_MAX: usize = 64;

/// A peer with links, each from the peer with the smaller number to the one with the larger.
type TrueLinks = BTreeSet<(usize, usize, Medium)>;

impl World {
    /// No mesh keeps more links over a medium than it may.
    pub(super) fn check_limits(&mut self, peer: usize) -> Checked {
        let field = self.field.as_ref().expect("only called in a field");
        let limits = field.limits();
        let mut most = 0;
        for medium in [Medium::Lan, Medium::Ble] {
            let links = field.links_of[peer].iter();
            let open = links.filter_map(|link| field.links.get(link)).filter(|it| {
                let side = self.edges[it.edge].side_of(peer);
                let side = side.expect("an end of the edge");
                it.medium == medium && !it.is_closing[side]
            });
            let count = open.count();
            let limit = limits.of(medium).max;
            if count > limit {
                return Err(Violation::TooManyLinks {
                    peer,
                    medium: medium.to_string(),
                    count,
                    limit,
                });
            }
            most = most.max(count);
        }
        let tally = &mut self.field().tally;
        tally.links_max = tally.links_max.max(most);
        Ok(())
    }

    /// The links that both ends believe in, and that work.
    pub(super) fn true_links(&self) -> TrueLinks {
        let field = self.field.as_ref().expect("only called in a field");
        let is_true = |(link, it): (&u64, &FieldLink)| {
            let edge = &self.edges[it.edge];
            let state = edge.links.get(link)?;
            let works = !state.is_cut && state.is_up == [true; 2] && it.is_closing == [false; 2];
            let [a, b] = edge.options.peers;
            works.then_some((a, b, it.medium))
        };
        field.links.iter().filter_map(is_true).collect()
    }

    /// The island of each honest peer, by the smallest number on it.
    pub(super) fn islands(&self, pairs: &TrueLinks) -> BTreeMap<usize, usize> {
        let peers = self.peers.iter().enumerate();
        let honest = peers.filter(|(_, it)| it.is_honest() && it.is_alive);
        let mut island: BTreeMap<usize, usize> = honest.map(|(peer, _)| (peer, peer)).collect();
        let root = |island: &BTreeMap<usize, usize>, mut peer: usize| {
            while island[&peer] != peer {
                peer = island[&peer];
            }
            peer
        };
        for (a, b, _) in pairs {
            if island.contains_key(a) && island.contains_key(b) {
                let (a, b) = (root(&island, *a), root(&island, *b));
                island.insert(a.max(b), a.min(b));
            }
        }
        let roots = island.keys().map(|peer| (*peer, root(&island, *peer)));
        roots.collect()
    }

    /// Runs until the peers are one mesh wherever they could be, know who is there and hold the same. Then
    /// the meshes fall silent, for the sessions to come to rest.
    pub(in crate::world) fn rest_in_field(&mut self) -> Checked {
        let healed_us = self.now_us;
        let end_us = healed_us + self.options.rest_us_max;
        let step_us = if self.peers.len() > LOOKED_AT_MAX {
            5_000_000
        } else {
            1_000_000
        };
        let mut agreed = false;
        self.note_islands();
        loop {
            self.run_until(self.now_us + step_us)?;
            let (now_us, is_late) = (self.now_us, self.now_us >= end_us);
            let links = self.true_links();
            let islands = self.islands(&links);
            let joined = self.check_islands(&islands);
            let known = joined.and_then(|()| self.check_pictures(&islands, &links));
            self.note_islands();
            let field = self.field();
            let passed_us = now_us - healed_us;
            if known.is_err() {
                if is_late {
                    return known;
                }
                continue;
            }
            if field.tally.known_us == 0 {
                field.tally.known_us = passed_us;
            }
            // Comparing all that all hold takes long, so it waits until nothing new comes.
            let is_quiet = now_us - self.changed_us >= step_us;
            agreed |= is_quiet && self.check_all().is_ok();
            if agreed {
                break;
            }
            if is_late {
                return self.check_all();
            }
        }
        self.freeze();
        Ok(())
    }

    /// Notes when there are no islands any more that could be joined.
    pub(super) fn note_islands(&mut self) {
        let Some(healed_us) = self.deliveries.healed_us() else {
            return;
        };
        let now_us = self.now_us;
        let is_joined = |world: &Self| {
            let islands = world.islands(&world.true_links());
            world.check_islands(&islands).is_ok()
        };
        if self.field().tally.joined_us.is_none() && is_joined(self) {
            self.field().tally.joined_us = Some(now_us - healed_us);
        }
    }

    fn check_islands(&self, islands: &BTreeMap<usize, usize>) -> Checked {
        let count =
            |islands: &BTreeMap<usize, usize>| islands.values().collect::<BTreeSet<_>>().len();
        let could_be = count(&self.islands(&self.pairs_near()));
        let found = count(islands);
        if found == could_be {
            return Ok(());
        }
        Err(Violation::Islands { found, could_be })
    }

    /// Every peer shows those on its island, and the links between them.
    fn check_pictures(&self, islands: &BTreeMap<usize, usize>, links: &TrueLinks) -> Checked {
        let step = islands.len().div_ceil(LOOKED_AT_MAX).max(1);
        let some = islands.keys().step_by(step);
        some.chain(islands.keys())
            .try_for_each(|peer| self.check_picture(*peer, islands, links))
    }

    fn check_picture(
        &self,
        peer: usize,
        islands: &BTreeMap<usize, usize>,
        links: &TrueLinks,
    ) -> Checked {
        let field = self.field.as_ref().expect("only called in a field");
        let graph = field.meshes[peer].as_ref().expect("it runs").graph();
        let shown: Vec<usize> = graph.peers.iter().map(|it| number_of(it.peer)).collect();
        let of_island = |other: &usize| islands.get(other) == islands.get(&peer);
        let there: Vec<usize> = islands.keys().copied().filter(of_island).collect();
        let wrong = |what: String| Err(Violation::WrongPicture { peer, what });
        if shown != there {
            let missing = there.iter().find(|it| !shown.contains(it));
            let surplus = shown.iter().find(|it| !there.contains(it));
            return wrong(format!(
                "{} of {} peers, without {missing:?} and with {surplus:?}",
                shown.len(),
                there.len()
            ));
        }
        let drawn = graph.links.iter().filter_map(|link| {
            let (a, b) = (shown[link.from], shown[link.to]);
            Some((a.min(b), a.max(b), link.medium?))
        });
        let drawn: TrueLinks = drawn.collect();
        let of_island = |link: &&(usize, usize, Medium)| of_island(&link.0) && of_island(&link.1);
        let there: TrueLinks = links.iter().filter(of_island).copied().collect();
        if drawn != there {
            let missing = there.difference(&drawn).next();
            let surplus = drawn.difference(&there).next();
            return wrong(format!(
                "{} of {} links, without {missing:?} and with {surplus:?}",
                drawn.len(),
                there.len()
            ));
        }
        Ok(())
    }

    /// Meshes say and do nothing any more, and links stay as they are.
    fn freeze(&mut self) {
        self.field().pictures[1] = self.mesh_picture();
        self.agenda.retain(|_, happening| {
            !matches!(
                happening,
                Happening::Look
                    | Happening::Sight { .. }
                    | Happening::Dialled { .. }
                    | Happening::MeshTimer { .. }
            )
        });
        let field = self.field();
        field.is_frozen = true;
        field.stirred.clear();
        field.meshes.iter_mut().for_each(|mesh| *mesh = None);
        let linked: BTreeSet<usize> = field.links.values().map(|it| it.edge).collect();
        for (peer, edges) in self.edges_of.iter_mut().enumerate() {
            for edge in edges.extract_if(.., |edge| !linked.contains(edge)) {
                self.peers[peer].drop_session(edge);
            }
        }
    }
}

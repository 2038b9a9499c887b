//! Where peers are, and who is near whom.

use std::collections::BTreeMap;

use super::FieldOptions;
use crate::random::Random;

/// A place in the plane, in millimetres from its corner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Place {
    pub(crate) x: u64,
    pub(crate) y: u64,
}

impl Place {
    /// The square of how far away another place is.
    pub(crate) fn square_to(self, other: Self) -> u64 {
        self.x.abs_diff(other.x).pow(2) + self.y.abs_diff(other.y).pow(2)
    }
}

/// From one place to another one.
#[derive(Clone, Copy, Debug)]
struct Walk {
    from: Place,
    to: Place,
    since_us: u64,
    until_us: u64,
}

impl Walk {
    fn stay(place: Place) -> Self {
        Self {
            from: place,
            to: place,
            since_us: 0,
            until_us: 0,
        }
    }

    fn place(&self, now_us: u64) -> Place {
        let whole = self.until_us - self.since_us;
        let done = now_us.clamp(self.since_us, self.until_us) - self.since_us;
        if done == whole {
            return self.to;
        }
        let between = |from: u64, to: u64| {
            let way = u128::from(from.abs_diff(to)) * u128::from(done) / u128::from(whole);
            let way = u64::try_from(way).expect("a part of a distance");
            if to > from { from + way } else { from - way }
        };
        Place {
            x: between(self.from.x, self.to.x),
            y: between(self.from.y, self.to.y),
        }
    }
}

/// The plane and who walks on it.
#[derive(Debug)]
pub(crate) struct Plane {
    /// The length of a side, in millimetres.
    pub(crate) side: u64,
    homes: Vec<Place>,
    walks: Vec<Walk>,
    speed_mm_s: (u64, u64),
}

impl Plane {
    /// Gives all peers a home. Those of the first `honest` are spread so evenly that each is in range of the
    /// next one; the others are anywhere.
    pub(crate) fn new(
        random: &mut Random,
        options: &FieldOptions,
        honest: usize,
        peers: usize,
    ) -> Self {
        // A disc of one range holds as many peers as there are neighbours: range^2 * pi = neighbours * cell^2.
        let square = options.range_mm.pow(2) * 355 / 113 / options.neighbours;
        let cell = square.isqrt().max(4);
        let columns = (honest as u64 - 1).isqrt() + 1;
        let side = cell * columns;
        // In the middle half of its cell, nobody is further from a neighbour than 1.6 cells.
        let spot = |random: &mut Random| cell / 4 + random.below(cell / 2);
        let homes = (0..peers as u64).map(|number| {
            if number < honest as u64 {
                return Place {
                    x: number % columns * cell + spot(random),
                    y: number / columns * cell + spot(random),
                };
            }
            Place {
                x: random.below(side),
                y: random.below(side),
            }
        });
        let homes: Vec<Place> = homes.collect();
        Self {
            side,
            walks: homes.iter().map(|home| Walk::stay(*home)).collect(),
            homes,
            speed_mm_s: options.speed_mm_s,
        }
    }

    pub(crate) fn is_moving(&self) -> bool {
        self.speed_mm_s.1 > 0
    }

    pub(crate) fn place(&self, peer: usize, now_us: u64) -> Place {
        self.walks[peer].place(now_us)
    }

    pub(crate) fn places(&self, now_us: u64) -> Vec<Place> {
        self.walks.iter().map(|walk| walk.place(now_us)).collect()
    }

    /// Sends those that have arrived to another place.
    pub(crate) fn walk_on(&mut self, now_us: u64, random: &mut Random) {
        for walk in &mut self.walks {
            if !(self.speed_mm_s.1 > 0 && walk.until_us <= now_us) {
                continue;
            }
            let to = Place {
                x: random.below(self.side),
                y: random.below(self.side),
            };
            let way = walk.to.square_to(to).isqrt();
            let speed = random.within(self.speed_mm_s).max(1);
            *walk = Walk {
                from: walk.to,
                to,
                since_us: now_us,
                until_us: now_us + way * 1_000_000 / speed,
            };
        }
    }

    /// All are at home from now on.
    pub(crate) fn go_home(&mut self) {
        self.speed_mm_s = (0, 0);
        self.walks = self.homes.iter().map(|home| Walk::stay(*home)).collect();
    }
}

/// Who is in range of whom, each pair once.
pub(crate) fn pairs_within(places: &[Place], range: u64) -> Vec<(usize, usize)> {
    let cell = |place: &Place| (place.x / range, place.y / range);
    let mut cells: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
    for (peer, place) in places.iter().enumerate() {
        cells.entry(cell(place)).or_default().push(peer);
    }
    let mut pairs = Vec::new();
    for (peer, place) in places.iter().enumerate() {
        let (x, y) = cell(place);
        let columns = x.saturating_sub(1)..=x + 1;
        let around = columns.flat_map(|x| (y.saturating_sub(1)..=y + 1).map(move |y| (x, y)));
        for other in around.filter_map(|cell| cells.get(&cell)).flatten() {
            if *other > peer && place.square_to(places[*other]) <= range.pow(2) {
                pairs.push((peer, *other));
            }
        }
    }
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_as_dense_as_asked_for_and_holds_together() {
        for honest in [2, 7, 20, 300] {
            let options = FieldOptions::default();
            let plane = Plane::new(&mut Random::new(3), &options, honest, honest + 2);
            let places = plane.places(0);
            let pairs = pairs_within(&places[..honest], options.range_mm);
            let mut island: Vec<usize> = (0..honest).collect();
            for _ in 0..honest {
                for (a, b) in &pairs {
                    let least = island[*a].min(island[*b]);
                    (island[*a], island[*b]) = (least, least);
                }
            }
            assert!(island.iter().all(|it| *it == 0), "{honest} peers");
            if honest == 300 {
                // At the rim there are fewer.
                let mean = 2 * pairs.len() / honest;
                assert!((12..=16).contains(&mean), "{mean}");
            }
        }
    }

    #[test]
    fn who_walks_gets_there_at_its_speed() {
        let options = FieldOptions {
            speed_mm_s: (1_000, 2_000),
            ..FieldOptions::default()
        };
        let mut random = Random::new(4);
        let mut plane = Plane::new(&mut random, &options, 50, 50);
        let mut before = plane.places(0);
        for second in 0..600 {
            plane.walk_on(second * 1_000_000, &mut random);
            let places = plane.places((second + 1) * 1_000_000);
            for (place, before) in places.iter().zip(&before) {
                assert!(place.square_to(*before) <= 2_010_u64.pow(2));
                assert!(place.x < plane.side && place.y < plane.side);
            }
            before = places;
        }
        assert!(before.iter().zip(&plane.homes).any(|(a, b)| a != b));
        plane.go_home();
        assert_eq!(plane.places(0), plane.homes);
    }

    #[test]
    fn pairs_are_those_within_range() {
        let mut random = Random::new(9);
        let places: Vec<Place> = (0..200)
            .map(|_| Place {
                x: random.below(1_000),
                y: random.below(1_000),
            })
            .collect();
        let near = |a: usize, b: usize| places[a].square_to(places[b]) <= 10_000;
        let all = (0..200).flat_map(|a| (a + 1..200).map(move |b| (a, b)));
        let expected: Vec<_> = all.filter(|(a, b)| near(*a, *b)).collect();
        assert_eq!(pairs_within(&places, 100), expected);
    }
}

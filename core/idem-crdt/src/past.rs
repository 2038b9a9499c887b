//! Which commits left something in a document, and which versions it had before its latest ones.

use idem_model::{Dot, Stamp, VersionVector};

use crate::{
    document::Document,
    state::{Counter, Map, Node},
};

impl Document {
    /// Versions that this document may have had, the latest first and without the present one, at most
    /// `count_max`. Each is covered by the present version. They are a guess from what the commits left
    /// behind: a version that is among them may never have been, and one that was may be missing, above
    /// all where a commit wrote what its writer had written before.
    ///
    /// Whoever has the hash of a version that the document had shortly before finds the version among
    /// them, if little came between. Costs a walk over the document.
    pub fn earlier_versions(&self, count_max: usize) -> Vec<VersionVector> {
        let mut traces = Traces::of(self);
        traces.stamps.sort_unstable();
        traces.stamps.dedup();
        let mut versions = Vec::new();
        let mut version = self.version().clone();
        while let Some(latest) = traces.stamps.pop().filter(|_| versions.len() < count_max) {
            let dot = latest.dot;
            // A later commit of the same writer left nothing behind, so it is not known what it followed.
            if version.get(dot.actor) != dot.n {
                continue;
            }
            let before = traces.latest_before(dot);
            let others = version.iter().filter(|other| other.actor != dot.actor);
            version = others.chain(before).collect();
            if !version.is_empty() {
                versions.push(version.clone());
            }
        }
        versions
    }

    /// The commits of which something is left: those that began its lives, and those whose values,
    /// removals and counts it holds. In no order, and some more than once. A tombstone has none. Whoever
    /// holds this state or one that came of it has all of them in its version, also if it has forgotten
    /// that an earlier life was deleted. Costs a walk over the document.
    pub fn traces(&self) -> Vec<Dot> {
        let Traces { stamps, mut totals } = Traces::of(self);
        totals.extend(stamps.into_iter().map(|stamp| stamp.dot));
        totals
    }
}

/// What commits left behind in a document.
#[derive(Default)]
struct Traces {
    stamps: Vec<Stamp>,
    /// Running totals, which do not say when they were counted.
    totals: Vec<Dot>,
}

impl Traces {
    fn of(document: &Document) -> Self {
        let mut traces = Self::default();
        for life in &document.lives {
            traces.stamps.push(life.stamp);
            traces.of_map(&life.fields);
        }
        traces
    }

    /// The last commit before `dot` that its writer left a trace of.
    fn latest_before(&self, dot: Dot) -> Option<Dot> {
        let stamps = self.stamps.iter().map(|stamp| stamp.dot);
        let dots = stamps.chain(self.totals.iter().copied());
        let before = dots.filter(|other| other.actor == dot.actor && other.n < dot.n);
        before.max_by_key(|other| other.n)
    }

    fn of_map(&mut self, map: &Map) {
        self.stamps.extend_from_slice(&map.removals);
        for (_, node) in &map.entries {
            self.of_node(node);
        }
    }

    fn of_node(&mut self, node: &Node) {
        let register = node.register.iter();
        self.stamps.extend(register.map(|version| version.stamp));
        if let Some(part) = &node.map {
            self.stamps.extend_from_slice(&part.stamps);
            self.of_map(&part.map);
        }
        if let Some(counter) = &node.counter {
            self.of_counter(counter);
        }
    }

    fn of_counter(&mut self, counter: &Counter) {
        self.stamps.extend_from_slice(&counter.stamps);
        let bases = counter.bases.iter();
        self.stamps.extend(bases.map(|base| base.stamp));
        let sums = counter.sums.iter();
        self.totals
            .extend(sums.map(|(&actor, sum)| Dot { actor, n: sum.n }));
    }
}

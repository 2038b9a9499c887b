//! Whether peers hold what others were told that they hold.

use std::{collections::BTreeMap, ops::ControlFlow};

use idem_model::{CollectionName, DocId, DocumentKey, VersionVector, codec::Reader};
use idem_query::Selector;
use idem_sync::Replica;

use super::World;
use crate::{check::Violation, check::version, disk::Disk};

impl World {
    /// Looks for a document of which some neighbour has the confirmation of a peer that has just lost
    /// all that was not durable, and which that peer does not hold.
    pub(super) fn find_not_held(&self, peer: usize) -> Option<Violation> {
        if !self.peers[peer].is_honest() {
            return None;
        }
        for selector in self.peers[peer].wanted() {
            let held = Held::of(&self.peers[peer].disk, selector.collection());
            for &edge in &self.edges_of[peer] {
                let side = self.edges[edge].side_of(peer).expect("an end of the edge");
                let neighbour = self.edges[edge].options.peers[1 - side];
                let it = &self.peers[neighbour];
                let session = it.sessions.get(&edge);
                let confirmed = session.and_then(|it| it.confirmed_commit());
                let Some(confirmed) = confirmed.filter(|_| it.is_honest()) else {
                    continue;
                };
                // What a sync scope closes is not asked for, and says nothing.
                let mut asked_for = session.into_iter().flat_map(|it| it.remote_collections());
                let has_scopes = self.options.scopes.changes > 0;
                if has_scopes && !asked_for.any(|name| name == selector.collection()) {
                    continue;
                }
                if let Some(key) = first_lacking(&it.disk, selector, confirmed, &held) {
                    return Some(Violation::NotHeld {
                        peer,
                        neighbour,
                        key,
                    });
                }
            }
        }
        None
    }
}

/// What a disk holds of a collection, or had.
struct Held {
    /// Documents, those in quarantine and evicted ones that are remembered among them.
    versions: BTreeMap<Vec<u8>, VersionVector>,
    /// Covers what went without a trace.
    gone: VersionVector,
}

impl Held {
    fn of(disk: &Disk, collection: &CollectionName) -> Self {
        let mut versions = BTreeMap::new();
        let known = disk.scan_known(collection, &mut |item| {
            let version = VersionVector::decode(&mut Reader::new(item.version));
            versions.insert(item.id.to_vec(), version.expect("written by ourselves"));
            ControlFlow::Continue(())
        });
        known.expect("the simulated disk works");
        let gone = disk.gone(collection).expect("the simulated disk works");
        let gone = gone.unwrap_or_default();
        let mut covered = gone.deleted;
        covered.join(&gone.evicted);
        Self {
            versions,
            gone: covered,
        }
    }

    /// Whether a version of a document was taken in here. Who evicts a document and gets another version
    /// of it has less than it had.
    fn covers(&self, id: &DocId, version: &VersionVector) -> bool {
        let mut had = self.gone.clone();
        if let Some(here) = self.versions.get(&id.to_key()) {
            had.join(here);
        }
        had.covers_all(version)
    }
}

/// The first document that a feed has up to a commit and that is not held.
fn first_lacking(
    disk: &Disk,
    selector: &Selector,
    confirmed: u64,
    held: &Held,
) -> Option<DocumentKey> {
    let name: &CollectionName = selector.collection();
    let feed = disk.changed_since(name, 0, 0, usize::MAX);
    let changed = feed.expect("the simulated disk works").groups;
    let mut changed: Vec<_> = changed.into_iter().flatten().collect();
    changed.retain(|it| it.commit <= confirmed && it.key.collection == *name);
    let lacking = changed.into_iter().find(|it| {
        let fields = idem_crdt::visible_fields(&it.document).expect("written by ourselves");
        // Who subscribes to a collection learns what is deleted.
        let is_wanted = fields.is_none_or(|mut fields| {
            fields.insert("_id".to_owned(), it.key.id.as_value().clone());
            selector.matches(&fields)
        });
        is_wanted && !held.covers(&it.key.id, &version(&it.document))
    });
    lacking.map(|it| it.key)
}

#[cfg(test)]
mod tests {
    use idem_model::{
        ActorId, DocumentOp, FieldOp, FieldPath, InsertConflict, Object, PeerId, Value,
    };
    use idem_sync::{Incoming, IncomingState, MemoryReplica};

    use super::*;
    use crate::workload::key;

    const NOW_MS: u64 = 1_000_000;

    const PEER: PeerId = PeerId([1; 32]);

    fn selector(text: &str) -> Selector {
        let statement = idem_query::parse(text).expect("a valid statement");
        let selector = statement.subscription(&Object::new());
        selector.expect("a subscription")
    }

    fn insert(colour: &str) -> DocumentOp {
        DocumentOp::Insert {
            fields: Object::from([("colour".to_owned(), Value::from(colour))]),
            kinds: Vec::new(),
            conflict: InsertConflict::DoUpdate,
        }
    }

    fn paint(colour: &str) -> DocumentOp {
        DocumentOp::Update(vec![FieldOp::Set {
            path: FieldPath::field("colour"),
            value: colour.into(),
            kind: None,
        }])
    }

    /// Somebody's disk after a few commits, and one that has taken all of them in but the last `lacking`.
    struct Scene {
        theirs: Disk,
        ours: MemoryReplica,
    }

    impl Scene {
        fn new(commits: &[(&str, DocumentOp)], lacking: usize) -> Self {
            let theirs = MemoryReplica::new(ActorId([1; 16]), NOW_MS);
            let mut theirs = Disk::memory(theirs, None);
            let mut ours = MemoryReplica::new(ActorId([2; 16]), NOW_MS);
            for (number, (id, operation)) in commits.iter().enumerate() {
                let key = key("things", id);
                theirs.commit(&[(key.clone(), operation.clone())]);
                let state = theirs.state(&key).expect("just written");
                if number + lacking < commits.len() {
                    let state = IncomingState::Whole(state);
                    let Ok(_) = ours.apply(
                        vec![Incoming {
                            key,
                            group: 0,
                            state,
                        }],
                        &[],
                    );
                }
            }
            theirs.make_durable();
            ours.make_durable();
            Self { theirs, ours }
        }

        /// The first one that is lacking of those that `text` asks for.
        fn lacking(self, text: &str, confirmed: u64) -> Option<String> {
            let selector = selector(text);
            let ours = Disk::memory(self.ours, None);
            let held = Held::of(&ours, selector.collection());
            let key = first_lacking(&self.theirs, &selector, confirmed, &held);
            key.map(|key| key.id.as_value().as_str().expect("a text").to_owned())
        }
    }

    const ALL: &str = "SELECT * FROM things";

    #[test]
    fn what_is_held_in_full_is_not_lacking() {
        let commits = [
            ("a", insert("red")),
            ("a", paint("blue")),
            ("b", insert("red")),
        ];
        assert_eq!(Scene::new(&commits, 0).lacking(ALL, 3), None);
    }

    #[test]
    fn an_earlier_version_a_missing_document_and_a_missing_deletion_are_lacking() {
        for last in [
            ("a", paint("blue")),
            ("b", insert("red")),
            ("a", DocumentOp::Delete),
        ] {
            let commits = [("a", insert("red")), last.clone()];
            let lacking = Scene::new(&commits, 1).lacking(ALL, 2);
            assert_eq!(lacking.as_deref(), Some(last.0), "{last:?}");
            // It was not confirmed.
            assert_eq!(Scene::new(&commits, 1).lacking(ALL, 1), None, "{last:?}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_lacking() {
        let commits = [("a", insert("red")), ("b", insert("blue"))];
        let lacking = |text| Scene::new(&commits, 2).lacking(text, 2);
        assert_eq!(lacking("SELECT * FROM others"), None);
        let blue = lacking("SELECT * FROM things WHERE colour = 'blue'");
        assert_eq!(blue.as_deref(), Some("b"));
        let id = lacking("SELECT * FROM things WHERE _id = 'b'");
        assert_eq!(id.as_deref(), Some("b"));
        assert_eq!(lacking("SELECT * FROM things WHERE colour = 'green'"), None);
    }

    #[test]
    fn what_was_evicted_forgotten_or_is_in_doubt_was_held() {
        let commits = [("a", insert("red")), ("a", paint("blue"))];
        let mut scene = Scene::new(&commits, 0);
        scene.ours.evict_documents(&[key("things", "a")]);
        assert_eq!(scene.lacking(ALL, 2), None);
        let mut scene = Scene::new(&commits, 0);
        scene.ours.set_subscriptions([selector(ALL)]);
        scene.ours.evict_documents(&[key("things", "a")]);
        scene.ours.make_durable();
        assert_eq!(scene.lacking(ALL, 2), None);
        let mut scene = Scene::new(&commits, 0);
        let Ok(_) = scene.ours.quarantine(&[key("things", "a")], PEER);
        assert_eq!(scene.lacking(ALL, 2), None);
        let deleted = [("a", insert("red")), ("a", DocumentOp::Delete)];
        let mut scene = Scene::new(&deleted, 0);
        scene.ours.set_tombstone_ttl_ms(0);
        scene.ours.remove_tombstones();
        assert_eq!(scene.ours.documents().count(), 0);
        assert_eq!(scene.lacking(ALL, 2), None);
        // What came and was evicted says nothing of what came later.
        let mut scene = Scene::new(&commits, 1);
        scene.ours.evict_documents(&[key("things", "a")]);
        assert_eq!(scene.lacking(ALL, 2).as_deref(), Some("a"));
    }

    #[test]
    fn who_evicted_and_got_less_back_had_both() {
        let commits = [("a", insert("red")), ("a", paint("blue"))];
        let mut scene = Scene::new(&commits, 0);
        scene.ours.evict_documents(&[key("things", "a")]);
        let written = scene.ours.commit(&[(key("things", "a"), insert("green"))]);
        assert!(written.is_ok());
        assert_eq!(scene.lacking(ALL, 2), None);
    }
}

//! Whether peers hold what others were told that they hold.

use std::{collections::BTreeMap, ops::ControlFlow};

use idem_model::{CollectionName, DocumentKey, VersionVector, codec::Reader};
use idem_query::Selector;
use idem_sync::{Replica, ScopeFilter, subscription_id_of};

use super::World;
use crate::{check::Violation, check::version, disk::Disk};

impl World {
    /// Looks for a document of which some neighbour has the confirmation of a peer that has just lost
    /// all that was not durable, and which that peer does not hold.
    pub(super) fn find_not_held(&self, peer: usize) -> Option<Violation> {
        // Where peers evict without subscriptions, and have quarantines, nothing tells that it was held.
        if !self.peers[peer].is_honest() || self.options.absences.rounds > 0 {
            return None;
        }
        for selector in self.peers[peer].wanted() {
            let held = held(&self.peers[peer].disk, selector);
            for &edge in &self.edges_of[peer] {
                let side = self.edges[edge].side_of(peer).expect("an end of the edge");
                let neighbour = self.edges[edge].options.peers[1 - side];
                let it = &self.peers[neighbour];
                let session = it.sessions.get(&edge);
                let confirmed = session.and_then(|it| it.confirmed_commit());
                let Some(confirmed) = confirmed.filter(|_| it.is_honest()) else {
                    continue;
                };
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

/// What a disk holds of a subscription, or had and evicted.
struct Held {
    versions: BTreeMap<Vec<u8>, VersionVector>,
    /// Covers what went without a trace.
    gone: VersionVector,
}

fn held(disk: &Disk, selector: &Selector) -> Held {
    let mut versions = BTreeMap::new();
    let subscription = subscription_id_of(selector);
    disk.scan_scope(subscription, selector, ScopeFilter::All, &mut |item| {
        let version = VersionVector::decode(&mut Reader::new(item.version));
        versions.insert(item.id.to_vec(), version.expect("written by ourselves"));
        ControlFlow::Continue(())
    })
    .expect("the simulated disk works");
    let gone = disk.gone(selector.collection());
    let gone = gone.expect("the simulated disk works").unwrap_or_default();
    let mut covered = gone.deleted;
    covered.join(&gone.evicted);
    Held {
        versions,
        gone: covered,
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
        let version = version(&it.document);
        let here = held.versions.get(&it.key.id.to_key());
        let is_held = here.is_some_and(|here| here.covers_all(&version));
        is_wanted && !is_held && !held.gone.covers_all(&version)
    });
    lacking.map(|it| it.key)
}

//! Subscriptions to some fields of documents (docs/format/wire.md, "Projections").
//!
//! What is left of a document where only some fields are wanted does not merge with whole documents. So
//! it travels under the name of a collection of its own, which follows from the collection and the
//! fields, and is never taken for the collection itself. Whoever wants it holds it under that name. Whoever
//! sends it reads the collection, under which it holds the whole documents, and leaves out the rest of
//! each where it leaves.

use std::{collections::BTreeMap, sync::Arc};

use idem_model::{CollectionName, DocumentKey, FieldPath};
use idem_query::Selector;

use crate::replica::Changed;

/// What the names of all projections begin with. Applications cannot give such a name.
const PREFIX: &str = "__projection_";

/// The name under which the documents of a projection travel, and under which a [`Replica`] holds them for
/// this peer: the same for all conditions. `None` for whole documents.
///
/// [`Replica`]: crate::Replica
pub fn projected_collection(selector: &Selector) -> Option<CollectionName> {
    selector.projection()?;
    let mut hasher = blake3::Hasher::new_derive_key("idem sync projection, version 1");
    hasher.update(selector.canonical_projection().as_bytes());
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = CollectionName::new(&format!("{PREFIX}{hex}"));
    Some(name.expect("a short name"))
}

/// What a peer holds of a subscription: what it selects. Of a projection that is everything under the name
/// of [`projected_collection`], for what it selects does not follow from the fields that are held.
pub fn held_selector(selector: &Selector) -> Selector {
    match projected_collection(selector) {
        Some(name) => Selector::of_collection(name),
        None => selector.clone(),
    }
}

/// The name under which the documents of a subscription travel.
pub(crate) fn travelling_name(selector: &Selector) -> CollectionName {
    projected_collection(selector).unwrap_or_else(|| selector.collection().clone())
}

/// Whether documents of this name are parts of others.
pub(crate) fn is_projection(name: &CollectionName) -> bool {
    name.as_str().starts_with(PREFIX)
}

/// The projections that a remote wants, by the names under which their documents travel.
#[derive(Debug, Default)]
pub(crate) struct Projections {
    by_name: BTreeMap<CollectionName, Projection>,
}

#[derive(Debug)]
struct Projection {
    collection: CollectionName,
    paths: Arc<[FieldPath]>,
}

impl Projections {
    /// Notes what a subscription wants, if it wants no whole documents.
    pub(crate) fn insert(&mut self, name: &CollectionName, selector: &Selector) {
        if let Some(paths) = selector.projection() {
            let projection = Projection {
                collection: selector.collection().clone(),
                paths: paths.into(),
            };
            self.by_name.insert(name.clone(), projection);
        }
    }

    pub(crate) fn remove(&mut self, name: &CollectionName) {
        self.by_name.remove(name);
    }

    /// The collection that holds the documents which travel under `name`.
    pub(crate) fn stored<'a>(&'a self, name: &'a CollectionName) -> &'a CollectionName {
        let projection = self.by_name.get(name);
        projection.map_or(name, |projection| &projection.collection)
    }

    /// The document that travels under `key`.
    pub(crate) fn stored_key(&self, key: &DocumentKey) -> DocumentKey {
        DocumentKey {
            collection: self.stored(&key.collection).clone(),
            id: key.id.clone(),
        }
    }

    /// The fields that travel of the documents of this name; `None` for all.
    pub(crate) fn paths(&self, name: &CollectionName) -> Option<Arc<[FieldPath]>> {
        Some(Arc::clone(&self.by_name.get(name)?.paths))
    }

    /// Whether anything but whole documents is wanted.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Puts the documents of a group, as the store gives them, under the names under which they are wanted.
    /// `gives` says under which names a document is to be given that changed last with some commit: none,
    /// one or several of those that its collection has.
    pub(crate) fn rename(
        &self,
        group: Vec<Changed>,
        gives: impl Fn(&CollectionName, &Changed) -> bool,
    ) -> Vec<Changed> {
        let mut renamed = Vec::with_capacity(group.len());
        for changed in group {
            let projections = self.by_name.iter();
            let projections = projections.filter(|(_, it)| it.collection == changed.key.collection);
            for (name, _) in projections {
                if gives(name, &changed) {
                    let mut projected = changed.clone();
                    projected.key.collection = name.clone();
                    renamed.push(projected);
                }
            }
            if gives(&changed.key.collection, &changed) {
                renamed.push(changed);
            }
        }
        renamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use idem_model::Object;

    const HASHES: &str = include_str!("../../../vectors/wire/hashes.txt");

    #[test]
    fn a_projection_is_named_as_it_was() {
        let name = |text: &str| {
            let statement = idem_query::parse(text).unwrap();
            let selector = statement.subscription(&Object::new()).unwrap();
            let name = projected_collection(&selector);
            (name, selector.canonical_projection())
        };
        let (Some(named), text) = name("SELECT price, name FROM products") else {
            panic!("a projection");
        };
        let line = format!("projection | {text} | {named}\n");
        assert!(HASHES.contains(&line), "{line}");
        // The condition is of no matter.
        let filtered = name("SELECT name, price, _id FROM products WHERE shop = 7");
        assert_eq!(filtered.0, Some(named));
        assert_eq!(name("SELECT * FROM products").0, None);
    }
}

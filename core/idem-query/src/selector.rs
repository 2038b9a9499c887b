//! The documents that a subscription wants.

use idem_model::{CollectionName, Object};

/// A predicate over the documents of one collection, with its arguments inside.
#[derive(Debug, Clone)]
pub struct Selector {
    collection: CollectionName,
    canonical: String,
}

impl Selector {
    /// The collection it selects from.
    pub fn collection(&self) -> &CollectionName {
        &self.collection
    }

    /// Whether the document is selected. `fields` are the visible fields with `_id`.
    pub fn matches(&self, _fields: &Object) -> bool {
        unimplemented!()
    }

    /// A statement text that is the same for the same meaning written with other spaces, aliases,
    /// parameters or keyword case. Parsing it gives an equal selector.
    pub fn canonical(&self) -> String {
        self.canonical.clone()
    }
}

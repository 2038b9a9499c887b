//! What a certificate allows, as it is written in it (docs/format/auth.md, "Grants").

use std::collections::{BTreeMap, BTreeSet};

use idem_model::{
    CollectionName, DecodeError,
    codec::{Reader, put_bytes, put_varint},
    limits,
};
use idem_query::QueryError;

const REMOTE_QUERY: u8 = 1;
const ADMIN: u8 = 2;

/// What a peer may do. Roles are resolved into it when a certificate is issued.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grants {
    /// Which documents may be sent to it.
    pub read: Access,
    /// Which documents it may change: as they were before, and as they are then.
    pub write: Access,
    /// Whether others run its queries on their stores.
    pub remote_query: bool,
    /// Whether it may change what holds for the whole database, such as the kinds of fields.
    pub admin: bool,
}

/// Some documents of a database.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Access {
    /// None.
    #[default]
    Nothing,
    /// All of them.
    Everything,
    /// Of each collection the documents that match one of the predicates. A predicate is what stands behind WHERE, of
    /// one document, with `:user`, `:peer` and `:claims` for what the certificate says of its holder. `true` is
    /// all documents.
    Collections(BTreeMap<CollectionName, BTreeSet<String>>),
}

/// Why a grant is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Nobody could quote it in a statement.
    #[error("a grant cannot name the collection `{collection}`: a backtick ends its name")]
    CollectionName {
        /// Its name.
        collection: CollectionName,
    },
    /// The system decides who may write it, and everybody reads it.
    #[error("a grant cannot name the collection `{collection}`, which is the system's")]
    SystemCollection {
        /// Its name.
        collection: CollectionName,
    },
    /// It names collections, and none is there; or a collection without a predicate.
    #[error("a grant of collections names at least one, with at least one predicate each")]
    Empty,
    /// Too many predicates.
    #[error("{count} predicates are over the limit of {limit}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// [`limits::GRANT_PREDICATES_MAX`].
        limit: usize,
    },
    /// A predicate is too long.
    #[error("a predicate of {bytes} bytes for `{collection}` is over the limit of {limit}")]
    TooLong {
        /// Of which collection.
        collection: CollectionName,
        /// Its length.
        bytes: usize,
        /// [`limits::GRANT_PREDICATE_BYTES_MAX`].
        limit: usize,
    },
    /// It is not a condition on one document that every peer answers alike.
    #[error("the predicate `{predicate}` for `{collection}` cannot be a grant")]
    Predicate {
        /// Of which collection.
        collection: CollectionName,
        /// Its text.
        predicate: String,
        /// What is wrong with it.
        #[source]
        source: QueryError,
    },
    /// It uses a parameter that a grant does not have.
    #[error(
        "the predicate `{predicate}` for `{collection}` uses `:{parameter}`; there are :user, :peer and :claims"
    )]
    Parameter {
        /// Of which collection.
        collection: CollectionName,
        /// Its text.
        predicate: String,
        /// The name.
        parameter: String,
    },
    /// A document could make it run for long.
    #[error(
        "the predicate `{predicate}` for `{collection}` could run for long: no collection expression inside \
         another, none that looks at other fields for each element, and no patterns from documents"
    )]
    Costly {
        /// Of which collection.
        collection: CollectionName,
        /// Its text.
        predicate: String,
    },
    /// Permits narrow each other too often.
    #[error("more than {limit} grants cannot narrow each other")]
    TooManyLayers {
        /// [`limits::PERMIT_LAYERS_MAX`].
        limit: usize,
    },
}

impl Grants {
    /// Everything: what a shared key opens.
    pub fn everything() -> Self {
        Self {
            read: Access::Everything,
            write: Access::Everything,
            remote_query: true,
            admin: true,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let remote_query = if self.remote_query { REMOTE_QUERY } else { 0 };
        let admin = if self.admin { ADMIN } else { 0 };
        out.push(remote_query | admin);
        self.read.encode(out);
        self.write.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        let flags = reader.byte()?;
        if flags & !(REMOTE_QUERY | ADMIN) != 0 {
            let what = "flags of a grant";
            return Err(DecodeError::Invalid { what, at });
        }
        Ok(Self {
            remote_query: flags & REMOTE_QUERY != 0,
            admin: flags & ADMIN != 0,
            read: Access::decode(reader)?,
            write: Access::decode(reader)?,
        })
    }
}

impl Access {
    /// The documents of some collections that match, by the names of the collections.
    ///
    /// # Panics
    /// If a name cannot name a collection; this is for names that are in the program.
    pub fn of(rules: &[(&str, &[&str])]) -> Self {
        let rules = rules.iter().map(|(name, predicates)| {
            let name = CollectionName::new(name).expect("the name of a collection");
            (
                name,
                predicates.iter().map(|&text| text.to_owned()).collect(),
            )
        });
        Self::Collections(rules.collect())
    }

    /// Whether its shape and sizes are within bounds.
    pub(crate) fn check(&self) -> Result<(), GrantError> {
        let Self::Collections(rules) = self else {
            return Ok(());
        };
        if rules.is_empty() || rules.values().any(BTreeSet::is_empty) {
            return Err(GrantError::Empty);
        }
        let (count, limit) = (
            rules.values().map(BTreeSet::len).sum(),
            limits::GRANT_PREDICATES_MAX,
        );
        if count > limit {
            return Err(GrantError::TooMany { count, limit });
        }
        for (collection, predicates) in rules {
            let collection = collection.clone();
            if collection.is_system() {
                return Err(GrantError::SystemCollection { collection });
            }
            if collection.as_str().contains('`') {
                return Err(GrantError::CollectionName { collection });
            }
            let limit = limits::GRANT_PREDICATE_BYTES_MAX;
            if let Some(bytes) = predicates.iter().map(String::len).find(|len| *len > limit) {
                return Err(GrantError::TooLong {
                    collection,
                    bytes,
                    limit,
                });
            }
        }
        Ok(())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => out.push(0),
            Self::Everything => out.push(1),
            Self::Collections(rules) => {
                out.push(2);
                put_varint(out, rules.len() as u64);
                for (collection, predicates) in rules {
                    put_bytes(out, collection.as_str().as_bytes());
                    put_varint(out, predicates.len() as u64);
                    for predicate in predicates {
                        put_bytes(out, predicate.as_bytes());
                    }
                }
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        let access = match reader.byte()? {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => {
                let count =
                    reader.count("collections of a grant", limits::GRANT_PREDICATES_MAX, 4)?;
                let rules = (0..count).map(|_| rules_of_one(reader));
                let rules: Vec<_> = rules.collect::<Result<_, _>>()?;
                check_rising("collections of a grant", at, &rules, |(name, _)| name)?;
                Self::Collections(rules.into_iter().collect())
            }
            _ => return Err(DecodeError::Invalid { what: "access", at }),
        };
        let what = "rules of a grant";
        access
            .check()
            .map_err(|_| DecodeError::Invalid { what, at })?;
        Ok(access)
    }
}

fn rules_of_one(
    reader: &mut Reader<'_>,
) -> Result<(CollectionName, BTreeSet<String>), DecodeError> {
    let at = reader.position();
    let what = "collection name";
    let name = reader.text(what, limits::COLLECTION_NAME_BYTES_MAX)?;
    let name = CollectionName::new(name).map_err(|_| DecodeError::Invalid { what, at })?;
    let at = reader.position();
    let count = reader.count("predicates", limits::GRANT_PREDICATES_MAX, 1)?;
    let predicates = (0..count).map(|_| {
        let text = reader.text("predicate", limits::GRANT_PREDICATE_BYTES_MAX)?;
        Ok(text.to_owned())
    });
    let predicates: Vec<String> = predicates.collect::<Result<_, DecodeError>>()?;
    check_rising("predicates", at, &predicates, |text| text)?;
    Ok((name, predicates.into_iter().collect()))
}

/// Refuses what does not rise, so that a set has one form.
pub(crate) fn check_rising<T, K: Ord>(
    what: &'static str,
    at: usize,
    items: &[T],
    key: impl Fn(&T) -> &K,
) -> Result<(), DecodeError> {
    match items.is_sorted_by(|a, b| key(a) < key(b)) {
        true => Ok(()),
        false => Err(DecodeError::Invalid { what, at }),
    }
}

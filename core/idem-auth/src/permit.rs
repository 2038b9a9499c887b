//! Grants that are compiled: whether this peer may have, or change, this document.

mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use idem_model::{CollectionName, Object, Value, limits};

use crate::{
    certificate::Certificate,
    grants::{Access, GrantError, Grants},
};
use rules::Rules;

/// What a certificate allows, compiled. Cloning is cheap.
///
/// Every answer follows from the certificate and the document alone, so that all peers give the same. A
/// predicate that is not true denies: false, null, MISSING, or more work than
/// [`limits::GRANT_WORK_BYTES_MAX`].
///
/// Collections of the system (`__collections`) are read by everybody and written with `admin`.
#[derive(Debug, Clone)]
pub struct Permit {
    layers: Vec<Arc<Layer>>,
}

#[derive(Debug)]
struct Layer {
    read: Side,
    write: Side,
    remote_query: bool,
    admin: bool,
    /// Of what `read` was compiled from.
    reading: [u8; 32],
}

#[derive(Debug)]
enum Side {
    Nothing,
    Everything,
    Collections(BTreeMap<CollectionName, Rules>),
}

/// On what it depends which documents of a collection a permit covers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reach {
    /// None of them.
    Nothing,
    /// All of them, so that nobody has to ask about each.
    Whole,
    /// On the id alone: what is decided of a document stays so.
    ById,
    /// On the id and on what is in these fields at the top of the document, which may change.
    ByFields(BTreeSet<String>),
    /// On anything in the document.
    ByDocument,
}

impl Permit {
    /// What everybody may do in a database without authorities.
    pub fn everything() -> Self {
        let grants = Grants::everything();
        Self::of(&grants, &Object::new()).expect("there is no predicate in it")
    }

    /// What a certificate allows of which a predicate is none.
    pub fn nothing() -> Self {
        Self::of(&Grants::default(), &Object::new()).expect("there is no predicate in it")
    }

    /// Compiles what a certificate grants. Whether the certificate counts is another question.
    ///
    /// # Errors
    /// [`GrantError`] for a predicate that is none. It is the same on every peer of a version, and no peer should take
    /// a part of such a certificate.
    pub fn compile(certificate: &Certificate) -> Result<Self, GrantError> {
        let args = Object::from([
            ("user".to_owned(), Value::from(certificate.user.as_str())),
            (
                "peer".to_owned(),
                Value::from(certificate.subject.to_string()),
            ),
            (
                "claims".to_owned(),
                Value::Object(certificate.claims.clone()),
            ),
        ]);
        Self::of(&certificate.grants, &args)
    }

    fn of(grants: &Grants, args: &Object) -> Result<Self, GrantError> {
        let layer = Layer {
            read: Side::compile(&grants.read, args)?,
            write: Side::compile(&grants.write, args)?,
            remote_query: grants.remote_query,
            admin: grants.admin,
            reading: reading_of(&grants.read, args),
        };
        Ok(Self {
            layers: vec![Arc::new(layer)],
        })
    }

    /// What both permits allow.
    ///
    /// # Errors
    /// [`GrantError::TooManyLayers`] beyond [`limits::PERMIT_LAYERS_MAX`].
    pub fn narrow(&self, by: &Self) -> Result<Self, GrantError> {
        let mut layers = self.layers.clone();
        for layer in &by.layers {
            if !layers.iter().any(|known| Arc::ptr_eq(known, layer)) {
                layers.push(Arc::clone(layer));
            }
        }
        let limit = limits::PERMIT_LAYERS_MAX;
        match layers.len() <= limit {
            true => Ok(Self { layers }),
            false => Err(GrantError::TooManyLayers { limit }),
        }
    }

    /// Whether a document may be sent to the holder. `document` has the visible fields with `_id`.
    pub fn may_read(&self, collection: &CollectionName, document: &Object) -> bool {
        let sides = self.layers.iter().map(|layer| &layer.read);
        collection.is_system() || sides.into_iter().all(|side| side.has(collection, document))
    }

    /// Whether the holder may make of a document `before` what it is `after`; `None` is a document that is not
    /// there. Both have to be granted. Of a document that is in neither only who may write all of the
    /// collection can have said something.
    pub fn may_write(
        &self,
        collection: &CollectionName,
        before: Option<&Object>,
        after: Option<&Object>,
    ) -> bool {
        self.layers.iter().all(|layer| {
            if collection.is_system() {
                return layer.admin;
            }
            let mut states = before.iter().chain(&after).peekable();
            match states.peek() {
                Some(_) => states.all(|state| layer.write.has(collection, state)),
                None => layer.write.reach(collection) == Reach::Whole,
            }
        })
    }

    /// On what it depends which documents of a collection may be sent to the holder.
    pub fn reading(&self, collection: &CollectionName) -> Reach {
        if collection.is_system() {
            return Reach::Whole;
        }
        let reaches = self.layers.iter().map(|layer| layer.read.reach(collection));
        reaches.fold(Reach::Whole, Reach::and)
    }

    /// Whether all documents may be sent to the holder, so that nobody has to ask about any.
    pub fn reads_everything(&self) -> bool {
        (self.layers.iter()).all(|layer| matches!(layer.read, Side::Everything))
    }

    /// Whether another permit has the same documents sent, as far as can be told without looking at them: what
    /// was compiled from the same predicates for the same holder. A certificate that is renewed changes nothing.
    pub fn reads_like(&self, other: &Self) -> bool {
        let reading = |permit: &Self| {
            let layers = permit.layers.iter().map(|layer| layer.reading);
            layers.collect::<BTreeSet<_>>()
        };
        reading(self) == reading(other)
    }

    /// On what it depends which documents of a collection the holder may change.
    pub fn writing(&self, collection: &CollectionName) -> Reach {
        if collection.is_system() {
            return match self.may_administer() {
                true => Reach::Whole,
                false => Reach::Nothing,
            };
        }
        let reaches = self
            .layers
            .iter()
            .map(|layer| layer.write.reach(collection));
        reaches.fold(Reach::Whole, Reach::and)
    }

    /// Whether the holder's queries run on the stores of others.
    pub fn may_query_remotely(&self) -> bool {
        self.layers.iter().all(|layer| layer.remote_query)
    }

    /// Whether the holder may change what holds for the whole database.
    pub fn may_administer(&self) -> bool {
        self.layers.iter().all(|layer| layer.admin)
    }
}

/// Names an access for a holder. What is written alike for the same holder is the same.
fn reading_of(access: &Access, args: &Object) -> [u8; 32] {
    let mut bytes = Vec::new();
    access.encode(&mut bytes);
    if matches!(access, Access::Collections(_)) {
        Value::Object(args.clone()).encode(&mut bytes);
    }
    blake3::derive_key("idem auth reading of a permit, version 1", &bytes)
}

impl Side {
    fn compile(access: &Access, args: &Object) -> Result<Self, GrantError> {
        access.check()?;
        Ok(match access {
            Access::Nothing => Self::Nothing,
            Access::Everything => Self::Everything,
            Access::Collections(rules) => {
                let compiled = rules.iter().map(|(collection, predicates)| {
                    let rules = Rules::compile(collection, predicates, args)?;
                    Ok((collection.clone(), rules))
                });
                Self::Collections(compiled.collect::<Result<_, GrantError>>()?)
            }
        })
    }

    fn has(&self, collection: &CollectionName, document: &Object) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Collections(rules) => rules
                .get(collection)
                .is_some_and(|rules| rules.has(document)),
        }
    }

    fn reach(&self, collection: &CollectionName) -> Reach {
        match self {
            Self::Nothing => Reach::Nothing,
            Self::Everything => Reach::Whole,
            Self::Collections(rules) => rules.get(collection).map_or(Reach::Nothing, Rules::reach),
        }
    }
}

impl Reach {
    /// What follows for documents that both cover.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, _) | (_, Self::Nothing) => Self::Nothing,
            (Self::ByDocument, _) | (_, Self::ByDocument) => Self::ByDocument,
            (Self::ByFields(mut names), Self::ByFields(more)) => {
                names.extend(more);
                Self::ByFields(names)
            }
            (Self::ByFields(names), _) | (_, Self::ByFields(names)) => Self::ByFields(names),
            (Self::ById, _) | (_, Self::ById) => Self::ById,
            (Self::Whole, Self::Whole) => Self::Whole,
        }
    }

    /// The same for documents that at least one covers.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole, _) | (_, Self::Whole) => Self::Whole,
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (one, other) => one.and(other),
        }
    }
}

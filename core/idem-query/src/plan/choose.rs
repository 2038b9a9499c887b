//! Choosing how the rows of a source are found.

use super::conditions::uses;
use crate::{
    bound::{FromItem, Order, Place},
    error::{ErrorKind, QueryError},
    source::{IndexInfo, IndexKey, IndexStatistics},
};

/// What the caller can make use of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish<'q> {
    /// ORDER BY, if its keys are over this source alone and rows that come in this order need no
    /// sort; empty otherwise.
    pub(crate) order: &'q [Order],
    /// How many rows will be looked at, if it is known.
    pub(crate) limit: Option<usize>,
    /// Whether the rows of the sources before are given, so that ON helps to find the partners of
    /// each. Without it, all rows that pass the filter are found.
    pub(crate) joined: bool,
}

/// How the rows of a source are found, chosen once per run of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AccessPath {
    pub(crate) kind: PathKind,
    /// Whether the rows come in the wished order, those that are equal in it by id.
    pub(crate) is_ordered: bool,
    /// About how many rows are looked at, where it is known.
    pub(crate) estimate: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PathKind {
    /// All of them.
    Everything,
    /// By the ids of [`super::Access::ids`].
    Ids,
    /// By the ids of [`super::Access::joined_ids`].
    JoinedIds,
    Index(IndexPath),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IndexPath {
    pub(crate) index: IndexInfo,
    /// Whether tests against the sources before are used.
    pub(crate) joined: bool,
}

impl AccessPath {
    fn of(kind: PathKind) -> Self {
        Self {
            kind,
            is_ordered: false,
            estimate: None,
        }
    }

    /// Whether it finds other rows for other rows in the slots from `first` on, so that it is worth
    /// walking it for every one of them.
    pub(crate) fn looks_up(&self, item: &FromItem, first: usize) -> bool {
        match &self.kind {
            PathKind::Everything => false,
            PathKind::Ids => {
                let ids = item.access.ids.iter();
                ids.map(uses).any(|uses| !uses.slots.all_below(first))
            }
            PathKind::JoinedIds => true,
            PathKind::Index(path) => path.joined,
        }
    }

    /// Whether the rows come in the order of their ids.
    pub(crate) fn is_by_id(&self) -> bool {
        !matches!(self.kind, PathKind::Index(_))
    }
}

/// The indexes of a collection and what is known about them.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) indexes: Vec<(IndexInfo, IndexStatistics)>,
    pub(crate) documents: Option<u64>,
}

/// Whether a source's rows may be found through an index, so that asking for the indexes is worth it.
pub(crate) fn wants_index(item: &FromItem, wish: &Wish<'_>) -> bool {
    if !matches!(item.place, Place::Stored(_)) || item.access.ids.is_some() {
        return false;
    }
    if wish.joined && item.access.joined_ids.is_some() {
        return false;
    }
    match &item.index {
        Some((name, _)) => !name.is_empty(),
        None => !item.access.tests.is_empty(),
    }
}

/// Chooses among what there is.
///
/// # Errors
/// If USE INDEX names an index that is not there.
pub(crate) fn choose(
    item: &FromItem,
    wish: &Wish<'_>,
    catalog: Catalog,
    text: &str,
) -> Result<AccessPath, QueryError> {
    if item.access.ids.is_some() {
        return Ok(AccessPath::of(PathKind::Ids));
    }
    if wish.joined && item.access.joined_ids.is_some() {
        return Ok(AccessPath::of(PathKind::JoinedIds));
    }
    let path = |index| {
        AccessPath::of(PathKind::Index(IndexPath {
            joined: wish.joined && uses_joined(item, &index),
            index,
        }))
    };
    match &item.index {
        Some((name, _)) if name.is_empty() => return Ok(AccessPath::of(PathKind::Everything)),
        Some((name, span)) => {
            let indexes = catalog.indexes.iter();
            let names: Vec<&str> = indexes.clone().map(|(index, _)| index.name()).collect();
            return match indexes.clone().find(|(index, _)| index.name() == name) {
                Some((index, _)) => Ok(path(index.clone())),
                None => {
                    let hint = crate::spelling::nearest(name, names.into_iter())
                        .map(|name| format!("did you mean '{name}'?"))
                        .unwrap_or_default();
                    let message = format!("there is no index `{name}`");
                    Err(QueryError::new(ErrorKind::Execution, message)
                        .at(span.position(text))
                        .with_hint(hint))
                }
            };
        }
        None => {}
    }
    let best = catalog
        .indexes
        .into_iter()
        .filter_map(|(index, _)| score(item, wish, &index).map(|score| (score, index)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    Ok(match best {
        Some((_, index)) => path(index),
        None => AccessPath::of(PathKind::Everything),
    })
}

/// Leading fields with single values, strength behind them, and fewer fields.
type Score = (usize, u8, std::cmp::Reverse<usize>);

fn score(item: &FromItem, wish: &Wish<'_>, index: &IndexInfo) -> Option<Score> {
    let strength = |key: &IndexKey| {
        let IndexKey::Path(path) = key else {
            return 0;
        };
        item.access
            .tests
            .iter()
            .filter(|test| test.path == *path && (wish.joined || !test.joined))
            .map(|test| test.test.strength())
            .max()
            .unwrap_or(0)
    };
    let strengths = index.fields().iter().map(|field| strength(&field.key));
    let points = strengths.clone().take_while(|one| *one == 3).count();
    let behind = strengths.clone().nth(points).unwrap_or(0);
    ((points, behind) > (0, 0)).then_some((points, behind, std::cmp::Reverse(index.fields().len())))
}

/// Whether a test against the sources before narrows a scan of the index.
fn uses_joined(item: &FromItem, index: &IndexInfo) -> bool {
    for field in index.fields() {
        let IndexKey::Path(path) = &field.key else {
            return false;
        };
        let mut tests = item.access.tests.iter().filter(|test| test.path == *path);
        if tests.clone().any(|test| test.joined) {
            return true;
        }
        if !tests.any(|test| test.test.strength() == 3) {
            return false;
        }
    }
    false
}

//! How the rows of a source are found.
//!
//! [`Access::of`] takes a filter apart once, when a statement is bound: document ids, and tests of
//! single fields against values that are there before the source is read: of no row, or of the rows
//! before it. When the statement runs, [`choose`] matches
//! them with the indexes that exist then. A filter that an index narrows down is still checked on
//! every row, so an index decides only how many rows are looked at.

mod describe;
mod fields;
mod spans;

pub(crate) use describe::describe;
pub use describe::to_text;
pub(crate) use spans::{canonical, index_spans};

use idem_model::FieldPath;

use crate::{
    ast::{CompareOp, IsTest, LikeKind},
    bound::{FromItem, Place, Query, Scan},
    error::{ErrorKind, QueryError},
    expr::Expr,
    source::{IndexInfo, IndexKey},
};

/// What a filter says about where its rows are.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Access {
    /// An array of the only ids that can match.
    pub(crate) ids: Option<Expr>,
    /// Tests that hold for every row that passes.
    pub(crate) tests: Vec<FieldTest>,
}

/// A test of one field against a value that is known before the source is read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldTest {
    pub(crate) path: FieldPath,
    pub(crate) test: Test,
    /// The condition it came from, to be shown.
    pub(crate) condition: Expr,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Compare(CompareOp, Expr),
    In(Expr),
    Between(Expr, Expr),
    /// Pattern and escape of LIKE.
    Like(Expr, Option<Expr>),
    Is(IsTest, bool),
}

impl Test {
    /// How much it narrows a scan: 3 for single values, 2 for a range, 1 for all but little.
    fn strength(&self) -> u8 {
        match self {
            Self::Compare(CompareOp::Equal, _) | Self::In(_) | Self::Is(_, false) => 3,
            Self::Compare(CompareOp::NotEqual, _) | Self::Is(_, true) => 1,
            Self::Compare(..) | Self::Between(..) | Self::Like(..) => 2,
        }
    }
}

impl Access {
    /// The access by ids that were written out.
    pub(crate) fn ids(ids: Expr) -> Self {
        Self {
            ids: Some(ids),
            tests: Vec::new(),
        }
    }

    /// Takes the filter of the source in `slot` apart; returns with it what is left to check on each
    /// row.
    pub(crate) fn of(filter: Option<Expr>, slot: usize) -> (Self, Option<Expr>) {
        let Some(filter) = filter else {
            return (Self::default(), None);
        };
        let (mut conjuncts, site) = match filter {
            Expr::And(items, site) => (items.into_vec(), Some(site)),
            other => (vec![other], None),
        };
        let mut access = Self::default();
        if let Some(at) = conjuncts.iter().position(|one| ids_of(one, slot).is_some()) {
            // Every row found by its id passes this condition.
            access.ids = ids_of(&conjuncts.remove(at), slot);
        } else {
            access.tests = conjuncts
                .iter()
                .filter_map(|one| test_of(one, slot))
                .collect();
        }
        let rest = match (conjuncts.len(), site) {
            (0, _) => None,
            (1, _) | (_, None) => conjuncts.pop(),
            (_, Some(site)) => Some(Expr::And(conjuncts.into(), site)),
        };
        (access, rest)
    }
}

/// `_id = value` or `_id IN list` as an array of ids.
fn ids_of(condition: &Expr, slot: usize) -> Option<Expr> {
    let is_id = |expr: &Expr| match expr {
        Expr::Field(of, path) => *of == slot && path.segments() == ["_id"],
        _ => false,
    };
    match condition {
        Expr::Compare(CompareOp::Equal, left, right) => {
            let id = match (is_id(left), is_id(right)) {
                (true, _) => right,
                (_, true) => left,
                _ => return None,
            };
            id.is_fixed_before(slot)
                .then(|| Expr::Array(Box::new([(**id).clone()])))
        }
        Expr::In(parts, false, _) => {
            let [value, list] = &**parts;
            (is_id(value) && list.is_fixed_before(slot)).then(|| list.clone())
        }
        _ => None,
    }
}

fn test_of(condition: &Expr, slot: usize) -> Option<FieldTest> {
    let field = |expr: &Expr| match expr {
        Expr::Field(of, path) if *of == slot => Some(path.clone()),
        _ => None,
    };
    let constant = |expr: &Expr| expr.is_fixed_before(slot).then(|| expr.clone());
    let (path, test) = match condition {
        Expr::Compare(op, left, right) => match (field(left), field(right)) {
            (Some(path), _) => (path, Test::Compare(*op, constant(right)?)),
            (_, Some(path)) => (path, Test::Compare(flip(*op), constant(left)?)),
            _ => return None,
        },
        Expr::In(parts, false, _) => (field(&parts[0])?, Test::In(constant(&parts[1])?)),
        Expr::Between(parts, false) => (
            field(&parts[0])?,
            Test::Between(constant(&parts[1])?, constant(&parts[2])?),
        ),
        Expr::Like(like) if like.kind == LikeKind::Like && !like.negated => {
            let escape = match &like.escape {
                Some(escape) => Some(constant(escape)?),
                None => None,
            };
            (
                field(&like.value)?,
                Test::Like(constant(&like.pattern)?, escape),
            )
        }
        // IS NOT NULL holds for MISSING too and IS NOT TRUE for nearly everything.
        Expr::Is(value, test, negated) if !negated || *test == IsTest::Missing => {
            (field(value)?, Test::Is(*test, *negated))
        }
        _ => return None,
    };
    Some(FieldTest {
        path,
        test,
        condition: condition.clone(),
    })
}

/// The operator with its sides exchanged.
pub(crate) fn flip(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessEqual => CompareOp::GreaterEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterEqual => CompareOp::LessEqual,
        same => same,
    }
}

/// Gives every source of a query what it needs to find its rows, and what it can check early.
pub(crate) fn prepare_query(query: &mut Query) {
    for branch in &mut query.branches {
        branch.from.iter_mut().for_each(prepare_item);
    }
    fields::of_query(query);
}

/// As [`prepare_query`].
pub(crate) fn prepare_scan(scan: &mut Scan) {
    prepare_item(&mut scan.item);
}

fn prepare_item(item: &mut FromItem) {
    if !matches!(item.place, Place::Stored(_)) {
        return;
    }
    match &item.ids {
        Some(ids) => item.access = Access::ids(ids.clone()),
        None => (item.access, item.filter) = Access::of(item.filter.take(), item.slot),
    }
}

/// Whether a scan can use an index at all, so that asking for the indexes is worth it.
pub(crate) fn wants_index(item: &FromItem) -> bool {
    let forbidden = matches!(&item.index, Some((name, _)) if name.is_empty());
    let named = item.index.is_some();
    !forbidden && item.access.ids.is_none() && (named || !item.access.tests.is_empty())
}

/// The index that narrows the scan most: more leading fields with single values first, then the
/// strength of the test on the field behind them, then fewer fields. `None` is a scan of everything.
///
/// # Errors
/// If USE INDEX names an index that is not there.
pub(crate) fn choose(
    item: &FromItem,
    indexes: Vec<IndexInfo>,
    text: &str,
) -> Result<Option<IndexInfo>, QueryError> {
    if let Some((name, span)) = &item.index {
        let known: Vec<String> = indexes
            .iter()
            .map(|index| index.name().to_owned())
            .collect();
        return match indexes.into_iter().find(|index| index.name() == name) {
            Some(index) => Ok(Some(index)),
            None => {
                let hint = crate::spelling::nearest(name, known.iter().map(String::as_str))
                    .map(|name| format!("did you mean '{name}'?"))
                    .unwrap_or_default();
                Err(
                    QueryError::new(ErrorKind::Execution, format!("there is no index `{name}`"))
                        .at(span.position(text))
                        .with_hint(hint),
                )
            }
        };
    }
    Ok(indexes
        .into_iter()
        .filter_map(|index| score(item, &index).map(|score| (score, index)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, index)| index))
}

/// Leading fields with single values, strength behind them, and fewer fields.
type Score = (usize, u8, std::cmp::Reverse<usize>);

fn score(item: &FromItem, index: &IndexInfo) -> Option<Score> {
    let strength = |key: &IndexKey| {
        let IndexKey::Path(path) = key else {
            return 0;
        };
        item.access
            .tests
            .iter()
            .filter(|test| test.path == *path)
            .map(|test| test.test.strength())
            .max()
            .unwrap_or(0)
    };
    let strengths = index.fields().iter().map(|field| strength(&field.key));
    let points = strengths.clone().take_while(|one| *one == 3).count();
    let behind = strengths.clone().nth(points).unwrap_or(0);
    ((points, behind) > (0, 0)).then_some((points, behind, std::cmp::Reverse(index.fields().len())))
}

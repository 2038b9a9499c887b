//! What conditions say about where the rows of a source are.

use idem_model::FieldPath;

use super::{conditions::uses, flip};
use crate::{
    ast::{CompareOp, IsTest, LikeKind},
    expr::Expr,
};

/// What the conditions on a source say about where its rows are.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Access {
    /// An array of the only ids that can match, which uses no source of the same FROM. Its condition
    /// is not in the filter any more.
    pub(crate) ids: Option<Expr>,
    /// An array of the only ids that can match, made of the sources before; ON still says so.
    pub(crate) joined_ids: Option<Expr>,
    /// Tests that hold for every row that passes.
    pub(crate) tests: Vec<FieldTest>,
}

/// A test of one field against a value that is known before the row is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldTest {
    pub(crate) path: FieldPath,
    pub(crate) test: Test,
    /// Whether the value is made of the sources before.
    pub(crate) joined: bool,
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
    pub(super) fn strength(&self) -> u8 {
        match self {
            Self::Compare(CompareOp::Equal, _) | Self::In(_) | Self::Is(_, false) => 3,
            Self::Compare(CompareOp::NotEqual, _) | Self::Is(_, true) => 1,
            Self::Compare(..) | Self::Between(..) | Self::Like(..) => 2,
        }
    }
}

/// What a condition on a source is made of: its slot, and the first slot whose values are not known
/// before its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) slot: usize,
    pub(super) known: usize,
}

impl View {
    fn is_known(self, expr: &Expr) -> bool {
        let uses = uses(expr);
        !uses.is_open && uses.slots.all_below(self.known)
    }

    /// `_id = known` or `_id IN known` as an array of ids.
    pub(super) fn ids_of(self, condition: &Expr) -> Option<Expr> {
        let is_id = |expr: &Expr| match expr {
            Expr::Field(slot, path) => *slot == self.slot && path.segments() == ["_id"],
            _ => false,
        };
        match condition {
            Expr::Compare(CompareOp::Equal, left, right) => {
                let id = match (is_id(left), is_id(right)) {
                    (true, _) => right,
                    (_, true) => left,
                    _ => return None,
                };
                self.is_known(id)
                    .then(|| Expr::Array(Box::new([(**id).clone()])))
            }
            Expr::In(parts, false, _) => {
                let [value, list] = &**parts;
                (is_id(value) && self.is_known(list)).then(|| list.clone())
            }
            _ => None,
        }
    }

    pub(super) fn test_of(self, condition: &Expr, joined: bool) -> Option<FieldTest> {
        let field = |expr: &Expr| match expr {
            Expr::Field(slot, path) if *slot == self.slot => Some(path.clone()),
            _ => None,
        };
        let known = |expr: &Expr| self.is_known(expr).then(|| expr.clone());
        let (path, test) = match condition {
            Expr::Compare(op, left, right) => match (field(left), field(right)) {
                (Some(path), _) => (path, Test::Compare(*op, known(right)?)),
                (_, Some(path)) => (path, Test::Compare(flip(*op), known(left)?)),
                _ => return None,
            },
            Expr::In(parts, false, _) => (field(&parts[0])?, Test::In(known(&parts[1])?)),
            Expr::Between(parts, false) => (
                field(&parts[0])?,
                Test::Between(known(&parts[1])?, known(&parts[2])?),
            ),
            Expr::Like(like) if like.kind == LikeKind::Like && !like.negated => {
                let escape = match &like.escape {
                    Some(escape) => Some(known(escape)?),
                    None => None,
                };
                (
                    field(&like.value)?,
                    Test::Like(known(&like.pattern)?, escape),
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
            joined,
            condition: condition.clone(),
        })
    }
}

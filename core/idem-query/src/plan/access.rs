//! What conditions say about where the rows of a source are.

use idem_model::FieldPath;

use super::{conditions::uses, flip};
use crate::{
    ast::{CompareOp, IsTest, LikeKind, Quantifier},
    expr::{Expr, Range},
    source::IndexKey,
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
    /// Alternatives of which one holds for every row that passes.
    pub(crate) any_of: Vec<AnyOf>,
    /// The paths that the statement looks at; `None` if it looks at whole documents.
    pub(crate) needs: Option<Box<[FieldPath]>>,
}

/// An OR of which each operand says where its rows are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AnyOf {
    /// At least two.
    pub(crate) branches: Vec<Branch>,
    /// The condition it came from, to be shown.
    pub(crate) condition: Expr,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Branch {
    /// As in [`Access`].
    pub(crate) ids: Option<Expr>,
    /// Not empty if there are no ids.
    pub(crate) tests: Vec<FieldTest>,
}

/// A test of one field against a value that is known before the row is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldTest {
    pub(crate) of: Tested,
    pub(crate) test: Test,
    pub(crate) origin: Origin,
    /// Whether the condition holds wherever the test does.
    pub(crate) is_whole: bool,
    /// The condition it came from, to be shown.
    pub(crate) condition: Expr,
}

/// What a test is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tested {
    Path(FieldPath),
    /// An expression over the document, which is in slot 0 in it.
    Value(Expr),
    /// Some element of the array that an expression gives.
    Element(Expr),
}

impl Tested {
    /// Whether a field of an index holds this.
    pub(crate) fn is(&self, key: &IndexKey) -> bool {
        match (self, key) {
            (Self::Path(path), IndexKey::Path(key)) => path == key,
            (Self::Value(expr), IndexKey::Expression(key))
            | (Self::Element(expr), IndexKey::Elements(key)) => expr == key.expr(),
            _ => false,
        }
    }
}

/// Which condition a test is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// One of those in the filter of the source.
    Filter(usize),
    /// One of those in ON, which looks at the sources before.
    On(usize),
    /// One of those in an operand of OR.
    Branch(usize),
    /// None: it follows from what is asked for.
    Implied,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Compare(CompareOp, Expr),
    In(Expr),
    Between(Expr, Expr),
    /// Pattern and escape of LIKE.
    Like(Expr, Option<Expr>),
    Is(IsTest, bool),
    /// Neither null nor MISSING.
    Present,
}

impl Test {
    /// How much it narrows a scan: 3 for single values, 2 for a range, 1 for all but little.
    pub(crate) fn strength(&self) -> u8 {
        match self {
            Self::Compare(CompareOp::Equal, _) | Self::In(_) | Self::Is(_, false) => 3,
            Self::Compare(CompareOp::NotEqual, _) | Self::Is(_, true) | Self::Present => 1,
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

    /// Adds the tests that follow from a condition.
    pub(super) fn add_tests(self, condition: &Expr, origin: Origin, tests: &mut Vec<FieldTest>) {
        let found = |of, test, is_whole| FieldTest {
            of,
            test,
            origin,
            is_whole,
            condition: condition.clone(),
        };
        if let Some((of, test)) = self.simple(condition, &|expr| self.own(expr)) {
            tests.push(found(of, test, true));
            return;
        }
        match condition {
            Expr::In(parts, false, _) => {
                let [value, list] = &**parts;
                if let Some((of, test)) = self.contains(list, value) {
                    tests.push(found(of, test, false));
                }
            }
            Expr::Call(function, args, _) if function.name == "array_contains" => {
                if let [list, value] = &**args
                    && let Some((of, test)) = self.contains(list, value)
                {
                    tests.push(found(of, test, false));
                }
            }
            Expr::Quantified(Quantifier::Any, range, satisfies) => {
                let parts = match &**satisfies {
                    Expr::And(parts, _) => &**parts,
                    only => std::slice::from_ref(only),
                };
                let element = |expr: &Expr| self.element(expr, range);
                for part in parts {
                    // What an array has no element for is not in an index of its elements.
                    if let Some((of, test)) = self.simple(part, &element)
                        && !matches!(test, Test::Is(..))
                    {
                        tests.push(found(of, test, parts.len() == 1));
                    }
                }
            }
            _ => {}
        }
    }

    /// The test that a comparison is, of what `tested` finds on one of its sides.
    fn simple(
        self,
        condition: &Expr,
        tested: &dyn Fn(&Expr) -> Option<Tested>,
    ) -> Option<(Tested, Test)> {
        let known = |expr: &Expr| self.is_known(expr).then(|| expr.clone());
        Some(match condition {
            Expr::Compare(op, left, right) => match (known(left), known(right)) {
                (None, Some(right)) => (tested(left)?, Test::Compare(*op, right)),
                (Some(left), None) => (tested(right)?, Test::Compare(flip(*op), left)),
                _ => return None,
            },
            Expr::In(parts, false, _) => {
                let list = known(&parts[1])?;
                (tested(&parts[0])?, Test::In(list))
            }
            Expr::Between(parts, false) => {
                let (low, high) = (known(&parts[1])?, known(&parts[2])?);
                (tested(&parts[0])?, Test::Between(low, high))
            }
            Expr::Like(like) if like.kind == LikeKind::Like && !like.negated => {
                let escape = match &like.escape {
                    Some(escape) => Some(known(escape)?),
                    None => None,
                };
                let pattern = known(&like.pattern)?;
                (tested(&like.value)?, Test::Like(pattern, escape))
            }
            // IS NOT NULL holds for MISSING too and IS NOT TRUE for nearly everything.
            Expr::Is(value, test, negated) if !negated || *test == IsTest::Missing => {
                (tested(value)?, Test::Is(*test, *negated))
            }
            _ => return None,
        })
    }

    /// A field of the source, or a value made of its fields alone.
    fn own(self, expr: &Expr) -> Option<Tested> {
        if let Expr::Field(slot, path) = expr {
            return (*slot == self.slot).then(|| Tested::Path(path.clone()));
        }
        let uses = uses(expr);
        let own = !uses.is_open && uses.slots.is_only(self.slot) && !uses.has_more;
        own.then(|| Tested::Value(self.in_first_slot(expr)))
    }

    /// What a condition inside of ANY looks at of an element.
    fn element(self, expr: &Expr, range: &Range) -> Option<Tested> {
        let of_element = uses(expr);
        let source = uses(&range.source);
        let own = of_element.is_open
            && of_element.slots.is_at_most(self.slot)
            && !of_element.has_more
            && !source.is_open
            && source.slots.is_only(self.slot)
            && !source.has_more;
        own.then(|| {
            let array = Expr::ArrayOf(Box::new(expr.clone()), Box::new(range.clone()), None);
            Tested::Element(self.in_first_slot(&array))
        })
    }

    /// `value IN list`, where the list is of the source.
    fn contains(self, list: &Expr, value: &Expr) -> Option<(Tested, Test)> {
        if !self.is_known(value) || self.is_known(list) {
            return None;
        }
        let range = Range {
            named: false,
            within: false,
            source: list.clone(),
            site: crate::span::Site(crate::span::Span::default()),
        };
        let of = self.element(&Expr::Local(0), &range)?;
        Some((of, Test::Compare(CompareOp::Equal, value.clone())))
    }

    fn in_first_slot(self, expr: &Expr) -> Expr {
        fn rename(expr: &mut Expr, _: usize) -> Result<(), std::convert::Infallible> {
            if let Expr::Field(slot, _) | Expr::Row(slot) = expr {
                *slot = 0;
            }
            expr.each_child_mut(&mut rename)
        }
        let mut expr = expr.clone();
        if self.slot != 0 {
            let Ok(()) = rename(&mut expr, 0);
        }
        expr
    }

    /// What an OR says, if every operand says something.
    pub(super) fn any_of(self, condition: &Expr) -> Option<AnyOf> {
        let Expr::Or(operands, _) = condition else {
            return None;
        };
        let mut branches = Vec::with_capacity(operands.len());
        for operand in operands {
            let parts = match operand {
                Expr::And(parts, _) => &**parts,
                only => std::slice::from_ref(only),
            };
            let ids = parts.iter().find_map(|part| self.ids_of(part));
            let mut tests = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                self.add_tests(part, Origin::Branch(at), &mut tests);
            }
            if ids.is_none() && tests.is_empty() {
                return None;
            }
            branches.push(Branch { ids, tests });
        }
        Some(AnyOf {
            branches,
            condition: condition.clone(),
        })
    }
}

/// The expression of ORDER BY over the source in `slot`, as an index could hold it.
pub(crate) fn ordered_by(key: &Expr, slot: usize) -> Option<Tested> {
    View { slot, known: 0 }.own(key)
}

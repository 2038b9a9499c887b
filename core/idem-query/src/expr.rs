//! Expressions with every name resolved: what the evaluator runs and the planner looks at.

use std::{collections::BTreeSet, sync::Arc};

use idem_model::{FieldPath, Value};

use crate::{
    ast::{ArithOp, CastType, CompareOp, IsTest, LikeKind, Quantifier},
    bound::Query,
    functions::Function,
    span::Site,
};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Literal(Value),
    Missing,
    /// An argument, by its slot.
    Param(usize),
    /// The whole value in a slot; MISSING if it is absent.
    Row(usize),
    /// A field of the document in a slot.
    Field(usize, FieldPath),
    /// A variable of a collection expression, 0 is the innermost.
    Local(usize),
    /// An expression that does not see so many of the innermost variables.
    Outside(usize, Box<Self>),
    /// A condition that may be no boolean: it counts as MISSING then, with a warning.
    Truth(Box<Self>, Site),
    Access(Box<Self>, Box<[Step]>),
    Array(Box<[Self]>),
    Object(Box<[(Self, Self)]>, Site),
    Not(Box<Self>, Site),
    Negate(Box<Self>, Site),
    Chain(Box<Self>, Box<[(ArithOp, Self)]>, Site),
    Compare(CompareOp, Box<Self>, Box<Self>),
    And(Box<[Self]>, Site),
    Or(Box<[Self]>, Site),
    Xor(Box<[Self]>, Site),
    /// Value, low, high, negated.
    Between(Box<[Self; 3]>, bool),
    /// Value, list, negated.
    In(Box<[Self; 2]>, bool, Site),
    Like(Box<Like>),
    /// Value, test, negated.
    Is(Box<Self>, IsTest, bool),
    Call(&'static Function, Box<[Self]>, Site),
    Cast(Box<Self>, CastType, Site),
    Case(Box<Case>),
    Quantified(Quantifier, Box<Range>, Box<Self>),
    ArrayOf(Box<Self>, Box<Range>, Option<Box<Self>>),
    /// Name and value of each member.
    ObjectOf(Box<[Self; 2]>, Box<Range>, Option<Box<Self>>, Site),
    /// What a query gives; evaluated by the row's host.
    Subquery(SubqueryKind, Arc<Query>, Site),
    /// `conflicts(path)`: the concurrent values of a field of the document in a slot.
    Conflicts(usize, FieldPath),
    /// `document_version()`: the version vector of the document in a slot.
    Version(usize),
    /// A key of GROUP BY.
    Key(usize),
    /// The result of an aggregate over the group.
    Aggregate(usize),
}

/// How a query stands in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubqueryKind {
    /// The value of the only column of the only row; MISSING over no rows, an error over several.
    Scalar,
    /// An array of the values of the only column: the right side of IN.
    Values,
    /// Whether there is a row.
    Exists,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Name(String),
    Index(Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Like {
    pub(crate) kind: LikeKind,
    pub(crate) value: Expr,
    pub(crate) pattern: Expr,
    pub(crate) escape: Option<Expr>,
    pub(crate) negated: bool,
    pub(crate) site: Site,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) operand: Option<Expr>,
    pub(crate) branches: Vec<(Expr, Expr)>,
    pub(crate) otherwise: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    /// Whether the position or name of the element is a variable too, outside the element's.
    pub(crate) named: bool,
    pub(crate) within: bool,
    pub(crate) source: Expr,
    pub(crate) site: Site,
}

impl Range {
    /// How many variables it brings.
    pub(crate) fn variables(&self) -> usize {
        1 + usize::from(self.named)
    }
}

impl Expr {
    /// Calls `visit` with every direct child and the number of variables that are new to it. What is
    /// inside of a subquery is no child. The child of [`Expr::Outside`] has fewer variables instead,
    /// which is for the caller to know.
    #[expect(
        clippy::too_many_lines,
        reason = "one short arm for each kind of expression"
    )]
    pub(crate) fn each_child<'e>(&'e self, visit: &mut dyn FnMut(&'e Self, usize)) {
        match self {
            Self::Literal(_)
            | Self::Missing
            | Self::Param(_)
            | Self::Row(_)
            | Self::Field(..)
            | Self::Local(_)
            | Self::Subquery(..)
            | Self::Conflicts(..)
            | Self::Version(_)
            | Self::Key(_)
            | Self::Aggregate(_) => {}
            Self::Access(base, steps) => {
                visit(base, 0);
                for step in steps {
                    if let Step::Index(index) = step {
                        visit(index, 0);
                    }
                }
            }
            Self::Array(items)
            | Self::And(items, _)
            | Self::Or(items, _)
            | Self::Xor(items, _)
            | Self::Call(_, items, _) => items.iter().for_each(|item| visit(item, 0)),
            Self::Object(fields, _) => fields.iter().for_each(|(name, value)| {
                visit(name, 0);
                visit(value, 0);
            }),
            Self::Not(inner, _)
            | Self::Negate(inner, _)
            | Self::Outside(_, inner)
            | Self::Truth(inner, _)
            | Self::Is(inner, ..)
            | Self::Cast(inner, ..) => visit(inner, 0),
            Self::Chain(first, rest, _) => {
                visit(first, 0);
                rest.iter().for_each(|(_, operand)| visit(operand, 0));
            }
            Self::Compare(_, left, right) => {
                visit(left, 0);
                visit(right, 0);
            }
            Self::Between(parts, _) => parts.iter().for_each(|part| visit(part, 0)),
            Self::In(parts, ..) => parts.iter().for_each(|part| visit(part, 0)),
            Self::Like(like) => {
                let parts = [&like.value, &like.pattern].into_iter();
                parts.chain(&like.escape).for_each(|part| visit(part, 0));
            }
            Self::Case(case) => {
                case.operand.iter().for_each(|operand| visit(operand, 0));
                for (when, then) in &case.branches {
                    visit(when, 0);
                    visit(then, 0);
                }
                case.otherwise.iter().for_each(|other| visit(other, 0));
            }
            Self::Quantified(_, range, satisfies) => {
                visit(&range.source, 0);
                visit(satisfies, range.variables());
            }
            Self::ArrayOf(item, range, when) => {
                visit(&range.source, 0);
                visit(item, range.variables());
                when.iter().for_each(|when| visit(when, range.variables()));
            }
            Self::ObjectOf(parts, range, when, _) => {
                visit(&range.source, 0);
                parts.iter().for_each(|part| visit(part, range.variables()));
                when.iter().for_each(|when| visit(when, range.variables()));
            }
        }
    }

    /// As [`Expr::each_child`], to change the children.
    #[expect(
        clippy::too_many_lines,
        reason = "one short arm for each kind of expression"
    )]
    pub(crate) fn each_child_mut<E>(
        &mut self,
        visit: &mut dyn FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Literal(_)
            | Self::Missing
            | Self::Param(_)
            | Self::Row(_)
            | Self::Field(..)
            | Self::Local(_)
            | Self::Subquery(..)
            | Self::Conflicts(..)
            | Self::Version(_)
            | Self::Key(_)
            | Self::Aggregate(_) => Ok(()),
            Self::Access(base, steps) => {
                visit(base, 0)?;
                steps.iter_mut().try_for_each(|step| match step {
                    Step::Index(index) => visit(index, 0),
                    Step::Name(_) => Ok(()),
                })
            }
            Self::Array(items)
            | Self::And(items, _)
            | Self::Or(items, _)
            | Self::Xor(items, _)
            | Self::Call(_, items, _) => items.iter_mut().try_for_each(|item| visit(item, 0)),
            Self::Object(fields, _) => fields.iter_mut().try_for_each(|(name, value)| {
                visit(name, 0)?;
                visit(value, 0)
            }),
            Self::Not(inner, _)
            | Self::Negate(inner, _)
            | Self::Outside(_, inner)
            | Self::Truth(inner, _)
            | Self::Is(inner, ..)
            | Self::Cast(inner, ..) => visit(inner, 0),
            Self::Chain(first, rest, _) => {
                visit(first, 0)?;
                rest.iter_mut()
                    .try_for_each(|(_, operand)| visit(operand, 0))
            }
            Self::Compare(_, left, right) => {
                visit(left, 0)?;
                visit(right, 0)
            }
            Self::Between(parts, _) => parts.iter_mut().try_for_each(|part| visit(part, 0)),
            Self::In(parts, ..) => parts.iter_mut().try_for_each(|part| visit(part, 0)),
            Self::Like(like) => {
                visit(&mut like.value, 0)?;
                visit(&mut like.pattern, 0)?;
                like.escape
                    .iter_mut()
                    .try_for_each(|escape| visit(escape, 0))
            }
            Self::Case(case) => {
                if let Some(operand) = &mut case.operand {
                    visit(operand, 0)?;
                }
                for (when, then) in &mut case.branches {
                    visit(when, 0)?;
                    visit(then, 0)?;
                }
                let mut otherwise = case.otherwise.iter_mut();
                otherwise.try_for_each(|otherwise| visit(otherwise, 0))
            }
            Self::Quantified(_, range, satisfies) => {
                visit(&mut range.source, 0)?;
                visit(satisfies, range.variables())
            }
            Self::ArrayOf(item, range, when) => {
                visit(&mut range.source, 0)?;
                visit(item, range.variables())?;
                when.iter_mut()
                    .try_for_each(|when| visit(when, range.variables()))
            }
            Self::ObjectOf(parts, range, when, _) => {
                let inside = range.variables();
                visit(&mut range.source, 0)?;
                for part in &mut **parts {
                    visit(part, inside)?;
                }
                when.iter_mut().try_for_each(|when| visit(when, inside))
            }
        }
    }

    /// The slots that it looks at, those that a subquery in it looks at among them.
    pub(crate) fn slots(&self) -> BTreeSet<usize> {
        fn collect(expr: &Expr, slots: &mut BTreeSet<usize>) {
            match expr {
                Expr::Row(slot)
                | Expr::Field(slot, _)
                | Expr::Conflicts(slot, _)
                | Expr::Version(slot) => {
                    slots.insert(*slot);
                }
                Expr::Subquery(_, query, _) => slots.extend(&query.outer_used),
                _ => {}
            }
            expr.each_child(&mut |child, _| collect(child, slots));
        }
        let mut slots = BTreeSet::new();
        collect(self, &mut slots);
        slots
    }

    /// Whether the planner may compute it once for all rows of the source in `slot`: it looks only at
    /// slots before that, and at nothing that is costly.
    pub(crate) fn is_fixed_before(&self, slot: usize) -> bool {
        match self {
            Self::Row(seen) | Self::Field(seen, _) => *seen < slot,
            Self::Subquery(..)
            | Self::Conflicts(..)
            | Self::Version(_)
            | Self::Key(_)
            | Self::Aggregate(_) => false,
            _ => {
                let mut fixed = true;
                self.each_child(&mut |child, _| fixed = fixed && child.is_fixed_before(slot));
                fixed
            }
        }
    }

    /// Whether it looks at a variable from outside of it.
    pub(crate) fn uses_variables(&self) -> bool {
        self.uses_variables_under(0)
    }

    fn uses_variables_under(&self, variables: usize) -> bool {
        match self {
            Self::Local(index) => *index >= variables,
            Self::Outside(fewer, inner) => {
                inner.uses_variables_under(variables.saturating_sub(*fewer))
            }
            _ => {
                let mut found = false;
                self.each_child(&mut |child, more| {
                    found = found || child.uses_variables_under(variables + more);
                });
                found
            }
        }
    }

    /// Whether the value is the same for every row: no field, no variable from outside, no group.
    pub(crate) fn is_constant(&self) -> bool {
        self.is_constant_under(0)
    }

    fn is_constant_under(&self, variables: usize) -> bool {
        match self {
            Self::Row(_)
            | Self::Field(..)
            | Self::Subquery(..)
            | Self::Conflicts(..)
            | Self::Version(_)
            | Self::Key(_)
            | Self::Aggregate(_) => false,
            Self::Local(index) => *index < variables,
            Self::Outside(fewer, inner) => {
                inner.is_constant_under(variables.saturating_sub(*fewer))
            }
            _ => {
                let mut constant = true;
                self.each_child(&mut |child, more| {
                    constant = constant && child.is_constant_under(variables + more);
                });
                constant
            }
        }
    }
}

//! Statements with every name resolved.

use idem_model::{CollectionName, FieldKind, FieldPath, InsertConflict};

use crate::{
    ast::LikeKind,
    expr::Expr,
    plan::Access,
    source::{Fields, IndexSpec},
    span::{Site, Span},
};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Select(Query),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    CreateIndex {
        spec: IndexSpec,
        if_not_exists: bool,
        span: Span,
    },
    DropIndex {
        collection: CollectionName,
        name: String,
        if_exists: bool,
        span: Span,
    },
    /// `None` as value is DEFAULT.
    AlterSet {
        name: String,
        value: Option<Expr>,
        span: Span,
    },
    /// `None` is ALL.
    AlterReset {
        name: Option<(String, Span)>,
    },
    Show {
        name: String,
        span: Span,
    },
    /// Pattern and escape.
    ShowAll(Option<(LikeKind, Expr, Option<Expr>)>),
    /// CREATE COLLECTION
    CreateCollection {
        collection: CollectionName,
        kinds: Vec<(FieldPath, FieldKind)>,
        if_not_exists: bool,
        span: Span,
    },
    /// EXECUTE FUNCTION, by its name in lower case.
    Call {
        name: String,
        args: Vec<Expr>,
        span: Span,
    },
    Explain(Box<Self>),
    Profile(Box<Self>),
    /// Which indexes would help a statement.
    Advise {
        inner: Box<Self>,
        /// AND PROVISION: whether they are made.
        provision: bool,
    },
}

/// One source of FROM, which gives a value for its slot of the row.
///
/// Slots number the sources that are visible in one place. Those of a subquery begin behind the ones
/// that are visible around it, so that its row is the outer row with more slots.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FromItem {
    pub(crate) slot: usize,
    pub(crate) place: Place,
    pub(crate) alias: String,
    /// Declared kinds by path.
    pub(crate) kinds: Vec<(FieldPath, FieldKind)>,
    /// USE IDS: an array of the only ids to look at.
    pub(crate) ids: Option<Expr>,
    /// USE INDEX; empty text forbids indexes.
    pub(crate) index: Option<(String, Span)>,
    pub(crate) hints: ScanHints,
    /// How it combines with the sources before it; `None` for the first.
    pub(crate) join: Option<Join>,
    /// What the planner may use to find its rows.
    pub(crate) access: Access,
    /// What is checked on each of its rows as soon as it is there; the planner puts here what it can
    /// of WHERE and ON.
    pub(crate) filter: Option<Expr>,
    /// What the statement looks at of its documents.
    pub(crate) fields: Fields,
    /// The names at the top of a document that `filter` looks at, `_id` included, where they are fewer.
    pub(crate) tested: Option<Box<[String]>>,
    /// What the statement looks at of the documents that pass `filter`, where that is less.
    pub(crate) passed: Option<Fields>,
}

/// Directives that are about finding the rows of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ScanHints {
    /// `#prefer_order`: whether an index that gives the order of ORDER BY comes before one that
    /// narrows the scan.
    pub(crate) prefers_order: Option<bool>,
    /// `#max_scans`: of how many index scans rows may be united or intersected.
    pub(crate) scans_max: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    Stored(CollectionName),
    /// A system collection, and where its name stands.
    System(String, Site),
    /// `(SELECT ..) AS alias`
    Derived(Box<Query>),
    /// UNNEST: each element of an array that is made of the slots before it. May be any value.
    Unnest(Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Join {
    pub(crate) kind: JoinKind,
    /// What is left of ON to check when the rows of both sides are there; `None` is always true.
    pub(crate) on: Option<Expr>,
    /// Pairs of expressions that are equal where rows match: one over the slots before this one, one
    /// over this one. The planner takes them out of ON.
    pub(crate) keys: Vec<(Expr, Expr)>,
}

impl Join {
    /// A join as it is written.
    pub(crate) fn new(kind: JoinKind, on: Option<Expr>) -> Self {
        Self {
            kind,
            on,
            keys: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    /// Rows of the left side without partner stay, with an absent value in this slot.
    Left,
    /// Rows of this source without partner stay, with absent values in the slots before it.
    Right,
}

/// The rows that UPDATE, DELETE or EVICT is about: those of a source that pass its filter, and a
/// window over them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scan {
    pub(crate) item: FromItem,
    pub(crate) window: Window,
}

/// ORDER BY, LIMIT and OFFSET.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Window {
    pub(crate) order: Vec<Order>,
    pub(crate) limit: Option<(Expr, Span)>,
    pub(crate) offset: Option<(Expr, Span)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub(crate) key: Expr,
    pub(crate) descending: bool,
}

/// A whole SELECT. Its slots begin behind the outer ones, in every branch. With one branch the keys of its order are expressions over the rows or, behind
/// GROUP BY, over keys and aggregates; with several they are over the output row, in slot 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Query {
    /// UNION ALL of these, in this order; at least one.
    pub(crate) branches: Vec<Select>,
    /// UNION without ALL: of equal rows one is given.
    pub(crate) distinct: bool,
    pub(crate) window: Window,
    /// How many slots around it its expressions see: 0 outside of subqueries.
    pub(crate) outer_slots: usize,
    /// Whether it uses one of those, so that it gives other rows for other rows around it.
    pub(crate) is_correlated: bool,
    /// The slots of those that it uses, ascending. Variables of collection expressions around it are
    /// not among them.
    pub(crate) outer_used: Vec<usize>,
    /// What a subscription could not have, with its place.
    pub(crate) beyond_subscription: Option<(&'static str, Span)>,
    /// What makes it a window, if it is a subscription, with its place.
    pub(crate) window_clause: Option<(&'static str, Span)>,
}

/// One branch of a query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Select {
    /// At least one, in the order of joining.
    pub(crate) from: Vec<FromItem>,
    /// What is left of WHERE to check when all slots are there.
    pub(crate) filter: Option<Expr>,
    pub(crate) output: Output,
    pub(crate) distinct: bool,
    pub(crate) having: Option<Expr>,
}

/// What is made of the rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub(crate) items: Items,
    pub(crate) without: Vec<FieldPath>,
    pub(crate) grouping: Option<Grouping>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Items {
    /// `*`: of one source the document as it is; of several an object with the value of each under
    /// its alias, and an `_id` made of theirs.
    All,
    Each(Vec<Item>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// `e.*`
    Splice(Expr),
    Value(String, Expr),
}

impl Item {
    pub(crate) fn expr(&self) -> &Expr {
        match self {
            Self::Splice(expr) | Self::Value(_, expr) => expr,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grouping {
    pub(crate) keys: Vec<Expr>,
    pub(crate) aggregates: Vec<Aggregate>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aggregate {
    pub(crate) kind: AggregateKind,
    pub(crate) distinct: bool,
    /// `None` is COUNT(*).
    pub(crate) argument: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateKind {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    Median,
    Mid,
}

impl AggregateKind {
    pub(crate) const ALL: [(&'static str, Self); 7] = [
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("median", Self::Median),
        ("mid", Self::Mid),
    ];

    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Insert {
    pub(crate) collection: CollectionName,
    pub(crate) kinds: Vec<(FieldPath, FieldKind)>,
    pub(crate) initial: bool,
    pub(crate) rows: InsertRows,
    pub(crate) conflict: InsertConflict,
    pub(crate) returning: Option<Output>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum InsertRows {
    Documents(Vec<(Expr, Span)>),
    Select(Box<Query>, Span),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update {
    pub(crate) collection: CollectionName,
    pub(crate) scan: Scan,
    pub(crate) edits: Vec<Edit>,
    pub(crate) returning: Option<Output>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Edit {
    pub(crate) path: FieldPath,
    pub(crate) action: Action,
    pub(crate) span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Set(Expr, Option<FieldKind>),
    Unset,
    Increment(Expr),
    Restart(Option<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delete {
    /// `None` where rows of a system collection are removed.
    pub(crate) collection: Option<CollectionName>,
    pub(crate) evict: bool,
    pub(crate) scan: Scan,
    pub(crate) returning: Option<Output>,
}

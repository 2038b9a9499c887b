//! Statements with every name resolved.

use idem_model::{CollectionName, FieldKind, FieldPath, InsertConflict};

use crate::{ast::LikeKind, expr::Expr, plan::Access, source::IndexSpec, span::Span};

#[derive(Debug, Clone)]
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
    Explain(Box<Self>),
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) place: Place,
    pub(crate) alias: String,
    /// Declared kinds by path.
    pub(crate) kinds: Vec<(FieldPath, FieldKind)>,
    /// USE INDEX; empty text forbids indexes.
    pub(crate) index: Option<(String, Span)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Stored(CollectionName),
    System(String),
}

/// Rows of a source that pass a filter, and a window over them.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) source: Source,
    /// What the planner may use of the filter.
    pub(crate) access: Access,
    /// What is left to check on each row.
    pub(crate) filter: Option<Expr>,
    pub(crate) order: Vec<Order>,
    pub(crate) limit: Option<(Expr, Span)>,
    pub(crate) offset: Option<(Expr, Span)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub(crate) key: Expr,
    pub(crate) descending: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) scan: Scan,
    pub(crate) output: Output,
    pub(crate) distinct: bool,
    pub(crate) having: Option<Expr>,
    /// What a subscription could not have, with its place.
    pub(crate) beyond_subscription: Option<(&'static str, Span)>,
}

/// What is made of the rows.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) items: Items,
    pub(crate) without: Vec<FieldPath>,
    pub(crate) grouping: Option<Grouping>,
}

#[derive(Debug, Clone)]
pub(crate) enum Items {
    /// `*`: the documents as they are.
    All,
    Each(Vec<Item>),
}

#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// `e.*`
    Splice(Expr),
    Value(String, Expr),
}

#[derive(Debug, Clone)]
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

#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) collection: CollectionName,
    pub(crate) kinds: Vec<(FieldPath, FieldKind)>,
    pub(crate) initial: bool,
    pub(crate) rows: InsertRows,
    pub(crate) conflict: InsertConflict,
    pub(crate) returning: Option<Output>,
}

#[derive(Debug, Clone)]
pub(crate) enum InsertRows {
    Documents(Vec<(Expr, Span)>),
    Select(Box<Query>, Span),
}

#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) collection: CollectionName,
    pub(crate) scan: Scan,
    pub(crate) edits: Vec<Edit>,
    pub(crate) returning: Option<Output>,
}

#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) path: FieldPath,
    pub(crate) action: Action,
    pub(crate) span: Span,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Set(Expr, Option<FieldKind>),
    Unset,
    Increment(Expr),
    Restart(Option<Expr>),
}

#[derive(Debug, Clone)]
pub(crate) struct Delete {
    pub(crate) collection: CollectionName,
    pub(crate) evict: bool,
    pub(crate) scan: Scan,
    pub(crate) returning: Option<Output>,
}

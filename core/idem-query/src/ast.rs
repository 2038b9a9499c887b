//! The syntax tree: what was written, names unresolved, with its places.

use idem_model::{FieldKind, InsertConflict, Value};

use crate::span::Span;

#[derive(Debug, Clone)]
pub(crate) struct Ident {
    pub(crate) name: String,
    pub(crate) span: Span,
}

#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) span: Span,
    /// Height of the tree, 1 for a leaf; bounded by the parser.
    pub(crate) levels: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum ExprKind {
    Literal(Value),
    Missing,
    Param(String),
    Name(String),
    /// `base.name[index]..`
    Access(Box<Expr>, Vec<Step>),
    Array(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    /// Operators of one precedence, applied from left to right. A list and not a tree, so that a
    /// long chain is not a deep one.
    Chain(Box<Expr>, Vec<(ArithOp, Expr)>),
    Compare(CompareOp, Box<Expr>, Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Xor(Vec<Expr>),
    Between {
        value: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
    },
    In {
        value: Box<Expr>,
        list: Box<Expr>,
        negated: bool,
    },
    Like {
        kind: LikeKind,
        value: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<Box<Expr>>,
        negated: bool,
    },
    Is {
        value: Box<Expr>,
        test: IsTest,
        negated: bool,
    },
    Call(Call),
    Cast(Box<Expr>, CastType),
    Case {
        operand: Option<Box<Expr>>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Quantified {
        kind: Quantifier,
        range: Range,
        satisfies: Box<Expr>,
    },
    ArrayOf {
        item: Box<Expr>,
        range: Range,
        when: Option<Box<Expr>>,
    },
    ObjectOf {
        name: Box<Expr>,
        item: Box<Expr>,
        range: Range,
        when: Option<Box<Expr>>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Name(Ident),
    Index(Expr),
}

/// `[name:]item IN|WITHIN source`
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) name: Option<Ident>,
    pub(crate) item: Ident,
    pub(crate) within: bool,
    pub(crate) source: Box<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: Ident,
    pub(crate) args: Vec<Expr>,
    pub(crate) distinct: bool,
    pub(crate) star: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArithOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    ShiftLeft,
    ShiftRight,
    Concat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LikeKind {
    Like,
    ILike,
    Similar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsTest {
    Null,
    Missing,
    True,
    False,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantifier {
    Any,
    Every,
    AnyAndEvery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CastType {
    String,
    Integer,
    Float,
    Boolean,
    Binary,
}

#[derive(Debug, Clone)]
pub(crate) enum Statement {
    Select(Box<Select>),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    CreateIndex {
        name: Ident,
        collection: Ident,
        fields: Vec<(Vec<Ident>, bool)>,
        if_not_exists: bool,
    },
    DropIndex {
        name: Ident,
        collection: Ident,
        if_exists: bool,
    },
    /// `None` as value is DEFAULT.
    AlterSet {
        name: Ident,
        value: Option<Expr>,
    },
    /// `None` is ALL.
    AlterReset {
        name: Option<Ident>,
    },
    Show {
        name: Ident,
    },
    ShowAll {
        pattern: Option<(LikeKind, Expr, Option<Expr>)>,
    },
    Explain(Box<Self>),
}

#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub(crate) distinct: Option<Span>,
    pub(crate) projection: Vec<Projection>,
    pub(crate) source: Source,
    pub(crate) filter: Option<Expr>,
    pub(crate) group: Vec<Expr>,
    pub(crate) having: Option<Expr>,
    pub(crate) window: Window,
}

/// ORDER BY, LIMIT and OFFSET.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    pub(crate) order: Vec<(Expr, bool)>,
    pub(crate) limit: Option<Expr>,
    pub(crate) offset: Option<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) enum Projection {
    /// `*`
    All(Span),
    /// `e.*`
    AllOf(Expr),
    /// `e [AS name]`
    Value(Expr, Option<Ident>),
    /// `MISSING path`
    Without(Expr),
}

#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) namespace: Option<Ident>,
    pub(crate) name: Ident,
    pub(crate) kinds: Vec<(Vec<Ident>, FieldKind)>,
    pub(crate) alias: Option<Ident>,
    pub(crate) ids: Option<UseIds>,
    pub(crate) index: Option<Ident>,
}

#[derive(Debug, Clone)]
pub(crate) enum UseIds {
    /// Each expression is one id.
    Each(Vec<Expr>),
    /// The expression is an array of ids.
    List(Expr),
}

impl UseIds {
    /// Where it is written.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Each(ids) => ids.first().map_or(Span::default(), |id| id.span),
            Self::List(list) => list.span,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) target: Source,
    pub(crate) initial: bool,
    pub(crate) rows: InsertRows,
    pub(crate) conflict: InsertConflict,
    pub(crate) returning: Vec<Projection>,
}

#[derive(Debug, Clone)]
pub(crate) enum InsertRows {
    Documents(Vec<Expr>),
    Select(Box<Select>),
}

#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) target: Source,
    pub(crate) edits: Vec<Edit>,
    pub(crate) filter: Option<Expr>,
    pub(crate) window: Window,
    pub(crate) returning: Vec<Projection>,
}

#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) path: Vec<Ident>,
    pub(crate) action: Action,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Set(Expr),
    Unset,
    Increment(Expr),
    Restart(Option<Expr>),
}

#[derive(Debug, Clone)]
pub(crate) struct Delete {
    pub(crate) target: Source,
    pub(crate) evict: bool,
    pub(crate) filter: Option<Expr>,
    pub(crate) window: Window,
    pub(crate) returning: Vec<Projection>,
}

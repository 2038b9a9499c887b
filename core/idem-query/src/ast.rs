//! The syntax tree: what was written, names unresolved, with its places.

#[cfg(any(test, feature = "__oracle"))]
pub(crate) mod print;

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
    Subquery(SubqueryKind, Box<Query>),
}

/// What an expression takes of the rows of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubqueryKind {
    /// `(SELECT ..)`: the value of the only row.
    Scalar,
    /// `IN (SELECT ..)`: the value of every row.
    Rows,
    /// `EXISTS (SELECT ..)`: whether there is a row.
    Exists,
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

/// A statement with what stands in comments around it.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    /// Directives before the statement, which hold for all of it.
    pub(crate) directives: Vec<Directive>,
    /// Comments with directives at places where none are read.
    pub(crate) stray: Vec<Span>,
}

/// One member of `{"name": value}` in a comment or behind USE DIRECTIVES.
#[derive(Debug, Clone)]
pub(crate) struct Directive {
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) span: Span,
}

#[derive(Debug, Clone)]
pub(crate) enum Statement {
    Query(Box<Query>),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    CreateIndex {
        name: Ident,
        collection: Ident,
        keys: Vec<IndexKey>,
        if_not_exists: bool,
    },
    DropIndex {
        name: Ident,
        collection: Ident,
        if_exists: bool,
    },
    CreateCollection {
        name: Ident,
        kinds: Vec<(Vec<Ident>, FieldKind)>,
        if_not_exists: bool,
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
    /// EXECUTE FUNCTION
    Execute {
        name: Ident,
        args: Vec<Expr>,
    },
    Explain(Box<Self>),
    Profile(Box<Self>),
    Advise {
        inner: Box<Self>,
        /// AND PROVISION: the suggested indexes are made.
        provision: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct IndexKey {
    pub(crate) kind: IndexKeyKind,
    pub(crate) descending: bool,
    pub(crate) span: Span,
}

#[derive(Debug, Clone)]
pub(crate) enum IndexKeyKind {
    Path(Vec<Ident>),
    Expression(Expr),
    /// `DISTINCT e`: one entry for each element of the array.
    Elements(Expr),
}

/// Selects that UNION puts behind each other, and a window over all of their rows.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) branches: Vec<Branch>,
    /// UNION without ALL: equal rows are one.
    pub(crate) distinct: Option<Span>,
    pub(crate) window: Window,
    /// Height, as of an expression.
    pub(crate) levels: usize,
}

impl Query {
    /// The place of its first source.
    pub(crate) fn span(&self) -> Span {
        match self.branches.first() {
            Some(Branch::Select(select)) => select
                .from
                .first()
                .map_or(Span::default(), |item| item.span),
            Some(Branch::Query(query)) => query.span(),
            None => Span::default(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Branch {
    Select(Box<Select>),
    /// A query in parentheses with a UNION or window of its own.
    Query(Box<Query>),
}

#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub(crate) directives: Vec<Directive>,
    pub(crate) distinct: Option<Span>,
    pub(crate) projection: Vec<Projection>,
    /// The first has no join, all others have one.
    pub(crate) from: Vec<FromItem>,
    pub(crate) filter: Option<Expr>,
    pub(crate) group: Vec<Expr>,
    pub(crate) having: Option<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) struct FromItem {
    pub(crate) join: Option<Join>,
    pub(crate) kind: FromKind,
    pub(crate) span: Span,
}

#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) kind: JoinKind,
    /// `None` for UNNEST only.
    pub(crate) on: Option<Expr>,
    /// The words of the join.
    pub(crate) span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    Left,
    Right,
}

#[derive(Debug, Clone)]
pub(crate) enum FromKind {
    Collection(Source),
    Query(Box<Query>, Ident),
    /// The elements of an array, and their alias.
    Unnest(Expr, Ident),
}

/// ORDER BY, LIMIT and OFFSET.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    pub(crate) order: Vec<(Expr, bool)>,
    pub(crate) limit: Option<Expr>,
    pub(crate) offset: Option<Expr>,
}

impl Window {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.limit.is_none() && self.offset.is_none()
    }
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
    pub(crate) directives: Vec<Directive>,
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
    Query(Box<Query>),
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

//! Expressions as text that parses to the same expression.

use std::fmt::Write as _;

use idem_model::{Value, json};

use crate::{
    ast::{ArithOp, CastType, CompareOp, IsTest, LikeKind, Quantifier},
    bound::Aggregate,
    expr::{Expr, Range, Step, SubqueryKind},
};

/// How parameters and fields are shown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style<'a> {
    /// Names of the parameters by slot.
    pub(crate) params: &'a [String],
    /// What stands before a field; nothing if empty.
    pub(crate) alias: &'a str,
    /// What stands before a field of each slot instead, where there are several sources.
    pub(crate) sources: &'a [String],
    /// What `Key` and `Aggregate` stand for.
    pub(crate) keys: &'a [Expr],
    pub(crate) aggregates: &'a [Aggregate],
    /// Whether the operands of AND and OR are sorted, and constants stand right of comparisons.
    pub(crate) canonical: bool,
}

/// Values nested deeper than this are printed as JSON text, or an argument near the nesting limit
/// would make a statement over it.
const LITERAL_LEVELS_MAX: usize = 8;

impl Style<'_> {
    pub(crate) fn text(&self, expr: &Expr) -> String {
        let mut out = String::new();
        self.print(expr, 0, &mut out);
        out
    }

    fn source(&self, slot: usize) -> &str {
        self.sources.get(slot).map_or(self.alias, String::as_str)
    }

    /// The text of an operand of AND.
    pub(crate) fn operand_text(&self, expr: &Expr) -> String {
        let mut out = String::new();
        self.operand(expr, 0, &mut out);
        out
    }

    /// An operand: in brackets unless it is one word or a call.
    fn operand(&self, expr: &Expr, variables: usize, out: &mut String) {
        let simple = match expr {
            Expr::Literal(value) => {
                !matches!(value, Value::Int(..0))
                    && !matches!(value, Value::Float(number) if *number < 0.0)
            }
            Expr::Missing
            | Expr::Param(_)
            | Expr::Row(_)
            | Expr::Field(..)
            | Expr::Local(_)
            | Expr::Access(..)
            | Expr::Array(_)
            | Expr::Object(..)
            | Expr::Call(..)
            | Expr::Cast(..)
            | Expr::Subquery(..)
            | Expr::Conflicts(..)
            | Expr::Version(_)
            | Expr::Aggregate(_) => true,
            Expr::Key(index) => {
                return match self.keys.get(*index) {
                    Some(key) => self.operand(key, variables, out),
                    None => self.print(expr, variables, out),
                };
            }
            Expr::Outside(_, inner) | Expr::Truth(inner, _) => {
                return self.operand(inner, self.inside(expr, variables), out);
            }
            _ => false,
        };
        if simple {
            return self.print(expr, variables, out);
        }
        out.push('(');
        self.print(expr, variables, out);
        out.push(')');
    }

    /// How many variables the only operand of an expression sees.
    fn inside(&self, expr: &Expr, variables: usize) -> usize {
        match expr {
            Expr::Outside(fewer, _) => variables.saturating_sub(*fewer),
            _ => variables,
        }
    }

    fn list<'e>(
        &self,
        items: impl IntoIterator<Item = &'e Expr>,
        variables: usize,
        out: &mut String,
    ) {
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            self.print(item, variables, out);
        }
    }

    fn print(&self, expr: &Expr, variables: usize, out: &mut String) {
        match expr {
            Expr::Literal(value) => literal(value, out),
            Expr::Missing => out.push_str("MISSING"),
            Expr::Param(slot) => {
                out.push(':');
                name(self.params.get(*slot).map_or("?", String::as_str), out);
            }
            Expr::Row(slot) => match self.source(*slot) {
                "" => out.push('*'),
                alias => out.push_str(alias),
            },
            Expr::Field(slot, path) => {
                let alias = self.source(*slot);
                if !alias.is_empty() {
                    let _infallible = write!(out, "{alias}.");
                }
                let _infallible = write!(out, "{path}");
            }
            Expr::Local(index) => {
                let _infallible = write!(out, "v{}", variables.saturating_sub(index + 1));
            }
            Expr::Outside(_, inner) | Expr::Truth(inner, _) => {
                self.print(inner, self.inside(expr, variables), out);
            }
            Expr::Subquery(kind, ..) => out.push_str(match kind {
                SubqueryKind::Exists => "EXISTS (SELECT ..)",
                SubqueryKind::Scalar | SubqueryKind::Values => "(SELECT ..)",
            }),
            Expr::Conflicts(_, path) => {
                out.push_str("conflicts(");
                out.push_str(&path.to_string());
                out.push(')');
            }
            Expr::Version(_) => out.push_str("document_version()"),
            Expr::Key(index) => {
                if let Some(key) = self.keys.get(*index) {
                    self.print(key, variables, out);
                }
            }
            Expr::Aggregate(index) => self.aggregate(*index, out),
            Expr::Access(base, steps) => self.access(base, steps, variables, out),
            Expr::Array(items) => {
                out.push('[');
                self.list(items, variables, out);
                out.push(']');
            }
            Expr::Object(fields, _) => {
                out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    self.operand(name, variables, out);
                    out.push_str(": ");
                    self.operand(value, variables, out);
                }
                out.push('}');
            }
            Expr::Call(function, args, _) => {
                name(function.name, out);
                out.push('(');
                self.list(args, variables, out);
                out.push(')');
            }
            Expr::Cast(value, to, _) => {
                out.push_str("CAST(");
                self.print(value, variables, out);
                let _infallible = write!(out, " AS {})", cast_name(*to));
            }
            _ => self.compound(expr, variables, out),
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one short arm for each kind of expression"
    )]
    fn compound(&self, expr: &Expr, variables: usize, out: &mut String) {
        match expr {
            Expr::Not(inner, _) => {
                out.push_str("NOT ");
                self.operand(inner, variables, out);
            }
            Expr::Negate(inner, _) => {
                out.push('-');
                self.operand(inner, variables, out);
            }
            Expr::Chain(first, rest, _) => {
                self.operand(first, variables, out);
                for (op, operand) in rest {
                    let _infallible = write!(out, " {} ", symbol(*op));
                    self.operand(operand, variables, out);
                }
            }
            Expr::Compare(op, left, right) => {
                let exchange = self.canonical && left.is_constant() && !right.is_constant();
                let (op, left, right) = match exchange {
                    true => (crate::plan::flip(*op), right, left),
                    false => (*op, left, right),
                };
                self.operand(left, variables, out);
                let _infallible = write!(out, " {} ", comparison(op));
                self.operand(right, variables, out);
            }
            Expr::And(items, _) => self.joined(items, " AND ", variables, out),
            Expr::Or(items, _) => self.joined(items, " OR ", variables, out),
            Expr::Xor(items, _) => self.joined(items, " XOR ", variables, out),
            Expr::Between(parts, negated) => {
                self.operand(&parts[0], variables, out);
                out.push_str(if *negated {
                    " NOT BETWEEN "
                } else {
                    " BETWEEN "
                });
                self.operand(&parts[1], variables, out);
                out.push_str(" AND ");
                self.operand(&parts[2], variables, out);
            }
            Expr::In(parts, negated, _) => {
                self.operand(&parts[0], variables, out);
                out.push_str(if *negated { " NOT IN " } else { " IN " });
                let mut list = String::new();
                self.operand(&parts[1], variables, &mut list);
                // Brackets behind IN are a list; a sign makes them an operand.
                let is_query = matches!(parts[1], Expr::Subquery(SubqueryKind::Values, ..));
                out.push_str(if list.starts_with('(') && !is_query {
                    "+"
                } else {
                    ""
                });
                out.push_str(&list);
            }
            Expr::Like(like) => {
                self.operand(&like.value, variables, out);
                out.push_str(if like.negated { " NOT " } else { " " });
                out.push_str(match like.kind {
                    LikeKind::Like => "LIKE ",
                    LikeKind::ILike => "ILIKE ",
                    LikeKind::Similar => "SIMILAR TO ",
                });
                self.operand(&like.pattern, variables, out);
                if let Some(escape) = &like.escape {
                    out.push_str(" ESCAPE ");
                    self.operand(escape, variables, out);
                }
            }
            Expr::Is(value, test, negated) => {
                self.operand(value, variables, out);
                out.push_str(if *negated { " IS NOT " } else { " IS " });
                out.push_str(match test {
                    IsTest::Null => "NULL",
                    IsTest::Missing => "MISSING",
                    IsTest::True => "TRUE",
                    IsTest::False => "FALSE",
                });
            }
            Expr::Case(case) => {
                out.push_str("CASE");
                if let Some(operand) = &case.operand {
                    out.push(' ');
                    self.operand(operand, variables, out);
                }
                for (when, then) in &case.branches {
                    out.push_str(" WHEN ");
                    self.operand(when, variables, out);
                    out.push_str(" THEN ");
                    self.operand(then, variables, out);
                }
                if let Some(otherwise) = &case.otherwise {
                    out.push_str(" ELSE ");
                    self.operand(otherwise, variables, out);
                }
                out.push_str(" END");
            }
            _ => self.collection(expr, variables, out),
        }
    }

    fn collection(&self, expr: &Expr, variables: usize, out: &mut String) {
        match expr {
            Expr::Quantified(kind, range, satisfies) => {
                out.push_str(match kind {
                    Quantifier::Any => "ANY ",
                    Quantifier::Every => "EVERY ",
                    Quantifier::AnyAndEvery => "ANY AND EVERY ",
                });
                self.range(range, variables, out);
                out.push_str(" SATISFIES ");
                self.operand(satisfies, variables + range.variables(), out);
                out.push_str(" END");
            }
            Expr::ArrayOf(item, range, when) => {
                out.push_str("ARRAY ");
                self.operand(item, variables + range.variables(), out);
                self.for_range(range, when.as_deref(), variables, out);
            }
            Expr::ObjectOf(parts, range, when, _) => {
                let inside = variables + range.variables();
                out.push_str("OBJECT ");
                self.operand(&parts[0], inside, out);
                out.push_str(": ");
                self.operand(&parts[1], inside, out);
                self.for_range(range, when.as_deref(), variables, out);
            }
            _ => {}
        }
    }

    fn for_range(&self, range: &Range, when: Option<&Expr>, variables: usize, out: &mut String) {
        out.push_str(" FOR ");
        self.range(range, variables, out);
        if let Some(when) = when {
            out.push_str(" WHEN ");
            self.operand(when, variables + range.variables(), out);
        }
        out.push_str(" END");
    }

    fn range(&self, range: &Range, variables: usize, out: &mut String) {
        if range.named {
            let _infallible = write!(out, "v{variables}:v{}", variables + 1);
        } else {
            let _infallible = write!(out, "v{variables}");
        }
        out.push_str(if range.within { " WITHIN " } else { " IN " });
        self.operand(&range.source, variables, out);
    }

    fn access(&self, base: &Expr, steps: &[Step], variables: usize, out: &mut String) {
        // A sign before a bare number would belong to it.
        if let Expr::Literal(Value::Int(_) | Value::Float(_)) = base {
            out.push('(');
            self.print(base, variables, out);
            out.push(')');
        } else {
            self.operand(base, variables, out);
        }
        for step in steps {
            match step {
                Step::Name(step) => {
                    out.push('.');
                    name(step, out);
                }
                Step::Index(index) => {
                    out.push('[');
                    self.print(index, variables, out);
                    out.push(']');
                }
            }
        }
    }

    fn aggregate(&self, index: usize, out: &mut String) {
        let Some(aggregate) = self.aggregates.get(index) else {
            return;
        };
        out.push_str(&aggregate.kind.name().to_ascii_uppercase());
        out.push('(');
        if aggregate.distinct {
            out.push_str("DISTINCT ");
        }
        match &aggregate.argument {
            Some(argument) => self.print(argument, 0, out),
            None => out.push('*'),
        }
        out.push(')');
    }

    fn joined(&self, items: &[Expr], sign: &str, variables: usize, out: &mut String) {
        let mut texts: Vec<String> = items
            .iter()
            .map(|item| {
                let mut text = String::new();
                self.operand(item, variables, &mut text);
                text
            })
            .collect();
        if self.canonical {
            texts.sort_unstable();
        }
        out.push_str(&texts.join(sign));
    }
}

/// A name, in backticks unless it is a plain word and no keyword.
pub(crate) fn name(name: &str, out: &mut String) {
    let mut chars = name.chars();
    let plain = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain && !crate::parser::is_reserved(name) {
        out.push_str(name);
    } else {
        let _infallible = write!(out, "`{name}`");
    }
}

pub(crate) fn literal(value: &Value, out: &mut String) {
    match value {
        Value::Binary(_) => json_literal(value, out),
        Value::Array(_) | Value::Object(_) if value.nesting_levels() > LITERAL_LEVELS_MAX => {
            json_literal(value, out);
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                literal(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&json::to_string(&Value::String(name.clone())));
                out.push_str(": ");
                literal(value, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&json::to_string(scalar)),
    }
}

/// A value that has no literal of its own.
fn json_literal(value: &Value, out: &mut String) {
    let text = Value::String(json::to_string(value));
    let _infallible = write!(out, "deserialize_json({})", json::to_string(&text));
}

pub(crate) fn symbol(op: ArithOp) -> &'static str {
    match op {
        ArithOp::Add => "+",
        ArithOp::Subtract => "-",
        ArithOp::Multiply => "*",
        ArithOp::Divide => "/",
        ArithOp::Remainder => "%",
        ArithOp::ShiftLeft => "<<",
        ArithOp::ShiftRight => ">>",
        ArithOp::Concat => "||",
    }
}

pub(crate) fn comparison(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "=",
        CompareOp::NotEqual => "!=",
        CompareOp::Less => "<",
        CompareOp::LessEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterEqual => ">=",
    }
}

pub(crate) fn cast_name(to: CastType) -> &'static str {
    match to {
        CastType::String => "string",
        CastType::Integer => "integer",
        CastType::Float => "float",
        CastType::Boolean => "boolean",
        CastType::Binary => "binary",
    }
}

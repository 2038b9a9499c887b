//! Statements as text that parses to the same statement.

use std::fmt::Write as _;

use idem_model::{FieldKind, InsertConflict, Object, Value, json};

use super::{
    Action, Branch, Call, Delete, Directive, Edit, Expr, ExprKind, FromItem, FromKind, Ident,
    IndexKeyKind, Insert, InsertRows, IsTest, Join, JoinKind, LikeKind, Projection, Quantifier,
    Query, Range, Select, Source, Statement, Step, SubqueryKind, Update, UseIds, Window,
};
use crate::{
    parser::precedence::{
        ACCESS, AND, COMPARE, IS, LIKE, NEGATE, NOT, OR, PRIMARY, XOR, of_arithmetic,
    },
    print::{cast_name, comparison, name, symbol},
};

/// Functions whose bare name begins another syntax.
const SPECIAL_CALLS: [&str; 4] = ["cast", "trim", "position", "exists"];

pub(crate) fn statement(statement: &Statement) -> String {
    let mut out = String::new();
    print_statement(statement, &mut out);
    out
}

fn print_statement(statement: &Statement, out: &mut String) {
    match statement {
        Statement::Query(query) => print_query(query, out),
        Statement::Insert(insert) => print_insert(insert, out),
        Statement::Update(update) => print_update(update, out),
        Statement::Delete(delete) => print_delete(delete, out),
        Statement::Explain(inner) => {
            out.push_str("EXPLAIN ");
            print_statement(inner, out);
        }
        Statement::Profile(inner) => {
            out.push_str("PROFILE ");
            print_statement(inner, out);
        }
        Statement::Advise { inner, provision } => {
            out.push_str(match provision {
                true => "ADVISE AND PROVISION ",
                false => "ADVISE ",
            });
            print_statement(inner, out);
        }
        Statement::Execute { name, args } => {
            out.push_str("EXECUTE FUNCTION ");
            ident(name, out);
            out.push('(');
            list(args, out);
            out.push(')');
        }
        _ => print_definition(statement, out),
    }
}

/// Statements about collections, indexes and parameters.
#[expect(
    clippy::too_many_lines,
    reason = "one short arm for each kind of statement"
)]
fn print_definition(statement: &Statement, out: &mut String) {
    match statement {
        Statement::CreateIndex {
            name,
            collection,
            keys,
            if_not_exists,
        } => {
            out.push_str("CREATE INDEX ");
            out.push_str(if *if_not_exists { "IF NOT EXISTS " } else { "" });
            ident(name, out);
            out.push_str(" ON ");
            ident(collection, out);
            out.push_str(" (");
            separated(keys, out, |key, out| {
                match &key.kind {
                    IndexKeyKind::Path(path) => dotted(path, out),
                    IndexKeyKind::Expression(expr) => print(expr, out),
                    IndexKeyKind::Elements(array) => {
                        out.push_str("DISTINCT ");
                        print(array, out);
                    }
                }
                out.push_str(if key.descending { " DESC" } else { "" });
            });
            out.push(')');
        }
        Statement::DropIndex {
            name,
            collection,
            if_exists,
        } => {
            out.push_str("DROP INDEX ");
            out.push_str(if *if_exists { "IF EXISTS " } else { "" });
            ident(name, out);
            out.push_str(" ON ");
            ident(collection, out);
        }
        Statement::CreateCollection {
            name,
            kinds,
            if_not_exists,
        } => {
            out.push_str("CREATE COLLECTION ");
            out.push_str(if *if_not_exists { "IF NOT EXISTS " } else { "" });
            ident(name, out);
            print_kinds(kinds, out);
        }
        Statement::AlterSet { name, value } => {
            out.push_str("ALTER SYSTEM SET ");
            ident(name, out);
            out.push_str(" = ");
            match value {
                Some(value) => print(value, out),
                None => out.push_str("DEFAULT"),
            }
        }
        Statement::AlterReset { name } => {
            out.push_str("ALTER SYSTEM RESET ");
            match name {
                Some(name) => ident(name, out),
                None => out.push_str("ALL"),
            }
        }
        Statement::Show { name } => {
            out.push_str("SHOW ");
            ident(name, out);
        }
        Statement::ShowAll { pattern } => {
            out.push_str("SHOW ALL");
            if let Some((kind, pattern, escape)) = pattern {
                out.push_str(like_word(*kind));
                // The escape of a pattern that compares would be taken for this one.
                over(pattern, COMPARE, out);
                clause(" ESCAPE ", escape.as_ref(), out);
            }
        }
        _ => {}
    }
}

fn print_query(query: &Query, out: &mut String) {
    for (index, branch) in query.branches.iter().enumerate() {
        if index > 0 {
            out.push_str(match query.distinct {
                Some(_) => " UNION ",
                None => " UNION ALL ",
            });
        }
        match branch {
            Branch::Select(select) => print_select(select, out),
            Branch::Query(inner) => bracketed(inner, out),
        }
    }
    print_window(&query.window, out);
}

fn bracketed(query: &Query, out: &mut String) {
    out.push('(');
    print_query(query, out);
    out.push(')');
}

fn print_select(select: &Select, out: &mut String) {
    out.push_str("SELECT ");
    if !select.directives.is_empty() {
        // A slash may be escaped in JSON, so that no text of a value ends the comment.
        let text = directive_text(&select.directives).replace('/', "\\/");
        let _infallible = write!(out, "/*+ {text} */ ");
    }
    out.push_str(if select.distinct.is_some() {
        "DISTINCT "
    } else {
        ""
    });
    print_projections(&select.projection, out);
    out.push_str(" FROM ");
    select.from.iter().for_each(|item| print_from(item, out));
    clause(" WHERE ", select.filter.as_ref(), out);
    if !select.group.is_empty() {
        out.push_str(" GROUP BY ");
        list(&select.group, out);
    }
    clause(" HAVING ", select.having.as_ref(), out);
}

fn print_from(item: &FromItem, out: &mut String) {
    if let Some(Join { kind, .. }) = &item.join {
        out.push_str(match kind {
            JoinKind::Inner => " ",
            JoinKind::Left => " LEFT ",
            JoinKind::Right => " RIGHT ",
        });
        let unnest = matches!(item.kind, FromKind::Unnest(..));
        out.push_str(if unnest { "" } else { "JOIN " });
    }
    match &item.kind {
        FromKind::Collection(source) => print_source(source, out),
        FromKind::Query(query, alias) => {
            bracketed(query, out);
            as_name(Some(alias), out);
        }
        FromKind::Unnest(array, alias) => {
            out.push_str("UNNEST ");
            print(array, out);
            as_name(Some(alias), out);
        }
    }
    let on = item.join.as_ref().and_then(|join| join.on.as_ref());
    clause(" ON ", on, out);
}

fn print_source(source: &Source, out: &mut String) {
    out.push_str(if source.kinds.is_empty() {
        ""
    } else {
        "COLLECTION "
    });
    if let Some(namespace) = &source.namespace {
        ident(namespace, out);
        out.push(':');
    }
    ident(&source.name, out);
    if !source.kinds.is_empty() {
        print_kinds(&source.kinds, out);
    }
    as_name(source.alias.as_ref(), out);
    match &source.ids {
        None => {}
        Some(UseIds::Each(ids)) => {
            out.push_str(" USE IDS ");
            list(ids, out);
        }
        Some(UseIds::List(ids)) => {
            out.push_str(" USE IDS LIST ");
            print(ids, out);
        }
    }
    if let Some(index) = &source.index {
        let _infallible = write!(out, " USE INDEX {}", text(&index.name));
    }
    if !source.directives.is_empty() {
        let directives = directive_text(&source.directives);
        let _infallible = write!(out, " USE DIRECTIVES {}", text(&directives));
    }
}

fn directive_text(directives: &[Directive]) -> String {
    let members = directives
        .iter()
        .map(|directive| (directive.name.clone(), directive.value.clone()));
    json::to_string(&Value::Object(members.collect::<Object>()))
}

fn print_kinds(kinds: &[(Vec<Ident>, FieldKind)], out: &mut String) {
    out.push_str(" (");
    separated(kinds, out, |(path, kind), out| {
        dotted(path, out);
        out.push_str(match kind {
            FieldKind::Map => " MAP",
            FieldKind::Counter => " COUNTER",
            FieldKind::Attachment => " ATTACHMENT",
            _ => " REGISTER",
        });
    });
    out.push(')');
}

fn print_projections(items: &[Projection], out: &mut String) {
    separated(items, out, |item, out| match item {
        Projection::All(_) => out.push('*'),
        Projection::AllOf(value) => {
            over(value, ACCESS, out);
            out.push_str(".*");
        }
        Projection::Value(value, alias) => {
            let start = out.len();
            print(value, out);
            // A name behind the word would be that of a field to leave out.
            if out[start..].starts_with("MISSING ") {
                out.insert(start, '(');
                out.push(')');
            }
            as_name(alias.as_ref(), out);
        }
        Projection::Without(field) => {
            out.push_str("MISSING ");
            print(field, out);
        }
    });
}

fn print_returning(items: &[Projection], out: &mut String) {
    if !items.is_empty() {
        out.push_str(" RETURNING ");
        print_projections(items, out);
    }
}

fn print_window(window: &Window, out: &mut String) {
    if !window.order.is_empty() {
        out.push_str(" ORDER BY ");
        separated(&window.order, out, |(key, descending), out| {
            print(key, out);
            out.push_str(if *descending { " DESC" } else { "" });
        });
    }
    clause(" LIMIT ", window.limit.as_ref(), out);
    clause(" OFFSET ", window.offset.as_ref(), out);
}

fn print_insert(insert: &Insert, out: &mut String) {
    out.push_str("INSERT INTO ");
    print_source(&insert.target, out);
    out.push_str(if insert.initial { " INITIAL" } else { "" });
    match &insert.rows {
        InsertRows::Documents(documents) => {
            out.push_str(" DOCUMENTS ");
            separated(documents, out, |document, out| {
                out.push('(');
                print(document, out);
                out.push(')');
            });
        }
        InsertRows::Query(query) => {
            out.push(' ');
            print_query(query, out);
        }
    }
    out.push_str(match insert.conflict {
        InsertConflict::DoNothing => " ON ID CONFLICT DO NOTHING",
        InsertConflict::DoUpdate => " ON ID CONFLICT DO UPDATE",
        InsertConflict::DoUpdateLocalDiff => " ON ID CONFLICT DO UPDATE_LOCAL_DIFF",
        _ => "",
    });
    print_returning(&insert.returning, out);
}

fn print_update(update: &Update, out: &mut String) {
    out.push_str("UPDATE ");
    print_source(&update.target, out);
    // The clauses come in this order, and the edits of one clause stand together.
    for (word, belongs) in [
        (" APPLY ", is_counter as fn(&Edit) -> bool),
        (" SET ", |edit| matches!(edit.action, Action::Set(_))),
        (" UNSET ", |edit| matches!(edit.action, Action::Unset)),
    ] {
        let edits: Vec<&Edit> = update.edits.iter().filter(|edit| belongs(edit)).collect();
        if !edits.is_empty() {
            out.push_str(word);
            separated(&edits, out, |edit, out| print_edit(edit, out));
        }
    }
    clause(" WHERE ", update.filter.as_ref(), out);
    print_window(&update.window, out);
    print_returning(&update.returning, out);
}

fn is_counter(edit: &Edit) -> bool {
    matches!(edit.action, Action::Increment(_) | Action::Restart(_))
}

fn print_edit(edit: &Edit, out: &mut String) {
    dotted(&edit.path, out);
    match &edit.action {
        Action::Set(value) => {
            out.push_str(" = ");
            print(value, out);
        }
        Action::Unset => {}
        Action::Increment(by) => {
            out.push_str(" INCREMENT BY ");
            print(by, out);
        }
        Action::Restart(to) => {
            out.push_str(" RESTART");
            clause(" WITH ", to.as_ref(), out);
        }
    }
}

fn print_delete(delete: &Delete, out: &mut String) {
    out.push_str(match delete.evict {
        true => "EVICT FROM ",
        false => "DELETE FROM ",
    });
    print_source(&delete.target, out);
    clause(" WHERE ", delete.filter.as_ref(), out);
    print_window(&delete.window, out);
    print_returning(&delete.returning, out);
}

fn clause(word: &str, expr: Option<&Expr>, out: &mut String) {
    if let Some(expr) = expr {
        out.push_str(word);
        print(expr, out);
    }
}

fn as_name(alias: Option<&Ident>, out: &mut String) {
    if let Some(alias) = alias {
        out.push_str(" AS ");
        ident(alias, out);
    }
}

fn ident(ident: &Ident, out: &mut String) {
    name(&ident.name, out);
}

fn dotted(path: &[Ident], out: &mut String) {
    for (index, step) in path.iter().enumerate() {
        out.push_str(if index > 0 { "." } else { "" });
        ident(step, out);
    }
}

/// A string literal.
fn text(content: &str) -> String {
    json::to_string(&Value::String(content.to_owned()))
}

fn separated<T>(items: &[T], out: &mut String, mut item: impl FnMut(&T, &mut String)) {
    for (index, one) in items.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        item(one, out);
    }
}

fn list(items: &[Expr], out: &mut String) {
    separated(items, out, print);
}

fn like_word(kind: LikeKind) -> &'static str {
    match kind {
        LikeKind::Like => " LIKE ",
        LikeKind::ILike => " ILIKE ",
        LikeKind::Similar => " SIMILAR TO ",
    }
}

/// How tight the outermost operator binds.
fn precedence(kind: &ExprKind) -> u8 {
    match kind {
        ExprKind::Or(_) => OR,
        ExprKind::Xor(_) => XOR,
        ExprKind::And(_) => AND,
        ExprKind::Not(_) => NOT,
        ExprKind::Is { .. } => IS,
        ExprKind::Like { .. } => LIKE,
        ExprKind::Compare(..) | ExprKind::Between { .. } | ExprKind::In { .. } => COMPARE,
        ExprKind::Chain(_, rest) => rest.first().map_or(PRIMARY, |(op, _)| of_arithmetic(*op)),
        ExprKind::Negate(_) => NEGATE,
        // A sign would be read as an operator.
        ExprKind::Literal(Value::Int(..0)) => NEGATE,
        ExprKind::Literal(Value::Float(number)) if number.is_sign_negative() => NEGATE,
        ExprKind::Access(..) => ACCESS,
        _ => PRIMARY,
    }
}

fn is_number(expr: &Expr) -> bool {
    matches!(
        expr.kind,
        ExprKind::Literal(Value::Int(_) | Value::Float(_))
    )
}

/// An operand that must bind at least as tight as `least`, else it stands in brackets.
fn over(expr: &Expr, least: u8, out: &mut String) {
    if precedence(&expr.kind) >= least {
        return print(expr, out);
    }
    out.push('(');
    print(expr, out);
    out.push(')');
}

fn print(expr: &Expr, out: &mut String) {
    match &expr.kind {
        ExprKind::Literal(value) => crate::print::literal(value, out),
        ExprKind::Missing => out.push_str("MISSING"),
        ExprKind::Param(param) => {
            out.push(':');
            name(param, out);
        }
        ExprKind::Name(written) => name(written, out),
        ExprKind::Access(base, steps) => {
            // A sign before a bare number would belong to it.
            let least = if is_number(base) { u8::MAX } else { PRIMARY };
            over(base, least, out);
            for step in steps {
                match step {
                    Step::Name(step) => {
                        out.push('.');
                        ident(step, out);
                    }
                    Step::Index(index) => {
                        out.push('[');
                        print(index, out);
                        out.push(']');
                    }
                }
            }
        }
        ExprKind::Array(items) => {
            out.push('[');
            list(items, out);
            out.push(']');
        }
        ExprKind::Object(fields) => {
            out.push('{');
            separated(fields, out, |(key, value), out| {
                print(key, out);
                out.push_str(": ");
                print(value, out);
            });
            out.push('}');
        }
        ExprKind::Call(call) => print_call(call, out),
        ExprKind::Cast(value, to) => {
            out.push_str("CAST(");
            print(value, out);
            let _infallible = write!(out, " AS {})", cast_name(*to));
        }
        ExprKind::Subquery(kind, query) => {
            out.push_str(match kind {
                SubqueryKind::Exists => "EXISTS ",
                SubqueryKind::Scalar | SubqueryKind::Rows => "",
            });
            bracketed(query, out);
        }
        _ => print_operator(&expr.kind, out),
    }
}

fn print_call(call: &Call, out: &mut String) {
    let special = SPECIAL_CALLS
        .iter()
        .any(|word| call.name.name.eq_ignore_ascii_case(word));
    match special {
        true => {
            let _infallible = write!(out, "`{}`", call.name.name);
        }
        false => ident(&call.name, out),
    }
    out.push('(');
    out.push_str(if call.star { "*" } else { "" });
    out.push_str(if call.distinct { "DISTINCT " } else { "" });
    list(&call.args, out);
    out.push(')');
}

#[expect(
    clippy::too_many_lines,
    reason = "one short arm for each kind of operator"
)]
fn print_operator(kind: &ExprKind, out: &mut String) {
    match kind {
        ExprKind::Not(inner) => {
            out.push_str("NOT ");
            over(inner, NOT, out);
        }
        ExprKind::Negate(inner) => {
            // Two signs side by side would be a comment, and a sign belongs to a number behind it.
            out.push('-');
            let number = matches!(
                inner.kind,
                ExprKind::Literal(Value::Int(_) | Value::Float(_))
            );
            over(inner, if number { u8::MAX } else { ACCESS }, out);
        }
        ExprKind::Chain(first, rest) => {
            let own = precedence(kind);
            over(first, own, out);
            for (op, operand) in rest {
                let _infallible = write!(out, " {} ", symbol(*op));
                over(operand, own + 1, out);
            }
        }
        ExprKind::Compare(op, left, right) => {
            over(left, COMPARE, out);
            let _infallible = write!(out, " {} ", comparison(*op));
            over(right, COMPARE + 1, out);
        }
        ExprKind::And(items) => joined(items, " AND ", AND, out),
        ExprKind::Or(items) => joined(items, " OR ", OR, out),
        ExprKind::Xor(items) => joined(items, " XOR ", XOR, out),
        ExprKind::Between {
            value,
            low,
            high,
            negated,
        } => {
            over(value, COMPARE, out);
            out.push_str(if *negated { " NOT" } else { "" });
            out.push_str(" BETWEEN ");
            over(low, COMPARE + 1, out);
            out.push_str(" AND ");
            over(high, COMPARE + 1, out);
        }
        ExprKind::In {
            value,
            list,
            negated,
        } => {
            over(value, COMPARE, out);
            out.push_str(if *negated { " NOT IN " } else { " IN " });
            let mut text = String::new();
            over(list, COMPARE + 1, &mut text);
            // Brackets behind IN are a list; a sign makes them an operand.
            let is_query = matches!(list.kind, ExprKind::Subquery(SubqueryKind::Rows, _));
            out.push_str(if text.starts_with('(') && !is_query {
                "+"
            } else {
                ""
            });
            out.push_str(&text);
        }
        ExprKind::Like {
            kind,
            value,
            pattern,
            escape,
            negated,
        } => {
            over(value, LIKE, out);
            out.push_str(if *negated { " NOT" } else { "" });
            out.push_str(like_word(*kind));
            over(pattern, LIKE + 1, out);
            if let Some(escape) = escape {
                out.push_str(" ESCAPE ");
                over(escape, LIKE + 1, out);
            }
        }
        ExprKind::Is {
            value,
            test,
            negated,
        } => {
            over(value, IS, out);
            out.push_str(if *negated { " IS NOT " } else { " IS " });
            out.push_str(match test {
                IsTest::Null => "NULL",
                IsTest::Missing => "MISSING",
                IsTest::True => "TRUE",
                IsTest::False => "FALSE",
            });
        }
        _ => print_range_operator(kind, out),
    }
}

fn joined(items: &[Expr], sign: &str, own: u8, out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { sign } else { "" });
        over(item, own + 1, out);
    }
}

fn print_range_operator(kind: &ExprKind, out: &mut String) {
    match kind {
        ExprKind::Case {
            operand,
            branches,
            otherwise,
        } => {
            out.push_str("CASE");
            clause(" ", operand.as_deref(), out);
            for (when, then) in branches {
                clause(" WHEN ", Some(when), out);
                clause(" THEN ", Some(then), out);
            }
            clause(" ELSE ", otherwise.as_deref(), out);
            out.push_str(" END");
        }
        ExprKind::Quantified {
            kind,
            range,
            satisfies,
        } => {
            out.push_str(match kind {
                Quantifier::Any => "ANY ",
                Quantifier::Every => "EVERY ",
                Quantifier::AnyAndEvery => "ANY AND EVERY ",
            });
            print_range(range, out);
            clause(" SATISFIES ", Some(satisfies), out);
            out.push_str(" END");
        }
        ExprKind::ArrayOf { item, range, when } => {
            clause("ARRAY ", Some(item), out);
            out.push_str(" FOR ");
            print_range(range, out);
            clause(" WHEN ", when.as_deref(), out);
            out.push_str(" END");
        }
        ExprKind::ObjectOf {
            name,
            item,
            range,
            when,
        } => {
            clause("OBJECT ", Some(name), out);
            clause(": ", Some(item), out);
            out.push_str(" FOR ");
            print_range(range, out);
            clause(" WHEN ", when.as_deref(), out);
            out.push_str(" END");
        }
        _ => {}
    }
}

fn print_range(range: &Range, out: &mut String) {
    if let Some(name) = &range.name {
        ident(name, out);
        out.push(':');
    }
    ident(&range.item, out);
    out.push_str(if range.within { " WITHIN " } else { " IN " });
    print(&range.source, out);
}

#[cfg(test)]
mod tests;

//! CREATE INDEX: what its keys are made of.

use std::collections::BTreeSet;

use idem_model::limits;

use super::{
    Binder,
    expression::Place,
    scope::{Scope, Visible, VisibleKind},
};
use crate::{
    ast,
    bound::Body,
    error::QueryError,
    expr::Expr,
    parser::parse_expression,
    print::Style,
    source::{IndexExpression, IndexField, IndexKey, IndexSpec},
    span::Span,
};

/// What may stand before a field in a printed expression: nothing that anyone calls a field.
const ALIAS: &str = "$";
const ALIAS_TEXT: &str = "`$`";

/// Functions that give another value at another time, so that a key made of them would be wrong.
const CHANGING: [&str; 2] = ["clock", "request_info"];

/// Parses an expression over the fields of one document.
pub(crate) fn index_expression(text: &str) -> Result<IndexExpression, QueryError> {
    let written = parse_expression(text)?;
    Binder::new(text).index_expression(&written)
}

impl Binder<'_> {
    pub(super) fn create_index(
        &mut self,
        name: &ast::Ident,
        collection: &ast::Ident,
        keys: &[ast::IndexKey],
        if_not_exists: bool,
    ) -> Result<Body, QueryError> {
        if name.name.is_empty() || name.name.len() > limits::COLLECTION_NAME_BYTES_MAX {
            let limit = limits::COLLECTION_NAME_BYTES_MAX;
            return Err(self.error(name.span, format!("an index name has 1 to {limit} bytes")));
        }
        if keys.len() > limits::INDEX_FIELDS_MAX {
            let limit = limits::INDEX_FIELDS_MAX;
            return Err(self.error(name.span, format!("an index has at most {limit} fields")));
        }
        let mut fields: Vec<IndexField> = Vec::with_capacity(keys.len());
        for written in keys {
            let key = self.index_key(&written.kind)?;
            if fields.iter().any(|field| field.key == key) {
                let text = key.text();
                return Err(self.error(written.span, format!("`{text}` is in the index twice")));
            }
            let elements = |key: &IndexKey| matches!(key, IndexKey::Elements(_));
            if elements(&key) && fields.iter().any(|field| elements(&field.key)) {
                return Err(self
                    .error(written.span, "an index has at most one DISTINCT key")
                    .with_hint("make an index for each array"));
            }
            fields.push(IndexField {
                key,
                descending: written.descending,
            });
        }
        Ok(Body::CreateIndex {
            spec: IndexSpec {
                name: name.name.clone(),
                collection: self.writable(collection)?,
                fields,
            },
            if_not_exists,
            span: name.span,
        })
    }

    fn index_key(&mut self, kind: &ast::IndexKeyKind) -> Result<IndexKey, QueryError> {
        Ok(match kind {
            ast::IndexKeyKind::Path(path) => IndexKey::Path(self.path(path)?),
            ast::IndexKeyKind::Expression(expr) => {
                IndexKey::Expression(self.index_expression(expr)?)
            }
            ast::IndexKeyKind::Elements(array) => IndexKey::Elements(self.index_expression(array)?),
        })
    }

    /// An expression that depends on nothing but the fields of one document.
    fn index_expression(&mut self, written: &ast::Expr) -> Result<IndexExpression, QueryError> {
        self.place = Place::Rows("an index");
        self.used = BTreeSet::new();
        self.scopes = vec![Scope {
            sources: vec![Visible {
                slot: 0,
                alias: ALIAS.to_owned(),
                is_explicit: false,
                kind: VisibleKind::Rows,
            }],
            locals: 0,
        }];
        let expr = self.expr(written)?;
        self.scopes.clear();
        self.check_index_expression(&expr, written.span)?;
        let style = Style {
            alias: match hidden_field(&expr) {
                true => ALIAS_TEXT,
                false => "",
            },
            ..Style::default()
        };
        Ok(IndexExpression::new(style.text(&expr), expr))
    }

    fn check_index_expression(&self, expr: &Expr, span: Span) -> Result<(), QueryError> {
        let not = |what: &str| {
            let message = format!("{what} cannot be in an index");
            Err(self
                .error(span, message)
                .with_hint("a key is made of the fields of one document and nothing else"))
        };
        match outside(expr) {
            Some(what) => not(what),
            None if self.used.is_empty() => not("an expression without a field"),
            None => Ok(()),
        }
    }
}

/// Whether a field has a name that variables get when they are printed.
fn hidden_field(expr: &Expr) -> bool {
    if let Expr::Field(_, path) = expr {
        let digits = path
            .segments()
            .first()
            .and_then(|name| name.strip_prefix('v'));
        return digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    }
    let mut found = false;
    expr.each_child(&mut |child, _| found = found || hidden_field(child));
    found
}

/// What of an expression is not made of the fields of its document.
fn outside(expr: &Expr) -> Option<&'static str> {
    match expr {
        Expr::Param(_) => return Some("a parameter"),
        Expr::Subquery(..) => return Some("a subquery"),
        Expr::Call(function, ..) if CHANGING.contains(&function.name) => {
            return Some("a function that changes by itself");
        }
        _ => {}
    }
    let mut found = None;
    expr.each_child(&mut |child, _| found = found.or_else(|| outside(child)));
    found
}

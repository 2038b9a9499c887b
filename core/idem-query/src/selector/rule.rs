//! What a permission asks of a selector: whether it is a list of values, and what it can cost.

use idem_model::{FieldPath, Value};

use super::Selector;
use crate::{
    ast::CompareOp,
    eval::{Env, Row, eval},
    expr::Expr,
};

impl Selector {
    /// The field and the values, if exactly those documents are selected in which this field equals one of these
    /// values, in the sense of `=`.
    ///
    /// ```
    /// # use idem_model::{FieldPath, Object, Value};
    /// let statement = idem_query::parse("SELECT * FROM cars WHERE color IN ['red', 'blue']")?;
    /// let (path, values) = statement.subscription(&Object::new())?.alternatives().expect("a list");
    /// assert_eq!(path, FieldPath::field("color"));
    /// assert_eq!(values, [Value::from("red"), Value::from("blue")]);
    /// # Ok::<(), idem_query::QueryError>(())
    /// ```
    pub fn alternatives(&self) -> Option<(FieldPath, Vec<Value>)> {
        match (&self.inner.ids, &self.inner.filter) {
            (Some(ids), None) => {
                let values = ids.iter().map(|key| idem_model::key::decode(key).ok()?.0);
                Some((FieldPath::field("_id"), values.collect::<Option<_>>()?))
            }
            (None, Some(filter)) => alternatives_of(filter),
            _ => None,
        }
    }

    /// Whether the work for one document is at most proportional to its size: no collection expression inside
    /// another one or with WITHIN, none that looks at more of the document than its elements for each of
    /// them, and no pattern that a document brings.
    pub fn is_linear(&self) -> bool {
        let filter = self.inner.filter.as_ref();
        filter.is_none_or(|filter| is_linear(filter, false))
    }
}

fn alternatives_of(condition: &Expr) -> Option<(FieldPath, Vec<Value>)> {
    let path = |expr: &Expr| match expr {
        Expr::Field(_, path) => Some(path.clone()),
        _ => None,
    };
    let (path, listed) = match condition {
        Expr::Compare(CompareOp::Equal, left, right) => match (path(left), path(right)) {
            (Some(path), None) => (path, vec![constant(right)?]),
            (None, Some(path)) => (path, vec![constant(left)?]),
            _ => return None,
        },
        Expr::In(parts, false, _) => match constant(&parts[1])? {
            Some(Value::Array(items)) => (path(&parts[0])?, items.into_iter().map(Some).collect()),
            _ => (path(&parts[0])?, Vec::new()),
        },
        _ => return None,
    };
    // Nothing equals null or MISSING.
    let values = listed.into_iter().flatten();
    let values = values.filter(|value| !matches!(value, Value::Null));
    Some((path, values.collect()))
}

/// The value of an expression that looks at nothing; the inner `None` is MISSING.
fn constant(expr: &Expr) -> Option<Option<Value>> {
    if !expr.is_constant() {
        return None;
    }
    let env = Env::new("", Vec::new(), 0);
    let value = eval(expr, &env, &Row::default()).get().cloned();
    env.finish().is_ok().then_some(value)
}

fn is_linear(expr: &Expr, in_loop: bool) -> bool {
    let (is_loop, is_allowed) = match expr {
        Expr::Quantified(_, range, _)
        | Expr::ArrayOf(_, range, _)
        | Expr::ObjectOf(_, range, ..) => (true, !in_loop && !range.within),
        Expr::Row(_) | Expr::Field(..) => (false, !in_loop),
        Expr::Like(like) => (false, like.pattern.is_constant()),
        // Compiling a pattern may take far longer than reading it.
        Expr::Call(function, args, _) if function.name == "regexp_like" => {
            (false, args.iter().skip(1).all(Expr::is_constant))
        }
        _ => (false, true),
    };
    // The first child of a loop is what it goes through, which is evaluated once.
    let mut first = true;
    let mut holds = is_allowed;
    expr.each_child(&mut |child, _| {
        let inside = in_loop || (is_loop && !first);
        first = false;
        holds = holds && is_linear(child, inside);
    });
    holds
}

#[cfg(test)]
mod tests {
    use idem_model::{Object, limits};

    use super::*;

    fn selector(condition: &str) -> Selector {
        let text = format!("SELECT * FROM c WHERE {condition}");
        let claims = Object::from([("site".to_owned(), Value::from("north"))]);
        let args = Object::from([("claims".to_owned(), Value::Object(claims))]);
        let statement = crate::parse(&text).unwrap();
        statement.subscription(&args).unwrap()
    }

    #[test]
    fn equalities_are_lists_of_values() {
        let check = |condition: &str, expected: Option<(&str, &[&str])>| {
            let found = selector(condition).alternatives();
            let expected = expected.map(|(path, values)| {
                let values = values.iter().map(|text| Value::from(*text)).collect();
                (FieldPath::field(path), values)
            });
            assert_eq!(found, expected, "{condition}");
        };
        check("a = 'x'", Some(("a", &["x"])));
        check("'x' = a", Some(("a", &["x"])));
        check("a = :claims.site", Some(("a", &["north"])));
        check("a = :claims.role", Some(("a", &[])));
        check("a IN ['x', null, 'y']", Some(("a", &["x", "y"])));
        check("_id = 'x'", Some(("_id", &["x"])));
        check("a IN :claims.site", Some(("a", &[])));
        check("a NOT IN ['x']", None);
        check("a != 'x'", None);
        check("a = b", None);
        check("a = 'x' AND b = 'y'", None);
        check("a = 'x' AND _id = 'y'", None);
    }

    #[test]
    fn what_multiplies_is_not_linear() {
        let check = |condition, expected| {
            assert_eq!(selector(condition).is_linear(), expected, "{condition}");
        };
        check("a = 1 AND b LIKE 'x%'", true);
        check("ANY x IN a SATISFIES x.y = :claims.site END", true);
        check("array_length(ARRAY x.y FOR x IN a WHEN x.z END) > 1", true);
        check("(ANY x IN a SATISFIES x = 1 END) OR b = 2", true);
        let nested = "ANY x IN a SATISFIES (ANY y IN x SATISFIES y = 1 END) END";
        check(nested, false);
        check("ANY x WITHIN a SATISFIES x = 1 END", false);
        check("ANY x IN a SATISFIES x IN b END", false);
        check("ANY x IN a SATISFIES array_contains(c, x) END", false);
        check("array_length(ARRAY c FOR x IN a END) > 1", false);
        check("array_length(ARRAY x FOR x IN a WHEN b END) > 1", false);
        check("a LIKE b", false);
        check("a SIMILAR TO b", false);
        check("regexp_like(a, b)", false);
        check("regexp_like(a, '^x')", true);
    }

    #[test]
    fn work_beyond_the_bound_selects_nothing() {
        let last = selector("ANY x IN a SATISFIES x = 999 END");
        let numbers: Vec<i64> = (0..1000).collect();
        let fields = Object::from([("a".to_owned(), Value::from(numbers))]);
        assert!(last.matches(&fields));
        assert!(last.matches_within(&fields, 1001 * limits::EXPRESSION_STEP_BYTES));
        assert!(!last.matches_within(&fields, 900 * limits::EXPRESSION_STEP_BYTES));
    }
}

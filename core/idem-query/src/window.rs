//! Windows: the first documents of a collection in an order.
//!
//! Whether a document is among the first does not follow from the document, so no peer can be asked for
//! it as such. But whether it is *not behind a place* in the order does. A [`Window`] is a subscription
//! with an order and a count; [`Window::within`] makes a [`Selector`] of it and of a [`Reach`], which is
//! how far it goes.

use std::{cmp::Ordering, fmt, fmt::Write as _, sync::Arc};

use idem_model::{Object, Value, key, limits};

use crate::{
    bound::Query,
    error::{ErrorKind, QueryError},
    eval::{Env, Row, eval},
    expr::Expr,
    plan::canonical,
    selector::{self, Selector},
    span::Span,
    statement::parse,
};

/// The function that compares, in the text of a subscription.
const FUNCTION: &str = "sorts_within";

/// `SELECT * FROM c [WHERE ..] ORDER BY .. LIMIT n` with its arguments inside. Documents that are equal in
/// the order come by their ids. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Window {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    selector: Selector,
    /// The expressions as text, and whether each is descending.
    order: Vec<(String, bool)>,
    count: u32,
    canonical: String,
}

/// How far a window goes: up to a place in its order, inclusive, or to the end.
///
/// A place is the key form of what a document is sorted by and of its id, bytes of descending
/// expressions inverted. It may be cut short, and reaches as far as the last place that begins with it
/// then. The one that goes less far is the smaller one; it is a subset.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Reach(Vec<u8>);

impl Reach {
    /// To the end.
    pub const ALL: Self = Self(Vec::new());

    /// Up to the last place that begins so, after as many bytes as a place may have:
    /// [`limits::WINDOW_PLACE_BYTES_MAX`]. None is to the end.
    pub fn to_place(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(limits::WINDOW_PLACE_BYTES_MAX)].to_vec())
    }

    /// The place; empty for the end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it goes to the end.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a place is not behind a reach.
fn holds(reach: &[u8], place: &[u8]) -> bool {
    place < reach || place.starts_with(reach)
}

impl Ord for Reach {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other {
            Ordering::Equal
        } else if self.0.starts_with(&other.0) {
            Ordering::Less
        } else if other.0.starts_with(&self.0) {
            Ordering::Greater
        } else {
            self.0.cmp(&other.0)
        }
    }
}

impl PartialOrd for Reach {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_all() {
            true => f.write_str("Reach(all)"),
            false => write!(f, "Reach({})", hex(&self.0)),
        }
    }
}

impl Window {
    pub(crate) fn new(text: &str, query: &Query, args: &[&Value]) -> Result<Self, QueryError> {
        let error = |message: String, span: Span| {
            QueryError::new(ErrorKind::Unsupported, message).at(span.position(text))
        };
        let window = &query.window;
        if let Some((_, span)) = &window.offset {
            let hint = "the documents that OFFSET leaves out would have to be here to be counted; ask for all \
                 up to the last one, and use OFFSET in the query on this peer";
            let message = "OFFSET is not supported in sync subscription".to_owned();
            return Err(error(message, *span).with_hint(hint));
        }
        let (clause, span) = query.window_clause.unwrap_or_default();
        let Some((limit, limit_span)) = &window.limit else {
            let hint = "with LIMIT the first documents are kept here; without it all that match are, in no \
                 order, so leave ORDER BY to the query on this peer";
            let message = format!("{clause} without LIMIT is not supported in sync subscription");
            return Err(error(message, span).with_hint(hint));
        };
        if window.order.is_empty() {
            let hint = "say with ORDER BY which documents are the first ones";
            let message = "LIMIT without ORDER BY is not supported in sync subscription".to_owned();
            return Err(error(message, *limit_span).with_hint(hint));
        }
        if window.order.len() > limits::WINDOW_ORDER_MAX {
            let message = format!(
                "{} expressions in ORDER BY of a sync subscription, {} are the limit",
                window.order.len(),
                limits::WINDOW_ORDER_MAX
            );
            return Err(error(message, span));
        }
        let count = count_of(text, limit, *limit_span, args)?;
        let selector = Selector::new(text, query, args)?;
        if selector.projection().is_some() {
            let hint = "the order of the documents could not be told by some of their fields; select * where \
                 there is LIMIT, or leave LIMIT to the query on this peer";
            let message =
                format!("{clause} with single fields is not supported in sync subscription");
            return Err(error(message, span).with_hint(hint));
        }
        let style = selector::STYLE;
        let mut order = Vec::with_capacity(window.order.len());
        for by in &window.order {
            let mut key = by.key.clone();
            selector::fill_in(&mut key, args)?;
            order.push((style.operand_text(&key), by.descending));
        }
        Self::build(selector, order, count).map_err(|error| error.at(span.position(text)))
    }

    fn build(
        selector: Selector,
        order: Vec<(String, bool)>,
        count: u32,
    ) -> Result<Self, QueryError> {
        let canonical = format!(
            "{} ORDER BY {} LIMIT {count}",
            selector.canonical(),
            ordered(&order)
        );
        let window = Self {
            inner: Arc::new(Inner {
                selector,
                order,
                count,
                canonical,
            }),
        };
        // Whatever the reach is, the subscription can be asked for.
        let longest = Reach(vec![u8::MAX; limits::WINDOW_PLACE_BYTES_MAX]);
        let text = window.text_within(&longest);
        let bytes = window.canonical().len();
        let limit = limits::WINDOW_STATEMENT_BYTES_MAX;
        if bytes > limit {
            let message = format!("subscription of {bytes} bytes is over the limit of {limit}");
            return Err(QueryError::new(ErrorKind::Unsupported, message));
        }
        parse(&text)?.subscription(&Object::new())?;
        parse(&window.last_statement(u32::MAX))?;
        Ok(window)
    }

    /// What is sorted: all documents of it, whatever their place.
    pub fn selector(&self) -> &Selector {
        &self.inner.selector
    }

    /// How many documents it has, 1 to [`limits::WINDOW_DOCUMENTS_MAX`].
    pub fn count(&self) -> u32 {
        self.inner.count
    }

    /// A text that is the same for the same meaning, as [`Selector::canonical`] is.
    pub fn canonical(&self) -> &str {
        &self.inner.canonical
    }

    /// The documents that are not behind `reach`.
    ///
    /// # Panics
    /// If the place in `reach` is longer than [`limits::WINDOW_PLACE_BYTES_MAX`].
    pub fn within(&self, reach: &Reach) -> Selector {
        if reach.is_all() {
            return self.inner.selector.clone();
        }
        parse(&self.text_within(reach))
            .and_then(|statement| statement.subscription(&Object::new()))
            .expect("a longer one was tried when the window was made")
    }

    fn text_within(&self, reach: &Reach) -> String {
        let mut text = self.inner.selector.canonical();
        let is_filtered = !self.inner.selector.is_unfiltered();
        text.push_str(if is_filtered { " AND " } else { " WHERE " });
        let _infallible = write!(text, "{FUNCTION}(\"{}\", \"", hex(&reach.0));
        let letters = self.inner.order.iter().map(|(_, is_down)| letter(*is_down));
        text.extend(letters.chain([letter(false)]));
        text.push_str("\", ");
        for (key, _) in &self.inner.order {
            text.push_str(key);
            text.push_str(", ");
        }
        text.push_str(selector::ALIAS);
        text.push_str("._id)");
        text
    }

    /// A statement whose only row, if there is one, has the place of the document with this number,
    /// counted from 1: [`Window::reach_of`].
    pub fn last_statement(&self, number: u32) -> String {
        let alias = selector::ALIAS;
        let mut text = String::from("SELECT ");
        for (at, (key, _)) in self.inner.order.iter().enumerate() {
            let _infallible = write!(text, "{key} AS k{at}, ");
        }
        let select = "SELECT *";
        let canonical = self.inner.selector.canonical();
        let rest = &canonical[select.len()..];
        let order = ordered(&self.inner.order);
        let offset = number.saturating_sub(1);
        let _infallible = write!(
            text,
            "{alias}._id AS id{rest} ORDER BY {order}, {alias}._id LIMIT 1 OFFSET {offset}"
        );
        text
    }

    /// How far the document of a row of [`Window::last_statement`] is.
    pub fn reach_of(&self, row: &Object) -> Reach {
        let mut place = Vec::new();
        for (at, (_, is_down)) in self.inner.order.iter().enumerate() {
            append(row.get(&format!("k{at}")), *is_down, &mut place);
        }
        append(row.get("id"), false, &mut place);
        Reach::to_place(&place)
    }
}

impl PartialEq for Window {
    /// Equal meaning, as far as [`Window::canonical`] sees it.
    fn eq(&self, other: &Self) -> bool {
        self.inner.canonical == other.inner.canonical
    }
}

impl Eq for Window {}

/// How many documents LIMIT asks for.
fn count_of(text: &str, limit: &Expr, span: Span, args: &[&Value]) -> Result<u32, QueryError> {
    let mut limit = limit.clone();
    selector::fill_in(&mut limit, args)?;
    let env = Env::new(text, Vec::new(), 0);
    let value = eval(&limit, &env, &Row::default());
    let count = value.get().and_then(Value::as_int);
    count
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| (1..=limits::WINDOW_DOCUMENTS_MAX).contains(count))
        .ok_or_else(|| {
            let message = format!(
                "LIMIT of a sync subscription is a number from 1 to {}",
                limits::WINDOW_DOCUMENTS_MAX
            );
            QueryError::new(ErrorKind::Unsupported, message).at(span.position(text))
        })
}

fn letter(is_down: bool) -> char {
    if is_down { 'd' } else { 'a' }
}

fn ordered(order: &[(String, bool)]) -> String {
    let keys: Vec<String> = order
        .iter()
        .map(|(key, is_down)| format!("{key}{}", if *is_down { " DESC" } else { "" }))
        .collect();
    keys.join(", ")
}

/// Appends the key form of what a document is sorted by, `None` for MISSING.
fn append(value: Option<&Value>, is_down: bool, place: &mut Vec<u8>) {
    let start = place.len();
    key::encode_optional(value.cloned().map(canonical).as_ref(), place);
    if is_down {
        place[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// The body of the function: whether values, each in its direction, are not behind a place. `Err` names
/// the argument that is wrong and what it should be.
pub(crate) fn sorts_within<'v>(
    reach: &str,
    directions: &str,
    values: impl Iterator<Item = Option<&'v Value>>,
) -> Result<bool, (usize, &'static str)> {
    let reach = unhex(reach).ok_or((0, "hexadecimal digits"))?;
    let mut directions = directions.chars();
    let mut place = Vec::new();
    for value in values {
        let is_down = match directions.next() {
            Some('a') => false,
            Some('d') => true,
            _ => return Err((1, "a letter a or d for each value")),
        };
        // What is behind the reach's length decides nothing.
        if place.len() < reach.len() {
            append(value, is_down, &mut place);
        }
    }
    if directions.next().is_some() {
        return Err((1, "a letter a or d for each value"));
    }
    Ok(holds(&reach, &place))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = digits.chunks_exact(2);
    bytes
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_that_is_cut_goes_farther() {
        let reach = |bytes: &[u8]| Reach::to_place(bytes);
        assert!(reach(b"ab") < reach(b"a"));
        assert!(reach(b"a") < Reach::ALL);
        assert!(reach(b"ab") < reach(b"ac"));
        assert!(reach(b"ab\xff\xff") < reach(b"ab"));
        assert!(holds(b"a", b"ab"));
        assert!(holds(b"", b"z"));
        assert!(!holds(b"a", b"b"));
    }

    #[test]
    fn hexadecimal_reads_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
    }
}

//! The documents that a subscription wants, and which of their fields.

mod rule;

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use idem_model::{CollectionName, FieldPath, Object, Value, limits};

use crate::{
    ast::CompareOp,
    bound::{Item, Items, Place, Query},
    error::{ErrorKind, QueryError},
    eval::{Env, Row, Slot, holds},
    expr::Expr,
    plan::{canonical, fields_of_expression},
    print::{self, Style},
};

/// The alias of the collection in canonical text.
pub(crate) const ALIAS: &str = "d";

/// How expressions stand in canonical text.
pub(crate) const STYLE: Style<'static> = Style {
    params: &[],
    alias: ALIAS,
    sources: &[],
    keys: &[],
    aggregates: &[],
    canonical: true,
};

/// A predicate over the documents of one collection, with its arguments inside. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Selector {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    collection: CollectionName,
    /// The fields that are wanted beside `_id`, rising, none within another; `None` is all of them.
    projection: Option<Vec<FieldPath>>,
    /// Ids that can match, if the condition names them.
    ids: Option<BTreeSet<Vec<u8>>>,
    filter: Option<Expr>,
    /// Names at the top of a document that `filter` looks at, rising; `None` is all of them.
    fields: Option<Vec<String>>,
    canonical: String,
}

impl Selector {
    pub(crate) fn new(text: &str, query: &Query, args: &[&Value]) -> Result<Self, QueryError> {
        let item = query.single();
        let Place::Stored(collection) = &item.place else {
            return Err(QueryError::new(
                ErrorKind::Unsupported,
                "a system collection is not supported in sync subscription",
            ));
        };
        let mut filter = item.filter.clone();
        if let Some(filter) = &mut filter {
            fill_in(filter, args)?;
        }
        let mut ids = item.access.ids.clone();
        if let Some(ids) = &mut ids {
            fill_in(ids, args)?;
        }
        let set = ids.as_ref().map(|ids| id_keys(text, ids));
        let projection = projection(&query.branches[0].output.items)?;
        let mut out = head(collection, projection.as_deref());
        let conditions = conditions(text, set.as_ref(), filter.as_ref());
        if !conditions.is_empty() {
            out.push_str(" WHERE ");
            out.push_str(&conditions.join(" AND "));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                collection: collection.clone(),
                projection,
                ids: set,
                fields: filter
                    .as_ref()
                    .map_or(Some(Vec::new()), fields_of_expression),
                filter,
                canonical: out,
            }),
        })
    }

    /// Selects every document of a collection, with all its fields.
    pub fn of_collection(collection: CollectionName) -> Self {
        Self {
            inner: Arc::new(Inner {
                canonical: head(&collection, None),
                collection,
                projection: None,
                ids: None,
                filter: None,
                fields: Some(Vec::new()),
            }),
        }
    }

    /// The paths of the fields that are wanted beside `_id`, rising and none within another. `None` for
    /// whole documents.
    pub fn projection(&self) -> Option<&[FieldPath]> {
        self.inner.projection.as_deref()
    }

    /// [`Selector::canonical`] without the condition: what two selectors have in common of which the
    /// documents have the same fields.
    pub fn canonical_projection(&self) -> String {
        head(&self.inner.collection, self.projection())
    }

    /// The collection it selects from.
    pub fn collection(&self) -> &CollectionName {
        &self.inner.collection
    }

    /// Whether every document of the collection is selected.
    pub fn is_unfiltered(&self) -> bool {
        self.inner.ids.is_none() && self.inner.filter.is_none()
    }

    /// Whether a document with this id may be selected. `id` is [`idem_model::DocId::to_key`].
    pub fn may_match_id(&self, id: &[u8]) -> bool {
        self.inner.ids.as_ref().is_none_or(|ids| ids.contains(id))
    }

    /// The names at the top of a document that the condition looks at, rising: for
    /// [`Selector::matches`] other fields but `_id` may be left out. `None` if it looks at the whole
    /// document.
    pub fn fields(&self) -> Option<&[String]> {
        self.inner.fields.as_deref()
    }

    /// Whether the document is selected. `fields` are the visible fields with `_id`.
    pub fn matches(&self, fields: &Object) -> bool {
        self.matches_within(fields, limits::EXPRESSION_BYTES_MAX)
    }

    /// As [`Selector::matches`], with so much work at most; a document that needs more is not selected. The
    /// measure is that of [`limits::EXPRESSION_BYTES_MAX`], which bounds it as well.
    pub fn matches_within(&self, fields: &Object, work_bytes_max: usize) -> bool {
        if let Some(ids) = &self.inner.ids {
            let found = fields
                .get("_id")
                .is_some_and(|id| ids.contains(&encoded(id.clone())));
            if !found {
                return false;
            }
        }
        let Some(filter) = &self.inner.filter else {
            return true;
        };
        let env = Env::new("", Vec::new(), 0);
        env.set_budget(work_bytes_max.min(limits::EXPRESSION_BYTES_MAX));
        let slots = [Slot::Document(fields)];
        let row = Row::of(&slots);
        // A condition that used up its budget is not known to hold.
        holds(filter, &env, &row) && env.finish().is_ok()
    }

    /// A statement text that is the same for the same meaning written with other spaces, aliases,
    /// parameters, keyword case or order of conditions. Parsing it gives an equal selector.
    pub fn canonical(&self) -> String {
        self.inner.canonical.clone()
    }

    /// [`Selector::canonical`] without a copy.
    pub fn canonical_text(&self) -> &str {
        &self.inner.canonical
    }
}

/// The canonical text up to the condition.
fn head(collection: &CollectionName, projection: Option<&[FieldPath]>) -> String {
    let mut out = String::from("SELECT ");
    match projection {
        None => out.push('*'),
        Some(paths) => {
            out.push_str(ALIAS);
            out.push_str("._id");
            for path in paths {
                let _infallible = write!(out, ", {ALIAS}.{path}");
            }
        }
    }
    out.push_str(" FROM ");
    print::name(collection.as_str(), &mut out);
    out.push_str(" AS ");
    out.push_str(ALIAS);
    out
}

/// The fields that a projection names.
fn projection(items: &Items) -> Result<Option<Vec<FieldPath>>, QueryError> {
    let Items::Each(items) = items else {
        return Ok(None);
    };
    let mut named = Vec::with_capacity(items.len());
    for item in items {
        let Item::Value(_, Expr::Field(_, path)) = item else {
            let message = "a projection of a whole row is not supported in sync subscription";
            let hint = "name fields by their paths, or all of them with *";
            return Err(QueryError::new(ErrorKind::Unsupported, message).with_hint(hint));
        };
        // It comes with every document, whole.
        if path.segments()[0] != "_id" {
            named.push(path.clone());
        }
    }
    named.sort_unstable();
    // What is within another path stands behind it.
    named.dedup_by(|later, earlier| earlier.contains(later));
    if named.len() > limits::PROJECTED_PATHS_MAX {
        let limit = limits::PROJECTED_PATHS_MAX;
        let message = format!("a subscription names at most {limit} fields");
        return Err(QueryError::new(ErrorKind::Unsupported, message));
    }
    Ok(Some(named))
}

/// Puts the arguments in the place of the parameters.
pub(crate) fn fill_in(expr: &mut Expr, args: &[&Value]) -> Result<(), QueryError> {
    match expr {
        Expr::Param(slot) => {
            *expr = Expr::Literal(args[*slot].clone());
            Ok(())
        }
        Expr::Subquery(..) => Err(QueryError::new(
            ErrorKind::Unsupported,
            "a subquery is not supported in sync subscription",
        )),
        Expr::Conflicts(..) | Expr::Version(_) => Err(QueryError::new(
            ErrorKind::Unsupported,
            "conflicts() and document_version() are not supported in sync subscription",
        )
        .with_hint("what matches must follow from the document's values alone")),
        Expr::Call(function, ..) if function.varies => {
            let message = format!("{}() is not supported in sync subscription", function.name);
            let hint = "what matches must not change by itself; pass the time as an argument";
            Err(QueryError::new(ErrorKind::Unsupported, message).with_hint(hint))
        }
        _ => expr.each_child_mut(&mut |child, _| fill_in(child, args)),
    }
}

fn encoded(id: Value) -> Vec<u8> {
    let mut out = Vec::new();
    idem_model::key::encode(&canonical(id), &mut out);
    out
}

fn id_keys(text: &str, ids: &Expr) -> BTreeSet<Vec<u8>> {
    let env = Env::new(text, Vec::new(), 0);
    match crate::eval::eval(ids, &env, &Row::default()).get() {
        Some(Value::Array(items)) => items
            .iter()
            .filter(|item| !matches!(item, Value::Null))
            .map(|item| encoded(item.clone()))
            .collect(),
        _ => BTreeSet::new(),
    }
}

/// The ids that a condition allows, if it is one on the id alone.
fn ids_of(text: &str, condition: &Expr) -> Option<BTreeSet<Vec<u8>>> {
    let is_id = |expr: &Expr| matches!(expr, Expr::Field(_, path) if path.segments() == ["_id"]);
    match condition {
        Expr::Compare(CompareOp::Equal, left, right) => {
            let ids = match (is_id(left), is_id(right)) {
                (true, false) => right,
                (false, true) => left,
                _ => return None,
            };
            let ids = Expr::Array([(**ids).clone()].into());
            ids.is_constant().then(|| id_keys(text, &ids))
        }
        Expr::In(parts, false, _) if is_id(&parts[0]) && parts[1].is_constant() => {
            Some(id_keys(text, &parts[1]))
        }
        _ => None,
    }
}

fn ids_text(ids: &BTreeSet<Vec<u8>>, style: Style<'_>) -> String {
    let values = ids
        .iter()
        .filter_map(|key| idem_model::key::decode(key).ok().and_then(|(id, _)| id))
        .map(Expr::Literal)
        .collect();
    format!("({ALIAS}._id IN {})", style.text(&Expr::Array(values)))
}

/// The conditions as text, sorted.
fn conditions(text: &str, ids: Option<&BTreeSet<Vec<u8>>>, filter: Option<&Expr>) -> Vec<String> {
    let style = STYLE;
    let mut texts = Vec::new();
    texts.extend(ids.map(|ids| ids_text(ids, style)));
    let filters = match filter {
        None => &[][..],
        Some(Expr::And(items, _)) => items,
        Some(filter) => std::slice::from_ref(filter),
    };
    // Of several conditions on the id any may be the one that the rows are found by.
    texts.extend(filters.iter().map(|filter| match ids_of(text, filter) {
        Some(ids) => ids_text(&ids, style),
        None => style.operand_text(filter),
    }));
    texts.sort_unstable();
    texts.dedup();
    texts
}

impl PartialEq for Selector {
    /// Equal meaning, as far as [`Selector::canonical`] sees it.
    fn eq(&self, other: &Self) -> bool {
        self.inner.canonical == other.inner.canonical
    }
}

impl Eq for Selector {}

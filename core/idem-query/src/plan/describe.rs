//! The plan of a statement as a value (what EXPLAIN gives) and as indented text.

use idem_model::{Object, Value};

use crate::{
    bound::{Body, FromItem, InsertRows, Item, Items, Output, Place, Query, Window},
    expr::Expr,
    plan::{AccessPath, PathKind},
    print::Style,
};

/// One step of a plan. Steps that feed another are its children; a sequence feeds from first to last.
struct Node {
    operator: &'static str,
    details: Object,
    children: Vec<Self>,
}

impl Node {
    fn new(operator: &'static str) -> Self {
        Self {
            operator,
            details: Object::new(),
            children: Vec::new(),
        }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    fn sequence(children: Vec<Self>) -> Self {
        Self {
            children,
            ..Self::new("sequence")
        }
    }

    fn into_value(self) -> Value {
        let mut fields = self.details;
        fields.insert("#operator".to_owned(), self.operator.into());
        if !self.children.is_empty() {
            let children = self.children.into_iter().map(Self::into_value).collect();
            fields.insert("children".to_owned(), Value::Array(children));
        }
        Value::Object(fields)
    }
}

/// The plan of a statement with the index that was chosen for it, if any.
pub(crate) fn describe(body: &Body, path: Option<&AccessPath>, params: &[String]) -> Value {
    let style = Style {
        params,
        ..Style::default()
    };
    let mut steps = Vec::new();
    match body {
        Body::Select(query) => query_steps(query, path, style, &mut steps),
        Body::Insert(insert) => {
            match &insert.rows {
                InsertRows::Select(query, _) => query_steps(query, path, style, &mut steps),
                InsertRows::Documents(documents) => steps.push(Node::new("documents").with(
                    "expressions",
                    i64::try_from(documents.len()).unwrap_or(i64::MAX),
                )),
            }
            steps.push(
                Node::new("insert")
                    .with("collection", insert.collection.as_str())
                    .with("initial", insert.initial),
            );
            returning(insert.returning.as_ref(), style, &mut steps);
        }
        Body::Update(update) => {
            find_steps(&update.scan.item, path, style, &mut steps);
            window_steps(&update.scan.window, style, &mut steps);
            let paths: Vec<String> = update
                .edits
                .iter()
                .map(|edit| edit.path.to_string())
                .collect();
            steps.push(Node::new("update").with("paths", paths));
            returning(update.returning.as_ref(), style, &mut steps);
        }
        Body::Delete(delete) => {
            find_steps(&delete.scan.item, path, style, &mut steps);
            window_steps(&delete.scan.window, style, &mut steps);
            steps.push(Node::new(if delete.evict { "evict" } else { "delete" }));
            returning(delete.returning.as_ref(), style, &mut steps);
        }
        Body::CreateIndex { spec, .. } => {
            steps.push(Node::new("createIndex").with("index", spec.name.as_str()));
        }
        Body::DropIndex { name, .. } => {
            steps.push(Node::new("dropIndex").with("index", name.as_str()));
        }
        Body::AlterSet { .. } | Body::AlterReset { .. } => steps.push(Node::new("alterSystem")),
        Body::Show { .. } | Body::ShowAll(_) => steps.push(Node::new("show")),
        Body::Advise { inner, .. } => return describe(inner, path, params),
        Body::CreateCollection { collection, .. } => {
            steps.push(Node::new("createCollection").with("collection", collection.as_str()));
        }
        Body::Call { name, .. } => {
            steps.push(Node::new("executeFunction").with("function", name.as_str()));
        }
        Body::Explain(inner) | Body::Profile(inner) => return describe(inner, path, params),
    }
    Node::sequence(steps).into_value()
}

fn query_steps(query: &Query, path: Option<&AccessPath>, style: Style<'_>, steps: &mut Vec<Node>) {
    let branch = &query.branches[0];
    if let Some(collection) = query.counts_all() {
        steps.push(Node::new("countScan").with("collection", collection.as_str()));
    } else {
        find_steps(&branch.from[0], path, style, steps);
    }
    let style = match &branch.output.grouping {
        None => style,
        Some(grouping) => Style {
            keys: &grouping.keys,
            aggregates: &grouping.aggregates,
            ..style
        },
    };
    if let (Some(grouping), None) = (&branch.output.grouping, query.counts_all()) {
        let keys: Vec<String> = grouping.keys.iter().map(|key| style.text(key)).collect();
        steps.push(Node::new("group").with("keys", keys));
    }
    if let Some(having) = &branch.having {
        steps.push(Node::new("filter").with("condition", style.text(having)));
    }
    if branch.distinct {
        steps.push(Node::new("distinct"));
    }
    window_steps(&query.window, style, steps);
    steps.push(Node::new("projection").with("columns", columns(&branch.output, style)));
}

fn find_steps(item: &FromItem, path: Option<&AccessPath>, style: Style<'_>, steps: &mut Vec<Node>) {
    let index = match path.map(|path| &path.kind) {
        Some(PathKind::Index(path)) => Some(&path.index),
        _ => None,
    };
    match (&item.place, &item.access.ids, index) {
        (Place::System(name), ..) => {
            steps.push(Node::new("scan").with("collection", format!("system:{name}")));
        }
        (Place::Stored(collection), Some(ids), _) => steps.push(
            Node::new("idScan")
                .with("collection", collection.as_str())
                .with("ids", style.text(ids)),
        ),
        (Place::Stored(collection), None, Some(index)) => {
            let spans: Vec<String> = index
                .fields()
                .iter()
                .map_while(|field| {
                    let tests = item.access.tests.iter();
                    let tests = tests.filter(|test| test.of.is(&field.key));
                    let texts: Vec<String> =
                        tests.map(|test| style.text(&test.condition)).collect();
                    (!texts.is_empty()).then(|| texts.join(" AND "))
                })
                .collect();
            steps.push(
                Node::new("indexScan")
                    .with("collection", collection.as_str())
                    .with(
                        "desc",
                        Object::from([
                            ("index".to_owned(), index.name().into()),
                            ("spans".to_owned(), spans.into()),
                        ]),
                    ),
            );
            steps.push(Node::new("fetch").with("collection", collection.as_str()));
        }
        (Place::Stored(collection), None, None) => {
            steps.push(Node::new("scan").with("collection", collection.as_str()));
        }
        (Place::Derived(_) | Place::Unnest(_), ..) => steps.push(Node::new("scan")),
    }
    if let Some(filter) = &item.filter {
        steps.push(Node::new("filter").with("condition", style.text(filter)));
    }
}

fn window_steps(window: &Window, style: Style<'_>, steps: &mut Vec<Node>) {
    if !window.order.is_empty() {
        let keys: Vec<String> = window
            .order
            .iter()
            .map(|order| {
                let direction = if order.descending { " DESC" } else { "" };
                format!("{}{direction}", style.text(&order.key))
            })
            .collect();
        steps.push(Node::new("sort").with("keys", keys));
    }
    if window.limit.is_some() || window.offset.is_some() {
        let mut node = Node::new("limit");
        for (name, bound) in [("limit", &window.limit), ("offset", &window.offset)] {
            if let Some((bound, _)) = bound {
                node = node.with(name, style.text(bound));
            }
        }
        steps.push(node);
    }
}

fn returning(output: Option<&Output>, style: Style<'_>, steps: &mut Vec<Node>) {
    if let Some(output) = output {
        steps.push(Node::new("returning").with("columns", columns(output, style)));
    }
}

fn columns(output: &Output, style: Style<'_>) -> Vec<String> {
    let aggregates = output
        .grouping
        .as_ref()
        .map_or(style.aggregates, |grouping| &grouping.aggregates);
    let style = Style {
        aggregates,
        ..style
    };
    match &output.items {
        Items::All => vec!["*".to_owned()],
        Items::Each(items) => items
            .iter()
            .map(|item| match item {
                Item::Splice(Expr::Row(_)) => "*".to_owned(),
                Item::Splice(expr) => format!("{}.*", style.text(expr)),
                Item::Value(name, expr) => {
                    let text = style.text(expr);
                    if *name == text {
                        text
                    } else {
                        format!("{text} AS {name}")
                    }
                }
            })
            .collect(),
    }
}

/// A plan, the value of `plan` in the row that EXPLAIN gives, as one line for each step, indented
/// under the step it belongs to.
pub fn to_text(plan: &Value) -> String {
    let mut out = String::new();
    write_text(plan, 0, &mut out);
    out
}

fn write_text(node: &Value, level: usize, out: &mut String) {
    let Some(fields) = node.as_object() else {
        return;
    };
    let operator = fields.get("#operator").and_then(Value::as_str);
    out.push_str(&"  ".repeat(level));
    out.push_str(operator.unwrap_or_default());
    for (name, value) in fields {
        if name != "#operator" && name != "children" {
            out.push_str(&format!(" {name}={}", idem_model::json::to_string(value)));
        }
    }
    out.push('\n');
    if let Some(children) = fields.get("children").and_then(Value::as_array) {
        for child in children {
            write_text(child, level + 1, out);
        }
    }
}

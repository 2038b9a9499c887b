//! The plan of a statement as a value (what EXPLAIN gives) and as indented text.

use idem_model::{Object, Value};

use super::{AccessPath, BranchPath, FieldTest, IndexPath, PathKind, spans::usable};
use crate::{
    bound::{
        Body, FromItem, InsertRows, Item, Items, JoinKind, Order, Output, Place, Query, Scan,
        Select, Window,
    },
    execute::Part,
    expr::Expr,
    print::Style,
    span::Span,
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

/// What the executor decides about a statement, asked for to be shown.
pub(crate) trait Decisions {
    /// How the rows of a branch are found, joined and put in order.
    fn branch(&mut self, branch: &Select, order: &[Order], limit: Option<usize>) -> Decided;

    /// How the rows of a change are found and put in order.
    fn scan(&mut self, scan: &Scan, limit: Option<usize>) -> Decided;

    /// What went through a part of the statement in a run that was measured.
    fn stats(&self, part: Part) -> Option<Value>;
}

/// What was decided for one branch.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    /// The path to the rows of each source, and the operator that joins it with those before.
    pub(crate) sources: Vec<(AccessPath, &'static str)>,
    /// What is still to be sorted by.
    pub(crate) order: Vec<Order>,
    /// How the aggregates are known without looking at the rows; empty if they are not.
    pub(crate) totals: Vec<Total>,
}

/// Where the result of an aggregate comes from.
#[derive(Debug)]
pub(crate) enum Total {
    /// The count of a collection.
    Collection,
    /// The entries of an index.
    Entries(IndexPath),
    /// The first entry of an index.
    End(IndexPath),
}

/// Rows that a LIMIT asks for which is not written out.
const LIMIT_GUESS: usize = 100;

/// The plan of a statement.
pub(crate) fn describe(body: &Body, decisions: &mut dyn Decisions, params: &[String]) -> Value {
    let mut describer = Describer {
        decisions,
        params,
        names: Vec::new(),
    };
    let mut steps = Vec::new();
    describer.body(body, &mut steps);
    Node::sequence(steps).into_value()
}

struct Describer<'d> {
    decisions: &'d mut dyn Decisions,
    params: &'d [String],
    /// What the sources around are called, by slot.
    names: Vec<String>,
}

impl Describer<'_> {
    fn body(&mut self, body: &Body, steps: &mut Vec<Node>) {
        match body {
            Body::Select(query) => self.query(query, steps),
            Body::Insert(insert) => {
                match &insert.rows {
                    InsertRows::Select(query, _) => self.query(query, steps),
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
                self.returning(insert.returning.as_ref(), steps);
            }
            Body::Update(update) => {
                self.scan(&update.scan, steps);
                let paths = update.edits.iter().map(|edit| edit.path.to_string());
                let paths: Vec<String> = paths.collect();
                steps.push(Node::new("update").with("paths", paths));
                self.returning(update.returning.as_ref(), steps);
            }
            Body::Delete(delete) => {
                self.scan(&delete.scan, steps);
                steps.push(Node::new(if delete.evict { "evict" } else { "delete" }));
                self.returning(delete.returning.as_ref(), steps);
            }
            Body::CreateIndex { spec, .. } => {
                steps.push(Node::new("createIndex").with("index", spec.name.as_str()));
            }
            Body::DropIndex { name, .. } => {
                steps.push(Node::new("dropIndex").with("index", name.as_str()));
            }
            Body::AlterSet { .. } | Body::AlterReset { .. } => {
                steps.push(Node::new("alterSystem"));
            }
            Body::Show { .. } | Body::ShowAll(_) => steps.push(Node::new("show")),
            Body::CreateCollection { collection, .. } => {
                steps.push(Node::new("createCollection").with("collection", collection.as_str()));
            }
            Body::Call { name, .. } => {
                steps.push(Node::new("executeFunction").with("function", name.as_str()));
            }
            Body::Explain(inner) | Body::Profile(inner) | Body::Advise { inner, .. } => {
                self.body(inner, steps);
            }
        }
    }

    fn query(&mut self, query: &Query, steps: &mut Vec<Node>) {
        let known = self.names.len();
        if let ([only], false) = (query.branches.as_slice(), query.distinct) {
            self.branch(only, &query.window, steps);
        } else {
            let mut branches = Vec::with_capacity(query.branches.len());
            for branch in &query.branches {
                self.names.truncate(known);
                let mut steps = Vec::new();
                self.branch(branch, &Window::default(), &mut steps);
                branches.push(Node::sequence(steps));
            }
            self.names.truncate(known);
            steps.push(Node {
                children: branches,
                ..Node::new("unionAll")
            });
            if query.distinct {
                steps.push(Node::new("distinct"));
            }
            self.window_steps(&query.window, &query.window.order, self.style(), steps);
        }
        self.names.truncate(known);
    }

    fn style(&self) -> Style<'_> {
        Style {
            params: self.params,
            sources: &self.names,
            ..Style::default()
        }
    }

    fn branch(&mut self, branch: &Select, window: &Window, steps: &mut Vec<Node>) {
        let is_whole = branch.output.grouping.is_none() && !branch.distinct;
        let limit = limit_of(window).filter(|_| is_whole);
        let decided = self.decisions.branch(branch, &window.order, limit);
        let mut queries = Vec::new();
        for_each_subquery(branch, window, &mut |query| queries.push(query));
        // A single source needs no names.
        if branch.from.len() > 1 || !self.names.is_empty() || !queries.is_empty() {
            let names = branch.from.iter().map(|item| item.alias.clone());
            self.names.extend(names);
        }
        if decided.totals.is_empty() {
            for (item, (path, operator)) in branch.from.iter().zip(&decided.sources) {
                self.source(item, path, operator, steps);
            }
            if let Some(filter) = &branch.filter {
                steps.push(Node::new("filter").with("condition", self.style().text(filter)));
            }
        } else if let Some(item) = branch.from.first() {
            for total in &decided.totals {
                self.total(item, total, steps);
            }
        }
        for query in queries {
            let mut inner = Vec::new();
            self.query(query, &mut inner);
            steps.push(Node {
                children: inner,
                ..Node::new("subquery").with("correlated", query.is_correlated)
            });
        }
        let style = self.style();
        let style = match &branch.output.grouping {
            None => style,
            Some(grouping) => Style {
                keys: &grouping.keys,
                aggregates: &grouping.aggregates,
                ..style
            },
        };
        if let (Some(grouping), true) = (&branch.output.grouping, decided.totals.is_empty()) {
            let keys: Vec<String> = grouping.keys.iter().map(|key| style.text(key)).collect();
            let mut node = Node::new("group").with("keys", keys);
            if let Some(stats) = self.decisions.stats(Part::groups(branch)) {
                node = node.with("#stats", stats);
            }
            steps.push(node);
        }
        if let Some(having) = &branch.having {
            steps.push(Node::new("filter").with("condition", style.text(having)));
        }
        if branch.distinct {
            steps.push(Node::new("distinct"));
        }
        self.window_steps(window, &decided.order, style, steps);
        let mut node = Node::new("projection").with("columns", columns(&branch.output, style));
        if let Some(stats) = self.decisions.stats(Part::branch(branch)) {
            node = node.with("#stats", stats);
        }
        steps.push(node);
    }

    fn scan(&mut self, scan: &Scan, steps: &mut Vec<Node>) {
        let decided = self.decisions.scan(scan, limit_of(&scan.window));
        for (path, operator) in &decided.sources {
            self.source(&scan.item, path, operator, steps);
        }
        self.window_steps(&scan.window, &decided.order, self.style(), steps);
    }

    fn returning(&self, output: Option<&Output>, steps: &mut Vec<Node>) {
        if let Some(output) = output {
            let columns = columns(output, self.style());
            steps.push(Node::new("returning").with("columns", columns));
        }
    }

    /// One source: how its rows are found, inside of the operator that joins it, if there is one.
    fn source(
        &mut self,
        item: &FromItem,
        path: &AccessPath,
        operator: &'static str,
        steps: &mut Vec<Node>,
    ) {
        let mut found = Vec::new();
        match &item.place {
            Place::System(name, _) => {
                found.push(Node::new("scan").with("collection", format!("system:{name}")));
            }
            Place::Stored(collection) => self.path(item, path, collection.as_str(), &mut found),
            Place::Derived(query) => {
                let known = self.names.len();
                // It sees what is around the query, and nothing of its neighbours.
                let hidden = self.names.split_off(query.outer_slots.min(known));
                self.query(query, &mut found);
                self.names.truncate(query.outer_slots.min(known));
                self.names.extend(hidden);
                found = vec![Node {
                    children: found,
                    ..Node::new("derived").with("alias", item.alias.as_str())
                }];
            }
            Place::Unnest(array) => {
                let node = Node::new("unnest").with("array", self.style().text(array));
                found.push(node.with("alias", item.alias.as_str()));
            }
        }
        let style = self.style();
        if let Some(filter) = &item.filter {
            found.push(Node::new("filter").with("condition", style.text(filter)));
        }
        let stats = self.decisions.stats(Part::item(item));
        if let (Some(stats), Some(last)) = (stats, found.last_mut()) {
            last.details.insert("#stats".to_owned(), stats);
        }
        let Some(join) = &item.join else {
            steps.append(&mut found);
            return;
        };
        let keys = join.keys.iter();
        let keys = keys.map(|(before, here)| {
            format!(
                "{} = {}",
                style.operand_text(here),
                style.operand_text(before)
            )
        });
        let on = join.on.iter().map(|on| style.text(on));
        let conditions: Vec<String> = keys.chain(on).collect();
        let mut node = Node::new(operator).with("alias", item.alias.as_str()).with(
            "kind",
            match join.kind {
                JoinKind::Inner => "inner",
                JoinKind::Left => "left",
                JoinKind::Right => "right",
            },
        );
        if !conditions.is_empty() {
            node = node.with("on", conditions.join(" AND "));
        }
        node.children = found;
        steps.push(node);
    }

    fn path(&self, item: &FromItem, path: &AccessPath, collection: &str, steps: &mut Vec<Node>) {
        let tests = &item.access.tests;
        let fetch = || Node::new("fetch").with("collection", collection);
        let estimated = |node: Node| match path.estimate.filter(|rows| *rows > 0) {
            Some(rows) => node.with("rows", i64::try_from(rows).unwrap_or(i64::MAX)),
            None => node,
        };
        let ids = |ids: &Option<Expr>| {
            let text = ids.as_ref().map(|ids| self.style().text(ids));
            Node::new("idScan")
                .with("collection", collection)
                .with("ids", text.unwrap_or_default())
        };
        match &path.kind {
            PathKind::Everything => {
                steps.push(estimated(Node::new("scan").with("collection", collection)));
            }
            PathKind::Ids => steps.push(ids(&item.access.ids)),
            PathKind::JoinedIds => steps.push(ids(&item.access.joined_ids)),
            PathKind::Index(index) => {
                steps.push(estimated(self.index_scan(collection, index, tests)));
                steps.extend((!index.is_covering).then(fetch));
            }
            PathKind::Union(at, paths) => {
                let branches = item.access.any_of.get(*at);
                let branches = branches.map_or(&[][..], |any_of| &any_of.branches);
                let children = branches.iter().zip(paths).map(|(branch, path)| match path {
                    BranchPath::Ids => ids(&branch.ids),
                    BranchPath::Index(index) => self.index_scan(collection, index, &branch.tests),
                });
                steps.push(estimated(Node {
                    children: children.collect(),
                    ..Node::new("unionScan").with("collection", collection)
                }));
                steps.push(fetch());
            }
            PathKind::Intersection(paths) => {
                let children = paths.iter();
                let children = children.map(|index| self.index_scan(collection, index, tests));
                steps.push(estimated(Node {
                    children: children.collect(),
                    ..Node::new("intersectScan").with("collection", collection)
                }));
                steps.push(fetch());
            }
        }
    }

    fn index_scan(&self, collection: &str, path: &IndexPath, tests: &[FieldTest]) -> Node {
        let style = self.style();
        let fields = path.index.fields().iter().take(path.tested_fields);
        let mut spans: Vec<String> = fields
            .map(|field| {
                let tests = usable(tests, path.joined, field);
                let mut texts: Vec<String> =
                    tests.map(|test| style.text(&test.condition)).collect();
                texts.dedup();
                texts.join(" AND ")
            })
            .collect();
        // What is not written in the statement is not shown.
        while spans.last().is_some_and(String::is_empty) {
            spans.pop();
        }
        let mut desc = Object::from([
            ("index".to_owned(), path.index.name().into()),
            ("spans".to_owned(), spans.into()),
        ]);
        if let Some(order) = path.order {
            let fields = path.index.fields().iter().skip(order.fixed_fields);
            let keys: Vec<String> = fields
                .take(order.ordered_fields)
                .map(|field| match field.descending != order.is_reverse {
                    true => format!("{} DESC", field.key.text()),
                    false => field.key.text(),
                })
                .collect();
            desc.insert("order".to_owned(), keys.into());
        }
        let node = Node::new("indexScan").with("collection", collection);
        let node = match path.is_covering {
            true => node.with("covering", true),
            false => node,
        };
        node.with("desc", desc)
    }

    fn total(&self, item: &FromItem, total: &Total, steps: &mut Vec<Node>) {
        let Place::Stored(collection) = &item.place else {
            return;
        };
        let tests = &item.access.tests;
        let collection = collection.as_str();
        steps.push(match total {
            Total::Collection => Node::new("countScan").with("collection", collection),
            Total::Entries(path) => Node {
                operator: "countScan",
                ..self.index_scan(collection, path, tests)
            },
            Total::End(path) => self
                .index_scan(collection, path, tests)
                .with("limit", 1_i64),
        });
    }

    fn window_steps(
        &self,
        window: &Window,
        order: &[Order],
        style: Style<'_>,
        steps: &mut Vec<Node>,
    ) {
        // The id that decides between equal rows is not in the text of the statement.
        let order = &order[..order.len().min(window.order.len())];
        if !order.is_empty() {
            let keys: Vec<String> = order
                .iter()
                .map(|order| {
                    let direction = if order.descending { " DESC" } else { "" };
                    format!("{}{direction}", style.text(&order.key))
                })
                .collect();
            let mut node = Node::new("sort").with("keys", keys);
            if let Some(stats) = self.decisions.stats(Part::sort(window)) {
                node = node.with("#stats", stats);
            }
            steps.push(node);
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
}

fn limit_of(window: &Window) -> Option<usize> {
    let number = |(expr, _): &(Expr, Span)| match expr {
        Expr::Literal(Value::Int(number)) => usize::try_from(*number).ok(),
        _ => Some(LIMIT_GUESS),
    };
    let limit = window.limit.as_ref().and_then(number)?;
    let offset = window.offset.as_ref().and_then(number);
    Some(limit.saturating_add(offset.unwrap_or(0)))
}

/// Calls `visit` with every subquery in the expressions of a branch.
pub(crate) fn for_each_subquery<'q>(
    branch: &'q Select,
    window: &'q Window,
    visit: &mut dyn FnMut(&'q Query),
) {
    fn walk<'q>(expr: &'q Expr, visit: &mut dyn FnMut(&'q Query)) {
        if let Expr::Subquery(_, query, _) = expr {
            visit(query);
        }
        expr.each_child(&mut |child, _| walk(child, visit));
    }
    for item in &branch.from {
        let on = item.join.iter().flat_map(|join| &join.on);
        for condition in item.filter.iter().chain(on) {
            walk(condition, visit);
        }
    }
    for condition in branch.filter.iter().chain(&branch.having) {
        walk(condition, visit);
    }
    if let Items::Each(items) = &branch.output.items {
        items.iter().for_each(|item| walk(item.expr(), visit));
    }
    window
        .order
        .iter()
        .for_each(|order| walk(&order.key, visit));
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

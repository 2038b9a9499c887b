//! Rows to results: grouping, HAVING, projection, DISTINCT, ORDER BY, OFFSET and LIMIT, in this order.

use std::{collections::BTreeSet, mem, ops::ControlFlow};

use idem_model::{Object, Value};

use super::{
    aggregate::State,
    hold::Holding,
    profile::{Part, Profile, Stats},
    rows::Window,
    sort::{Keys, Sink, Sorter},
    table::{self, Table},
};
use crate::{
    bound::{FromItem, Grouping, Item, Items, Order, Output, Select},
    eval::{Env, Row, Slot, eval, holds},
    expr::Expr,
    plan::canonical,
};

/// Takes rows and makes the result of one branch of a query or of RETURNING.
pub(super) struct Collector<'e> {
    env: &'e Env<'e>,
    output: &'e Output,
    /// The sources that `*` is about.
    from: &'e [FromItem],
    having: Option<&'e Expr>,
    /// What is visible around the rows.
    outer: Row<'e>,
    groups: Groups<'e>,
    distinct: Option<Distinct<'e>>,
    /// The columns that tell whether a row is there already, so that no other need be made.
    columns: Option<Vec<&'e Expr>>,
    taken: Option<Taken<'e>>,
    sorter: Sorter<'e>,
}

impl<'e> Collector<'e> {
    pub(super) fn of_branch(
        branch: &'e Select,
        (order, sort): (&'e [Order], Part),
        window: Window,
        outer: Row<'e>,
        env: &'e Env<'e>,
    ) -> Self {
        Self {
            env,
            output: &branch.output,
            from: &branch.from,
            having: branch.having.as_ref(),
            outer,
            groups: Groups::new(env).of(branch),
            distinct: branch.distinct.then(|| Distinct::new("DISTINCT", env)),
            columns: branch.distinct.then(|| columns(&branch.output)).flatten(),
            taken: Taken::of(&branch.output),
            sorter: Sorter::new(order, window, env).of(sort),
        }
    }

    pub(super) fn of_returning(output: &'e Output, outer: Row<'e>, env: &'e Env<'e>) -> Self {
        Self {
            env,
            output,
            from: &[],
            having: None,
            outer,
            groups: Groups::new(env),
            distinct: None,
            columns: None,
            taken: Taken::of(output),
            sorter: Sorter::new(&[], Window::ALL, env),
        }
    }

    /// Adds the only source's document, which is taken if it goes into the result as it is; breaks when
    /// no further one can matter.
    pub(super) fn add_document(
        &mut self,
        slot: usize,
        document: &mut Object,
        sink: &mut Sink<'_>,
    ) -> ControlFlow<()> {
        if self.is_plain() {
            if self.sorter.skips() {
                return ControlFlow::Continue(());
            }
            return self.sorter.push(Keys::new(), mem::take(document), sink);
        }
        if let Some(grouping) = &self.output.grouping {
            let outer = self.outer;
            return outer.with_slot(slot, Slot::Document(document), |row| {
                self.groups.take(grouping, row)
            });
        }
        if self.distinct.is_none() && self.sorter.skips() {
            return ControlFlow::Continue(());
        }
        let outer = self.outer;
        let ready = outer.with_slot(slot, Slot::Document(document), |row| {
            if !self.is_first(row)? {
                return ControlFlow::Continue(None);
            }
            let Some(keys) = self.sorter.keys(self.env, row) else {
                return ControlFlow::Continue(None);
            };
            let item = match (&self.output.items, &self.taken) {
                (Items::All, _) => None,
                (_, Some(taken)) if taken.slot == slot => None,
                (Items::Each(items), _) => Some(project(items, self.output, self.env, row)),
            };
            ControlFlow::Continue(Some((keys, item)))
        });
        match ready? {
            None => ControlFlow::Continue(()),
            Some((keys, item)) => {
                let item = item.unwrap_or_else(|| self.take(document));
                self.add_item(keys, item, sink)
            }
        }
    }

    /// The document as the output shows it.
    fn take(&self, document: &mut Object) -> Object {
        let mut document = mem::take(document);
        if let Some(Taken { names, .. }) = &self.taken
            && !document.keys().eq(names.iter().copied())
        {
            document.retain(|name, _| names.binary_search(&name.as_str()).is_ok());
        }
        document
    }

    /// Whether documents go through as they are: `SELECT *` without DISTINCT and ORDER BY.
    fn is_plain(&self) -> bool {
        self.distinct.is_none()
            && self.output.grouping.is_none()
            && matches!(self.output.items, Items::All)
            && self.sorter.is_unordered()
    }

    /// Adds a row of all sources; breaks when no further one can matter.
    pub(super) fn add(&mut self, row: &Row<'_>, sink: &mut Sink<'_>) -> ControlFlow<()> {
        if let Some(grouping) = &self.output.grouping {
            return self.groups.take(grouping, row);
        }
        if self.distinct.is_none() && self.sorter.skips() {
            return ControlFlow::Continue(());
        }
        if !self.is_first(row)? {
            return ControlFlow::Continue(());
        }
        let Some(keys) = self.sorter.keys(self.env, row) else {
            return ControlFlow::Continue(());
        };
        let item = match &self.output.items {
            Items::All => self.whole(row),
            Items::Each(items) => project(items, self.output, self.env, row),
        };
        self.add_item(keys, item, sink)
    }

    /// Whether the row may be in the result as far as its columns tell; breaks if the run has to end.
    fn is_first(&mut self, row: &Row<'_>) -> ControlFlow<(), bool> {
        match (&mut self.distinct, &self.columns) {
            (Some(distinct), Some(columns)) => distinct.is_first_of(columns, self.env, row),
            _ => ControlFlow::Continue(true),
        }
    }

    /// What `*` gives.
    fn whole(&self, row: &Row<'_>) -> Object {
        if let [only] = self.from {
            return match row.slots.get(only.slot) {
                Some(Slot::Document(fields)) => (*fields).clone(),
                Some(Slot::Value(Value::Object(fields))) => fields.clone(),
                _ => Object::new(),
            };
        }
        let mut whole = Object::new();
        let mut ids = Object::new();
        for item in self.from {
            let value = match row.slots.get(item.slot) {
                Some(Slot::Document(fields)) => Value::Object((*fields).clone()),
                Some(Slot::Value(value)) => (*value).clone(),
                _ => continue,
            };
            if let Value::Object(fields) = &value
                && let Some(id) = fields.get("_id")
            {
                ids.insert(item.alias.clone(), id.clone());
            }
            whole.insert(item.alias.clone(), value);
        }
        if !ids.is_empty() {
            whole.insert("_id".to_owned(), Value::Object(ids));
        }
        whole
    }

    fn add_item(&mut self, keys: Keys, item: Object, sink: &mut Sink<'_>) -> ControlFlow<()> {
        if let (Some(distinct), None) = (&mut self.distinct, &self.columns)
            && !distinct.is_first(&item)?
        {
            return ControlFlow::Continue(());
        }
        self.sorter.push(keys, item, sink)
    }

    /// Adds the only group of a branch without keys by the results of its aggregates.
    pub(super) fn add_totals(
        &mut self,
        totals: &[Option<Value>],
        sink: &mut Sink<'_>,
    ) -> ControlFlow<()> {
        self.add_group(&[], totals, sink)
    }

    /// Gives on what was held back until the last row.
    pub(super) fn finish(mut self, sink: &mut Sink<'_>) {
        if let Some(grouping) = &self.output.grouping {
            let groups = mem::replace(&mut self.groups, Groups::new(self.env));
            for group in groups.finish(grouping) {
                let states = group.states.into_iter();
                let totals: Vec<Option<Value>> = states.map(State::finish).collect();
                if self.env.interrupted() || self.add_group(&group.keys, &totals, sink).is_break() {
                    break;
                }
            }
        }
        self.finish_rows(sink);
    }

    /// As [`Collector::finish`], where the groups were added by their results.
    pub(super) fn finish_rows(self, sink: &mut Sink<'_>) {
        self.sorter.finish(sink);
    }

    fn add_group(
        &mut self,
        keys: &[Option<Value>],
        aggregates: &[Option<Value>],
        sink: &mut Sink<'_>,
    ) -> ControlFlow<()> {
        self.env.next_row();
        let row = Row {
            keys,
            aggregates,
            ..self.outer
        };
        if self
            .having
            .is_some_and(|having| !holds(having, self.env, &row))
        {
            return ControlFlow::Continue(());
        }
        let Items::Each(items) = &self.output.items else {
            return ControlFlow::Continue(());
        };
        if self.distinct.is_none() && self.sorter.skips() {
            return ControlFlow::Continue(());
        }
        if !self.is_first(&row)? {
            return ControlFlow::Continue(());
        }
        let Some(sort_keys) = self.sorter.keys(self.env, &row) else {
            return ControlFlow::Continue(());
        };
        let item = project(items, self.output, self.env, &row);
        self.add_item(sort_keys, item, sink)
    }
}

/// The groups of a branch while its rows come in.
struct Groups<'e> {
    env: &'e Env<'e>,
    table: Table,
    groups: Vec<Group<'e>>,
    /// The form of the present row's keys; kept for its memory.
    form: Vec<u8>,
    held: Holding<'e>,
    /// What they are measured as.
    part: Option<Part>,
    stats: Stats,
}

#[derive(Debug)]
struct Group<'e> {
    keys: Vec<Option<Value>>,
    states: Vec<State<'e>>,
}

/// About how many bytes a group takes beside its keys.
const GROUP_BYTES: usize = 256;

impl<'e> Groups<'e> {
    fn new(env: &'e Env<'e>) -> Self {
        Self {
            env,
            table: Table::default(),
            groups: Vec::new(),
            form: Vec::new(),
            held: Holding::new(env, "GROUP BY"),
            part: None,
            stats: Stats::default(),
        }
    }

    /// The same groups, measured as those of a branch.
    fn of(mut self, branch: &Select) -> Self {
        self.part = Some(Part::groups(branch));
        self
    }

    /// Adds a row to its group.
    fn take(&mut self, grouping: &'e Grouping, row: &Row<'_>) -> ControlFlow<()> {
        let Some(profile) = self.env.profile() else {
            return self.add(grouping, row);
        };
        let start = profile.now();
        let flow = self.add(grouping, row);
        self.stats.documents_in += 1;
        self.stats.nanos += profile.now().saturating_sub(start);
        flow
    }

    fn add(&mut self, grouping: &'e Grouping, row: &Row<'_>) -> ControlFlow<()> {
        let number = match grouping.keys.is_empty() {
            true => self.only(grouping),
            false => self.number(grouping, row)?,
        };
        let mut more = 0;
        for state in &mut self.groups[number].states {
            more += add(state, self.env, row);
        }
        match more == 0 || self.held.add(more) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    /// The group of all rows where there are no keys.
    fn only(&mut self, grouping: &'e Grouping) -> usize {
        if self.groups.is_empty() {
            self.groups.push(Group::of(grouping, Vec::new()));
        }
        0
    }

    fn number(&mut self, grouping: &'e Grouping, row: &Row<'_>) -> ControlFlow<(), usize> {
        self.form.clear();
        for key in &grouping.keys {
            encode_key(key, self.env, row, &mut self.form);
        }
        let (number, is_first) = self.table.insert(&self.form);
        if is_first {
            let keys = grouping.keys.iter();
            let keys = keys.map(|key| key_value(key, self.env, row)).collect();
            self.groups.push(Group::of(grouping, keys));
            let bytes = GROUP_BYTES * (1 + grouping.aggregates.len())
                + Table::bytes_of(&self.form)
                + self.form.len();
            if !self.held.add(bytes) {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(number)
    }

    /// The groups in the order of their keys. Without keys there is one, also over no rows.
    fn finish(mut self, grouping: &'e Grouping) -> impl Iterator<Item = Group<'e>> {
        let profile = self.env.profile();
        let start = profile.map_or(0, Profile::now);
        if grouping.keys.is_empty() {
            self.only(grouping);
        }
        let order = match grouping.keys.is_empty() {
            true => vec![0],
            false => self.table.into_sorted(),
        };
        let mut groups: Vec<Option<Group<'e>>> = self.groups.into_iter().map(Some).collect();
        if let (Some(profile), Some(part)) = (profile, self.part) {
            self.stats.documents_out = order.len() as u64;
            self.stats.nanos += profile.now().saturating_sub(start);
            profile.add(part, self.stats);
        }
        order
            .into_iter()
            .filter_map(move |number| groups[number].take())
    }
}

impl<'e> Group<'e> {
    fn of(grouping: &'e Grouping, keys: Vec<Option<Value>>) -> Self {
        Self {
            keys,
            states: grouping.aggregates.iter().map(State::new).collect(),
        }
    }
}

/// Shortens the lifetimes to those of the row.
fn add<'a, 'q: 'a>(state: &mut State<'q>, env: &Env<'a>, row: &Row<'a>) -> usize {
    state.add(env, row)
}

fn encode_key<'a>(key: &'a Expr, env: &Env<'a>, row: &Row<'a>, out: &mut Vec<u8>) {
    table::encode(eval(key, env, row).get(), out);
}

fn key_value<'a>(key: &'a Expr, env: &Env<'a>, row: &Row<'a>) -> Option<Value> {
    eval(key, env, row).get().cloned().map(canonical)
}

/// The columns of an output, if rows with equal columns are equal and the other way round.
fn columns(output: &Output) -> Option<Vec<&Expr>> {
    let (Items::Each(items), []) = (&output.items, output.without.as_slice()) else {
        return None;
    };
    let mut names = BTreeSet::new();
    let columns = items.iter().map(|item| match item {
        Item::Value(name, value) => names.insert(name).then_some(value),
        Item::Splice(_) => None,
    });
    columns.collect()
}

/// An output of nothing but whole fields of one document under their own names: they can be taken out
/// of it instead of being copied.
struct Taken<'e> {
    slot: usize,
    /// In their order.
    names: Vec<&'e str>,
}

impl<'e> Taken<'e> {
    fn of(output: &'e Output) -> Option<Self> {
        let (Items::Each(items), []) = (&output.items, output.without.as_slice()) else {
            return None;
        };
        let Some(Item::Value(_, Expr::Field(slot, _))) = items.first() else {
            return None;
        };
        let names = items.iter().map(|item| match item {
            Item::Value(name, Expr::Field(of, path))
                if of == slot && path.segments() == [name.as_str()] =>
            {
                Some(name.as_str())
            }
            _ => None,
        });
        let mut names: Vec<&str> = names.collect::<Option<_>>()?;
        names.sort_unstable();
        Some(Self { slot: *slot, names })
    }
}

/// The rows seen, for DISTINCT and UNION.
pub(super) struct Distinct<'e> {
    table: Table,
    form: Vec<u8>,
    held: Holding<'e>,
}

impl<'e> Distinct<'e> {
    pub(super) fn new(clause: &'static str, env: &'e Env<'e>) -> Self {
        Self {
            table: Table::default(),
            form: Vec::new(),
            held: Holding::new(env, clause),
        }
    }

    /// Whether an equal row was not seen before; breaks if the run has to end.
    pub(super) fn is_first(&mut self, item: &Object) -> ControlFlow<(), bool> {
        self.form.clear();
        for (name, value) in item {
            let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
            self.form.extend_from_slice(&len.to_le_bytes());
            self.form.extend_from_slice(name.as_bytes());
            table::encode(Some(value), &mut self.form);
        }
        self.note()
    }

    /// As [`Distinct::is_first`], by the values of the columns.
    fn is_first_of(
        &mut self,
        columns: &[&Expr],
        env: &Env<'_>,
        row: &Row<'_>,
    ) -> ControlFlow<(), bool> {
        self.form.clear();
        for column in columns {
            encode_key(column, env, row, &mut self.form);
        }
        self.note()
    }

    fn note(&mut self) -> ControlFlow<(), bool> {
        let (_, is_first) = self.table.insert(&self.form);
        match !is_first || self.held.add(Table::bytes_of(&self.form)) {
            true => ControlFlow::Continue(is_first),
            false => ControlFlow::Break(()),
        }
    }
}

pub(crate) fn project<'a>(
    items: &'a [Item],
    output: &Output,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Object {
    let mut fields = Object::new();
    for item in items {
        match item {
            Item::Splice(Expr::Row(source)) => {
                if let Some(document) = row.document(*source) {
                    fields.extend(document.clone());
                }
            }
            Item::Splice(expr) => {
                if let Some(Value::Object(more)) = env.own(eval(expr, env, row)) {
                    fields.extend(more);
                }
            }
            Item::Value(name, expr) => {
                if let Some(value) = env.own(eval(expr, env, row)) {
                    fields.insert(name.clone(), value);
                }
            }
        }
    }
    for path in &output.without {
        remove(&mut fields, path.segments());
    }
    fields
}

fn remove(fields: &mut Object, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            fields.remove(last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = fields.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}

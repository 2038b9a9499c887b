//! Evaluating expressions on a row.
//!
//! Evaluation never fails: what cannot be computed is MISSING, with a warning where the cause is a
//! wrong type. The work of one row is bounded by a byte budget ([`limits::EXPRESSION_BYTES_MAX`]);
//! when it is used up the row's expressions give MISSING and the statement fails afterwards.

mod arithmetic;
mod call;
mod collection;
mod logic;
pub(crate) mod pattern;
mod regex;

pub(crate) use arithmetic::whole;
pub(crate) use logic::equal;
pub(crate) use regex::{Dialect, Flags};
use regex::{Patterns, Regex};

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
};

use idem_model::{FieldPath, Object, Value, limits};

use crate::{
    bound::Query,
    error::{ErrorKind, QueryError, Warning},
    execute::Profile,
    expr::{Expr, Step, SubqueryKind},
    interrupt::{Gauge, StatementLimits, TICKS_PER_ROW},
    span::{Site, Span},
};

/// A value on its way: from the row or the arguments where possible, so that reading copies nothing.
#[derive(Debug, Clone)]
pub(crate) enum Val<'a> {
    Missing,
    Ref(&'a Value),
    Own(Value),
}

impl<'a> Val<'a> {
    pub(crate) const NULL: Self = Self::Ref(&Value::Null);

    pub(crate) fn bool(flag: bool) -> Self {
        Self::Ref(if flag {
            &Value::Bool(true)
        } else {
            &Value::Bool(false)
        })
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Own(Value::String(text.into()))
    }

    pub(crate) fn int(number: i64) -> Self {
        Self::Own(Value::Int(number))
    }

    /// A size as an integer.
    pub(crate) fn size(size: usize) -> Self {
        Self::int(i64::try_from(size).unwrap_or(i64::MAX))
    }

    /// A float; MISSING if it is not finite.
    pub(crate) fn float(number: f64) -> Self {
        Value::float(number).map_or(Self::Missing, Self::Own)
    }

    /// The value; `None` for MISSING.
    pub(crate) fn get(&self) -> Option<&Value> {
        match self {
            Self::Missing => None,
            Self::Ref(value) => Some(value),
            Self::Own(value) => Some(value),
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.get(), Some(Value::Null))
    }

    pub(crate) fn is_true(&self) -> bool {
        matches!(self.get(), Some(Value::Bool(true)))
    }

    /// The kind of the value, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        self.get().map_or("missing", Value::type_name)
    }

    fn from_option(value: Option<&'a Value>) -> Self {
        value.map_or(Self::Missing, Self::Ref)
    }
}

/// Work of an expression, as it is taken from the budget of a row, that counts as one evaluation: so
/// the interrupt is looked at once for 1 MiB of it, a thousandth of a second or so.
const BYTES_PER_TICK: usize = 1024;

/// What is the same for all rows of one run of a statement.
#[derive(Debug)]
pub(crate) struct Env<'a> {
    /// By slot.
    pub(crate) args: Vec<&'a Value>,
    pub(crate) now_ms: u64,
    /// The statement, to say where a warning comes from.
    pub(crate) text: &'a str,
    warnings: RefCell<Vec<(Span, Warning)>>,
    patterns: RefCell<Patterns>,
    budget: Cell<usize>,
    exhausted: Cell<bool>,
    gauge: Gauge<'a>,
    /// What the run did, if it is asked for.
    profile: Option<&'a Profile<'a>>,
    /// Rows looked at so far.
    rows: Cell<u64>,
    /// The only argument, if it may be taken: nothing else looks at it.
    documents: Option<&'a RefCell<Option<Value>>>,
}

impl<'a> Env<'a> {
    pub(crate) fn new(text: &'a str, args: Vec<&'a Value>, now_ms: u64) -> Self {
        Self {
            args,
            now_ms,
            text,
            warnings: RefCell::default(),
            patterns: RefCell::default(),
            budget: Cell::new(limits::EXPRESSION_BYTES_MAX),
            exhausted: Cell::new(false),
            gauge: Gauge::new(StatementLimits::default(), None),
            profile: None,
            rows: Cell::new(0),
            documents: None,
        }
    }

    /// The same environment with its only argument to be taken.
    pub(crate) fn with_documents(mut self, documents: Option<&'a RefCell<Option<Value>>>) -> Self {
        self.documents = documents;
        self
    }

    /// The documents of an INSERT that are the argument in `slot`.
    pub(crate) fn take_documents(&self, slot: usize) -> Value {
        let taken = self.documents.and_then(RefCell::take);
        taken.unwrap_or_else(|| self.args[slot].clone())
    }

    /// The same environment with other bounds than the default ones.
    pub(crate) fn with_gauge(mut self, gauge: Gauge<'a>) -> Self {
        self.gauge = gauge;
        self
    }

    /// The same environment for a run that is measured.
    pub(crate) fn with_profile(mut self, profile: &'a Profile<'a>) -> Self {
        self.profile = Some(profile);
        self
    }

    pub(crate) fn profile(&self) -> Option<&'a Profile<'a>> {
        self.profile
    }

    /// How many rows were looked at so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.get()
    }

    /// Takes back the count of rows, behind those of a subquery.
    pub(crate) fn set_rows(&self, rows: u64) {
        self.rows.set(rows);
    }

    /// Gives the next row its full budget, or none if the run has to end.
    pub(crate) fn next_row(&self) {
        self.gauge.tick(TICKS_PER_ROW);
        self.rows.set(self.rows.get().wrapping_add(1));
        self.budget.set(match self.interrupted() {
            false => limits::EXPRESSION_BYTES_MAX,
            true => 0,
        });
    }

    /// Whether the run has to end: whoever walks rows breaks then, and [`Env::finish`] says why.
    pub(crate) fn interrupted(&self) -> bool {
        self.gauge.is_stopped()
    }

    /// Counts bytes that `clause` holds from now on; `false` if the run has to end.
    pub(crate) fn charge(&self, clause: &'static str, bytes: usize) -> bool {
        self.gauge.charge(clause, bytes)
    }

    /// Counts one step of work that is not a row, such as a write: an error if the run has to end.
    pub(crate) fn step(&self) -> Result<(), QueryError> {
        self.gauge.tick(TICKS_PER_ROW);
        self.gauge.finish()
    }

    /// Counts work that gives no row, such as an entry of an index that is left out; `false` if the run
    /// has to end.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on_after(1)
    }

    /// As [`Env::goes_on`], behind so many steps of work.
    pub(crate) fn goes_on_after(&self, steps: usize) -> bool {
        self.gauge.tick(u32::try_from(steps).unwrap_or(u32::MAX));
        !self.interrupted()
    }

    /// Ends the run because of an error that somebody else keeps.
    pub(crate) fn fail(&self) {
        self.gauge.fail();
    }

    /// What is left of the row's budget.
    pub(crate) fn budget(&self) -> usize {
        self.budget.get()
    }

    /// Puts back what [`Env::budget`] gave, behind the rows of a subquery; nothing if the run has to
    /// end.
    pub(crate) fn set_budget(&self, bytes: usize) {
        self.budget.set(if self.interrupted() { 0 } else { bytes });
    }

    /// Counts bytes that are not held any more.
    pub(crate) fn release(&self, bytes: usize) {
        self.gauge.release(bytes);
    }

    /// Takes from the row's budget; `false` if it is used up.
    pub(crate) fn spend(&self, bytes: usize) -> bool {
        let more = u32::try_from(bytes / BYTES_PER_TICK).unwrap_or(u32::MAX);
        self.gauge.tick(more.saturating_add(1));
        if self.interrupted() {
            return false;
        }
        match self.budget.get().checked_sub(bytes) {
            Some(rest) => {
                self.budget.set(rest);
                true
            }
            None => {
                self.exhausted.set(true);
                false
            }
        }
    }

    /// The error of a run that was stopped, or in which a row used up its budget.
    pub(crate) fn finish(&self) -> Result<(), QueryError> {
        self.gauge.finish()?;
        match self.exhausted.get() {
            false => Ok(()),
            true => Err(QueryError::new(
                ErrorKind::Evaluation,
                format!(
                    "an expression made values, or did work, worth more than {} bytes for one row",
                    limits::EXPRESSION_BYTES_MAX
                ),
            )),
        }
    }

    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let warnings = self.warnings.take();
        warnings.into_iter().map(|(_, warning)| warning).collect()
    }

    /// Whether one more warning would be kept. Who has to search for its place asks first.
    pub(crate) fn has_room_for_warnings(&self) -> bool {
        self.warnings.borrow().len() < limits::QUERY_WARNINGS_MAX
    }

    /// Notes what was found when the statement was bound.
    pub(crate) fn warn_of(&self, warnings: &[Warning]) {
        let warnings = warnings.iter().cloned();
        let placed = warnings.map(|warning| (Span::default(), warning));
        self.warnings.borrow_mut().extend(placed);
    }

    /// Notes a warning, once per place: the rows that follow mostly say the same again.
    pub(crate) fn warn(&self, span: Span, message: impl FnOnce() -> String) {
        let mut warnings = self.warnings.borrow_mut();
        let known = warnings.iter().any(|(place, _)| *place == span);
        let has_place = span.end > span.start;
        if warnings.len() >= limits::QUERY_WARNINGS_MAX || (known && has_place) {
            return;
        }
        let warning = Warning {
            message: message(),
            position: has_place.then(|| span.position(self.text)),
        };
        if !warnings.iter().any(|(_, known)| *known == warning) {
            warnings.push((span, warning));
        }
    }

    /// A compiled pattern, kept for the next rows, or why it is none.
    pub(crate) fn regex(&self, dialect: Dialect, pattern: &str) -> Result<Rc<Regex>, Rc<str>> {
        self.patterns.borrow_mut().get(dialect, pattern)
    }

    /// The value as one of its own; copying is paid from the budget.
    pub(crate) fn own(&self, value: Val<'_>) -> Option<Value> {
        match value {
            Val::Missing => None,
            Val::Own(value) => Some(value),
            Val::Ref(value) => self.spend(weight(value)).then(|| value.clone()),
        }
    }
}

/// What a copy of a whole document is counted as.
fn document_weight(fields: &Object) -> usize {
    let fields = fields.iter();
    let bytes: usize = fields.map(|(name, value)| name.len() + weight(value)).sum();
    bytes.max(limits::EXPRESSION_ROW_BYTES)
}

/// About how many bytes of memory a value takes.
pub(crate) fn weight(value: &Value) -> usize {
    const NODE: usize = 32;
    match value {
        Value::String(text) => NODE + text.len(),
        Value::Binary(bytes) => NODE + bytes.len(),
        Value::Array(items) => NODE + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => {
            NODE + fields
                .iter()
                .map(|(name, value)| NODE + name.len() + weight(value))
                .sum::<usize>()
        }
        _ => NODE,
    }
}

/// Slots of a row that need no allocation: joins of more than this are rare.
const SLOTS_INLINE: usize = 6;

/// What a source contributes to a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot<'a> {
    /// An outer join found no partner.
    Absent,
    Document(&'a Object),
    /// An element that UNNEST gave.
    Value(&'a Value),
}

/// What an expression sees: the values of the sources, the variables around it, the group it is about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row<'a> {
    pub(crate) slots: &'a [Slot<'a>],
    pub(crate) locals: Option<&'a Local<'a>>,
    pub(crate) keys: &'a [Option<Value>],
    pub(crate) aggregates: &'a [Option<Value>],
    /// Answers what needs more than the row. Without it such expressions are MISSING.
    pub(crate) host: Option<&'a dyn Host>,
}

/// Evaluates what needs the data: subqueries and what a document keeps beside its values. A failure
/// gives MISSING here; the host keeps it, and whoever made the host reports it.
pub(crate) trait Host {
    /// The value of a subquery on a row.
    fn subquery(
        &self,
        kind: SubqueryKind,
        query: &Query,
        site: Site,
        env: &Env<'_>,
        row: &Row<'_>,
    ) -> Option<Value>;

    /// Whether a value is among those that a subquery gives.
    fn find(&self, wanted: &Value, query: &Query, env: &Env<'_>, row: &Row<'_>) -> Found;

    /// The concurrent values of a field of the document in a slot, newest first.
    fn conflicts(
        &self,
        slot: usize,
        path: &FieldPath,
        env: &Env<'_>,
        row: &Row<'_>,
    ) -> Option<Value>;

    /// The version vector of the document in a slot: actor to number.
    fn version(&self, slot: usize, env: &Env<'_>, row: &Row<'_>) -> Option<Value>;
}

/// What of a value is among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) equal: bool,
    /// Whether null is among them, as far as it was looked for.
    pub(crate) null: bool,
}

impl fmt::Debug for dyn Host + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// A variable of a collection expression.
#[derive(Debug)]
pub(crate) struct Local<'a> {
    pub(crate) value: &'a Value,
    pub(crate) outer: Option<&'a Self>,
}

impl<'a> Row<'a> {
    /// A row of these slots alone.
    pub(crate) fn of(slots: &'a [Slot<'a>]) -> Self {
        Self {
            slots,
            ..Self::default()
        }
    }

    /// Calls `f` with the slots and variables of this row, and one slot behind them. Slots between
    /// are absent.
    pub(crate) fn with_slot<R>(
        &self,
        at: usize,
        slot: Slot<'_>,
        f: impl FnOnce(&Row<'_>) -> R,
    ) -> R {
        let around = Row {
            keys: &[],
            aggregates: &[],
            ..*self
        };
        if at == 0 {
            return f(&Row {
                slots: &[slot],
                ..around
            });
        }
        let known = &self.slots[..self.slots.len().min(at)];
        if at < SLOTS_INLINE {
            let mut slots = [Slot::Absent; SLOTS_INLINE];
            slots[..known.len()].copy_from_slice(known);
            slots[at] = slot;
            return f(&Row {
                slots: &slots[..=at],
                ..around
            });
        }
        let mut slots = Vec::with_capacity(at + 1);
        slots.extend_from_slice(known);
        slots.resize(at, Slot::Absent);
        slots.push(slot);
        f(&Row {
            slots: &slots,
            ..around
        })
    }

    /// The document in a slot.
    pub(crate) fn document(&self, slot: usize) -> Option<&'a Object> {
        match self.slots.get(slot)? {
            Slot::Absent => None,
            Slot::Document(fields) => Some(fields),
            Slot::Value(value) => value.as_object(),
        }
    }

    /// The row without so many of its innermost variables.
    fn outside(&self, fewer: usize) -> Self {
        let mut locals = self.locals;
        for _ in 0..fewer {
            locals = locals.and_then(|local| local.outer);
        }
        Self { locals, ..*self }
    }

    fn local(&self, index: usize) -> Option<&'a Value> {
        let mut local = self.locals?;
        for _ in 0..index {
            local = local.outer?;
        }
        Some(local.value)
    }
}

/// The value of `expr` on `row`.
pub(crate) fn eval<'a>(expr: &'a Expr, env: &Env<'a>, row: &Row<'a>) -> Val<'a> {
    match expr {
        Expr::Literal(value) => Val::Ref(value),
        Expr::Missing => Val::Missing,
        Expr::Param(slot) => Val::Ref(env.args[*slot]),
        Expr::Field(source, path) => {
            Val::from_option(row.document(*source).and_then(|fields| path.find(fields)))
        }
        Expr::Row(source) => match row.slots.get(*source) {
            // Large documents are paid by their size: an expression may name one thousands of times.
            Some(Slot::Document(fields)) if env.spend(document_weight(fields)) => {
                Val::Own(Value::Object((*fields).clone()))
            }
            Some(Slot::Value(value)) => Val::Ref(value),
            _ => Val::Missing,
        },
        Expr::Subquery(..) | Expr::Conflicts(..) | Expr::Version(_) => hosted(expr, env, row),
        Expr::Local(index) => Val::from_option(row.local(*index)),
        Expr::Key(index) => Val::from_option(row.keys.get(*index).and_then(Option::as_ref)),
        Expr::Aggregate(index) => {
            Val::from_option(row.aggregates.get(*index).and_then(Option::as_ref))
        }
        Expr::Outside(fewer, inner) => eval(inner, env, &row.outside(*fewer)),
        Expr::Truth(inner, site) => logic::condition(inner, *site, env, row),
        Expr::Access(base, steps) => access(eval(base, env, row), steps, env, row),
        Expr::Array(items) => {
            let values = items
                .iter()
                .map(|item| env.own(eval(item, env, row)).unwrap_or(Value::Null));
            Val::Own(Value::Array(values.collect()))
        }
        Expr::Object(fields, site) => object(fields, *site, env, row),
        Expr::Not(..) | Expr::And(..) | Expr::Or(..) | Expr::Xor(..) => {
            logic::logic(expr, env, row)
        }
        Expr::Compare(op, left, right) => match (named(left, env, row), named(right, env, row)) {
            (Some(left), Some(right)) => logic::compare_values(*op, left, right),
            _ => logic::compare(*op, &eval(left, env, row), &eval(right, env, row)),
        },
        Expr::Between(parts, negated) => {
            let [value, low, high] = &**parts;
            logic::between(
                &eval(value, env, row),
                &eval(low, env, row),
                &eval(high, env, row),
                *negated,
            )
        }
        Expr::In(parts, negated, site) => {
            let [value, list] = &**parts;
            logic::is_in(value, list, *negated, *site, env, row)
        }
        Expr::Like(like) => pattern::like(like, env, row),
        Expr::Is(value, test, negated) => logic::is(&eval(value, env, row), *test, *negated),
        Expr::Negate(value, site) => arithmetic::negate(&eval(value, env, row), *site, env),
        Expr::Chain(first, rest, site) => arithmetic::chain(first, rest, *site, env, row),
        Expr::Cast(value, to, site) => arithmetic::cast(eval(value, env, row), *to, *site, env),
        Expr::Case(case) => logic::case(case, env, row),
        Expr::Call(function, args, site) => call::call(function, args, *site, env, row),
        Expr::Quantified(kind, range, satisfies) => {
            collection::quantified(*kind, range, satisfies, env, row)
        }
        Expr::ArrayOf(item, range, when) => {
            collection::array_of(item, range, when.as_deref(), env, row)
        }
        Expr::ObjectOf(parts, range, when, site) => {
            collection::object_of(parts, range, when.as_deref(), *site, env, row)
        }
    }
}

/// The value of an expression that only names it, `Some(None)` for MISSING; `None` for any other
/// expression. The conditions of scans are mostly made of these.
#[inline]
fn named<'a>(expr: &'a Expr, env: &Env<'a>, row: &Row<'a>) -> Option<Option<&'a Value>> {
    match expr {
        Expr::Literal(value) => Some(Some(value)),
        Expr::Param(slot) => Some(Some(env.args[*slot])),
        Expr::Field(source, path) => {
            let fields = row.document(*source);
            Some(fields.and_then(|fields| path.find(fields)))
        }
        _ => None,
    }
}

/// What needs more than the row.
fn hosted<'a>(expr: &'a Expr, env: &Env<'a>, row: &Row<'a>) -> Val<'a> {
    let answer = row.host.and_then(|host| match expr {
        Expr::Subquery(kind, query, site) => host.subquery(*kind, query, *site, env, row),
        Expr::Conflicts(slot, path) => host.conflicts(*slot, path, env, row),
        Expr::Version(slot) => host.version(*slot, env, row),
        _ => None,
    });
    answer.map_or(Val::Missing, Val::Own)
}

/// Whether a condition holds: only `true` does.
pub(crate) fn holds<'a>(condition: &'a Expr, env: &Env<'a>, row: &Row<'a>) -> bool {
    eval(condition, env, row).is_true()
}

fn access<'a>(base: Val<'a>, steps: &'a [Step], env: &Env<'a>, row: &Row<'a>) -> Val<'a> {
    let mut current = base;
    for step in steps {
        let next = match step {
            Step::Name(name) => Key::Name(name),
            Step::Index(index) => match eval(index, env, row) {
                Val::Ref(Value::String(name)) => Key::Name(name),
                Val::Ref(Value::Int(at)) => Key::At(*at),
                Val::Own(Value::Int(at)) => Key::At(at),
                Val::Own(Value::String(name)) => Key::Owned(name),
                _ => return Val::Missing,
            },
        };
        current = match current {
            Val::Missing => return Val::Missing,
            Val::Ref(value) => Val::from_option(member(value, &next)),
            Val::Own(value) => member_owned(value, &next).map_or(Val::Missing, Val::Own),
        };
    }
    current
}

enum Key<'a> {
    Name(&'a str),
    Owned(String),
    At(i64),
}

impl Key<'_> {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Owned(name) => Some(name),
            Self::At(_) => None,
        }
    }

    /// The place in an array of `len`; a negative index counts from the end.
    fn index(&self, len: usize) -> Option<usize> {
        match self {
            Self::At(at) if *at >= 0 => usize::try_from(*at).ok().filter(|at| *at < len),
            Self::At(at) => usize::try_from(at.unsigned_abs())
                .ok()
                .and_then(|back| len.checked_sub(back)),
            _ => None,
        }
    }
}

fn member<'a>(value: &'a Value, key: &Key<'_>) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(key.name()?),
        Value::Array(items) => items.get(key.index(items.len())?),
        _ => None,
    }
}

fn member_owned(value: Value, key: &Key<'_>) -> Option<Value> {
    match value {
        Value::Object(mut fields) => fields.remove(key.name()?),
        Value::Array(mut items) => {
            let at = key.index(items.len())?;
            Some(items.swap_remove(at))
        }
        _ => None,
    }
}

fn object<'a>(fields: &'a [(Expr, Expr)], site: Site, env: &Env<'a>, row: &Row<'a>) -> Val<'a> {
    let mut object = Object::new();
    for (name, value) in fields {
        let name = match env.own(eval(name, env, row)) {
            Some(Value::String(name)) => name,
            other => {
                let found = other.as_ref().map_or("missing", Value::type_name);
                if site.is_nowhere() {
                    continue;
                }
                env.warn(site.0, || {
                    format!("a field of the object was left out: its name is {found}, not a string; quote a literal name")
                });
                continue;
            }
        };
        if let Some(value) = env.own(eval(value, env, row)) {
            object.insert(name, value);
        }
    }
    Val::Own(Value::Object(object))
}

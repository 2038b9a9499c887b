//! PROFILE: what a run did, measured only when it is asked for.

use std::{cell::RefCell, collections::BTreeMap, fmt};

use idem_model::{Object, Value};

use super::Context;
use crate::bound::{Body, FromItem, Select};

/// Nanoseconds since any fixed moment.
pub type Clock<'a> = dyn Fn() -> u64 + 'a;

/// What one run did so far. Parts of the statement are known by their address, which stays the same
/// while it runs.
pub(crate) struct Profile<'a> {
    clock: Option<&'a Clock<'a>>,
    stats: RefCell<BTreeMap<usize, Stats>>,
    /// Nanoseconds spent on deciding how rows are found.
    planning: RefCell<u64>,
}

/// What went through one operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) documents_in: u64,
    pub(crate) documents_out: u64,
    /// Nanoseconds that it took itself, without what it gave its rows to.
    pub(crate) nanos: u64,
}

impl fmt::Debug for Profile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl<'a> Profile<'a> {
    pub(super) fn new(clock: Option<&'a Clock<'a>>) -> Self {
        Self {
            clock,
            stats: RefCell::default(),
            planning: RefCell::default(),
        }
    }

    /// The time of now; 0 without a clock.
    pub(super) fn now(&self) -> u64 {
        self.clock.map_or(0, |clock| clock())
    }

    pub(super) fn add_planning(&self, since: u64) {
        *self.planning.borrow_mut() += self.now().saturating_sub(since);
    }

    fn add(&self, part: usize, more: Stats) {
        let mut all = self.stats.borrow_mut();
        let stats = all.entry(part).or_default();
        stats.documents_in += more.documents_in;
        stats.documents_out += more.documents_out;
        stats.nanos += more.nanos;
    }

    pub(super) fn add_to_item(&self, item: &FromItem, more: Stats) {
        self.add(std::ptr::from_ref(item).addr(), more);
    }

    /// Adds what came out of the joins of a branch and of the branch itself.
    pub(super) fn add_to_branch(&self, branch: &Select, more: Stats) {
        self.add(std::ptr::from_ref(branch).addr(), more);
    }

    /// What went through a source, if it was read.
    pub(crate) fn of_item(&self, item: &FromItem) -> Option<Value> {
        self.of(std::ptr::from_ref(item).addr())
    }

    /// What went through a branch, if it was run.
    pub(crate) fn of_branch(&self, branch: &Select) -> Option<Value> {
        self.of(std::ptr::from_ref(branch).addr())
    }

    fn of(&self, part: usize) -> Option<Value> {
        let stats = *self.stats.borrow().get(&part)?;
        Some(Value::Object(Object::from([
            ("documentsIn".to_owned(), number(stats.documents_in)),
            ("documentsOut".to_owned(), number(stats.documents_out)),
            (
                "phaseTimes".to_owned(),
                Value::Object(Object::from([("run".to_owned(), number(stats.nanos))])),
            ),
        ])))
    }

    /// The last row of PROFILE.
    pub(super) fn row(&self, body: &Body, plan: Value, run: &Finished) -> Object {
        let times = Object::from([
            (
                "elapsed".to_owned(),
                number(self.now().saturating_sub(run.start)),
            ),
            ("parse".to_owned(), number(run.parse_nanos)),
            ("plan".to_owned(), number(*self.planning.borrow())),
        ]);
        let profile = Object::from([
            ("plan".to_owned(), plan),
            ("queryType".to_owned(), query_type(body).into()),
            ("resultCount".to_owned(), number(run.rows)),
            ("state".to_owned(), "completed".into()),
            ("times".to_owned(), Value::Object(times)),
        ]);
        Object::from([("~request_profile".to_owned(), Value::Object(profile))])
    }
}

/// A run that came to its end.
pub(super) struct Finished {
    /// The time at which it began.
    pub(super) start: u64,
    pub(super) parse_nanos: u64,
    pub(super) rows: u64,
}

impl Finished {
    /// A run that begins now.
    pub(super) fn starts(profile: &Profile<'_>, context: &Context<'_>) -> Self {
        Self {
            start: profile.now(),
            parse_nanos: context.parse_nanos,
            rows: 0,
        }
    }
}

fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn query_type(body: &Body) -> &'static str {
    match body {
        Body::Select(_) => "select",
        Body::Insert(_) => "insert",
        Body::Update(_) => "update",
        Body::Delete(delete) if delete.evict => "evict",
        Body::Delete(_) => "delete",
        Body::CreateIndex { .. } => "createIndex",
        Body::DropIndex { .. } => "dropIndex",
        Body::CreateCollection { .. } => "createCollection",
        Body::AlterSet { .. } | Body::AlterReset { .. } => "alterSystem",
        Body::Show { .. } | Body::ShowAll(_) => "show",
        Body::Call { .. } => "executeFunction",
        _ => "explain",
    }
}

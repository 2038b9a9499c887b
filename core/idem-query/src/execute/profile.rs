//! PROFILE: what a run did, measured only when it is asked for.

use std::{cell::RefCell, collections::BTreeMap, fmt};

use idem_model::{Object, Value};

use super::Context;
use crate::bound::{Body, FromItem, Select, Window};

/// Nanoseconds since any fixed moment.
pub type Clock<'a> = dyn Fn() -> u64 + 'a;

/// What one run did so far. The address of a part of the statement stays the same while it runs.
pub(crate) struct Profile<'a> {
    clock: Option<&'a Clock<'a>>,
    stats: RefCell<BTreeMap<Part, Stats>>,
    /// Nanoseconds spent on deciding how rows are found.
    planning: RefCell<u64>,
}

/// A part of the statement that is measured, by its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Where the rows of a source are found.
    Item(usize),
    /// All of a branch.
    Branch(usize),
    /// The GROUP BY of a branch.
    Groups(usize),
    /// An ORDER BY.
    Sort(usize),
}

impl Part {
    pub(crate) fn item(item: &FromItem) -> Self {
        Self::Item(std::ptr::from_ref(item).addr())
    }

    pub(crate) fn branch(branch: &Select) -> Self {
        Self::Branch(std::ptr::from_ref(branch).addr())
    }

    pub(crate) fn groups(branch: &Select) -> Self {
        Self::Groups(std::ptr::from_ref(branch).addr())
    }

    pub(crate) fn sort(window: &Window) -> Self {
        Self::Sort(std::ptr::from_ref(window).addr())
    }
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

    pub(super) fn add(&self, part: Part, more: Stats) {
        let mut all = self.stats.borrow_mut();
        let stats = all.entry(part).or_default();
        stats.documents_in += more.documents_in;
        stats.documents_out += more.documents_out;
        stats.nanos += more.nanos;
    }

    /// What went through a part, if it was run.
    pub(crate) fn of(&self, part: Part) -> Option<Value> {
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

//! EXPLAIN: what would be decided, shown.

use idem_model::Value;

use super::{
    join::{Method, Plan},
    profile::{Part, Profile},
    rows::{self, Path},
};
use crate::{
    bound::{Body, Order, Scan, Select},
    error::ExecuteError,
    plan::{self, Decided, Decisions, Wish},
    source::Source,
    statement::Statement,
};

/// The plan of a statement, with what happened in a run that was measured.
pub(super) fn plan<S: Source>(
    body: &Body,
    statement: &Statement,
    source: &S,
    profile: Option<&Profile<'_>>,
) -> Result<Value, ExecuteError<S::Error>> {
    named(body, statement, source, profile, |method| match method {
        Method::Nested | Method::Held => "nlJoin",
        Method::HashHere | Method::HashBefore => "hashJoin",
    })
}

/// The plan of a statement in which every method of joining has a name of its own.
#[cfg(feature = "__oracle")]
pub(crate) fn detailed<S: Source>(
    statement: &Statement,
    source: &S,
) -> Result<Value, ExecuteError<S::Error>> {
    let body = statement.body();
    named(body, statement, source, None, |method| match method {
        Method::Nested => "nestedJoin",
        Method::Held => "heldJoin",
        Method::HashHere => "hashHereJoin",
        Method::HashBefore => "hashBeforeJoin",
    })
}

/// The plan with names for the methods of joining.
fn named<S: Source>(
    body: &Body,
    statement: &Statement,
    source: &S,
    profile: Option<&Profile<'_>>,
    name: fn(Method) -> &'static str,
) -> Result<Value, ExecuteError<S::Error>> {
    let mut explainer = Explainer {
        text: statement.text(),
        source,
        profile,
        name,
        error: None,
    };
    let plan = plan::describe(body, &mut explainer, statement.parameters());
    match explainer.error {
        Some(error) => Err(error),
        None => Ok(plan),
    }
}

struct Explainer<'e, S: Source> {
    text: &'e str,
    source: &'e S,
    profile: Option<&'e Profile<'e>>,
    /// What a method of joining is called.
    name: fn(Method) -> &'static str,
    /// The first error.
    error: Option<ExecuteError<S::Error>>,
}

impl<S: Source> Explainer<'_, S> {
    fn keep<T: Default>(&mut self, result: Result<T, ExecuteError<S::Error>>) -> T {
        result.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            T::default()
        })
    }

    fn decide_branch(
        &self,
        branch: &Select,
        order: &[Order],
        limit: Option<usize>,
    ) -> Result<Decided, ExecuteError<S::Error>> {
        let totals = rows::totals(branch, self.text, self.source)?;
        let plan = Plan::new(branch, order, limit, (self.text, self.source))?;
        let order = plan.order_left(branch, order).into_owned();
        let sources = plan.steps.into_iter();
        let sources = sources.map(|step| (step.path, (self.name)(step.method)));
        Ok(Decided {
            sources: sources.collect(),
            order,
            totals: totals.unwrap_or_default(),
        })
    }

    fn decide_scan(
        &self,
        scan: &Scan,
        limit: Option<usize>,
    ) -> Result<Decided, ExecuteError<S::Error>> {
        let wish = Wish {
            order: &scan.window.order,
            limit,
            joined: false,
        };
        let path = Path::choose_for(&scan.item, &wish, self.text, self.source)?;
        let order = path.order_left(&scan.item, &scan.window.order).into_owned();
        Ok(Decided {
            sources: vec![(path, "")],
            order,
            totals: Vec::new(),
        })
    }
}

impl<S: Source> Decisions for Explainer<'_, S> {
    fn branch(&mut self, branch: &Select, order: &[Order], limit: Option<usize>) -> Decided {
        let decided = self.decide_branch(branch, order, limit);
        self.keep(decided)
    }

    fn scan(&mut self, scan: &Scan, limit: Option<usize>) -> Decided {
        let decided = self.decide_scan(scan, limit);
        self.keep(decided)
    }

    fn stats(&self, part: Part) -> Option<Value> {
        self.profile?.of(part)
    }
}

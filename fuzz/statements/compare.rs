//! Statements run as they are planned and naively, and their results beside each other.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::{CollectionName, DocId, Object, Value, json, limits};
use idem_query::{
    Context, ErrorKind, ExecuteError, NaiveError, NaiveOutput, QueryError, Warning, detailed_plan,
    evaluate_naively, execute, operators_of, parse,
};
use idem_store::{Incoming, IncomingState, Store, StoreConfig, StoreError};

use super::{
    Script, Tallies,
    documents::COLLECTIONS,
    effect::{Change, Insertion},
    expression::CONFLICTING,
    facts::{Facts, Told},
    script::{FORK, RIVAL},
    tally::bump,
    watched::Watched,
};
use crate::double::{Memory, NOW_MS};

/// Rows and pairs that the naive evaluator may look at for one statement.
const STEPS_MAX: usize = 10_000;

/// What came of a script that did not fail.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Check {
    /// Statements whose results were compared.
    pub(crate) compared: usize,
}

/// Runs a script on the double of the store.
pub(crate) fn compare_on_double(script: &Script, tallies: &Tallies) -> Result<Check, String> {
    let mut check = Check::default();
    let mut memory = Memory::default();
    for line in &script.lines {
        if is_query(line) {
            bump(&tallies.statements);
            let watched = Watched::of(&memory, &Facts::Invented);
            let expected = naive(line, &script.args, &watched);
            if matches!(expected, Err(None)) {
                // What is too large for one is too slow for the other.
                bump(&tallies.too_large);
                continue;
            }
            let operators = detailed_plan(line, &watched).map(|plan| operators_of(&plan));
            let operators = operators.unwrap_or_default();
            let watched = Watched::of(&memory, &Facts::Invented);
            let given = planned(line, &script.args, &watched);
            let judged = judge(line, expected, given, &operators, tallies)?;
            if judged {
                check.compared += 1;
                note(tallies, &operators);
            }
            watched.note(tallies);
            continue;
        }
        if !is_change(line) {
            if memory.run(line, &script.args).is_ok() && !line.contains(" DOCUMENTS (") {
                tallies.note_text(line);
            }
            continue;
        }
        let facts = &Facts::Absent;
        let expected = Expected::of(line, &script.args, &memory, facts);
        let plan = detailed_plan(line, &memory).map(|plan| operators_of(&plan));
        let before = memory.clone();
        let given = memory.run(line, &script.args);
        let given = given.map(|output| (output.mutated_ids, output.items));
        if given.is_ok() {
            tallies.note_text(line);
            note(tallies, &plan.unwrap_or_default());
        }
        let (before, after) = ((&before, facts), (&memory, facts));
        expected.judge(line, &script.args, before, after, given, tallies)?;
    }
    Ok(check)
}

/// Runs a script on a store, and compares each statement with the naive one over what a plain scan
/// gives.
pub(crate) fn compare_on_store(script: &Script, tallies: &Tallies) -> Result<Check, String> {
    let mut check = Check::default();
    let store = open(1);
    let mut rival = None;
    let (mut twin, mut facts) = dump(&store)?;
    for line in &script.lines {
        if line.starts_with("-- ") {
            if mark(line, &store, &mut rival, &script.args)? {
                bump(&tallies.rivals);
                (twin, facts) = dump(&store)?;
            }
            continue;
        }
        let is_query = is_query(line);
        let expected = is_query.then(|| {
            bump(&tallies.statements);
            naive(line, &script.args, &Watched::of(&twin, &facts))
        });
        if let Some(Err(None)) = expected {
            bump(&tallies.too_large);
            continue;
        }
        let change = (!is_query).then(|| Expected::of(line, &script.args, &twin, &facts));
        let operators = match line.len() % 4 {
            0 => operators_on(&store, line),
            _ => BTreeSet::new(),
        };
        let result = store.execute(line, script.args.clone());
        let given = match result {
            Ok(result) => {
                note(tallies, &operators);
                Ok(result)
            }
            Err(StoreError::Query(error)) => Err(error),
            Err(
                error @ (StoreError::Poisoned { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Engine(_)
                | StoreError::Log(_)),
            ) => return Err(format!("{line}: {error}")),
            Err(_) => continue,
        };
        if let Some(expected) = expected {
            let given = given.map(|result| (result.items, result.warnings));
            // Another plan than the double's may be behind it.
            let judged = judge(line, expected, given, &BTreeSet::new(), tallies)?;
            check.compared += usize::from(judged);
            continue;
        }
        if given.is_ok() && !line.contains(" DOCUMENTS (") {
            tallies.note_text(line);
        }
        let (next, next_facts) = dump(&store)?;
        if let (Some(expected), true) = (change, is_change(line)) {
            let given = given.map(|result| (result.mutated_document_ids, result.items));
            let (before, after) = ((&twin, &facts), (&next, &next_facts));
            expected.judge(line, &script.args, before, after, given, tallies)?;
        }
        (twin, facts) = (next, next_facts);
    }
    Ok(check)
}

fn note(tallies: &Tallies, operators: &BTreeSet<String>) {
    operators
        .iter()
        .for_each(|operator| tallies.operators.bump(operator));
}

fn open(seed: u64) -> Store {
    let config = StoreConfig::memory()
        .background_threads(false)
        .entropy_seed(seed);
    Store::open(config).expect("a store in memory opens")
}

fn operators_on(store: &Store, line: &str) -> BTreeSet<String> {
    let result = store.execute(format!("EXPLAIN {line}").as_str(), Object::new());
    let row = result
        .ok()
        .and_then(|result| result.items.into_iter().next());
    let plan = row.and_then(|mut row| row.remove("plan"));
    plan.map(|plan| operators_of(&plan)).unwrap_or_default()
}

/// Does what a mark of a script says; gives whether documents of the store changed.
fn mark(
    line: &str,
    store: &Store,
    rival: &mut Option<Store>,
    args: &Object,
) -> Result<bool, String> {
    if line == FORK {
        let other = rival.insert(open(2));
        send(store, other)?;
        return Ok(false);
    }
    let Some(other) = rival else {
        return Ok(false);
    };
    if let Some(statement) = line.strip_prefix(RIVAL) {
        let _valid = other.execute(statement, args.clone());
        return Ok(false);
    }
    send(other, store)?;
    Ok(true)
}

/// Gives everything that one store has to another.
fn send(from: &Store, to: &Store) -> Result<(), String> {
    for name in COLLECTIONS {
        let name = CollectionName::new(name).expect("it is a name");
        let batch = from.changed_since(&name, 0, 0, usize::MAX);
        let batch = batch.map_err(|error| format!("what changed: {error}"))?;
        let incoming = batch.groups.into_iter().flatten().map(|changed| Incoming {
            key: changed.key,
            group: 0,
            state: IncomingState::Whole(changed.document),
        });
        let report = to.apply(incoming.collect(), &[]);
        let report = report.map_err(|error| format!("applying: {error}"))?;
        if !report.is_applied() {
            return Err(format!(
                "what a store has is refused: {:?}",
                report.outcomes
            ));
        }
    }
    Ok(())
}

/// The documents of a store as a scan of everything gives them, and what it knows of them besides.
fn dump(store: &Store) -> Result<(Memory, Facts), String> {
    let mut memory = Memory::default();
    let mut told: BTreeMap<(CollectionName, DocId), Told> = BTreeMap::new();
    let conflicts: String = CONFLICTING
        .iter()
        .enumerate()
        .map(|(at, path)| format!(", conflicts({path}) AS c{at}"))
        .collect();
    for collection in COLLECTIONS {
        let rows = |text: &str| {
            let result = store.execute(text, Object::new());
            let result = result.map_err(|error| format!("{text}: {error}"))?;
            Ok::<_, String>(result.items)
        };
        let documents = rows(&format!("SELECT * FROM {collection} USE INDEX ''"))?;
        if documents.is_empty() {
            continue;
        }
        let documents = documents.into_iter().map(Value::Object).collect();
        let args = Object::from([("documents".to_owned(), Value::Array(documents))]);
        let text = format!("INSERT INTO {collection} DOCUMENTS (:documents)");
        memory
            .run(&text, &args)
            .map_err(|error| format!("the twin refuses documents of {collection}: {error}"))?;
        let name = CollectionName::new(collection).expect("it is a name");
        let text = format!(
            "SELECT _id, document_version() AS v{conflicts} FROM {collection} USE INDEX ''"
        );
        for mut row in rows(&text)? {
            let id = row.remove("_id").and_then(|id| DocId::new(id).ok());
            let Some(id) = id else {
                return Err(format!("{collection} has a document without an id"));
            };
            let entry = told.entry((name.clone(), id)).or_default();
            if let Some(Value::Object(version)) = row.remove("v") {
                entry.version = Some(version);
            }
            for (at, path) in CONFLICTING.iter().enumerate() {
                if let Some(Value::Array(values)) = row.remove(&format!("c{at}")) {
                    entry.conflicts.insert((*path).to_owned(), values);
                }
            }
        }
    }
    Ok((memory, Facts::Told(told)))
}

fn is_query(line: &str) -> bool {
    line.starts_with("SELECT") || line.starts_with('(')
}

/// Whether it is a change whose documents are known before.
fn is_change(line: &str) -> bool {
    line.starts_with("DELETE")
        || line.starts_with("EVICT")
        || line.starts_with("UPDATE")
        || line.starts_with("INSERT") && line.contains(" SELECT ")
}

/// What a change will do, found out before it runs.
enum Expected {
    /// The documents it is about, in what order they may come.
    Targets(Result<NaiveOutput, Option<QueryError>>),
    Rows(Option<Insertion>),
}

type Written = Result<(Vec<DocId>, Vec<Object>), QueryError>;

impl Expected {
    fn of(line: &str, args: &Object, memory: &Memory, facts: &Facts) -> Self {
        match line.starts_with("INSERT") {
            true => Self::Rows(Insertion::of(line, args, memory, facts)),
            false => Self::Targets(naive(line, args, &Watched::of(memory, facts))),
        }
    }

    fn judge(
        self,
        line: &str,
        args: &Object,
        (before, facts_before): (&Memory, &Facts),
        (after, facts_after): (&Memory, &Facts),
        given: Written,
        tallies: &Tallies,
    ) -> Result<(), String> {
        bump(&tallies.changes);
        match self {
            Self::Rows(None) => {}
            Self::Rows(Some(insertion)) => {
                if let Err(error) = &given
                    && (depends_on_plan(error) || error.kind() == ErrorKind::Invalid)
                {
                    bump(&tallies.tolerated);
                    return Ok(());
                }
                insertion.check(line, given.is_ok().then_some(after))?;
                bump(&tallies.effects);
            }
            Self::Targets(expected) => {
                // An UPDATE that sets nothing writes nothing.
                let writes_all = !line.starts_with("UPDATE")
                    || line.contains(" UNSET ")
                    || line.contains(" = coalesce ( ") && line.contains(" , 0 ) WHERE ");
                let ids = |ids: &[DocId]| {
                    ids.iter()
                        .map(|id| Object::from([("_id".to_owned(), id.as_value().clone())]))
                        .collect()
                };
                let rows = given
                    .as_ref()
                    .map(|(written, _)| (ids(written), Vec::new()));
                if writes_all {
                    let rows = rows.map_err(Clone::clone);
                    judge(line, expected, rows, &BTreeSet::new(), tallies)?;
                }
                let Ok((written, returned)) = given else {
                    return Ok(());
                };
                let change = Change {
                    line,
                    args,
                    before,
                    facts_before,
                    after,
                    facts_after,
                    written: &written,
                    returned: &returned,
                };
                let (effects, returned) = change.check()?;
                if effects {
                    bump(&tallies.effects);
                }
                if returned {
                    bump(&tallies.returned);
                }
            }
        }
        Ok(())
    }
}

/// Rows and warnings.
type Given = Result<(Vec<Object>, Vec<Warning>), QueryError>;

fn planned(line: &str, args: &Object, memory: &Watched<'_>) -> Given {
    let statement = parse(line)?;
    match execute(&statement, &Context::new(args, NOW_MS), memory) {
        Ok(output) => Ok((output.items, output.warnings)),
        Err(ExecuteError::Query(error)) => Err(error),
        Err(error) => panic!("the double never fails: {error}"),
    }
}

pub(super) fn naive(
    line: &str,
    args: &Object,
    source: &Watched<'_>,
) -> Result<NaiveOutput, Option<QueryError>> {
    match evaluate_naively(line, &Context::new(args, NOW_MS), source, STEPS_MAX) {
        Ok(output) => Ok(output),
        Err(NaiveError::Failed(ExecuteError::Query(error))) => Err(Some(error)),
        Err(_) => Err(None),
    }
}

/// The rows of a query without OFFSET and LIMIT.
pub(super) fn naive_rows(output: &NaiveOutput) -> Vec<Object> {
    output.groups.iter().flatten().cloned().collect()
}

/// Compares results; gives whether the statement was valid and small enough.
fn judge(
    line: &str,
    expected: Result<NaiveOutput, Option<QueryError>>,
    given: Given,
    operators: &BTreeSet<String>,
    tallies: &Tallies,
) -> Result<bool, String> {
    match (expected, given) {
        (Err(None), _) => bump(&tallies.too_large),
        (Err(Some(expected)), Err(given)) => {
            if expected.kind() != given.kind() {
                return Err(format!(
                    "{line}\nfails with: {given}\ninstead of: {expected}"
                ));
            }
            bump(match given.kind() {
                ErrorKind::Invalid | ErrorKind::Unsupported => &tallies.invalid,
                _ => &tallies.failed,
            });
        }
        // Whether rows are looked at that the result does not need is left to the plan.
        (Err(Some(error)), Ok(_)) | (Ok(_), Err(error)) if depends_on_plan(&error) => {
            bump(&tallies.tolerated);
        }
        (Err(Some(error)), Ok(_)) => {
            return Err(format!("{line}\nsucceeds instead of: {error}"));
        }
        (Ok(_), Err(error)) => return Err(format!("{line}\nfails with: {error}")),
        (Ok(expected), Ok((given, warnings))) => {
            difference(line, &expected, &given)?;
            compare_warnings(line, &expected.warnings, &warnings, operators, tallies)?;
            bump(&tallies.compared);
            if is_query(line) {
                tallies.note_text(line);
            }
            if !given.is_empty() {
                bump(&tallies.with_rows);
            }
            if !expected.warnings.is_empty() {
                bump(&tallies.warned);
            }
            return Ok(true);
        }
    }
    Ok(false)
}

/// Compares warnings where the plan does not decide which expressions are evaluated.
fn compare_warnings(
    line: &str,
    expected: &[Warning],
    given: &[Warning],
    operators: &BTreeSet<String>,
    tallies: &Tallies,
) -> Result<(), String> {
    if expected.len() >= limits::QUERY_WARNINGS_MAX {
        return Ok(());
    }
    let all_in = |names: &[&str]| {
        let mut named = operators.iter();
        !operators.is_empty() && named.all(|name| names.contains(&name.as_str()))
    };
    // Keys are not looked at where the rows come in their order.
    let is_sorted = operators.contains("sort") || !line.contains("ORDER BY");
    let is_whole = is_sorted && all_in(WHOLE);
    let set = |warnings: &[Warning]| {
        let texts = warnings.iter().map(|warning| match warning.position {
            // The first row that has something to say says it, and the plan decides which that is.
            Some(at) if !is_whole => format!("line {}, column {}", at.line, at.column),
            _ => warning.to_string(),
        });
        texts.collect::<BTreeSet<String>>()
    };
    let (expected, given) = (set(expected), set(given));
    if is_whole {
        bump(&tallies.warnings_compared);
        if expected != given {
            return Err(format!(
                "{line}\nwarns of {given:?}\ninstead of {expected:?}"
            ));
        }
    } else if all_in(NARROWED) {
        bump(&tallies.warnings_bounded);
        if !given.is_subset(&expected) {
            return Err(format!(
                "{line}\nwarns of {given:?}\nbut at most of {expected:?}"
            ));
        }
    }
    Ok(())
}

/// Operators that evaluate every expression for the same rows as they would be naively.
const WHOLE: &[&str] = &[
    "sequence",
    "scan",
    "filter",
    "group",
    "sort",
    "distinct",
    "projection",
];

/// Operators that evaluate some expressions for fewer rows.
const NARROWED: &[&str] = &[
    "sequence",
    "scan",
    "idScan",
    "indexScan",
    "indexScan covering",
    "indexScan ordered",
    "indexScan covering ordered",
    "indexScan inside",
    "unionScan",
    "intersectScan",
    "fetch",
    "filter",
    "group",
    "sort",
    "distinct",
    "limit",
    "projection",
];

fn depends_on_plan(error: &QueryError) -> bool {
    error.kind() == ErrorKind::Evaluation
        || error.message().contains("more than one row")
        || error.message().contains("there is no index")
}

/// What is wrong with the rows that were given.
fn difference(line: &str, expected: &NaiveOutput, given: &[Object]) -> Result<(), String> {
    // Which of 1 and 1.0 is kept where equal values become one is left to the order of rows.
    let is_exact = !line.contains("DISTINCT") && !line.contains("UNION");
    let form = |row: &Object| form(row, is_exact);
    let wrong = |what: String| {
        let rows = |rows: &[Object]| rows.iter().map(&form).collect::<Vec<_>>().join("\n  ");
        let groups: Vec<String> = expected.groups.iter().map(|group| rows(group)).collect();
        Err(format!(
            "{line}\n{what}\ngiven:\n  {}\nexpected (offset {}, limit {}):\n  {}",
            rows(given),
            expected.offset,
            expected.limit,
            groups.join("\n  --\n  "),
        ))
    };
    let comes_by_id = comes_by_id(line);
    let total: usize = expected.groups.iter().map(Vec::len).sum();
    let len = total.saturating_sub(expected.offset).min(expected.limit);
    if given.len() != len {
        return wrong(format!("{} rows instead of {len}", given.len()));
    }
    let mut start = 0;
    for group in &expected.groups {
        let end = start + group.len();
        let place = |at: usize| at.saturating_sub(expected.offset).min(given.len());
        let mut rows: Vec<String> = group.iter().map(&form).collect();
        if comes_by_id {
            let skipped = expected.offset.saturating_sub(start).min(rows.len());
            let inside = given[place(start)..place(end)].iter().map(&form);
            if !inside.eq(rows.drain(skipped..).take(place(end) - place(start))) {
                return wrong("rows that sort equally do not come by their ids".to_owned());
            }
            start = end;
            continue;
        }
        for row in &given[place(start)..place(end)] {
            let row = form(row);
            match rows.iter().position(|one| *one == row) {
                Some(at) => {
                    rows.swap_remove(at);
                }
                None => return wrong(format!("this row is wrong, or in a wrong place: {row}")),
            }
        }
        start = end;
    }
    Ok(())
}

/// Whether rows that sort equally come by their ids: those of one collection, put in order, do.
fn comes_by_id(line: &str) -> bool {
    let has = |word: &str| line.split(' ').any(|token| token == word);
    let others = ["JOIN", "UNNEST", "UNION", "GROUP", "DISTINCT", "HAVING"];
    let aggregates = ["COUNT", "SUM", "MIN", "MAX", "AVG", "MEDIAN", "MID"];
    line.starts_with("SELECT ")
        && has("ORDER")
        && line.split(' ').filter(|token| *token == "FROM").count() == 1
        && !others.into_iter().chain(aggregates).any(has)
}

/// A row as text; unless it is exact, floats that are whole are integers in it.
pub(super) fn form(row: &Object, is_exact: bool) -> String {
    let row = match is_exact {
        true => row.clone(),
        false => row
            .iter()
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect(),
    };
    json::to_string(&Value::Object(row))
}

/// The value with floats that are whole as integers.
fn plain(value: &Value) -> Value {
    match value {
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Value::Int(*number as i64)
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

//! What the log says of statements and transactions that were slow.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use idem_model::Object;
use idem_store::{Store, TransactionOptions};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::fixture::{PATIENCE, memory, run};

/// Keeps the events of this thread as lines of text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

/// One line.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// The lines with `words` that the log gets while `body` runs.
fn logged(words: &str, body: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), body);
    let mut lines = lines.0.lock().unwrap().clone();
    lines.retain(|line| line.contains(words));
    lines
}

/// The number of milliseconds that a line tells.
fn ms(line: &str) -> u64 {
    let (_, rest) = line.split_once(" ms=").unwrap();
    let digits = rest.split(' ').next().unwrap();
    digits.parse().unwrap()
}

#[test]
fn a_slow_statement_is_noted_with_its_text_and_time() {
    let store = memory();
    let documents: Vec<String> = (0..400).map(|id| format!("({{'_id': {id}}})")).collect();
    run(
        &store,
        &format!("INSERT INTO t DOCUMENTS {}", documents.join(", ")),
    );
    // Each of 160,000 pairs is looked at: no machine does that in a millisecond.
    let text = "SELECT COUNT(*) FROM t a JOIN t b ON a._id < b._id";
    let query = |store: &Store| {
        run(store, text);
    };
    let words = "a statement was slow";
    assert_eq!(logged(words, || query(&store)), Vec::<String>::new());

    run(&store, "ALTER SYSTEM SET slow_statement_ms = 1");
    let lines = logged(words, || query(&store));
    let [line] = lines.as_slice() else {
        panic!("one line for one statement, not {lines:?}");
    };
    assert!(line.starts_with("WARN"), "{line}");
    assert!(line.contains(&format!("statement={text:?}")), "{line}");
    assert!(ms(line) >= 1, "{line}");

    run(&store, "ALTER SYSTEM RESET slow_statement_ms");
    assert_eq!(logged(words, || query(&store)), Vec::<String>::new());
}

#[test]
fn a_slow_transaction_is_noted_with_its_hint_however_it_ends() {
    let store = memory();
    let words = "a transaction was open for long";
    let transaction = |hint: Option<&str>, commits: bool| {
        let began = Instant::now();
        let options = match hint {
            None => TransactionOptions::new(),
            Some(hint) => TransactionOptions::new().hint(hint),
        };
        let mut transaction = store.begin(options).unwrap();
        let insert = "INSERT INTO t DOCUMENTS ({'a': 1})";
        while began.elapsed() <= Duration::from_millis(2) {
            transaction.execute(insert, Object::new()).unwrap();
        }
        assert!(began.elapsed() < PATIENCE);
        match commits {
            true => drop(transaction.commit().unwrap()),
            false => transaction.rollback(),
        }
    };
    run(&store, "ALTER SYSTEM SET slow_transaction_ms = 86400000");
    let lines = logged(words, || transaction(Some("import"), true));
    assert_eq!(lines, Vec::<String>::new());

    run(&store, "ALTER SYSTEM SET slow_transaction_ms = 1");
    for commits in [true, false] {
        let lines = logged(words, || {
            transaction(Some("import"), commits);
            transaction(None, commits);
        });
        let [named, unnamed] = lines.as_slice() else {
            panic!("a line for each transaction, not {lines:?}");
        };
        assert!(named.starts_with("WARN"), "{named}");
        assert!(named.contains("hint=\"import\""), "{named}");
        assert!(unnamed.contains("hint=\"none\""), "{unnamed}");
        assert!(ms(named) >= 1 && ms(unnamed) >= 1, "{lines:?}");
    }
}

//! Observers of the session: events that follow their own answer, and a last one at the end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use idem::{Object, QueryResult, StoreObserver, Value};

use super::answer::{Answers, Failure, int, items};
use super::request::Statement;

/// One observer and what it was told last.
pub(super) struct Observing {
    _observer: StoreObserver,
    told: Arc<Told>,
}

/// What was delivered, shared with the callback.
#[derive(Default)]
struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether the answer that names the observer is out; events come after it.
    announced: bool,
    /// The newest result that came before the answer was out.
    held: Option<Vec<Value>>,
    /// The last result that was written.
    last: Option<Vec<Value>>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, answers: &Answers, number: u64, items: Vec<Value>) {
        let mut state = self.lock();
        if !state.announced {
            state.held = Some(items);
            return;
        }
        answers.line(&event(number, &items));
        state.last = Some(items);
        self.changed.notify_all();
    }

    fn announce(&self, answers: &Answers, number: u64) {
        let mut state = self.lock();
        state.announced = true;
        if let Some(items) = state.held.take() {
            answers.line(&event(number, &items));
            state.last = Some(items);
            self.changed.notify_all();
        }
    }
}

fn event(number: u64, items: &[Value]) -> Object {
    Object::from([
        ("event".to_owned(), "observed".into()),
        ("observer".to_owned(), int(number)),
        ("items".to_owned(), Value::Array(items.to_vec())),
    ])
}

impl Observing {
    /// Starts observer `number`. Nothing is written until [`announce`](Self::announce).
    pub(super) fn start(
        store: &idem::Store,
        answers: &Answers,
        number: u64,
        statement: Statement,
    ) -> Result<Self, Failure> {
        let told = Arc::new(Told::default());
        let (callback_told, answers) = (Arc::clone(&told), answers.clone());
        let observer = store.register_observer(
            (statement.text, statement.args),
            move |result: QueryResult| callback_told.deliver(&answers, number, items(result)),
        )?;
        Ok(Self {
            _observer: observer,
            told,
        })
    }

    /// Lets the events out, after the answer with the observer's number.
    pub(super) fn announce(&self, answers: &Answers, number: u64) {
        self.told.announce(answers, number);
    }

    /// Waits until the observer was told `items`, at most until `deadline`.
    pub(super) fn wait_told(&self, items: &[Value], deadline: Instant) {
        let mut state = self.told.lock();
        while state.last.as_deref() != Some(items) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            state = self
                .told
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::*;

    /// A writer whose text can be looked at.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn results_wait_for_the_answer_and_only_the_newest_is_told() {
        let lines = Lines::default();
        let answers = Answers::to(Box::new(lines.clone()));
        let told = Told::default();
        told.deliver(&answers, 3, vec![Value::Int(1)]);
        told.deliver(&answers, 3, vec![Value::Int(2)]);
        assert_eq!(lines.text(), "");
        told.announce(&answers, 3);
        let second = "{\"event\":\"observed\",\"items\":[2],\"observer\":3}\n";
        assert_eq!(lines.text(), second);
        told.deliver(&answers, 3, vec![]);
        let third = "{\"event\":\"observed\",\"items\":[],\"observer\":3}\n";
        assert_eq!(lines.text(), format!("{second}{third}"));
    }
}

//! The last statements, for `system:request_history`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use idem_model::{Object, Value};

/// How many statements are remembered. At a few hundred bytes each, tens of KiB.
const REQUESTS_MAX: usize = 100;

#[derive(Debug, Default)]
pub(crate) struct History {
    requests: Mutex<VecDeque<Request>>,
}

#[derive(Debug)]
struct Request {
    statement: Arc<str>,
    unix_ms: u64,
    duration: Duration,
    items: usize,
    is_ok: bool,
}

impl History {
    pub(crate) fn record(
        &self,
        statement: Arc<str>,
        unix_ms: u64,
        duration: Duration,
        items: Option<usize>,
    ) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() == REQUESTS_MAX {
            requests.pop_front();
        }
        requests.push_back(Request {
            statement,
            unix_ms,
            duration,
            items: items.unwrap_or(0),
            is_ok: items.is_some(),
        });
    }

    /// Newest first.
    pub(crate) fn rows(&self) -> Vec<Object> {
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = requests.iter().rev().map(|request| {
            let micros = u64::try_from(request.duration.as_micros()).unwrap_or(u64::MAX);
            Object::from([
                ("statement".to_owned(), Value::from(&*request.statement)),
                ("unix_ms".to_owned(), int(request.unix_ms)),
                ("duration_us".to_owned(), int(micros)),
                ("items".to_owned(), int(request.items as u64)),
                ("ok".to_owned(), Value::Bool(request.is_ok)),
            ])
        });
        rows.collect()
    }
}

//! Parsed statements by their text.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use idem_model::{Object, Value};
use idem_query::{Directives, QueryError, Statement};

/// How many statements are kept. An app has some dozens; one takes a few KiB.
const STATEMENTS_MAX: usize = 256;

/// A longer text is parsed anew each time: it is generated, with its values inside.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// A parsed statement and its text.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) text: Arc<str>,
    pub(crate) statement: Statement,
}

#[derive(Debug, Default)]
pub(crate) struct StatementCache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What all statements were parsed with.
    directives: Arc<Directives>,
    // Only looked up, never walked in an order that matters.
    by_text: HashMap<Arc<str>, Slot>,
    uses: u64,
}

#[derive(Debug)]
struct Slot {
    parsed: Arc<Parsed>,
    last_use: u64,
    last_use_ms: u64,
    uses: u64,
}

impl StatementCache {
    /// The statement of a text, which is used at `now_ms`. Nothing is kept from before the directives
    /// changed; they are compared by their address.
    pub(crate) fn parse(
        &self,
        text: &str,
        now_ms: u64,
        directives: &Arc<Directives>,
    ) -> Result<Arc<Parsed>, QueryError> {
        if text.len() > TEXT_BYTES_MAX {
            return parse(text, directives);
        }
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if !Arc::ptr_eq(&state.directives, directives) {
                state.by_text.clear();
                state.directives = Arc::clone(directives);
            }
            state.uses += 1;
            let uses = state.uses;
            if let Some(slot) = state.by_text.get_mut(text) {
                slot.last_use = uses;
                slot.last_use_ms = now_ms;
                slot.uses += 1;
                return Ok(Arc::clone(&slot.parsed));
            }
        }
        // Without the lock: parsing takes long. Two threads may parse one text; either result will do.
        let parsed = parse(text, directives)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&state.directives, directives) {
            return Ok(parsed);
        }
        if state.by_text.len() >= STATEMENTS_MAX {
            let oldest = state.by_text.iter().min_by_key(|(_, slot)| slot.last_use);
            if let Some(text) = oldest.map(|(text, _)| Arc::clone(text)) {
                state.by_text.remove(&text);
            }
        }
        let last_use = state.uses;
        let slot = Slot {
            parsed: Arc::clone(&parsed),
            last_use,
            last_use_ms: now_ms,
            uses: 1,
        };
        state.by_text.insert(Arc::clone(&parsed.text), slot);
        Ok(parsed)
    }

    /// The rows of `system:shared_statements`, the one that was used last first.
    pub(crate) fn rows(&self) -> Vec<Object> {
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots: Vec<&Slot> = state.by_text.values().collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.last_use));
        let rows = slots.iter().map(|slot| {
            Object::from([
                ("statement".to_owned(), Value::from(&*slot.parsed.text)),
                (
                    "kind".to_owned(),
                    slot.parsed.statement.kind().name().into(),
                ),
                ("uses".to_owned(), int(slot.uses)),
                ("last_used".to_owned(), int(slot.last_use_ms)),
            ])
        });
        rows.collect()
    }
}

fn parse(text: &str, directives: &Directives) -> Result<Arc<Parsed>, QueryError> {
    Ok(Arc::new(Parsed {
        statement: idem_query::parse_with(text, directives)?,
        text: text.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let cache = StatementCache::default();
        let none = Arc::default();
        let parse = |text: &str| cache.parse(text, 1, &none).unwrap();
        let kept = parse("SELECT * FROM kept");
        for number in 0..2 * STATEMENTS_MAX {
            parse(&format!("SELECT * FROM c{number}"));
            assert!(Arc::ptr_eq(&kept, &parse("SELECT * FROM kept")));
        }
        let rows = cache.rows();
        assert_eq!(rows.len(), STATEMENTS_MAX);
        assert_eq!(rows[0]["statement"], "SELECT * FROM kept".into());
        assert_eq!(rows[0]["uses"], Value::Int(1 + 2 * 256));

        // Others: nothing is left.
        let directives = Arc::new(Directives::default());
        let parsed = cache.parse("SELECT * FROM kept", 1, &directives).unwrap();
        assert!(!Arc::ptr_eq(&kept, &parsed));
        assert_eq!(cache.rows().len(), 1);
    }
}

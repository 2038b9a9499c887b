//! The system parameters that change how the store itself works.

use std::collections::BTreeMap;

use idem_model::Value;

/// The values in force, looked up once when the catalog changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// 0 is no limit.
    pub(crate) statement_timeout_ms: u64,
    pub(crate) statement_memory_bytes: usize,
    pub(crate) slow_statement_ms: u64,
    pub(crate) slow_transaction_ms: u64,
    pub(crate) transaction_idle_ms: u64,
    pub(crate) request_history_max: usize,
    /// Only if it was set: otherwise it is what the store was opened with.
    pub(crate) tombstone_ttl_ms: Option<u64>,
}

const MS_PER_HOUR: u64 = 60 * 60 * 1000;

impl Tuning {
    /// `parameters` are those that differ from their default.
    pub(crate) fn of(parameters: &BTreeMap<String, Value>) -> Self {
        let set = |name: &str| match parameters.get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        let number = |name: &str| {
            let default = || match idem_query::parameter_default(name) {
                Some(Value::Int(number)) => u64::try_from(number).unwrap_or(0),
                other => unreachable!("{name} is a count, not {other:?}"),
            };
            set(name).unwrap_or_else(default)
        };
        let size = |name| usize::try_from(number(name)).unwrap_or(usize::MAX);
        Self {
            statement_timeout_ms: number("statement_timeout_ms"),
            statement_memory_bytes: size("statement_memory_bytes"),
            slow_statement_ms: number("slow_statement_ms"),
            slow_transaction_ms: number("slow_transaction_ms"),
            transaction_idle_ms: number("transaction_idle_ms"),
            request_history_max: size("request_history_max"),
            tombstone_ttl_ms: set("tombstone_ttl_hours").map(|hours| hours * MS_PER_HOUR),
        }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self::of(&BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, sync::Arc};

    use idem_kv::Snapshot;
    use idem_model::Object;

    use crate::{Store, StoreConfig, tables::TOMBSTONES};

    #[test]
    fn a_tombstone_expires_as_the_parameter_said_when_the_document_went() {
        let config = StoreConfig::memory()
            .clock(Arc::new(|| 1_000_000))
            .tombstone_ttl_ms(5_000);
        let store = Store::open(config).unwrap();
        for text in [
            "INSERT INTO t DOCUMENTS ({'_id': 1}), ({'_id': 2}), ({'_id': 3})",
            "DELETE FROM t WHERE _id = 1",
            "ALTER SYSTEM SET tombstone_ttl_hours = 2",
            "DELETE FROM t WHERE _id = 2",
            "ALTER SYSTEM RESET tombstone_ttl_hours",
            "DELETE FROM t WHERE _id = 3",
        ] {
            store.execute(text, Object::new()).unwrap();
        }
        let view = store.core().unwrap().view().unwrap();
        let mut expiries = Vec::new();
        view.snapshot
            .scan(TOMBSTONES, &[], None, false, &mut |key, _| {
                expiries.push(u64::from_be_bytes(*key.first_chunk().unwrap()));
                ControlFlow::Continue(())
            })
            .unwrap();
        // In the order of time; what was set in between holds for what was deleted in between.
        assert_eq!(expiries, [1_005_000, 1_005_000, 1_000_000 + 2 * 3_600_000]);
        assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
    }
}

//! Every document of a collection at one moment, page by page.

use idem::{Idem, Object, Transaction, TransactionOptions, Value};

use crate::{exit::CliError, import::quoted, opening::peer_error, query::rows};

/// Documents of a page: enough that the cost of a statement vanishes, few enough to be held.
const PAGE_DOCUMENTS: i64 = 1000;

/// A collection as it was when the scan was opened.
pub(crate) struct CollectionScan {
    transaction: Transaction,
    collection: String,
}

impl CollectionScan {
    /// Takes the moment.
    pub(crate) fn open(idem: &Idem, collection: &str) -> Result<Self, CliError> {
        let transaction = idem
            .store()
            .begin_blocking(TransactionOptions::new().read_only(true).hint("export"))
            .map_err(|error| peer_error("cannot read the store", error))?;
        Ok(Self {
            transaction,
            collection: quoted(collection),
        })
    }

    /// Calls `visit` with the documents in the order of their ids. Memory is bounded by a page.
    pub(crate) fn for_each_page(
        &self,
        mut visit: impl FnMut(&[Object]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        // Comparing across types is MISSING in DQL, so each type of id is walked by itself, from
        // its least value on.
        for least in [
            Value::Bool(false),
            Value::Int(i64::MIN),
            Value::Binary(Vec::new()),
            Value::String(String::new()),
            Value::Array(Vec::new()),
            Value::Object(Object::new()),
        ] {
            let mut page = self.page(">=", least)?;
            while let Some(last) = page.last() {
                let last = last.get("_id").cloned().unwrap_or_default();
                visit(&page)?;
                if i64::try_from(page.len()).is_ok_and(|count| count < PAGE_DOCUMENTS) {
                    break;
                }
                page = self.page(">", last)?;
            }
        }
        Ok(())
    }

    fn page(&self, comparison: &str, from: Value) -> Result<Vec<Object>, CliError> {
        let text = format!(
            "SELECT * FROM {} WHERE _id {comparison} :from ORDER BY _id LIMIT {PAGE_DOCUMENTS}",
            self.collection
        );
        let args = Object::from([("from".to_owned(), from)]);
        let result = self
            .transaction
            .execute_blocking((text, args))
            .map_err(|error| peer_error("cannot read the collection", error))?;
        Ok(rows(result))
    }
}

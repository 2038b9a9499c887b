//! Statements with their arguments, and what they give.

use std::fmt;

use idem_model::{DocId, Object, Value};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    deserialize,
    error::{Error, ErrorKind, Position},
    serialize,
};

/// A DQL statement and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub(crate) text: String,
    pub(crate) args: Object,
}

impl Query {
    /// A statement with arguments that are document values already. Unlike a text with anything that
    /// serialises, it takes them as they are, without a copy: for large arguments, such as the
    /// documents of an INSERT.
    pub fn new(text: impl Into<String>, args: Object) -> Self {
        let text = text.into();
        Self { text, args }
    }

    /// The statement.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The arguments by name, without the colon.
    pub fn args(&self) -> &Object {
        &self.args
    }
}

/// What [`Store::execute`](crate::Store::execute) takes: a text, or a text and its arguments as
/// anything that serialises to an object (a struct, a map, `serde_json::json!`, an [`Object`]).
pub trait IntoQuery {
    /// Makes the query.
    ///
    /// # Errors
    /// [`ErrorKind::QueryArgumentsInvalid`](crate::ErrorKind::QueryArgumentsInvalid) if the
    /// arguments do not serialise to an object of document values.
    fn into_query(self) -> Result<Query, Error>;
}

impl IntoQuery for Query {
    fn into_query(self) -> Result<Query, Error> {
        Ok(self)
    }
}

impl IntoQuery for &str {
    fn into_query(self) -> Result<Query, Error> {
        Ok(Query {
            text: self.to_owned(),
            args: Object::new(),
        })
    }
}

impl IntoQuery for String {
    fn into_query(self) -> Result<Query, Error> {
        Ok(Query {
            text: self,
            args: Object::new(),
        })
    }
}

impl<T: Into<String>, A: Serialize> IntoQuery for (T, A) {
    fn into_query(self) -> Result<Query, Error> {
        Ok(Query {
            args: serialize::to_arguments(&self.1)?,
            text: self.0.into(),
        })
    }
}

/// Something in a statement that gave no error but is probably not what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// What was found, as a sentence.
    pub message: String,
    /// The expression it is about.
    pub position: Option<Position>,
}

impl Warning {
    /// The message with the line of `statement` that it is about and a caret under the place, ready
    /// for a terminal.
    pub fn render(&self, statement: &str) -> String {
        let Some(at) = self.position else {
            return format!("warning: {}", self.message);
        };
        let place = idem_query::Position {
            line: at.line,
            column: at.column,
            len: at.len,
        };
        let kind = idem_query::ErrorKind::Evaluation;
        let error = idem_query::QueryError::new(kind, self.message.as_str()).at(place);
        let shown = error.render(statement);
        format!(
            "warning: {}",
            shown.strip_prefix("error: ").unwrap_or(&shown)
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.position {
            Some(at) => write!(f, " (line {}, column {})", at.line, at.column),
            None => Ok(()),
        }
    }
}

/// What a statement gave.
#[derive(Debug, Clone, Default)]
pub struct QueryResult {
    pub(crate) items: Vec<QueryResultItem>,
    pub(crate) mutated_document_ids: Vec<DocId>,
    pub(crate) commit_id: Option<u64>,
    pub(crate) warnings: Vec<Warning>,
}

impl From<idem_store::QueryResult> for QueryResult {
    fn from(result: idem_store::QueryResult) -> Self {
        Self {
            items: result
                .items
                .into_iter()
                .map(|value| QueryResultItem { value })
                .collect(),
            mutated_document_ids: result.mutated_document_ids,
            commit_id: result.commit_id,
            warnings: result.warnings.into_iter().map(Warning::from).collect(),
        }
    }
}

impl From<idem_query::Warning> for Warning {
    fn from(warning: idem_query::Warning) -> Self {
        Self {
            message: warning.message,
            position: warning.position.map(Position::from),
        }
    }
}

impl QueryResult {
    /// The rows, in the order that the statement asked for.
    pub fn items(&self) -> &[QueryResultItem] {
        &self.items
    }

    /// The rows, without copying.
    pub fn into_items(self) -> Vec<QueryResultItem> {
        self.items
    }

    /// How many rows there are.
    pub fn item_count(&self) -> usize {
        self.items.len()
    }

    /// The row at `index`, from 0.
    pub fn get_item(&self, index: usize) -> Option<&QueryResultItem> {
        self.items.get(index)
    }

    /// The ids of the documents that the statement inserted, changed or removed here.
    pub fn mutated_document_ids(&self) -> &[DocId] {
        &self.mutated_document_ids
    }

    /// The number of the local commit that the statement made; `None` for a read and inside a
    /// transaction, whose commit comes later.
    pub fn commit_id(&self) -> Option<u64> {
        self.commit_id
    }

    /// Things that are probably not what was meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// All rows as values of a type of the app.
    ///
    /// # Errors
    /// As [`QueryResultItem::deserialize`], for the first row that does not fit.
    pub fn deserialize_all<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        self.items
            .iter()
            .map(QueryResultItem::deserialize)
            .collect()
    }

    /// Iterates over the rows.
    pub fn iter(&self) -> std::slice::Iter<'_, QueryResultItem> {
        self.items.iter()
    }
}

impl<'a> IntoIterator for &'a QueryResult {
    type Item = &'a QueryResultItem;
    type IntoIter = std::slice::Iter<'a, QueryResultItem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One row of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResultItem {
    pub(crate) value: Object,
}

impl QueryResultItem {
    /// The row as an object of values.
    pub fn value(&self) -> &Object {
        &self.value
    }

    /// The row, without copying.
    pub fn into_value(self) -> Object {
        self.value
    }

    /// The field `name` of the row.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.value.get(name)
    }

    /// The row as a type of the app.
    ///
    /// ```
    /// use idem::{Idem, IdemConfig};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Car {
    ///     _id: String,
    ///     seats: u8,
    /// }
    ///
    /// #[derive(serde::Serialize)]
    /// struct Arguments {
    ///     car: Car,
    /// }
    ///
    /// let idem = Idem::open_sync(IdemConfig::local())?;
    /// let car = Car { _id: "a".to_owned(), seats: 4 };
    /// let insert = ("INSERT INTO cars DOCUMENTS (:car)", Arguments { car });
    /// idem.store().execute_blocking(insert)?;
    /// let result = idem.store().execute_blocking("SELECT * FROM cars")?;
    /// let car: Car = result.items()[0].deserialize()?;
    /// assert_eq!(car.seats, 4);
    /// # idem.close_blocking()?;
    /// # Ok::<(), idem::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::ValidationValue`](crate::ErrorKind::ValidationValue) naming the field that does
    /// not fit.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.deserialize_value()
    }

    /// The same as [`deserialize`](Self::deserialize), under the name that it has in Ditto.
    ///
    /// # Errors
    /// As [`deserialize`](Self::deserialize).
    pub fn deserialize_value<T: DeserializeOwned>(&self) -> Result<T, Error> {
        deserialize::from_object(&self.value).map_err(|source| {
            Error::new(ErrorKind::ValidationValue, "the row does not fit the type")
                .with_source(source)
        })
    }

    /// The row as compact JSON. Binary is written `{"$binary": "base64"}`.
    pub fn json_string(&self) -> String {
        idem_model::json::to_string(&Value::Object(self.value.clone()))
    }
}

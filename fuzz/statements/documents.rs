//! Random documents and indexes over them.

use idem_model::{Object, Value};

use super::Choices;

pub(crate) const COLLECTIONS: [&str; 3] = ["c", "d", "e"];

/// How numbers are in the documents and literals of a script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    /// Whether there are floats that equal integers. Which of the two stays when equal values are put
    /// together depends on the order of rows, so scripts with them do not look at it.
    pub(crate) has_whole_floats: bool,
}

impl Numbers {
    pub(crate) fn number(self, choices: &mut Choices<'_>) -> Value {
        match choices.weighted(&[10, 3, 3, 1]) {
            0 => Value::Int(i64::try_from(choices.below(5)).unwrap_or(0)),
            1 => Value::Float(choices.of(&[0.5, -1.5, 2.25, 1e300])),
            2 if self.has_whole_floats => Value::Float(choices.of(&[1.0, 2.0, 0.0, -0.0, 3.0])),
            2 => Value::Int(-1),
            _ => Value::Int(choices.of(&[i64::MAX, i64::MIN, (1 << 53) + 1, i64::MAX - 1])),
        }
    }

    pub(crate) fn scalar(self, choices: &mut Choices<'_>) -> Value {
        match choices.weighted(&[6, 5, 1, 1]) {
            0 => self.number(choices),
            1 => Value::from(choices.of(TEXTS)),
            2 => Value::Bool(choices.percent(50)),
            _ => Value::Null,
        }
    }

    fn array(self, choices: &mut Choices<'_>) -> Value {
        let len = choices.below(4);
        Value::Array((0..len).map(|_| self.scalar(choices)).collect())
    }

    /// A value of any kind.
    pub(crate) fn value(self, choices: &mut Choices<'_>) -> Value {
        match choices.weighted(&[8, 1, 1]) {
            0 => self.scalar(choices),
            1 => self.array(choices),
            _ => self.object(choices),
        }
    }

    fn object(self, choices: &mut Choices<'_>) -> Value {
        let mut fields = Object::new();
        for name in ["x", "y"] {
            if choices.percent(70) {
                fields.insert(name.to_owned(), self.scalar(choices));
            }
        }
        Value::Object(fields)
    }
}

/// Strings that hit the bounds of patterns and of each other.
pub(crate) const TEXTS: &[&str] = &[
    "a", "b", "ab", "", "A", "a%", "k1", "k2", "\u{e9}", "a\u{0}", "abc", "_",
];

/// The id of a document: each collection has another kind of them.
fn id(collection: usize, number: usize) -> Value {
    let int = Value::Int(i64::try_from(number).unwrap_or(0));
    match collection {
        0 => int,
        1 => Value::from(format!("k{number}")),
        _ if number.is_multiple_of(2) => int,
        _ => Value::from(format!("k{number}")),
    }
}

/// A document of a collection.
pub(crate) fn document(
    collection: usize,
    number: usize,
    numbers: Numbers,
    choices: &mut Choices<'_>,
) -> Object {
    let mut fields = Object::from([("_id".to_owned(), id(collection, number))]);
    for name in ["a", "b", "n", "s", "o", "tags", "items", "r"] {
        if !choices.percent(75) {
            continue;
        }
        let value = match name {
            "b" => Value::Int(i64::try_from(choices.below(3)).unwrap_or(0)),
            "n" => numbers.number(choices),
            "s" => Value::from(choices.of(TEXTS)),
            "o" => numbers.object(choices),
            "tags" => numbers.array(choices),
            "items" => {
                let len = choices.below(3);
                let items = (0..len).map(|_| {
                    Value::Object(Object::from([
                        ("k".to_owned(), numbers.scalar(choices)),
                        ("v".to_owned(), numbers.number(choices)),
                    ]))
                });
                Value::Array(items.collect())
            }
            "r" => id(choices.below(3), choices.below(6)),
            _ => numbers.value(choices),
        };
        let is_odd = choices.percent(6);
        fields.insert(
            name.to_owned(),
            match is_odd {
                true => numbers.value(choices),
                false => value,
            },
        );
    }
    fields
}

const KEYS: &[&str] = &[
    "a",
    "b",
    "n",
    "s",
    "o.x",
    "r",
    "o.y",
    "tags",
    "o",
    "_id",
    "( lower ( s ) )",
    "( b + 1 )",
    "( type ( a ) )",
    "( abs ( n ) )",
    "DISTINCT ARRAY t FOR t IN tags END",
    "DISTINCT ARRAY i.k FOR i IN items END",
];

/// An index: its collection, and what each of its fields holds.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    pub(crate) name: String,
    pub(crate) collection: &'static str,
    pub(crate) keys: Vec<&'static str>,
    /// Whether each of them is descending.
    pub(crate) descending: Vec<bool>,
    /// The statement that makes it.
    pub(crate) text: String,
}

/// A random index, of `home` if it is given.
pub(crate) fn index(number: usize, home: Option<&'static str>, choices: &mut Choices<'_>) -> Index {
    let collection = home.unwrap_or_else(|| choices.of(&COLLECTIONS));
    let len = 1 + choices.weighted(&[5, 4, 1]);
    let mut has_elements = false;
    let mut keys: Vec<&str> = Vec::new();
    let mut directions = Vec::new();
    let mut fields = Vec::new();
    for _ in 0..len {
        let key = choices.of(KEYS);
        // One field of elements at most.
        let is_elements = key.starts_with("DISTINCT");
        if keys.contains(&key) || is_elements && has_elements {
            continue;
        }
        has_elements |= is_elements;
        keys.push(key);
        let descends = choices.percent(30);
        directions.push(descends);
        let descending = if descends { " DESC" } else { "" };
        fields.push(format!("{key}{descending}"));
    }
    let name = format!("ix{number}");
    let text = format!(
        "CREATE INDEX {name} ON {collection} ( {} )",
        fields.join(" , ")
    );
    Index {
        name,
        collection,
        keys,
        descending: directions,
        text,
    }
}

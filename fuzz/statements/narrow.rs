//! Random queries over one collection that an index fits: ranges, orders, counts, ends, alternatives.

use super::{
    documents::Index,
    expression::{Shape, Visible, Writer},
};

const COMPARISONS: &[&str] = &["=", "=", "=", "<", ">", "<=", ">="];

impl Writer<'_, '_> {
    /// A query that could use one of the indexes; any other where there is none.
    pub(crate) fn narrow(&mut self) -> String {
        self.level = 0;
        self.visible.clear();
        self.locals.clear();
        let Some(index) = self.some_index(None) else {
            return self.statement();
        };
        let alias = self.name("t");
        self.visible.push(Visible {
            alias: alias.clone(),
            shape: Shape::Stored(index.collection),
            level: 0,
        });
        if let Some(text) = self.in_second_order(&alias, &index) {
            return text;
        }
        let mut conditions = Vec::new();
        match self.choices.weighted(&[3, 3, 2, 4]) {
            0 => {}
            1 => conditions.push(self.on_key(&alias, index.keys[0])),
            2 => {
                let count = 2 + self.choices.below(2);
                let any: Vec<String> = (0..count)
                    .map(|_| self.on_some_key(&alias, index.collection))
                    .collect();
                conditions.push(format!("( {} )", any.join(" OR ")));
            }
            _ => {
                for _ in 0..2 {
                    let other = self.some_index(Some(index.collection));
                    let text = other.and_then(|other| key_text(&alias, other.keys[0]));
                    let condition = match text {
                        Some(text) => format!("{text} = {}", self.likely()),
                        None => self.on_some_key(&alias, index.collection),
                    };
                    conditions.push(condition);
                }
            }
        }
        if self.choices.percent(20) {
            let other = self.condition(1);
            conditions.push(format!("( {other} )"));
        }
        let filter = match conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conditions.join(" AND ")),
        };
        let from = format!("FROM {} {alias}{filter}", index.collection);
        let first = key_text(&alias, index.keys[0]);
        match self.choices.weighted(&[5, 2, 2]) {
            0 => {
                let columns = match self.choices.weighted(&[2, 2, 1]) {
                    0 => "*".to_owned(),
                    1 => format!("{} AS x , {alias}._id AS y", first.unwrap_or(alias.clone())),
                    _ => format!("{} AS x", self.any(1)),
                };
                let order = self.order_of(&alias, &index);
                format!("SELECT {columns} {from}{order}")
            }
            1 => format!("SELECT COUNT ( * ) AS x {from}"),
            _ => {
                let ends = ["MIN ( ? ) AS x", "MAX ( ? ) AS x", "COUNT ( ? ) AS x"];
                let both = self.choices.percent(20);
                let end = match both {
                    true => "MIN ( ? ) AS x , MAX ( ? ) AS y",
                    false => self.choices.of(&ends),
                };
                let end = end.replace('?', &first.unwrap_or(alias));
                format!("SELECT {end} {from}")
            }
        }
    }

    /// Rows with several values of the first field of an index, in the order of the second one.
    fn in_second_order(&mut self, alias: &str, index: &Index) -> Option<String> {
        let second = key_text(alias, index.keys.get(1)?)?;
        let first = key_text(alias, index.keys[0])?;
        if !self.choices.percent(25) {
            return None;
        }
        let count = 2 + self.choices.below(3);
        let list: Vec<String> = (0..count).map(|_| self.likely()).collect();
        let list = list.join(" , ");
        let desc = if self.choices.percent(50) {
            " DESC"
        } else {
            ""
        };
        let from = index.collection;
        Some(format!(
            "SELECT * FROM {from} {alias} WHERE {first} IN [ {list} ] ORDER BY {second}{desc}"
        ))
    }

    /// A value that many documents have in some field.
    fn likely(&mut self) -> String {
        match self.choices.percent(70) {
            true => self.choices.below(3).to_string(),
            false => self.literal(),
        }
    }

    /// One of the indexes, those of a collection only if it is given.
    fn some_index(&mut self, collection: Option<&str>) -> Option<Index> {
        let indexes = self.indexes.iter();
        let indexes: Vec<Index> = indexes
            .filter(|index| collection.is_none_or(|name| index.collection == name))
            .cloned()
            .collect();
        match indexes.is_empty() {
            true => None,
            false => Some(indexes[self.choices.below(indexes.len())].clone()),
        }
    }

    /// A condition on the first field of some index of a collection.
    fn on_some_key(&mut self, alias: &str, collection: &str) -> String {
        let index = self.some_index(Some(collection));
        let key = index.map_or("_id", |index| index.keys[0]);
        self.on_key(alias, key)
    }

    fn on_key(&mut self, alias: &str, key: &str) -> String {
        let Some(text) = key_text(alias, key) else {
            return match key.contains("i.k") {
                true => format!(
                    "ANY i IN {alias}.items SATISFIES i.k = {} END",
                    self.literal()
                ),
                false => format!("array_contains ( {alias}.tags , {} )", self.literal()),
            };
        };
        let literal = match key.contains("type") {
            true => "'number'".to_owned(),
            false => self.literal(),
        };
        match self.choices.weighted(&[6, 1, 1]) {
            0 => {
                let operator = self.choices.of(COMPARISONS);
                format!("{text} {operator} {literal}")
            }
            1 => {
                let count = 1 + self.choices.below(20);
                let list: Vec<String> = (0..count).map(|_| self.literal()).collect();
                format!("{text} IN [ {} ]", list.join(" , "))
            }
            _ => format!("{text} BETWEEN {literal} AND {}", self.literal()),
        }
    }

    /// ORDER BY the first fields of an index, mostly in a direction that it has.
    fn order_of(&mut self, alias: &str, index: &Index) -> String {
        let mut text = String::new();
        if self.choices.percent(75) {
            let flips = self.choices.percent(50);
            let from = usize::from(self.choices.percent(25)).min(index.keys.len() - 1);
            let odd = self.choices.percent(10);
            let pairs = index.keys.iter().zip(&index.descending).skip(from);
            let keys: Vec<String> = pairs
                .filter_map(|(key, descending)| {
                    let text = key_text(alias, key)?;
                    Some(match *descending != flips {
                        true => format!("{text} DESC"),
                        false => text,
                    })
                })
                .chain(odd.then(|| format!("{alias}._id DESC")))
                .collect();
            if !keys.is_empty() {
                text = format!(" ORDER BY {}", keys.join(" , "));
            }
        }
        if self.choices.percent(60) {
            text = format!("{text} LIMIT {}", self.choices.below(12));
            if self.choices.percent(30) {
                text = format!("{text} OFFSET {}", self.choices.below(5));
            }
        }
        text
    }
}

/// The value of a field of an index, unless it is of elements.
fn key_text(alias: &str, key: &str) -> Option<String> {
    Some(match key {
        "( lower ( s ) )" => format!("lower ( {alias}.s )"),
        "( b + 1 )" => format!("{alias}.b + 1"),
        "( type ( a ) )" => format!("type ( {alias}.a )"),
        "( abs ( n ) )" => format!("abs ( {alias}.n )"),
        elements if elements.starts_with("DISTINCT") => return None,
        path => format!("{alias}.{path}"),
    })
}

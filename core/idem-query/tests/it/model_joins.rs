//! Joins, UNNEST and subqueries against nested loops that are written down here, with and without
//! indexes.

use std::cmp::Ordering;

use idem_model::{Object, Value, json};
use proptest::prelude::*;

use crate::memory::Memory;

const COLLECTIONS: [&str; 3] = ["a", "b", "c"];

/// A value of a field; `None` is MISSING.
type Field = Option<Value>;

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Value::Null)),
        4 => (0_i64..3).prop_map(|number| Some(Value::Int(number))),
        1 => Just(Some(Value::Float(1.0))),
        1 => Just(Some(Value::Float(0.5))),
        1 => Just(Some(Value::from("a0"))),
        2 => (0..3_usize, 0..3_usize)
            .prop_map(|(of, number)| Some(Value::from(format!("{}{number}", COLLECTIONS[of])))),
    ]
}

fn document() -> impl Strategy<Value = Object> {
    let items = prop::option::of(prop::collection::vec(field(), 0..3));
    (field(), field(), items).prop_map(|(k, v, items)| {
        let mut fields = Object::new();
        fields.extend(k.map(|k| ("k".to_owned(), k)));
        fields.extend(v.map(|v| ("v".to_owned(), v)));
        let items = items.map(|items| Value::Array(items.into_iter().flatten().collect()));
        fields.extend(items.map(|items| ("items".to_owned(), items)));
        fields
    })
}

type Data = Vec<Vec<Object>>;

fn data() -> impl Strategy<Value = Data> {
    prop::collection::vec(prop::collection::vec(document(), 0..6), COLLECTIONS.len()).prop_map(
        |mut data| {
            for (collection, documents) in data.iter_mut().enumerate() {
                for (number, document) in documents.iter_mut().enumerate() {
                    let id = format!("{}{number}", COLLECTIONS[collection]);
                    document.insert("_id".to_owned(), Value::from(id));
                }
            }
            data
        },
    )
}

/// A field of a source; the sources of a query are `x0`, `x1` and so on.
#[derive(Debug, Clone)]
struct Ref(usize, &'static str);

#[derive(Debug, Clone)]
enum Cond {
    Compare(&'static str, Ref, Ref),
    Constant(&'static str, Ref, Field),
    Is(Ref, &'static str),
    Or(Box<Self>, Box<Self>),
    /// Negated; a row of the collection whose `k` equals the field.
    Exists(bool, usize, Ref),
    /// Negated; the field is among the values `v` of the collection.
    In(bool, Ref, usize),
    /// More rows of the collection have the field as `v` than that.
    Count(usize, Ref, i64),
}

#[derive(Debug, Clone)]
enum Place {
    Collection(usize),
    /// The elements of the source.
    Unnest(usize),
}

#[derive(Debug, Clone)]
struct Source {
    place: Place,
    kind: &'static str,
    on: Vec<Cond>,
}

#[derive(Debug, Clone)]
struct Query {
    sources: Vec<Source>,
    filter: Vec<Cond>,
}

/// Numbers to choose from when it is known how many sources there are.
#[derive(Debug, Clone)]
struct Dice(Vec<usize>);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0.pop().unwrap_or(0) % sides
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        let at = self.roll(all.len());
        all[at].clone()
    }

    fn any(&mut self, sources: &[Source]) -> Ref {
        let source = self.roll(sources.len());
        match sources[source].place {
            Place::Collection(_) => Ref(source, self.of(&["k", "k", "v", "_id"])),
            Place::Unnest(_) => Ref(source, ""),
        }
    }

    fn condition(&mut self, sources: &[Source], depth: usize) -> Cond {
        let values = [
            Some(Value::Int(1)),
            Some(Value::Int(2)),
            Some(Value::from("b1")),
            Some(Value::Null),
        ];
        match self.roll(12) {
            0..4 => {
                // Mostly the kind of condition that joins are made of.
                let last = &sources[sources.len() - 1..];
                let mut here = self.any(last);
                here.0 = sources.len() - 1;
                Cond::Compare("=", here, self.any(sources))
            }
            4 => {
                let op = self.of(&["<", "<=", ">", ">=", "!="]);
                Cond::Compare(op, self.any(sources), self.any(sources))
            }
            5 | 6 => {
                let op = self.of(&["=", "<", ">=", "!="]);
                let value = self.of(&values);
                Cond::Constant(op, self.any(sources), value)
            }
            7 => {
                let test = self.of(&["MISSING", "NOT MISSING", "NULL"]);
                Cond::Is(self.any(sources), test)
            }
            8 if depth > 0 => Cond::Or(
                Box::new(self.condition(sources, depth - 1)),
                Box::new(self.condition(sources, depth - 1)),
            ),
            9 => Cond::Exists(self.roll(2) == 1, self.roll(3), self.any(sources)),
            10 => Cond::In(self.roll(2) == 1, self.any(sources), self.roll(3)),
            _ => {
                let number = i64::try_from(self.roll(2)).unwrap();
                Cond::Count(self.roll(3), self.any(sources), number)
            }
        }
    }

    fn query(&mut self) -> Query {
        let mut sources = vec![Source {
            place: Place::Collection(self.roll(3)),
            kind: "",
            on: Vec::new(),
        }];
        for _ in 0..self.roll(4) {
            let unnest = self.roll(4) == 0;
            let of = self.roll(sources.len());
            let unnest = unnest && matches!(sources[of].place, Place::Collection(_));
            sources.push(match unnest {
                true => Source {
                    place: Place::Unnest(of),
                    kind: self.of(&["INNER", "LEFT"]),
                    on: Vec::new(),
                },
                false => Source {
                    place: Place::Collection(self.roll(3)),
                    kind: self.of(&["INNER", "INNER", "LEFT", "RIGHT"]),
                    on: Vec::new(),
                },
            });
            if !unnest {
                let on = (0..=self.roll(2)).map(|_| self.condition(&sources, 1));
                let on = on.collect();
                sources.last_mut().unwrap().on = on;
            }
        }
        let filter = (0..self.roll(3)).map(|_| self.condition(&sources, 1));
        let filter = filter.collect();
        Query { sources, filter }
    }
}

impl Ref {
    fn text(&self) -> String {
        match self.1 {
            "" => format!("x{}", self.0),
            field => format!("x{}.{field}", self.0),
        }
    }

    fn value(&self, row: &[Field]) -> Field {
        let value = row[self.0].as_ref()?;
        match self.1 {
            "" => Some(value.clone()),
            field => value.as_object()?.get(field).cloned(),
        }
    }
}

impl Cond {
    fn text(&self) -> String {
        match self {
            Self::Compare(op, left, right) => format!("{} {op} {}", left.text(), right.text()),
            Self::Constant(op, left, value) => {
                let value = value.as_ref().map_or("MISSING".to_owned(), json::to_string);
                format!("{} {op} {value}", left.text())
            }
            Self::Is(value, test) => format!("{} IS {test}", value.text()),
            Self::Or(left, right) => format!("({} OR {})", left.text(), right.text()),
            Self::Exists(negated, of, value) => format!(
                "{}EXISTS (SELECT 1 AS one FROM {} s WHERE s.k = {})",
                if *negated { "NOT " } else { "" },
                COLLECTIONS[*of],
                value.text()
            ),
            Self::In(negated, value, of) => format!(
                "{} {}IN (SELECT s.v FROM {} s)",
                value.text(),
                if *negated { "NOT " } else { "" },
                COLLECTIONS[*of]
            ),
            Self::Count(of, value, number) => format!(
                "(SELECT COUNT(*) AS n FROM {} s WHERE s.v = {}) > {number}",
                COLLECTIONS[*of],
                value.text()
            ),
        }
    }

    /// The truth; `None` is neither true nor false.
    fn truth(&self, row: &[Field], data: &Data) -> Option<bool> {
        let values = |of: usize, field: &'static str| {
            let documents = data[of].iter();
            documents.map(move |document| document.get(field).cloned())
        };
        match self {
            Self::Compare(op, left, right) => compare(op, &left.value(row), &right.value(row)),
            Self::Constant(op, left, value) => compare(op, &left.value(row), value),
            Self::Is(value, test) => Some(match *test {
                "MISSING" => value.value(row).is_none(),
                "NOT MISSING" => value.value(row).is_some(),
                _ => value.value(row) == Some(Value::Null),
            }),
            Self::Or(left, right) => match (left.truth(row, data), right.truth(row, data)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Exists(negated, of, value) => {
                let value = value.value(row);
                let found = values(*of, "k").any(|k| compare("=", &k, &value) == Some(true));
                Some(found != *negated)
            }
            Self::In(negated, value, of) => {
                let value = value.value(row)?;
                let wanted = Some(value.clone());
                let found = values(*of, "v").any(|v| compare("=", &v, &wanted) == Some(true));
                let null = value == Value::Null || values(*of, "v").any(|v| v == Some(Value::Null));
                match (found, null) {
                    (false, true) => None,
                    (found, _) => Some(found != *negated),
                }
            }
            Self::Count(of, value, number) => {
                let value = value.value(row);
                let rows = values(*of, "v").filter(|v| compare("=", v, &value) == Some(true));
                Some(i64::try_from(rows.count()).unwrap() > *number)
            }
        }
    }
}

fn compare(op: &str, left: &Field, right: &Field) -> Option<bool> {
    let (left, right) = (left.as_ref()?, right.as_ref()?);
    if *left == Value::Null || left.kind() != right.kind() {
        return None;
    }
    let order = left.compare(right);
    Some(match op {
        "=" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

fn all(conditions: &[Cond], row: &[Field], data: &Data) -> bool {
    let mut conditions = conditions.iter();
    conditions.all(|condition| condition.truth(row, data) == Some(true))
}

impl Query {
    fn text(&self) -> String {
        let mut columns = Vec::new();
        let mut from = String::new();
        for (number, source) in self.sources.iter().enumerate() {
            let kind = source.kind;
            let value = match &source.place {
                Place::Collection(of) => {
                    let join = if number == 0 { "" } else { " JOIN " };
                    from.push_str(&format!(" {kind}{join}{} x{number}", COLLECTIONS[*of]));
                    Ref(number, "_id")
                }
                Place::Unnest(of) => {
                    from.push_str(&format!(" {kind} UNNEST x{of}.items AS x{number}"));
                    Ref(number, "")
                }
            };
            if !source.on.is_empty() {
                let on: Vec<String> = source.on.iter().map(Cond::text).collect();
                from.push_str(&format!(" ON {}", on.join(" AND ")));
            }
            columns.push(format!("{} AS c{number}", value.text()));
        }
        let filter: Vec<String> = self.filter.iter().map(Cond::text).collect();
        let filter = match filter.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", filter.join(" AND ")),
        };
        format!("SELECT {} FROM{from}{filter}", columns.join(", "))
    }

    /// The rows, each with the value of every source.
    fn rows(&self, data: &Data) -> Vec<Vec<Field>> {
        let mut rows: Vec<Vec<Field>> = vec![Vec::new()];
        for (number, source) in self.sources.iter().enumerate() {
            let partners = |row: &[Field]| -> Vec<Value> {
                match &source.place {
                    Place::Collection(of) => data[*of].iter().cloned().map(Value::Object).collect(),
                    Place::Unnest(of) => match Ref(*of, "items").value(row) {
                        Some(Value::Array(items)) => items,
                        _ => Vec::new(),
                    },
                }
            };
            let mut joined = Vec::new();
            let mut matched = vec![false; partners(&vec![None; number]).len()];
            for row in rows {
                let before = joined.len();
                for (at, partner) in partners(&row).into_iter().enumerate() {
                    let mut whole = row.clone();
                    whole.push(Some(partner));
                    if all(&source.on, &whole, data) {
                        matched
                            .get_mut(at)
                            .into_iter()
                            .for_each(|matched| *matched = true);
                        joined.push(whole);
                    }
                }
                if source.kind == "LEFT" && joined.len() == before {
                    joined.push(row.into_iter().chain([None]).collect());
                }
            }
            if source.kind == "RIGHT" {
                let all = partners(&vec![None; number]).into_iter().zip(matched);
                for (partner, _) in all.filter(|(_, matched)| !matched) {
                    let mut whole = vec![None; number];
                    whole.push(Some(partner));
                    joined.push(whole);
                }
            }
            rows = joined;
        }
        rows.retain(|row| all(&self.filter, row, data));
        rows
    }

    /// What the query should give, sorted.
    fn expected(&self, data: &Data) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for row in self.rows(data) {
            let mut fields = Object::new();
            for (number, source) in self.sources.iter().enumerate() {
                let value = match source.place {
                    Place::Collection(_) => Ref(number, "_id"),
                    Place::Unnest(_) => Ref(number, ""),
                };
                fields.extend(value.value(&row).map(|value| (format!("c{number}"), value)));
            }
            all.push(json::to_string(&Value::Object(fields)));
        }
        all.sort();
        all
    }
}

fn load(data: &Data, indexes: &[&str]) -> Memory {
    let mut memory = Memory::default();
    for (name, documents) in COLLECTIONS.iter().zip(data) {
        let documents = documents.iter().cloned().map(Value::Object).collect();
        let args = Object::from([("d".to_owned(), Value::Array(documents))]);
        memory
            .run(&format!("INSERT INTO {name} DOCUMENTS (:d)"), &args)
            .unwrap();
        for (number, index) in indexes.iter().enumerate() {
            memory.rows(&format!("CREATE INDEX i{number} ON {name} ({index})"));
        }
    }
    memory
}

fn sorted(rows: &[Object]) -> Vec<String> {
    let rows = rows.iter().cloned().map(Value::Object);
    let mut rows: Vec<String> = rows.map(|row| json::to_string(&row)).collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn joins_give_what_nested_loops_give(
        data in data(),
        dice in prop::collection::vec(0..60_usize, 60),
    ) {
        let query = Dice(dice).query();
        let text = query.text();
        let expected = query.expected(&data);
        for indexes in [&[][..], &["k"][..], &["v DESC", "k, v"][..]] {
            let mut memory = load(&data, indexes);
            let found = match memory.run(&text, &Object::new()) {
                Ok(output) => sorted(&output.items),
                Err(error) => panic!("{}", error.render(&text)),
            };
            prop_assert_eq!(&found, &expected, "with the indexes {:?}: {}", indexes, text);
        }
    }

    #[test]
    fn unions_are_ordered_and_cut(
        data in data(),
        branches in prop::collection::vec((0..3_usize, prop::bool::ANY), 1..4),
        all in prop::bool::ANY,
        descending in prop::bool::ANY,
        window in prop::option::of((0..8_usize, 0..4_usize)),
    ) {
        let mut memory = load(&data, &[]);
        let column = |second: bool| if second { "v" } else { "k" };
        let selects: Vec<String> = branches
            .iter()
            .map(|(of, second)| format!("SELECT {} AS f FROM {}", column(*second), COLLECTIONS[*of]))
            .collect();
        let union = if all { " UNION ALL " } else { " UNION " };
        let direction = if descending { "DESC" } else { "ASC" };
        let mut text = format!("{} ORDER BY f {direction}", selects.join(union));
        let mut rows: Vec<Field> = branches
            .iter()
            .flat_map(|(of, second)| {
                let documents = data[*of].iter();
                documents.map(|document| document.get(column(*second)).cloned())
            })
            .collect();
        let order = |a: &Field, b: &Field| match (a, b) {
            (Some(a), Some(b)) => a.compare(b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        if !all && branches.len() > 1 {
            let mut distinct: Vec<Field> = Vec::new();
            for row in rows {
                if !distinct.iter().any(|known| order(known, &row).is_eq()) {
                    distinct.push(row);
                }
            }
            rows = distinct;
        }
        rows.sort_by(|a, b| if descending { order(b, a) } else { order(a, b) });
        if let Some((limit, offset)) = window {
            text.push_str(&format!(" LIMIT {limit} OFFSET {offset}"));
            rows = rows.into_iter().skip(offset).take(limit).collect();
        }
        let expected: Vec<Object> = rows
            .into_iter()
            .map(|f| f.map(|f| ("f".to_owned(), f)).into_iter().collect())
            .collect();
        prop_assert_eq!(memory.rows(&text), expected, "{}", text);
    }

    #[test]
    fn groups_hold_the_rows_of_their_keys(data in data(), having in 0..3_i64) {
        let mut memory = load(&data, &[]);
        let text = format!(
            "SELECT k, COUNT(*) AS n, COUNT(DISTINCT v) AS d, MAX(v) AS m FROM a GROUP BY k HAVING COUNT(*) > {having}"
        );
        let mut groups: Vec<(Field, Vec<Field>)> = Vec::new();
        for document in &data[0] {
            let (k, v) = (document.get("k").cloned(), document.get("v").cloned());
            let same = |known: &Field| match (known, &k) {
                (Some(a), Some(b)) => a.compare(b).is_eq(),
                (a, b) => a.is_none() && b.is_none(),
            };
            match groups.iter_mut().find(|(known, _)| same(known)) {
                Some((_, rows)) => rows.push(v),
                None => groups.push((k, vec![v])),
            }
        }
        groups.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) => a.compare(b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        let found = memory.rows(&text);
        groups.retain(|(_, rows)| i64::try_from(rows.len()).unwrap() > having);
        prop_assert_eq!(found.len(), groups.len(), "{:?}", found);
        for (found, (k, rows)) in found.iter().zip(groups) {
            let values: Vec<&Value> = rows.iter().flatten().collect();
            let mut distinct: Vec<&Value> = Vec::new();
            for value in values.iter().copied().filter(|value| **value != Value::Null) {
                if !distinct.iter().any(|known| known.compare(value).is_eq()) {
                    distinct.push(value);
                }
            }
            let same = match (found.get("k"), &k) {
                (Some(a), Some(b)) => a.compare(b).is_eq(),
                (a, b) => a.is_none() && b.is_none(),
            };
            prop_assert!(same, "{:?} {:?}", found, k);
            prop_assert_eq!(&found["n"], &Value::Int(i64::try_from(rows.len()).unwrap()));
            prop_assert_eq!(&found["d"], &Value::Int(i64::try_from(distinct.len()).unwrap()));
            let max = distinct.into_iter().max_by(|a, b| a.compare(b));
            prop_assert_eq!(found.get("m").is_some(), max.is_some());
            if let (Some(found), Some(max)) = (found.get("m"), max) {
                prop_assert!(found.compare(max).is_eq());
            }
        }
    }
}

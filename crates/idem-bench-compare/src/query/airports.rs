//! The documents of the comparison: the airports that the project carries, repeated.

use std::collections::BTreeSet;

use idem::{Object, Value};

/// One airport a line (crates/idem-cli/data/README.md).
const AIRPORTS: &str = include_str!("../../../idem-cli/data/airports.ndjson");

/// Rows of the second table of the join.
const REGIONS: usize = 1_000;

/// As many airports as asked for. Each repetition has new ids and its own number in `copy`; `number`
/// counts all of them.
pub(super) struct Airports {
    once: Vec<Object>,
    /// How many there are.
    pub(super) count: u64,
    /// `icao` of all documents, rising.
    icaos: Vec<String>,
    /// A thousand of the values of `region`, in order.
    regions: Vec<String>,
}

impl Airports {
    pub(super) fn new(count: u64) -> Self {
        let once: Vec<Object> = AIRPORTS
            .lines()
            .map(|line| serde_json::from_str(line).expect("the file holds one object a line"))
            .map(object)
            .collect();
        let mut airports = Self {
            once,
            count,
            icaos: Vec::new(),
            regions: Vec::new(),
        };
        let (mut icaos, mut regions) = (Vec::new(), BTreeSet::new());
        for number in 0..count {
            let airport = airports.base(number);
            icaos.extend(airport["icao"].as_str().map(str::to_owned));
            regions.extend(airport.get("region").and_then(Value::as_str));
        }
        icaos.sort();
        let regions = regions.into_iter().take(REGIONS).map(str::to_owned);
        airports.regions = regions.collect();
        airports.icaos = icaos;
        airports
    }

    fn base(&self, number: u64) -> &Object {
        let (_, place) = self.place(number);
        &self.once[place]
    }

    /// The repetition and the place in it.
    fn place(&self, number: u64) -> (u64, usize) {
        let len = self.once.len() as u64;
        let place = usize::try_from(number % len).expect("a place in a vector");
        (number / len, place)
    }

    /// Airport `number`, from 0; ids rise with the number.
    pub(super) fn document(&self, number: u64) -> Object {
        let (copy, place) = self.place(number);
        let mut airport = self.once[place].clone();
        let id = airport["_id"].as_str().expect("an id is a code");
        let id = format!("{copy:04}-{id}");
        airport.insert("_id".to_owned(), id.into());
        airport.insert("copy".to_owned(), int(copy));
        airport.insert("number".to_owned(), int(number));
        airport
    }

    /// The second table of the join.
    pub(super) fn regions(&self) -> impl Iterator<Item = Object> {
        self.regions.iter().zip(0u64..).map(|(name, number)| {
            Object::from([
                ("_id".to_owned(), format!("R{number:04}").into()),
                ("name".to_owned(), name.as_str().into()),
                ("zone".to_owned(), int(number % 10)),
            ])
        })
    }

    /// The `icao` of some airport.
    pub(super) fn icao(&self, seed: u64) -> Value {
        self.icao_at(crate::documents::mix(seed) % self.count)
    }

    /// Two values of `icao` with about `count` documents from the first to before the second.
    pub(super) fn icao_range(&self, seed: u64, count: u64) -> (Value, Value) {
        let count = count.min(self.count / 2);
        let from = crate::documents::mix(seed) % (self.count - count);
        (self.icao_at(from), self.icao_at(from + count))
    }

    fn icao_at(&self, place: u64) -> Value {
        let place = usize::try_from(place).expect("a place in a vector");
        self.icaos[place].as_str().into()
    }
}

pub(super) fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).expect("a small number"))
}

/// JSON as it stands in the file: no number leaves the range of its type.
fn object(json: serde_json::Map<String, serde_json::Value>) -> Object {
    json.into_iter()
        .map(|(name, item)| (name, value(item)))
        .collect()
}

fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(int) => Value::Int(int),
            None => number
                .as_f64()
                .and_then(Value::float)
                .expect("the file holds finite numbers"),
        },
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => Value::Array(items.into_iter().map(value).collect()),
        serde_json::Value::Object(fields) => Value::Object(object(fields)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_airports_have_their_own_ids_in_order() {
        let airports = Airports::new(20_000);
        let ids: Vec<Value> = (0..20_000)
            .map(|number| airports.document(number)["_id"].clone())
            .collect();
        assert!(ids.is_sorted_by(|a, b| a.as_str() < b.as_str()));
        assert_eq!(airports.regions().count(), REGIONS);
        let (from, to) = airports.icao_range(7, 1_000);
        let inside = airports
            .icaos
            .iter()
            .filter(|icao| {
                Some(icao.as_str()) >= from.as_str() && Some(icao.as_str()) < to.as_str()
            })
            .count();
        assert!((990..=1_010).contains(&inside), "{inside}");
    }
}

//! A script: documents, indexes and statements as text, so that a failing one can be read and kept.

use idem_model::{Object, Value, json};

use super::{
    Choices, Writer,
    documents::{self, COLLECTIONS, Index, Numbers},
};

/// A line on which the other store gets all documents.
pub(crate) const FORK: &str = "-- fork";
/// How a line begins whose statement runs on the other store.
pub(crate) const RIVAL: &str = "-- rival ";
/// A line on which the store gets what was changed on the other one.
pub(crate) const MEET: &str = "-- meet";

/// How a kept script begins; what else comes is bytes of choices.
const MARK: &str = "-- script ";

/// Statements, one on a line, and the arguments of all of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Script {
    pub(crate) args: Object,
    pub(crate) lines: Vec<String>,
}

impl Script {
    /// The script of an input: its text, if it is one, or one made of its bytes.
    pub(crate) fn of(data: &[u8]) -> Self {
        std::str::from_utf8(data)
            .ok()
            .and_then(Self::parse)
            .unwrap_or_else(|| Self::choose(&mut Choices::new(data)))
    }

    fn parse(text: &str) -> Option<Self> {
        let (text, rest) = text.strip_prefix(MARK)?.split_once('\n')?;
        let Ok(Value::Object(mut args)) = json::parse(text) else {
            return None;
        };
        for (name, value) in &mut args {
            // An application can write what JSON does not hold.
            if text.contains(&negative_zero(name)) {
                *value = Value::Float(-0.0);
            }
        }
        Some(Self {
            args,
            lines: rest
                .lines()
                .map(str::to_owned)
                .filter(|line| !line.is_empty())
                .collect(),
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let mut args = json::to_string(&Value::Object(self.args.clone()));
        for (name, value) in &self.args {
            if matches!(value, Value::Float(number) if *number == 0.0 && number.is_sign_negative())
            {
                let negative = negative_zero(name);
                args = args.replace(&negative.replace('-', ""), &negative);
            }
        }
        format!("{MARK}{args}\n{}\n", self.lines.join("\n"))
    }

    fn choose(choices: &mut Choices<'_>) -> Self {
        let numbers = Numbers {
            has_whole_floats: choices.percent(40),
        };
        let mut lines = Vec::new();
        for (at, collection) in COLLECTIONS.iter().enumerate() {
            if at == 0 && choices.percent(6) {
                lines.push(many(collection, numbers, choices));
                continue;
            }
            for number in 0..choices.below(10) {
                let document = documents::document(at, number, numbers, choices);
                let document = json::to_string(&Value::Object(document));
                lines.push(format!("INSERT INTO {collection} DOCUMENTS ({document})"));
            }
        }
        let count = choices.of(&[3, 1, 0, 2, 4, 5, 6, 4]);
        // Several indexes of one collection can be used together.
        let home = choices.percent(50).then(|| choices.of(&COLLECTIONS));
        let indexes: Vec<Index> = (0..count)
            .map(|number| documents::index(number, home, choices))
            .collect();
        lines.extend(indexes.iter().map(|index| index.text.clone()));
        let statements = 2 + choices.below(5);
        // A second store with the same documents, to write in conflict with the first.
        let has_rival = choices.percent(10);
        if has_rival {
            lines.push(FORK.to_owned());
        }
        let mut writer = Writer {
            choices,
            numbers,
            indexes,
            args: Object::new(),
            visible: Vec::new(),
            locals: Vec::new(),
            names: 0,
            queries: true,
            level: 0,
        };
        for _ in 0..statements {
            match writer.choices.weighted(&[55, 18, 5, 3, 3, 16]) {
                0 => lines.push(writer.statement()),
                1 if has_rival && writer.choices.percent(60) => {
                    let change = writer.change();
                    lines.push(format!("{RIVAL}{}", writer.change()));
                    lines.push(change);
                    lines.push(MEET.to_owned());
                }
                1 => lines.push(writer.change()),
                2 => lines.push(writer.insert()),
                3 => lines.push(writer.upsert()),
                5 => lines.push(writer.narrow()),
                _ => lines.extend(writer.drop_index()),
            }
        }
        Self {
            args: writer.args,
            lines,
        }
    }

    /// A smaller script on which `fails` still holds: without lines, and with less in each line.
    pub(crate) fn shrunk(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        loop {
            let before = self.clone();
            for at in (0..self.lines.len()).rev() {
                let mut fewer = self.clone();
                fewer.lines.remove(at);
                if fails(&fewer) {
                    self = fewer;
                }
            }
            for at in 0..self.lines.len() {
                self.shrink_line(at, &fails);
            }
            if self == before {
                return self;
            }
        }
    }

    /// Removes runs of tokens from a line.
    fn shrink_line(&mut self, at: usize, fails: &impl Fn(&Self) -> bool) {
        let mut tokens = pieces(&self.lines[at]);
        let mut len = tokens.len() / 2;
        while len > 0 {
            let mut from = 0;
            while from + len <= tokens.len() {
                let mut fewer = tokens.clone();
                fewer.drain(from..from + len);
                let mut script = self.clone();
                script.lines[at] = fewer.concat();
                if fails(&script) {
                    tokens = fewer;
                    *self = script;
                } else {
                    from += 1;
                }
            }
            len = if len > 12 { len / 2 } else { len - 1 };
        }
    }
}

/// An argument that is a negative zero.
fn negative_zero(name: &str) -> String {
    format!("\"{name}\":-0.0")
}

/// More documents than an index scan reads at once, with few different values.
fn many(collection: &str, numbers: Numbers, choices: &mut Choices<'_>) -> String {
    let patterns: Vec<Object> = (0..1 + choices.below(6))
        .map(|number| documents::document(0, number, numbers, choices))
        .collect();
    let step = 1 + choices.below(7);
    let documents = (0..60_usize + choices.below(140)).map(|number| {
        let mut document = patterns[number * step % patterns.len()].clone();
        let id = i64::try_from(number).unwrap_or(0);
        document.insert("_id".to_owned(), Value::Int(id));
        Value::Object(document)
    });
    let documents = json::to_string(&Value::Array(documents.collect()));
    format!("INSERT INTO {collection} DOCUMENTS ({documents})")
}

/// The line in pieces: statements have spaces between tokens, documents have commas between fields.
fn pieces(line: &str) -> Vec<String> {
    let is_documents = line.starts_with("INSERT") && line.contains(" DOCUMENTS (");
    let separator = if is_documents { ',' } else { ' ' };
    line.split_inclusive(separator).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_was_written() {
        let bytes: Vec<u8> = (0..=255).collect();
        let script = Script::of(&bytes);
        assert!(script.lines.len() > 5);
        assert_eq!(Script::of(script.to_text().as_bytes()), script);
    }

    #[test]
    fn a_negative_zero_stays_one() {
        let text = "-- script {\"p0\":-0.0,\"p1\":0.0,\"p2\":1}\nSELECT :p0\n";
        let script = Script::of(text.as_bytes());
        let bits = |name: &str| script.args[name].as_f64().unwrap().to_bits();
        assert_eq!(bits("p0"), (-0.0f64).to_bits());
        assert_eq!(bits("p1"), 0.0f64.to_bits());
        assert_eq!(script.to_text(), text);
    }

    #[test]
    fn shrinking_keeps_what_fails() {
        let script = Script::of(b"-- script {}\nSELECT a , b , c\nDELETE x\nSELECT b\n");
        let small = script.shrunk(|script| script.lines.iter().any(|line| line.contains("b ")));
        assert_eq!(small.lines, ["b "]);
    }
}

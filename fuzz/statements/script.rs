//! A script: documents, indexes and statements as text, so that a failing one can be read and kept.

use idem_model::{Object, Value, json};

use super::{
    Choices, Writer,
    documents::{self, COLLECTIONS, Index, Numbers},
};

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
        let (args, rest) = text.strip_prefix(MARK)?.split_once('\n')?;
        let Ok(Value::Object(args)) = json::parse(args) else {
            return None;
        };
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
        let args = json::to_string(&Value::Object(self.args.clone()));
        format!("{MARK}{args}\n{}\n", self.lines.join("\n"))
    }

    fn choose(choices: &mut Choices<'_>) -> Self {
        let numbers = Numbers {
            has_whole_floats: choices.percent(40),
        };
        let mut lines = Vec::new();
        for (at, collection) in COLLECTIONS.iter().enumerate() {
            for number in 0..choices.below(10) {
                let document = documents::document(at, number, numbers, choices);
                let document = json::to_string(&Value::Object(document));
                lines.push(format!("INSERT INTO {collection} DOCUMENTS ({document})"));
            }
        }
        let count = choices.of(&[3, 1, 0, 2, 4, 5, 6, 4]);
        let indexes: Vec<Index> = (0..count)
            .map(|number| documents::index(number, choices))
            .collect();
        lines.extend(indexes.iter().map(|index| index.text.clone()));
        let statements = 2 + choices.below(5);
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
            let changes = writer.choices.percent(20);
            lines.push(match changes {
                true => writer.change(),
                false => writer.statement(),
            });
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

/// The line in pieces: statements have spaces between tokens, documents have commas between fields.
fn pieces(line: &str) -> Vec<String> {
    let separator = if line.starts_with("INSERT") { ',' } else { ' ' };
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
    fn shrinking_keeps_what_fails() {
        let script = Script::of(b"-- script {}\nSELECT a , b , c\nDELETE x\nSELECT b\n");
        let small = script.shrunk(|script| script.lines.iter().any(|line| line.contains("b ")));
        assert_eq!(small.lines, ["b "]);
    }
}

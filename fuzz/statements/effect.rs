//! What a change must have done to the documents, computed naively from what they were.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use idem_model::{CollectionName, DocId, FieldPath, Object, Value, json};
use idem_query::{Fields, Source};

use super::{
    compare::{form, naive, naive_rows},
    documents::COLLECTIONS,
    facts::Facts,
    watched::Watched,
};
use crate::double::Memory;

/// A collection as it was or is.
type Documents = BTreeMap<DocId, Object>;

/// A change that succeeded: what was there before it and after it, and what it says it wrote.
pub(crate) struct Change<'c> {
    pub(crate) line: &'c str,
    pub(crate) args: &'c Object,
    pub(crate) before: &'c Memory,
    pub(crate) facts_before: &'c Facts,
    pub(crate) after: &'c Memory,
    pub(crate) facts_after: &'c Facts,
    pub(crate) written: &'c [DocId],
    pub(crate) returned: &'c [Object],
}

/// The parts of a statement that change what follows.
const CLAUSES: &[&str] = &[
    "SET",
    "UNSET",
    "WHERE",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "RETURNING",
];

/// The clauses of a change, and under an empty name what stands before them.
fn clauses(line: &str) -> BTreeMap<&str, String> {
    let mut clauses: BTreeMap<&str, String> = BTreeMap::new();
    let mut clause = "";
    let mut depth = 0_usize;
    for token in line.split(' ') {
        match token {
            "(" | "[" | "{" | "CASE" | "ANY" | "EVERY" | "ARRAY" | "OBJECT" => depth += 1,
            ")" | "]" | "}" | "END" => depth = depth.saturating_sub(1),
            _ if depth == 0 && CLAUSES.contains(&token) => {
                clause = token;
                clauses.entry(clause).or_default();
                continue;
            }
            _ => {}
        }
        let text = clauses.entry(clause).or_default();
        text.push_str(token);
        text.push(' ');
    }
    clauses
}

impl Change<'_> {
    /// Checks what can be checked; gives whether documents and rows were compared, or what is wrong.
    pub(crate) fn check(&self) -> Result<(bool, bool), String> {
        let clauses = clauses(self.line);
        let head = clauses.get("").map_or("", String::as_str);
        let mut words = head.split(' ').filter(|word| !word.is_empty());
        let verb = words.next();
        if verb != Some("UPDATE") {
            words.next();
        }
        let (Some(name), Some(alias)) = (words.next(), words.next()) else {
            return Ok((false, false));
        };
        let Ok(collection) = CollectionName::new(name) else {
            return Ok((false, false));
        };
        let written: BTreeSet<&DocId> = self.written.iter().collect();
        let (before, after) = (documents(self.before), documents(self.after));
        for (name, documents) in &before {
            for (id, fields) in documents {
                let is_written = *name == collection && written.contains(id);
                if !is_written && after[name].get(id) != Some(fields) {
                    return Err(self.wrong(&format!("{name} {id} changed")));
                }
            }
        }
        let (before, after) = (&before[&collection], &after[&collection]);
        let effects = match verb {
            Some("UPDATE") => {
                let set = clauses.get("SET").map(String::as_str);
                let unset = clauses.get("UNSET").map(|path| path.trim());
                self.updated((name, alias), (set, unset), before, after)?
            }
            _ => {
                if let Some(id) = self.written.iter().find(|id| after.contains_key(id)) {
                    return Err(self.wrong(&format!("{id} is still there")));
                }
                true
            }
        };
        let returned = match clauses.get("RETURNING") {
            None => false,
            Some(items) => self.returns((name, alias), items, verb == Some("UPDATE"))?,
        };
        Ok((effects, returned))
    }

    /// Checks what SET and UNSET made of each document.
    fn updated(
        &self,
        (name, alias): (&str, &str),
        (set, unset): (Option<&str>, Option<&str>),
        before: &Documents,
        after: &Documents,
    ) -> Result<bool, String> {
        let sets = set.map(assignments).unwrap_or_default();
        let items: String = sets
            .iter()
            .enumerate()
            .map(|(at, (_, value))| format!(" , ( {value} ) AS v{at}"))
            .collect();
        let text = format!("SELECT {alias}._id AS id{items} FROM {name} {alias}");
        let source = Watched::of(self.before, self.facts_before);
        let Ok(rows) = naive(&text, self.args, &source).map(|rows| naive_rows(&rows)) else {
            return Ok(false);
        };
        let rows: BTreeMap<DocId, Object> = rows
            .into_iter()
            .filter_map(|row| Some((DocId::new(row.get("id")?.clone()).ok()?, row)))
            .collect();
        for id in self.written {
            let (Some(old), Some(new)) = (before.get(id), after.get(id)) else {
                return Err(self.wrong(&format!("{id} was or is not there")));
            };
            let paths = sets.iter().map(|(path, _)| path.as_str()).chain(unset);
            let touched: Vec<&str> = paths
                .map(|path| path.split('.').next().unwrap_or(path))
                .collect();
            for (at, (path, _)) in sets.iter().enumerate() {
                let value = rows.get(id).and_then(|row| row.get(&format!("v{at}")));
                let path = path_of(path);
                match value {
                    // Objects are merged with what was there.
                    Some(Value::Object(_)) => {}
                    Some(value) if path.find(new) != Some(value) => {
                        let value = json::to_string(value);
                        return Err(self.wrong(&format!("{path} of {id} is not {value}")));
                    }
                    None if path.find(new) != path.find(old) => {
                        return Err(self.wrong(&format!("{path} of {id} was set to MISSING")));
                    }
                    _ => {}
                }
            }
            if let Some(path) = unset {
                let path = path_of(path);
                if path.find(new).is_some() {
                    return Err(self.wrong(&format!("{path} of {id} is still there")));
                }
            }
            let rest = |fields: &Object| {
                let mut fields = fields.clone();
                fields.retain(|name, _| !touched.contains(&name.as_str()));
                fields
            };
            if rest(old) != rest(new) {
                return Err(self.wrong(&format!("other fields of {id} changed")));
            }
        }
        Ok(true)
    }

    /// Compares the rows of RETURNING with those of a SELECT over the documents that were written.
    fn returns(
        &self,
        (name, alias): (&str, &str),
        items: &str,
        as_they_are: bool,
    ) -> Result<bool, String> {
        let text =
            format!("SELECT {items} FROM {name} {alias} WHERE {alias}._id IN :written_documents");
        let mut args = self.args.clone();
        let ids = self.written.iter().map(|id| id.as_value().clone());
        args.insert("written_documents".to_owned(), Value::Array(ids.collect()));
        let source = match as_they_are {
            true => Watched::of(self.after, self.facts_after),
            // What RETURNING asks the store about a document that is gone is not there.
            false if items.contains("document_version") || items.contains("conflicts") => {
                return Ok(false);
            }
            false => Watched::of(self.before, self.facts_before),
        };
        let Ok(rows) = naive(&text, &args, &source).map(|rows| naive_rows(&rows)) else {
            return Ok(false);
        };
        let forms = |rows: &[Object]| {
            let mut forms: Vec<String> = rows.iter().map(|row| form(row, true)).collect();
            forms.sort();
            forms
        };
        let (expected, given) = (forms(&rows), forms(self.returned));
        match expected == given {
            true => Ok(true),
            false => Err(self.wrong(&format!(
                "returned:\n  {}\nexpected:\n  {}",
                given.join("\n  "),
                expected.join("\n  ")
            ))),
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("{}\n{what}", self.line)
    }
}

/// What an INSERT of the rows of a query must do.
pub(crate) struct Insertion {
    collection: CollectionName,
    /// `None` if it must fail.
    after: Option<Documents>,
}

impl Insertion {
    /// Computes it; `None` if it is another statement, or the query has no naive result.
    pub(crate) fn of(line: &str, args: &Object, before: &Memory, facts: &Facts) -> Option<Self> {
        let (head, query) = line.split_once(" SELECT ")?;
        let name = head.strip_prefix("INSERT INTO ")?;
        let collection = CollectionName::new(name).ok()?;
        let (query, conflict) = match query.rsplit_once(" ON ID CONFLICT DO ") {
            Some((query, conflict)) => (query, conflict),
            None => (query, "FAIL"),
        };
        let text = format!("SELECT {query}");
        let rows = naive(&text, args, &Watched::of(before, facts)).ok()?;
        let mut known = documents(before).remove(&collection).unwrap_or_default();
        let fails = Some(Self {
            collection: collection.clone(),
            after: None,
        });
        let mut seen = BTreeSet::new();
        for row in naive_rows(&rows) {
            // One without an id gets a random one.
            let id = row.get("_id")?;
            let Ok(id) = DocId::new(id.clone()) else {
                return fails;
            };
            if !seen.insert(id.clone()) {
                return fails;
            }
            let mut fields = row;
            fields.insert("_id".to_owned(), id.as_value().clone());
            match (known.get_mut(&id), conflict) {
                (None, _) => {
                    known.insert(id, fields);
                }
                (Some(_), "NOTHING") => {}
                (Some(old), "UPDATE") => {
                    for (name, value) in fields {
                        if matches!((&value, old.get(&name)), (Value::Object(_), Some(_))) {
                            // Objects are merged with what was there.
                            return None;
                        }
                        old.insert(name, value);
                    }
                }
                _ => return fails,
            }
        }
        Some(Self {
            collection,
            after: Some(known),
        })
    }

    /// Checks that it was done. `after` has the documents if it succeeded.
    pub(crate) fn check(&self, line: &str, after: Option<&Memory>) -> Result<(), String> {
        let given = after.map(|after| documents(after).remove(&self.collection));
        match (&self.after, given) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(format!("{line}\nsucceeds, but its rows are no documents")),
            (Some(_), None) => Err(format!("{line}\nfails, but its rows are documents")),
            (Some(expected), Some(given)) => {
                let given = given.unwrap_or_default();
                match *expected == given {
                    true => Ok(()),
                    false => Err(format!("{line}\ngives {given:?}\ninstead of {expected:?}")),
                }
            }
        }
    }
}

/// `path = value` by `path = value`, with the texts of both.
fn assignments(set: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut depth = 0_usize;
    let mut takes_path = true;
    for token in set.split(' ').filter(|token| !token.is_empty()) {
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                takes_path = true;
                continue;
            }
            "=" if depth == 0 && all.last().is_some_and(|(_, value)| value.is_empty()) => continue,
            _ => {}
        }
        match (takes_path, all.last_mut()) {
            (false, Some((_, value))) => {
                value.push_str(token);
                value.push(' ');
            }
            _ => {
                all.push((token.to_owned(), String::new()));
                takes_path = false;
            }
        }
    }
    all
}

fn path_of(text: &str) -> FieldPath {
    let segments = text.split('.').map(str::to_owned).collect();
    FieldPath::new(segments).expect("the generator writes short paths")
}

fn documents(memory: &Memory) -> BTreeMap<CollectionName, Documents> {
    let mut all = BTreeMap::new();
    for name in COLLECTIONS {
        let name = CollectionName::new(name).expect("it is a name");
        let mut documents = Documents::new();
        let Ok(()) = memory.scan(&name, &Fields::All, &mut |fields| {
            if let Some(Ok(id)) = fields.get("_id").cloned().map(DocId::new) {
                documents.insert(id, fields);
            }
            ControlFlow::Continue(())
        });
        all.insert(name, documents);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_apart_at_its_own_clauses() {
        let line = "UPDATE c u SET a = ( SELECT x FROM d WHERE y LIMIT 1 ) , b = [ 1 , 2 ] WHERE \
                    ANY v IN t SATISFIES v END LIMIT 2 RETURNING a";
        let clauses = clauses(line);
        let names: Vec<&str> = clauses.keys().copied().collect();
        assert_eq!(names, ["", "LIMIT", "RETURNING", "SET", "WHERE"]);
        let sets = assignments(&clauses["SET"]);
        let paths: Vec<&str> = sets.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["a", "b"]);
        assert_eq!(sets[1].1, "[ 1 , 2 ] ");
    }
}

//! What both sides do to the same documents while they cannot see each other, and what must come out.

use idem::Value;

use super::driven::DrivenPeer;
use crate::exit::CliError;

/// One document that both peers change.
pub(super) struct Case {
    /// The document.
    pub(super) id: &'static str,
    /// A statement that both have before the cut, if the case needs one.
    before: Option<&'static str>,
    /// What peer A does.
    pub(super) on_a: &'static [&'static str],
    /// What peer B does, later by the clock.
    pub(super) on_b: &'static [&'static str],
    /// What to look at afterwards.
    query: &'static str,
    /// The rows that must come out on both, as JSON.
    expected: &'static str,
    /// The rule, in plain words.
    pub(super) why: &'static str,
}

/// The cases, one for each rule of merging that an app meets first.
pub(super) const CASES: [Case; 8] = [
    Case {
        id: "LHR",
        before: None,
        on_a: &["UPDATE airports SET name = 'Heathrow, says A' WHERE _id = 'LHR'"],
        on_b: &["UPDATE airports SET name = 'Heathrow, says B' WHERE _id = 'LHR'"],
        query: "SELECT name FROM airports WHERE _id = 'LHR'",
        expected: r#"[{"name": "Heathrow, says B"}]"#,
        why: "one field, two values: the later write shows, the other is kept beside it",
    },
    Case {
        id: "JFK",
        before: None,
        on_a: &["UPDATE airports SET city = 'Queens' WHERE _id = 'JFK'"],
        on_b: &["UPDATE airports SET elevation_ft = 14 WHERE _id = 'JFK'"],
        query: "SELECT city, elevation_ft FROM airports WHERE _id = 'JFK'",
        expected: r#"[{"city": "Queens", "elevation_ft": 14}]"#,
        why: "two fields: no conflict, both edits stay",
    },
    Case {
        id: "CDG",
        before: None,
        on_a: &["UPDATE airports SET contact = {'phone': '+33 1'} WHERE _id = 'CDG'"],
        on_b: &["UPDATE airports SET contact.mail = 'cdg@example.org' WHERE _id = 'CDG'"],
        query: "SELECT contact FROM airports WHERE _id = 'CDG'",
        expected: r#"[{"contact": {"phone": "+33 1", "mail": "cdg@example.org"}}]"#,
        why: "objects merge field by field, even when one side set the whole object",
    },
    Case {
        id: "SIN",
        before: Some("UPDATE airports APPLY visits INCREMENT BY 10 WHERE _id = 'SIN'"),
        on_a: &["UPDATE airports APPLY visits INCREMENT BY 3 WHERE _id = 'SIN'"],
        on_b: &["UPDATE airports APPLY visits INCREMENT BY 4 WHERE _id = 'SIN'"],
        query: "SELECT visits FROM airports WHERE _id = 'SIN'",
        expected: r#"[{"visits": 17}]"#,
        why: "a counter adds up: 10 before, 3 here, 4 there",
    },
    Case {
        id: "DXB",
        before: Some("UPDATE airports APPLY visits INCREMENT BY 10 WHERE _id = 'DXB'"),
        on_a: &["UPDATE airports APPLY visits RESTART WITH 100 WHERE _id = 'DXB'"],
        on_b: &["UPDATE airports APPLY visits INCREMENT BY 5 WHERE _id = 'DXB'"],
        query: "SELECT visits FROM airports WHERE _id = 'DXB'",
        expected: r#"[{"visits": 105}]"#,
        why: "a restart keeps the increments that it had not seen",
    },
    Case {
        id: "NRT",
        before: None,
        on_a: &["DELETE FROM airports WHERE _id = 'NRT'"],
        on_b: &["UPDATE airports SET name = 'still here?' WHERE _id = 'NRT'"],
        query: "SELECT name FROM airports WHERE _id = 'NRT'",
        expected: "[]",
        why: "a delete wins over an edit of the document that it deleted",
    },
    Case {
        id: "SYD",
        before: None,
        on_a: &["DELETE FROM airports WHERE _id = 'SYD'"],
        on_b: &[
            "DELETE FROM airports WHERE _id = 'SYD'",
            "INSERT INTO airports DOCUMENTS ({'_id': 'SYD', 'name': 'rebuilt'})",
        ],
        query: "SELECT * FROM airports WHERE _id = 'SYD'",
        expected: r#"[{"_id": "SYD", "name": "rebuilt"}]"#,
        why: "a document that was made anew stays, with exactly the fields given",
    },
    Case {
        id: "GRU",
        before: None,
        on_a: &["UPDATE airports UNSET location WHERE _id = 'GRU'"],
        on_b: &["UPDATE airports SET location.gate = '7' WHERE _id = 'GRU'"],
        query: "SELECT location FROM airports WHERE _id = 'GRU'",
        expected: r#"[{"location": {"gate": "7"}}]"#,
        why: "removing takes what it saw; what was added unseen stays",
    },
];

impl Case {
    /// Does what both must have before the cut.
    pub(super) fn prepare(&self, a: &mut DrivenPeer) -> Result<(), CliError> {
        self.before
            .map_or(Ok(()), |statement| a.execute(statement, "{}").map(|_| ()))
    }

    /// What the peer shows now.
    pub(super) fn look(&self, peer: &mut DrivenPeer) -> Result<Vec<Value>, CliError> {
        peer.execute(self.query, "{}")
    }

    /// Whether that is what the rule says.
    pub(super) fn is_expected(&self, items: &[Value]) -> bool {
        serde_json::from_str::<Value>(self.expected)
            .is_ok_and(|expected| expected.as_array() == Some(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expectation_is_a_list_of_rows() {
        for case in &CASES {
            let parsed: Value = serde_json::from_str(case.expected).unwrap();
            assert!(case.is_expected(parsed.as_array().unwrap()), "{}", case.id);
            assert!(case.query.contains(case.id));
        }
    }
}

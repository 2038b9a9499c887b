//! The examples of docs/merging.md: statements that end with `;`, each followed by its rows behind `--`.

use crate::fixture::{memory, rows};

#[test]
fn the_documented_examples_hold() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/merging.md");
    let text = std::fs::read_to_string(path).unwrap();
    let store = memory();
    let mut checked = 0;
    for block in text.split("```dql\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let mut lines = block.lines().peekable();
        while let Some(statement) = lines.next() {
            let statement = statement.strip_suffix(';').unwrap();
            let mut expected = Vec::new();
            while let Some(row) = lines.peek().and_then(|line| line.strip_prefix("-- ")) {
                expected.push(row.to_owned());
                lines.next();
            }
            assert_eq!(rows(&store, statement), expected, "{statement}");
            checked += 1;
        }
    }
    assert!(checked >= 7, "{checked} statements");
}

//! Text vectors of `vectors/dql`: plans and rendered errors.
//!
//! A file is a list of blocks between lines of `====`: a statement, a line of `----`, what it gives.
//! Blocks are added, never edited, unless the change of the text is meant.

use idem_model::Object;
use idem_query::plan_to_text;

use crate::memory::Memory;

fn check(name: &str, render: impl Fn(&str) -> String) {
    let path = format!("{}/../../vectors/dql/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut wrong = Vec::new();
    let mut found = String::new();
    for block in text
        .split("====\n")
        .filter(|block| !block.trim().is_empty())
    {
        let (statement, expected) = block.split_once("----\n").unwrap();
        let given = render(statement.trim_end());
        if given.trim_end() != expected.trim_end() {
            wrong.push(format!(
                "{statement}--- expected\n{expected}--- found\n{given}"
            ));
        }
        found.push_str(&format!("{statement}----\n{}\n====\n", given.trim_end()));
    }
    if !wrong.is_empty() {
        let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&out, found).unwrap();
        panic!("{}\nall as found: {}", wrong.join("\n"), out.display());
    }
}

#[test]
fn plans_are_as_recorded() {
    check("plans.txt", |statement| {
        let mut memory = Memory::default();
        memory.pretends = Some(10_000);
        memory.rows("CREATE INDEX by_c ON o (c)");
        memory.rows("CREATE INDEX by_c_t ON o (c, t DESC)");
        memory.rows("CREATE INDEX by_city ON o (addr.city)");
        memory.rows("CREATE INDEX by_name ON p (lower(name), age DESC)");
        memory.rows("CREATE INDEX by_age ON p (age)");
        memory.rows("CREATE INDEX by_tag ON p (DISTINCT ARRAY t FOR t IN tags END, born DESC)");
        memory.rows("CREATE INDEX by_sku ON p (DISTINCT ARRAY i.sku FOR i IN items END)");
        let text = format!("EXPLAIN {statement}");
        match memory.run(&text, &Object::new()) {
            Ok(output) => plan_to_text(&output.items[0]["plan"]),
            Err(error) => error.render(&text),
        }
    });
}

#[test]
fn errors_are_as_recorded() {
    check("errors.txt", |statement| {
        let mut memory = Memory::default();
        memory.rows("INSERT INTO o DOCUMENTS ({'_id': '1', 't': 1})");
        match memory.run(statement, &Object::new()) {
            Ok(output) => format!("no error, {} rows", output.items.len()),
            Err(error) => format!("{}\n{}", error.code(), error.render(statement)),
        }
    });
}

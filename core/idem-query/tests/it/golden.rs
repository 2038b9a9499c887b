//! Text vectors of `vectors/dql`: plans and rendered errors.
//!
//! A file is a list of blocks between lines of `====`: a statement, a line of `----`, what it gives.
//! Blocks are added, never edited, unless the change of the text is meant.

use idem_model::{Object, Value};
use idem_query::plan_to_text;

use crate::memory::Memory;

fn check(name: &str, render: impl Fn(&str) -> String) {
    compare(name, |block| {
        let (statement, _) = block.split_once("----\n").unwrap();
        let statement = statement.trim_end();
        format!("{statement}\n----\n{}\n", render(statement).trim_end())
    });
}

/// Compares each block of a file with what `again` makes of it.
fn compare(name: &str, again: impl Fn(&str) -> String) {
    let path = format!("{}/../../vectors/dql/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut wrong = Vec::new();
    let mut found = String::new();
    for block in text
        .split("====\n")
        .filter(|block| !block.trim().is_empty())
    {
        let given = again(block);
        if given.trim_end() != block.trim_end() {
            wrong.push(format!("--- expected\n{block}--- found\n{given}"));
        }
        found.push_str(&given);
        found.push_str("====\n");
    }
    if !wrong.is_empty() {
        let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&out, found).unwrap();
        panic!("{}\nall as found: {}", wrong.join("\n"), out.display());
    }
}

/// What a list of wrong statements gives, each with one that does what was meant: it must run, and the
/// code in the hint must be in it.
#[test]
fn habits_are_answered_with_what_works_here() {
    let run = |statement: &str| {
        let mut memory = Memory::default();
        memory.rows("INSERT INTO orders DOCUMENTS ({'_id': '1', 'total': 1})");
        memory.rows("CREATE INDEX by_total ON orders (total)");
        memory.run(statement, &every_argument(statement))
    };
    let render = |statement: &str, right: &str| {
        let shown = match run(statement) {
            Ok(output) if output.warnings.is_empty() => "no error".to_owned(),
            Ok(output) => {
                let warnings: Vec<String> =
                    output.warnings.iter().map(ToString::to_string).collect();
                format!("warning: {}", warnings.join("\nwarning: "))
            }
            Err(error) => format!("{}\n{}", error.code(), error.render(statement)),
        };
        let hint = shown.lines().find_map(|line| line.strip_prefix("hint: "));
        let code = hint.and_then(|hint| Some(hint.rsplit_once("write ")?.1));
        if !right.is_empty() {
            if let Err(error) = run(right) {
                return format!("{shown}\nBUT {}", error.render(right));
            }
            let mut rest = right;
            let alternative =
                |code: &str| code.split(", or ").next().unwrap_or_default().to_owned();
            let code = code.map(alternative).unwrap_or_default();
            let code = code.split(" or ").next().unwrap_or_default();
            for piece in code.split("..").map(str::trim) {
                match rest.split_once(piece) {
                    Some((_, behind)) => rest = behind,
                    None => return format!("{shown}\nBUT {code:?} is not in the right one"),
                }
            }
        }
        shown
    };
    compare("habits.txt", |block| {
        let (statement, expected) = block.split_once("----\n").unwrap();
        let right = expected
            .split_once("----\n")
            .map_or("", |(_, right)| right)
            .trim_end();
        let statement = statement.trim_end();
        let given = render(statement, right);
        match right {
            "" => format!("{statement}\n----\n{given}\n"),
            _ => format!("{statement}\n----\n{given}\n----\n{right}\n"),
        }
    });
}

/// Something for each parameter that statements of these vectors have.
fn every_argument(statement: &str) -> Object {
    let document = Value::Object(Object::from([("a".to_owned(), Value::Int(1))]));
    let parameters = statement.split(':').skip(1).map(|part| {
        let name: String = part
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        let value = if name == "document" {
            document.clone()
        } else {
            Value::Int(1)
        };
        (name, value)
    });
    parameters.collect()
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

//! The canonical text and the name of subscriptions, as a second implementation must make them.

use std::{fs, path::PathBuf};

use idem_model::{Object, Value, json};
use idem_query::{Reach, Selector, parse};
use idem_sync::subscription_id_of;

const HEAD: &str = "\
# A statement as an app may write it, with :n = 3 and :s = 'open'; the canonical text; and the name.
";

/// What apps write. Each line shows something that the text of another one does not.
const STATEMENTS: [&str; 27] = [
    "select * from airports",
    "SELECT * FROM `two words`",
    "SELECT * FROM `select`",
    "SELECT * FROM orders o WHERE o.n > :n AND o.status == :s",
    "SELECT * FROM orders WHERE 'open' = status AND 3 < n",
    "SELECT * FROM orders WHERE n > 3 AND n > 3",
    "SELECT * FROM orders WHERE _id = 'a'",
    "SELECT * FROM orders WHERE _id IN ('b', 'a', 'b', null) AND total > 1",
    "SELECT * FROM orders WHERE b = 1 OR a = 2",
    "SELECT * FROM orders WHERE NOT (a = 1 AND b = 2)",
    "SELECT * FROM orders WHERE total > -1.5 AND total < 1e3 AND total <> 2",
    "SELECT * FROM orders WHERE n + 1 * 2 = 7",
    "SELECT * FROM orders WHERE n = 1 + 2",
    "SELECT * FROM orders WHERE n BETWEEN 1 AND 5",
    "SELECT * FROM orders WHERE status IN ('new', 'open')",
    "SELECT * FROM orders WHERE name LIKE 'A%' AND name NOT ILIKE '_b'",
    "SELECT * FROM orders WHERE address.city = 'Bonn' AND items[0].price > 9",
    "SELECT * FROM orders WHERE `a b`.c = 'it\\'s \"quoted\"'",
    "SELECT * FROM orders WHERE a IS MISSING OR b IS NOT NULL",
    "SELECT * FROM orders WHERE paid AND NOT sent",
    "SELECT * FROM orders WHERE ANY item IN items SATISFIES item.price > 9 END",
    "SELECT * FROM orders WHERE contains(tags, 'x')",
    "SELECT * FROM orders WHERE position = {'x': 1, 'y': [true, null]}",
    "SELECT * FROM orders WHERE CASE WHEN a THEN b ELSE c END = 1",
    "SELECT total, _id, address.city FROM orders",
    "SELECT o.b.c, o.a, o.b, o.`two words` FROM orders o WHERE o.n > :n",
    "SELECT _id FROM orders",
];

#[test]
fn subscriptions_are_named_as_they_were() {
    let args = Object::from([
        ("n".to_owned(), Value::Int(3)),
        ("s".to_owned(), Value::String("open".to_owned())),
    ]);
    let mut text = HEAD.to_owned();
    for statement in STATEMENTS {
        let selector = parse(statement)
            .and_then(|it| it.subscription(&args))
            .unwrap_or_else(|error| panic!("{}", error.render(statement)));
        text.push_str(&format!(
            "\nwritten {statement}\ntext    {}\nname    {}\n",
            selector.canonical(),
            name(&selector)
        ));
    }
    compare("subscriptions.txt", &text);
}

const WINDOWS_HEAD: &str = "\
# The statement of a window as an app may write it, and its canonical text. Then a document that is sorted, its place, and what is
# subscribed to for the documents up to there: the canonical text and the name.
";

/// Windows, and a row of what a document in them is sorted by.
const WINDOWS: [(&str, &str); 6] = [
    (
        "select * from scores order by points desc limit 10",
        r#"{"k0": 250, "id": "anna"}"#,
    ),
    (
        "SELECT * FROM scores s WHERE s.level = 3 ORDER BY s.points DESC, s.name LIMIT 2",
        r#"{"k0": 1.5, "k1": "B", "id": 7}"#,
    ),
    (
        "SELECT * FROM scores ORDER BY points LIMIT 10000",
        r#"{"id": "a document without points"}"#,
    ),
    (
        "SELECT * FROM scores ORDER BY points DESC LIMIT 1",
        r#"{"id": "the same, at the other end"}"#,
    ),
    (
        "SELECT * FROM scores ORDER BY a.b LIMIT 5",
        r#"{"k0": 2.0, "id": [1, "x"]}"#,
    ),
    (
        "SELECT * FROM scores ORDER BY done, points * 2 DESC LIMIT 5",
        r#"{"k0": null, "k1": -4, "id": "x"}"#,
    ),
];

#[test]
fn windows_are_written_as_they_were() {
    let mut text = WINDOWS_HEAD.to_owned();
    for (statement, row) in WINDOWS {
        let window = parse(statement)
            .and_then(|it| it.window(&Object::new()))
            .unwrap_or_else(|error| panic!("{}", error.render(statement)))
            .expect("it has an order");
        let sorted = json::parse(row).expect("valid JSON");
        let reach = window.reach_of(sorted.as_object().expect("an object"));
        let within = window.within(&reach);
        text.push_str(&format!(
            "\nwritten {statement}\ntext    {}\nsorted  {row}\nplace   {}\nwithin  {}\nname    {}\n",
            window.canonical(),
            hex(reach.as_bytes()),
            within.canonical(),
            name(&within)
        ));
        assert_eq!(window.within(&Reach::ALL), *window.selector());
    }
    compare("windows.txt", &text);
}

fn name(selector: &Selector) -> String {
    hex(&subscription_id_of(selector).0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test may be asked to write")]
fn compare(file: &str, text: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/wire");
    let path = folder.join(file);
    if std::env::var("IDEM_VECTORS").is_ok_and(|it| it == "write") && !path.exists() {
        fs::write(&path, text).expect("the vectors are writable");
    }
    let golden = fs::read_to_string(&path).expect("the vector is checked in");
    assert_eq!(text, golden, "{file} is as it was");
}

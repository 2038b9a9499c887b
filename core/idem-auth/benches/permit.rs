//! What asking a permit costs: `cargo bench -p idem-auth --bench permit`. Nanoseconds for one check, the best of
//! 100 short rounds of processor time, so that what else the machine does counts little.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

mod cpu;

use std::hint::black_box;

use idem_auth::{Access, Certificate, CertificateSerial, Grants, Permit};
use idem_model::{CollectionName, DatabaseId, Object, PeerId, Value};
use idem_query::{Selector, parse};

const ROUNDS: usize = 100;
const CHECKS: u32 = 1_000;

fn main() {
    let collection = CollectionName::new("flights").expect("a name");
    let document: Object = [
        ("_id", Value::from("0197a6f2-7c1e-7b3a-9d40-5a1f3c2b1d0e")),
        ("gate", Value::from("G19")),
        ("airline", Value::from("Idem Air")),
        ("owner", Value::from("ada@example.com")),
        ("seats", Value::from(180)),
        ("open", Value::from(true)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();

    let gates: Vec<String> = (0..20)
        .map(|number| format!("gate = 'G{number}'"))
        .collect();
    let fields: Vec<String> = (0..19)
        .map(|number| format!("field{number} = 'x'"))
        .chain(["owner = :user".to_owned()])
        .collect();
    let ranges: Vec<String> = (0..20)
        .map(|number| format!("seats > {number} AND gate = 'H{number}'"))
        .collect();
    for (name, rules) in [
        ("20 equalities on one field", &gates),
        ("20 equalities on 20 fields", &fields),
        ("20 conjunctions, none true", &ranges),
    ] {
        let permit = permit(rules);
        report(name, || permit.may_read(&collection, black_box(&document)));
        let selectors: Vec<Selector> = rules.iter().map(|rule| selector(rule)).collect();
        report("  the same, one selector after the other", || {
            selectors.iter().any(|it| it.matches(black_box(&document)))
        });
    }
    let shared = permit(&["ANY x IN readers SATISFIES x = :user END".to_owned()]);
    let mut read_by = document.clone();
    read_by.insert(
        "readers".to_owned(),
        Value::from(vec!["eve", "bob", "ada@example.com"]),
    );
    report("one ANY over three readers", || {
        shared.may_read(&collection, black_box(&read_by))
    });
    let everything = Permit::everything();
    report("everything", || {
        everything.may_read(&collection, black_box(&document))
    });
    report("compiling 20 equalities", || {
        permit(&gates).may_administer()
    });
}

fn certificate(rules: &[String]) -> Certificate {
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    Certificate {
        database: DatabaseId([1; 16]),
        serial: CertificateSerial([2; 16]),
        subject: PeerId([3; 32]),
        user: "ada@example.com".to_owned(),
        issued_at_ms: 0,
        not_before_ms: 0,
        not_after_ms: 1,
        claims: Object::new(),
        grants: Grants {
            read: Access::of(&[("flights", &rules)]),
            ..Grants::default()
        },
    }
}

fn permit(rules: &[String]) -> Permit {
    Permit::compile(&certificate(rules)).expect("grants")
}

fn selector(rule: &str) -> Selector {
    let statement = parse(&format!("SELECT * FROM flights WHERE {rule}")).expect("a statement");
    let args = Object::from([("user".to_owned(), Value::from("ada@example.com"))]);
    statement.subscription(&args).expect("a selector")
}

fn report(name: &str, mut check: impl FnMut() -> bool) {
    let rounds = (0..ROUNDS).map(|_| {
        let started = cpu::seconds();
        for _ in 0..CHECKS {
            black_box(check());
        }
        (cpu::seconds() - started) * 1e9 / f64::from(CHECKS)
    });
    let best = rounds.fold(f64::INFINITY, f64::min);
    println!("{name:<50} {best:>9.0} ns");
}

//! CREATE COLLECTION on one peer holds on the others.

use idem::{ConditionKind, FieldPath, Idem, Value};

use crate::fixture::{
    conditions, count, dial, link, listen, memory, open, rows, run, wait_equal, wait_until,
};

fn declared(idem: &Idem) -> Vec<String> {
    rows(
        idem,
        "SELECT types FROM system:collections WHERE name = 't'",
    )
}

#[test]
fn a_declaration_reaches_a_peer_that_wrote_before_it_and_after_it() {
    let (a, b) = (memory(), memory());
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'n': 1})");
    link(&a, &b, "t");
    wait_until("the document", || count(&b, "t") == 1);
    // Before: B knows of no declaration and writes a register.
    run(&b, "UPDATE t SET n = 5, early = {'a': 1} WHERE _id = 'x'");
    wait_until("what B wrote", || {
        rows(&a, "SELECT n FROM t") == [r#"{"n":5}"#]
    });

    run(&a, "CREATE COLLECTION t (n COUNTER, early MAP)");
    wait_until("the declaration", || {
        declared(&b) == [r#"{"types":{"early":"MAP","n":"COUNTER"}}"#]
    });
    // After: what a statement does not say is known, on both sides.
    run(&b, "UPDATE t SET n = 10 WHERE _id = 'x'");
    wait_equal(&a, &b);
    for idem in [&a, &b] {
        run(idem, "UPDATE t APPLY n INCREMENT BY 1 WHERE _id = 'x'");
        let error = idem
            .store()
            .execute_blocking("UPDATE COLLECTION t (n MAP) SET n = {} WHERE _id = 'x'")
            .unwrap_err();
        assert!(
            error.to_string().contains("declares it as COUNTER"),
            "{error}"
        );
    }
    wait_until("both increments", || {
        [&a, &b].map(|idem| rows(idem, "SELECT n FROM t")) == [[r#"{"n":12}"#], [r#"{"n":12}"#]]
    });
    wait_equal(&a, &b);
    let path = FieldPath::field("n");
    let values = b.store().conflicts_blocking("t", "x", &path).unwrap();
    assert_eq!(values.first(), Some(&Value::Int(12)), "{values:?}");
}

/// The subscription to declarations is the peer's own: the app does not see it, and needs none.
#[test]
fn declarations_sync_without_a_subscription_of_the_app() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (memory(), open(directory.path()));
    let (heard, _observer) = conditions(&b);
    run(&a, "CREATE COLLECTION t (n COUNTER)");
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'n': 1})");
    dial(&b, &listen(&a));
    let types = [r#"{"types":{"n":"COUNTER"}}"#];
    wait_until("the declaration", || declared(&b) == types);
    assert_eq!(count(&b, "t"), 0);
    assert!(b.sync().subscriptions().is_empty());
    // Peers that declare apart agree on one kind when they meet again.
    b.sync().stop();
    run(&a, "CREATE COLLECTION t (m MAP, r MAP)");
    run(&b, "CREATE COLLECTION t (m REGISTER, s MAP)");
    b.sync().start().unwrap();
    let types = [r#"{"types":{"m":"REGISTER","n":"COUNTER","r":"MAP","s":"MAP"}}"#];
    wait_until("one kind on both", || {
        declared(&a) == types && declared(&b) == types
    });
    assert!(
        heard
            .all()
            .iter()
            .all(|it| it.kind != ConditionKind::CaughtUp),
        "the app asked for nothing that could catch up"
    );
    // It is on disk.
    b.close_blocking().unwrap();
    drop(b);
    let b = open(directory.path());
    assert_eq!(declared(&b), types);
}

//! Subscriptions to some fields, between peers over TCP.

use idem::{ErrorKind, Idem, OnLeave, SubscriptionOptions, SyncSubscription};

use crate::fixture::{Heard, count, dial, listen, memory, open, rows, run, wait_until};

const NAMED: &str = "SELECT _id, name, price FROM products WHERE shop = 7";

fn insert(idem: &Idem, id: &str, shop: u32) {
    let text = "a long text ".repeat(1000);
    run(
        idem,
        &format!(
            "INSERT INTO products DOCUMENTS ({{'_id': '{id}', 'name': 'n{id}', 'price': 1, \
             'shop': {shop}, 'text': '{text}', 'stock': {{'here': 1, 'there': 2}}}})"
        ),
    );
}

fn subscribe(idem: &Idem, query: &str, collection: &str) -> SyncSubscription {
    let options = SubscriptionOptions::new().in_collection(collection);
    let subscription = idem.sync().register_subscription_with(query, options);
    subscription.unwrap()
}

fn shown(idem: &Idem, collection: &str) -> Vec<String> {
    rows(idem, &format!("SELECT * FROM `{collection}` ORDER BY _id"))
}

fn refused(idem: &Idem, statement: &str) -> ErrorKind {
    let error = idem.store().execute_blocking(statement).unwrap_err();
    error.kind()
}

#[test]
fn only_some_fields_arrive_in_a_collection_of_their_own() {
    let (a, b) = (memory(), memory());
    let names = subscribe(&b, NAMED, "names");
    assert_eq!(names.collection(), "names");
    run(&b, "CREATE INDEX by_price ON names (price)");
    let heard = Heard::new();
    let push = heard.clone();
    let _observer = b
        .store()
        .register_observer("SELECT * FROM names WHERE price > 1", move |r| {
            push.push(r.item_count());
        })
        .unwrap();
    insert(&a, "a", 7);
    insert(&a, "b", 8);
    dial(&b, &listen(&a));
    wait_until("the first sync", || count(&b, "names") == 1);
    assert_eq!(shown(&b, "names"), [r#"{"_id":"a","name":"na","price":1}"#]);
    assert_eq!(count(&b, "products"), 0);
    run(&a, "UPDATE products SET price = 3 WHERE _id = 'a'");
    heard.wait_for("the price", |n| *n == 1);
    let found = rows(&b, "SELECT name FROM names WHERE price = 3");
    assert_eq!(found, [r#"{"name":"na"}"#]);
    // What comes to match arrives, and what leaves is brought up to date, and stays.
    run(&a, "UPDATE products SET shop = 7 WHERE _id = 'b'");
    wait_until("what matches now", || count(&b, "names") == 2);
    run(
        &a,
        "UPDATE products SET shop = 8, price = 9 WHERE _id = 'a'",
    );
    wait_until("what left", || {
        rows(&b, "SELECT _id FROM names WHERE price = 9").len() == 1
    });
    run(&a, "DELETE FROM products WHERE _id = 'b'");
    wait_until("the deletion", || count(&b, "names") == 1);
}

#[test]
fn nobody_writes_to_what_a_subscription_brings() {
    let (a, b) = (memory(), memory());
    let _names = subscribe(&b, NAMED, "names");
    insert(&a, "a", 7);
    insert(&a, "b", 7);
    dial(&b, &listen(&a));
    wait_until("the first sync", || count(&b, "names") == 2);
    for statement in [
        "INSERT INTO names DOCUMENTS ({'_id': 'c'})",
        "UPDATE names SET price = 2",
        "DELETE FROM names WHERE _id = 'a'",
        "CREATE COLLECTION names (price COUNTER)",
    ] {
        assert_eq!(
            refused(&b, statement),
            ErrorKind::StoreCollectionReadOnly,
            "{statement}"
        );
    }
    run(&b, "EVICT FROM names WHERE _id = 'a'");
    assert_eq!(count(&b, "names"), 1);
    // As elsewhere its next change brings it back.
    run(&a, "UPDATE products SET price = 5 WHERE _id = 'a'");
    wait_until("its next change", || count(&b, "names") == 2);

    // One projection is in one collection, and has it for itself.
    let other = "SELECT name FROM products";
    let register = |query: &str, collection: &str| {
        let options = SubscriptionOptions::new().in_collection(collection);
        b.sync()
            .register_subscription_with(query, options)
            .map(drop)
    };
    run(&b, "INSERT INTO used DOCUMENTS ({'_id': 1})");
    for (query, collection) in [(NAMED, "others"), (other, "names"), (other, "used")] {
        let kind = register(query, collection).unwrap_err().kind();
        assert_eq!(
            kind,
            ErrorKind::StoreCollectionInvalid,
            "{query} in {collection}"
        );
    }
    let whole = register("SELECT * FROM products", "others").unwrap_err();
    assert_eq!(whole.kind(), ErrorKind::SyncSubscriptionInvalid);
    let by_default = b.sync().register_subscription(other).unwrap();
    assert_eq!(by_default.collection(), "products(name)");
    let expected = [r#"{"_id":"a","name":"na"}"#, r#"{"_id":"b","name":"nb"}"#];
    wait_until("the other fields", || {
        shown(&b, "products(name)") == expected
    });
    // Another condition on the same fields goes with the first.
    let more = b
        .sync()
        .register_subscription("SELECT price, name FROM products");
    assert_eq!(more.unwrap().collection(), "names");
}

#[test]
fn a_subscriber_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let a = memory();
    let address = listen(&a);
    insert(&a, "a", 7);
    insert(&a, "b", 7);
    {
        let b = open(directory.path());
        let _names = subscribe(&b, NAMED, "names");
        dial(&b, &address);
        wait_until("the first sync", || count(&b, "names") == 2);
        b.close_blocking().unwrap();
    }
    run(&a, "UPDATE products SET price = 2 WHERE _id = 'a'");
    run(&a, "DELETE FROM products WHERE _id = 'b'");
    let b = open(directory.path());
    assert_eq!(count(&b, "names"), 2);
    assert_eq!(
        refused(&b, "DELETE FROM names"),
        ErrorKind::StoreCollectionReadOnly
    );
    // The name need not be said again.
    let names = b.sync().register_subscription(NAMED).unwrap();
    assert_eq!(names.collection(), "names");
    dial(&b, &address);
    let expected = [r#"{"_id":"a","name":"na","price":2}"#];
    wait_until("what changed meanwhile", || shown(&b, "names") == expected);
}

#[test]
fn whole_documents_and_parts_of_them_keep_apart() {
    let (a, b, c) = (memory(), memory(), memory());
    for idem in [&a, &b] {
        let all = idem.sync().register_subscription("SELECT * FROM products");
        all.unwrap().keep();
    }
    subscribe(&b, NAMED, "names").keep();
    // Who asks for that collection by its name gets nothing: it is this peer's alone.
    let names = c.sync().register_subscription("SELECT * FROM names");
    names.unwrap().keep();
    let third = subscribe(&c, "SELECT stock.here FROM products", "stock");
    let address = listen(&b);
    dial(&c, &address);
    dial(&a, &address);
    insert(&a, "a", 7);
    wait_until("all of it", || {
        count(&b, "products") == 1 && count(&b, "names") == 1
    });
    run(&b, "UPDATE products SET price = 4 WHERE _id = 'a'");
    let expected = [r#"{"_id":"a","name":"na","price":4}"#];
    // What is written here comes back as part of what another peer has.
    wait_until("its own change", || shown(&b, "names") == expected);
    wait_until("the third", || {
        shown(&c, "stock") == [r#"{"_id":"a","stock":{"here":1}}"#]
    });
    assert_eq!(count(&c, "names"), 0);
    assert_eq!(rows(&a, "SELECT price FROM products"), [r#"{"price":4}"#]);
    assert_eq!(third.collection(), "stock");
}

#[test]
fn what_leaves_goes_where_that_is_asked_for() {
    let (a, b) = (memory(), memory());
    let options = SubscriptionOptions::new().in_collection("names");
    let options = options.on_leave(OnLeave::Evict);
    let _names = b.sync().register_subscription_with(NAMED, options).unwrap();
    insert(&a, "a", 7);
    insert(&a, "b", 7);
    dial(&b, &listen(&a));
    wait_until("the first sync", || count(&b, "names") == 2);
    run(&a, "UPDATE products SET shop = 8 WHERE _id = 'a'");
    wait_until("what left", || count(&b, "names") == 1);
    run(&a, "UPDATE products SET shop = 7 WHERE _id = 'a'");
    wait_until("what came back", || count(&b, "names") == 2);
}

#[test]
fn concurrent_changes_of_two_sources_become_one_document() {
    let (a, b, c) = (memory(), memory(), memory());
    let names = subscribe(&c, NAMED, "names");
    run(
        &a,
        "INSERT INTO products DOCUMENTS ({'_id': 1, 'name': 'by a', 'shop': 7, 'x': 1})",
    );
    run(
        &b,
        "INSERT INTO products DOCUMENTS ({'_id': 1, 'price': 9, 'shop': 7, 'y': 2})",
    );
    let (to_a, to_b) = (listen(&a), listen(&b));
    dial(&c, &to_a);
    let first = [r#"{"_id":1,"name":"by a"}"#];
    wait_until("the first source", || {
        shown(&c, names.collection()) == first
    });
    dial(&c, &to_b);
    let both = [r#"{"_id":1,"name":"by a","price":9}"#];
    wait_until("the second source", || {
        shown(&c, names.collection()) == both
    });
    // The first one does not know of the other, and tells of a change of its own.
    run(&a, "UPDATE products SET name = 'again', x = 2");
    dial(&c, &to_a);
    let again = [r#"{"_id":1,"name":"again","price":9}"#];
    wait_until("the first one again", || {
        shown(&c, names.collection()) == again
    });
}

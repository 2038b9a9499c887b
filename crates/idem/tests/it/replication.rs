//! Two or three peers in one process over TCP.

use idem::{ConditionKind, Idem, OnLeave, SubscriptionOptions};
use serde_json::json;

use crate::fixture::{
    Heard, conditions, count, dial, link, listen, memory, open, rows, run, wait_equal,
    wait_for_kind, wait_until,
};

fn fill(idem: &Idem, from: u32, to: u32) {
    let documents = (from..to)
        .map(|n| {
            let fields = [
                ("_id".to_owned(), i64::from(n).into()),
                (
                    "text".to_owned(),
                    format!("document {n} ").repeat(15).as_str().into(),
                ),
            ];
            idem::Object::from(fields)
        })
        .collect();
    idem.store()
        .insert_many_blocking("t", documents, idem::InsertConflict::Fail)
        .unwrap();
}

#[test]
fn changes_travel_both_ways_while_linked() {
    let (a, b) = (memory(), memory());
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'before', 'n': 1})");
    link(&a, &b, "t");
    wait_until("the first sync", || count(&b, "t") == 1);
    run(&b, "INSERT INTO t DOCUMENTS ({'_id': 'back', 'n': 2})");
    wait_until("the way back", || count(&a, "t") == 2);
    run(&a, "UPDATE t SET n = 5 WHERE _id = 'back'");
    wait_until("the update", || {
        rows(&b, "SELECT n FROM t WHERE _id = 'back'") == [r#"{"n":5}"#]
    });
    run(&b, "DELETE FROM t WHERE _id = 'before'");
    wait_until("the delete", || count(&a, "t") == 1);
    wait_equal(&a, &b);
    let graph = a.presence().graph();
    assert_eq!(graph.remote_peers.len(), 1);
    assert_eq!(graph.remote_peers[0].peer_key, b.peer_key());
    let info = rows(&a, "SELECT * FROM system:data_sync_info");
    assert_eq!(info.len(), 1);
    assert!(info[0].contains("\"Connected\""), "{info:?}");
    let last = a.store().statistics().unwrap().last_commit;
    wait_until("b has confirmed everything", || {
        a.presence().graph().remote_peers[0].synced_up_to_local_commit_id == Some(last)
    });
}

#[test]
fn an_observer_fires_for_what_another_peer_wrote() {
    let (a, b) = (memory(), memory());
    let heard = Heard::new();
    let push = heard.clone();
    let _observer = b
        .store()
        .register_observer("SELECT * FROM t WHERE n > 10", move |r| {
            push.push(r.item_count());
        })
        .unwrap();
    link(&a, &b, "t");
    for n in [5, 15, 25] {
        let insert = "INSERT INTO t DOCUMENTS (:d)";
        let args = json!({"d": {"_id": n, "n": n}});
        a.store().execute_blocking((insert, args)).unwrap();
    }
    heard.wait_for("both that match", |n| *n == 2);
}

#[test]
fn only_what_is_subscribed_travels() {
    let (a, b) = (memory(), memory());
    let _subscription = b
        .sync()
        .register_subscription(("SELECT * FROM t WHERE n < :max", json!({"max": 10})))
        .unwrap();
    dial(&b, &listen(&a));
    for n in [1, 50, 2] {
        run(
            &a,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': {n}, 'n': {n}}})"),
        );
    }
    wait_until("what matches", || count(&b, "t") == 2);
    // A second subscription while linked brings the rest.
    let _more = b.sync().register_subscription("SELECT * FROM t").unwrap();
    wait_until("the rest", || count(&b, "t") == 3);
    assert_eq!(b.sync().subscriptions().len(), 2);
    let shown = "SELECT value FROM system:system_info WHERE namespace = 'sync' ORDER BY key";
    let expected = [
        r#"{"value":["SELECT * FROM t AS d WHERE (d.n < 10)","SELECT * FROM t AS d"]}"#,
        r#"{"value":2}"#,
    ];
    assert_eq!(rows(&b, shown), expected);
}

#[test]
fn a_subscription_that_is_dropped_brings_nothing_more() {
    let (a, b) = (memory(), memory());
    let t = b.sync().register_subscription("SELECT * FROM t").unwrap();
    let _u = b.sync().register_subscription("SELECT * FROM u").unwrap();
    dial(&b, &listen(&a));
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    wait_until("the first", || count(&b, "t") == 1);
    t.cancel();
    assert!(t.is_cancelled());
    assert_eq!(b.sync().subscriptions().len(), 1);
    // A subscription is taken back by a message; one that travels after it proves that it arrived.
    let _mark = b
        .sync()
        .register_subscription("SELECT * FROM mark")
        .unwrap();
    run(&a, "INSERT INTO mark DOCUMENTS ({'_id': 1})");
    wait_until("the mark", || count(&b, "mark") == 1);
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 2})");
    run(&a, "INSERT INTO u DOCUMENTS ({'_id': 2})");
    wait_until("the other collection", || count(&b, "u") == 1);
    assert_eq!(count(&b, "t"), 1);
}

/// How many evicted documents are not to be sent again.
fn markers(idem: &Idem) -> String {
    let text = "SELECT `value` FROM system:system_info WHERE key = 'evict_markers'";
    rows(idem, text).remove(0)
}

#[test]
fn what_was_evicted_stays_away_until_it_changes_or_its_subscription_was_cancelled() {
    let (a, b) = (memory(), memory());
    let t = b.sync().register_subscription("SELECT * FROM t").unwrap();
    let address = listen(&a);
    dial(&b, &address);
    run(
        &a,
        "INSERT INTO t DOCUMENTS ({'_id': 1}), ({'_id': 2}), ({'_id': 3})",
    );
    wait_until("all three", || count(&b, "t") == 3);
    // Before it knows that they arrived, the sender lets the whole transaction come with a change of
    // one of them.
    let last = a.store().statistics().unwrap().last_commit;
    let limit = std::time::Duration::from_secs(60);
    let synced = a.sync().await_synced_blocking(b.peer_key(), last, limit);
    synced.unwrap();
    run(&b, "EVICT FROM t");
    assert_eq!(markers(&b), r#"{"value":3}"#);
    run(&a, "UPDATE t SET n = 1 WHERE _id = 1");
    wait_until("the one that changed", || count(&b, "t") == 1);
    assert_eq!(markers(&b), r#"{"value":2}"#);

    // A handle that is dropped leaves it at that, and the same subscription goes on.
    b.sync().stop();
    drop(t);
    let t = b.sync().register_subscription("SELECT * FROM t").unwrap();
    dial(&b, &address);
    run(&a, "UPDATE t SET n = 2 WHERE _id = 1");
    let second = "SELECT * FROM t WHERE n = 2";
    wait_until("the next change", || rows(&b, second).len() == 1);
    assert_eq!(count(&b, "t"), 1);
    assert_eq!(markers(&b), r#"{"value":2}"#);

    b.sync().stop();
    t.cancel();
    wait_until("it is forgotten", || markers(&b) == r#"{"value":0}"#);
    let _t = b.sync().register_subscription("SELECT * FROM t").unwrap();
    dial(&b, &address);
    wait_until("all three again", || count(&b, "t") == 3);
}

#[test]
fn a_subscription_computes_nothing() {
    let idem = memory();
    for query in [
        "SELECT a + 1 FROM t",
        "SELECT * FROM t LIMIT 1",
        "DELETE FROM t",
    ] {
        let error = idem.sync().register_subscription(query).unwrap_err();
        let code = error.kind().code();
        assert!(
            ["sync/subscription-invalid", "query/invalid"].contains(&code),
            "{query}: {code}"
        );
    }
}

#[test]
fn what_leaves_a_subscription_is_kept_or_evicted() {
    let (a, kept, evicted) = (memory(), memory(), memory());
    let query = "SELECT * FROM t WHERE state = 'open'";
    let _kept = kept.sync().register_subscription(query).unwrap();
    let options = SubscriptionOptions::new().on_leave(OnLeave::Evict);
    let _evicted = (evicted.sync())
        .register_subscription_with(query, options)
        .unwrap();
    let address = listen(&a);
    for idem in [&kept, &evicted] {
        dial(idem, &address);
    }
    run(
        &a,
        "INSERT INTO t DOCUMENTS ({'_id': 1, 'state': 'open'}), ({'_id': 2, 'state': 'open'})",
    );
    wait_until("both have both", || {
        count(&kept, "t") == 2 && count(&evicted, "t") == 2
    });
    run(&a, "UPDATE t SET state = 'done' WHERE _id = 1");
    wait_until("it is gone", || count(&evicted, "t") == 1);
    let done = "SELECT _id FROM t WHERE state = 'done'";
    wait_until("it is kept as it is", || rows(&kept, done).len() == 1);
    // One that was away hears of it when it comes back.
    evicted.sync().stop();
    run(&a, "UPDATE t SET state = 'done' WHERE _id = 2");
    dial(&evicted, &address);
    wait_until("the other one, too", || count(&evicted, "t") == 0);
    assert_eq!(count(&a, "t"), 2);
}

#[test]
fn a_subscription_that_cannot_be_says_why() {
    let idem = memory();
    for (query, words) in [
        ("SELECT a + 1 FROM t", "by their paths"),
        ("SELECT * FROM t ORDER BY n", "with LIMIT"),
        ("SELECT * FROM t LIMIT 3", "with ORDER BY"),
    ] {
        let error = idem.sync().register_subscription(query).unwrap_err();
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(words), "{hint}");
    }
}

#[test]
fn edits_made_apart_converge() {
    let (a, b) = (memory(), memory());
    link(&a, &b, "t");
    run(
        &a,
        "INSERT INTO t DOCUMENTS ({'_id': 1, 'o': {}}), ({'_id': 2}), ({'_id': 3, 'n': 1})",
    );
    run(&a, "UPDATE t APPLY n INCREMENT BY 1 WHERE _id = 1");
    wait_until("the start", || count(&b, "t") == 3);
    wait_equal(&a, &b);
    a.sync().stop();
    b.sync().stop();
    assert!(a.presence().graph().remote_peers.is_empty());
    run(&a, "UPDATE t SET o.x = 1, s = 'a' WHERE _id = 1");
    run(&b, "UPDATE t SET o.y = 2, s = 'b' WHERE _id = 1");
    run(&a, "UPDATE t APPLY n INCREMENT BY 10 WHERE _id = 1");
    run(&b, "UPDATE t APPLY n INCREMENT BY 100 WHERE _id = 1");
    run(&a, "DELETE FROM t WHERE _id = 2");
    run(&b, "UPDATE t SET x = 1 WHERE _id = 2");
    run(&b, "DELETE FROM t WHERE _id = 3");
    dial(&b, &listen(&a));
    wait_equal(&a, &b);
    assert_eq!(
        rows(&a, "SELECT n, o FROM t"),
        [r#"{"n":111,"o":{"x":1,"y":2}}"#]
    );
    assert_eq!(rows(&a, "SELECT s FROM t"), rows(&b, "SELECT s FROM t"));
}

#[test]
fn three_peers_in_a_row_pass_on_what_they_subscribe_to() {
    let (a, b, c) = (memory(), memory(), memory());
    link(&a, &b, "t");
    c.sync()
        .register_subscription("SELECT * FROM t")
        .unwrap()
        .keep();
    let address = listen(&c);
    b.update_transport_config(|config| config.connect.tcp_servers.push(address))
        .unwrap();
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    wait_until("two hops", || count(&c, "t") == 1);
    run(&c, "INSERT INTO t DOCUMENTS ({'_id': 2})");
    wait_until("two hops back", || count(&a, "t") == 2);
    wait_equal(&a, &c);
}

#[test]
fn a_transaction_arrives_whole() {
    let (a, b) = (memory(), memory());
    run(
        &a,
        "INSERT INTO t DOCUMENTS ({'_id': 1, 'n': 0}), ({'_id': 2, 'n': 0})",
    );
    let heard = Heard::new();
    let push = heard.clone();
    let _observer = b
        .store()
        .register_observer("SELECT n FROM t", move |result| {
            let numbers: Vec<_> = result.iter().map(|r| r.field("n").cloned()).collect();
            push.push(numbers);
        })
        .unwrap();
    link(&a, &b, "t");
    for n in 1..=50 {
        let transaction = a.store().begin_blocking(idem::TransactionOptions::new());
        let transaction = transaction.unwrap();
        for id in [1, 2] {
            let set = format!("UPDATE t SET n = {n} WHERE _id = {id}");
            transaction.execute_blocking(set).unwrap();
        }
        transaction.commit_blocking().unwrap();
    }
    heard.wait_for("the last", |numbers| numbers.contains(&Some(50i64.into())));
    for numbers in heard.all() {
        let is_whole = numbers.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(
            is_whole && numbers.len() != 1,
            "half a transaction: {numbers:?}"
        );
    }
}

#[test]
fn a_link_that_is_cut_during_the_first_sync_goes_on() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [a, b] = [0, 1].map(|n| open(directories[n].path()));
    for from in (0..20_000).step_by(1000) {
        fill(&a, from, from + 1000);
    }
    link(&a, &b, "t");
    let address = a.sync().tcp_addresses()[0].to_string();
    for part in [1, 2000, 9000] {
        wait_until("some arrived", || count(&b, "t") >= part);
        b.sync().stop();
        dial(&b, &address);
    }
    wait_until("all arrived", || count(&b, "t") == 20_000);
    wait_equal(&a, &b);
}

#[test]
fn a_reopened_peer_goes_on_where_it_was() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [a, b] = [0, 1].map(|n| open(directories[n].path()));
    fill(&a, 0, 2000);
    link(&a, &b, "t");
    wait_until("the first sync", || count(&b, "t") == 2000);
    b.close_blocking().unwrap();
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'later'})");
    let address = a.sync().tcp_addresses()[0].to_string();
    let b = open(directories[1].path());
    b.sync()
        .register_subscription("SELECT * FROM t")
        .unwrap()
        .keep();
    let before = b.store().statistics().unwrap().last_commit;
    dial(&b, &address);
    wait_until("what came later", || count(&b, "t") == 2001);
    wait_equal(&a, &b);
    // One merge, not two thousand: the cursor said what is held.
    let after = b.store().statistics().unwrap().last_commit;
    assert!(after - before <= 2, "{} commits", after - before);
}

#[test]
fn links_come_and_go_as_events() {
    let (a, b) = (memory(), memory());
    let (at_a, _a_observer) = conditions(&a);
    let (at_b, _b_observer) = conditions(&b);
    link(&a, &b, "t");
    let linked = wait_for_kind(&at_a, ConditionKind::Linked);
    assert_eq!(linked.peer, Some(b.peer_key()));
    wait_for_kind(&at_b, ConditionKind::CaughtUp);
    b.sync().stop();
    wait_for_kind(&at_a, ConditionKind::Unlinked);
    wait_for_kind(&at_b, ConditionKind::Unlinked);
    assert!(!b.sync().is_active());
    wait_until("the peer is gone", || {
        a.presence().graph().remote_peers.is_empty()
    });
}

/// What went because it left one subscription comes again with another one that rested meanwhile.
#[test]
fn a_subscription_that_rested_gets_what_was_evicted_for_another_one() {
    let (a, b) = (memory(), memory());
    let evicting = |query: &str| {
        let options = SubscriptionOptions::new().on_leave(OnLeave::Evict);
        let subscription = b.sync().register_subscription_with(query, options);
        subscription.unwrap()
    };
    // What comes for a subscription says that the other peer has heard of all changes before it.
    let heard = |number: u32| {
        run(
            &a,
            &format!("INSERT INTO u{number} DOCUMENTS ({{'_id': 1}})"),
        );
        let all = format!("SELECT * FROM u{number}");
        b.sync().register_subscription(all.as_str()).unwrap().keep();
        let collection = format!("u{number}");
        wait_until("the other peer has heard", || count(&b, &collection) == 1);
    };
    let (red, large) = (
        "SELECT * FROM t WHERE colour = 'red'",
        "SELECT * FROM t WHERE n > 5",
    );
    let (of_red, of_large) = (evicting(red), evicting(large));
    dial(&b, &listen(&a));
    run(
        &a,
        "INSERT INTO t DOCUMENTS ({'_id': 1, 'colour': 'red', 'n': 9})",
    );
    wait_until("b has it", || count(&b, "t") == 1);
    drop(of_red);
    heard(1);
    run(&a, "UPDATE t SET colour = 'blue'");
    let blue = "SELECT * FROM t WHERE colour = 'blue'";
    wait_until("it is blue", || rows(&b, blue).len() == 1);
    drop(of_large);
    heard(2);
    let _red = evicting(red);
    wait_until("it left", || count(&b, "t") == 0);
    let _large = evicting(large);
    wait_until("it is back", || count(&b, "t") == 1);
}

//! Subscriptions with ORDER BY and LIMIT between real peers.

use idem::{ErrorKind, Idem, OnLeave, SubscriptionOptions};

use crate::fixture::{count, dial, listen, memory, open, rows, run, wait_until};

const TOP: &str = "SELECT * FROM s ORDER BY n DESC LIMIT 3";

/// Inserts documents with `n` from `from` up to `to`.
fn fill(idem: &Idem, from: i64, to: i64) {
    let documents: Vec<String> = (from..to)
        .map(|n| format!("{{'_id': 'd{n}', 'n': {n}}}"))
        .collect();
    run(
        idem,
        &format!("INSERT INTO s DOCUMENTS {}", parens(&documents)),
    );
}

fn parens(documents: &[String]) -> String {
    let each: Vec<String> = documents.iter().map(|it| format!("({it})")).collect();
    each.join(", ")
}

fn subscribe(idem: &Idem, query: &str) {
    idem.sync().register_subscription(query).unwrap().keep();
}

/// What a query of the same text shows, by id.
fn shown(idem: &Idem, query: &str) -> Vec<String> {
    let query = query.replacen('*', "_id", 1);
    rows(idem, &query)
}

#[track_caller]
fn wait_for(idem: &Idem, query: &str, ids: &[&str]) {
    let expected: Vec<String> = ids
        .iter()
        .map(|id| format!("{{\"_id\":\"{id}\"}}"))
        .collect();
    let what = format!("{ids:?}, not {:?}", shown(idem, query));
    wait_until(&what, || shown(idem, query) == expected);
}

#[test]
fn the_first_documents_are_kept_as_data_changes() {
    let (source, peer) = (memory(), memory());
    fill(&source, 0, 200);
    subscribe(&peer, TOP);
    dial(&peer, &listen(&source));
    wait_for(&peer, TOP, &["d199", "d198", "d197"]);
    assert_eq!(count(&peer, "s"), 3, "no more than was asked for");
    // A better one comes.
    run(
        &source,
        "INSERT INTO s DOCUMENTS ({'_id': 'best', 'n': 1000})",
    );
    wait_for(&peer, TOP, &["best", "d199", "d198"]);
    // The first ones go, more of them than were here.
    run(&source, "DELETE FROM s WHERE n >= 195");
    wait_for(&peer, TOP, &["d194", "d193", "d192"]);
    // One falls behind, and one comes from behind.
    run(&source, "UPDATE s SET n = -1 WHERE _id = 'd193'");
    wait_for(&peer, TOP, &["d194", "d192", "d191"]);
    run(&source, "UPDATE s SET n = 500 WHERE _id = 'd7'");
    wait_for(&peer, TOP, &["d7", "d194", "d192"]);
    // The peer changes one itself.
    run(&peer, "UPDATE s SET n = 0 WHERE _id = 'd7'");
    wait_for(&peer, TOP, &["d194", "d192", "d191"]);
    assert!(count(&peer, "s") < 30, "{}", count(&peer, "s"));
}

#[test]
fn the_order_is_total() {
    let (source, peer) = (memory(), memory());
    let documents = "INSERT INTO s DOCUMENTS ({'_id': 'null', 'n': null}), ({'_id': 'missing'}), \
         ({'_id': 'text', 'n': 'a'}), ({'_id': 'b', 'n': 5}), ({'_id': 'a', 'n': 5.0}), ({'_id': 'c', 'n': 5}), \
         ({'_id': 'list', 'n': [1]}), ({'_id': 'false', 'n': false})";
    run(&source, documents);
    let queries: Vec<String> = (1..=9)
        .flat_map(|count| {
            ["n", "n DESC", "type(n) DESC, n", "_id DESC"]
                .map(|order| format!("SELECT * FROM s ORDER BY {order} LIMIT {count}"))
        })
        .collect();
    let address = listen(&source);
    for query in queries {
        let peer_of_one = memory();
        subscribe(&peer_of_one, &query);
        dial(&peer_of_one, &address);
        let with_ids = query.replace(" LIMIT", ", _id LIMIT");
        let expected = shown(&source, &with_ids);
        wait_until(&query, || shown(&peer_of_one, &with_ids) == expected);
        assert_eq!(count(&peer_of_one, "s"), expected.len(), "{query}");
    }
    subscribe(&peer, "SELECT * FROM s WHERE n = 5 ORDER BY n LIMIT 2");
    dial(&peer, &address);
    wait_for(&peer, "SELECT * FROM s ORDER BY n LIMIT 2", &["a", "b"]);
    // It does not match any more, and the next one of the equal ones comes.
    run(&source, "UPDATE s SET n = 6 WHERE _id = 'a'");
    let five = "SELECT * FROM s WHERE n = 5 ORDER BY _id LIMIT 2";
    wait_for(&peer, five, &["b", "c"]);
}

#[test]
fn what_a_source_lost_to_nobody_is_looked_past() {
    // The source asks for nothing, so it never hears of what the peer does to its own copies.
    let (source, peer) = (memory(), memory());
    fill(&source, 0, 50);
    subscribe(&peer, TOP);
    dial(&peer, &listen(&source));
    wait_for(&peer, TOP, &["d49", "d48", "d47"]);
    run(&peer, "DELETE FROM s WHERE _id IN ['d49', 'd48', 'd47']");
    wait_for(&peer, TOP, &["d46", "d45", "d44"]);
    run(&peer, "UPDATE s SET n = -n");
    wait_until("others take their place", || {
        let first = rows(&peer, "SELECT n FROM s ORDER BY n DESC LIMIT 3");
        !first.is_empty() && first.iter().all(|row| !row.contains('-'))
    });
    // What is evicted is not missed either.
    run(&peer, "EVICT FROM s");
    wait_until("it fills again", || shown(&peer, TOP).len() == 3);
}

#[test]
fn a_window_is_kept_through_peers_that_have_the_same() {
    for seed in 0..4_u64 {
        let (source, middle, end) = (memory(), memory(), memory());
        fill(&source, 0, 40);
        subscribe(&source, "SELECT * FROM s");
        subscribe(&middle, TOP);
        subscribe(&end, TOP);
        let address = listen(&source);
        let middle_address = {
            let mut config = idem::TransportConfig::new()
                .with_tcp_listener("127.0.0.1:0")
                .with_tcp_server(&address);
            config.connect.retry_interval = std::time::Duration::from_millis(20);
            middle.set_transport_config(config).unwrap();
            middle.sync().start().unwrap();
            middle.sync().tcp_addresses()[0].to_string()
        };
        dial(&end, &middle_address);
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..150 {
            let id = draw(60);
            let n = draw(100);
            let at = if draw(4) == 0 { &end } else { &source };
            match draw(4) {
                0 => run(at, &format!("DELETE FROM s WHERE _id = 'd{id}'")),
                1 => run(at, "DELETE FROM s ORDER BY n DESC LIMIT 1"),
                2 => run(at, &format!("UPDATE s SET n = {n} WHERE _id = 'd{id}'")),
                _ => run(
                    at,
                    &format!(
                        "INSERT INTO s DOCUMENTS ({{'_id': 'd{id}', 'n': {n}}}) ON ID CONFLICT DO UPDATE"
                    ),
                ),
            }
        }
        let top = "SELECT * FROM s ORDER BY n DESC, _id LIMIT 3";
        wait_until(&format!("seed {seed}: all agree"), || {
            let first = shown(&source, top);
            [&middle, &end].iter().all(|peer| shown(peer, top) == first)
        });
    }
}

#[test]
fn a_window_goes_on_after_a_cut_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let source = memory();
    fill(&source, 0, 100);
    let address = listen(&source);
    {
        let peer = open(directory.path());
        subscribe(&peer, TOP);
        dial(&peer, &address);
        wait_for(&peer, TOP, &["d99", "d98", "d97"]);
        peer.sync().stop();
        run(&source, "DELETE FROM s WHERE n >= 98");
        dial(&peer, &address);
        wait_for(&peer, TOP, &["d97", "d96", "d95"]);
    }
    run(&source, "UPDATE s SET n = 1000 WHERE _id = 'd5'");
    run(&source, "DELETE FROM s WHERE _id = 'd96'");
    let peer = open(directory.path());
    subscribe(&peer, TOP);
    dial(&peer, &address);
    wait_for(&peer, TOP, &["d5", "d97", "d95"]);
    let listed = rows(
        &peer,
        "SELECT * FROM system:system_info WHERE key = 'local_subscriptions'",
    );
    assert!(
        listed[0].contains("SELECT * FROM s AS d ORDER BY d.n DESC LIMIT 3"),
        "{listed:?}"
    );
    assert_eq!(peer.sync().subscriptions()[0].text(), TOP);
}

#[test]
fn a_window_is_filled_once_its_collection_opens() {
    let (source, peer) = (memory(), memory());
    fill(&source, 0, 10);
    run(
        &source,
        "ALTER SYSTEM SET user_collection_sync_scopes = {'s': 'LocalPeerOnly'}",
    );
    subscribe(&peer, TOP);
    dial(&peer, &listen(&source));
    wait_until("they are linked", || {
        !peer.presence().graph().remote_peers.is_empty()
    });
    run(&source, "ALTER SYSTEM RESET user_collection_sync_scopes");
    wait_for(&peer, TOP, &["d9", "d8", "d7"]);
}

#[test]
fn windows_that_cannot_be_say_why() {
    let peer = memory();
    let evicting = SubscriptionOptions::new().on_leave(OnLeave::Evict);
    let error = peer.sync().register_subscription_with(TOP, evicting);
    assert_eq!(
        error.unwrap_err().kind(),
        ErrorKind::SyncSubscriptionInvalid
    );
    for text in [
        "SELECT * FROM s ORDER BY n LIMIT 0",
        "SELECT * FROM s ORDER BY n LIMIT 3 OFFSET 2",
    ] {
        let error = peer.sync().register_subscription(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SyncSubscriptionInvalid);
        assert!(error.position().is_some(), "{error}");
    }
    let top = |n: usize| format!("SELECT * FROM s ORDER BY n LIMIT {n}");
    let held: Vec<_> = (1..=16)
        .map(|n| peer.sync().register_subscription(top(n).as_str()).unwrap())
        .collect();
    let again = peer.sync().register_subscription(top(1).as_str()).unwrap();
    let error = peer.sync().register_subscription(top(17).as_str());
    assert_eq!(
        error.unwrap_err().kind(),
        ErrorKind::SyncSubscriptionInvalid
    );
    drop((held, again));
    let _one = peer.sync().register_subscription(top(17).as_str()).unwrap();
}

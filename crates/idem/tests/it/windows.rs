//! Subscriptions with ORDER BY and LIMIT between real peers.

use idem::Idem;

use crate::fixture::{count, dial, listen, memory, rows, run, wait_until};

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

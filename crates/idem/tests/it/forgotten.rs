//! Deletions that a peer forgets while another one is away.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use idem::Idem;

use crate::fixture::{dial, link, listen, open, rows, run, wait_equal, wait_until};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Subscribes anew to what a peer subscribed to when it was open before.
fn subscribe(idem: &Idem) {
    let subscription = idem.sync().register_subscription("SELECT * FROM t");
    subscription.unwrap().keep();
}

fn shown(idem: &Idem) -> Vec<String> {
    rows(idem, "SELECT * FROM t ORDER BY _id")
}

fn removed(store: &idem_store::Store) -> i64 {
    let text = "SELECT `value` FROM system:system_info WHERE key = 'tombstones_removed'";
    let result = store.execute(text, idem::Object::new()).unwrap();
    result.items[0]["value"].as_int().unwrap()
}

/// The store of a peer is open so many days later, until its upkeep has forgotten `count` tombstones.
fn days_later(directory: &Path, days: u64, count: i64) {
    let later_ms = move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(now.as_millis()).unwrap() + days * DAY_MS
    };
    let config = idem_store::StoreConfig::directory(directory)
        .clock(Arc::new(later_ms))
        .upkeep_interval(Duration::from_millis(5));
    let store = idem_store::Store::open(config).unwrap();
    wait_until("the tombstones are forgotten", || removed(&store) == count);
    store.close().unwrap();
}

#[test]
fn what_was_deleted_while_a_peer_was_away_for_longer_than_that_is_remembered_does_not_come_back() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [a, b] = [0, 1].map(|n| open(directories[n].path()));
    for id in 1..=3 {
        run(
            &a,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': {id}, 'by': 'a'}})"),
        );
    }
    link(&a, &b, "t");
    wait_until("the first sync", || shown(&b).len() == 3);
    wait_equal(&a, &b);
    b.close_blocking().unwrap();

    run(&a, "DELETE FROM t WHERE _id IN (1, 2)");
    a.close_blocking().unwrap();
    days_later(directories[0].path(), 8, 2);

    let [a, b] = [0, 1].map(|n| open(directories[n].path()));
    assert_eq!(shown(&a).len(), 1);
    // New work stays, also on a document that was deleted.
    run(&b, "UPDATE t SET by = 'b' WHERE _id = 2");
    run(&b, "INSERT INTO t DOCUMENTS ({'_id': 5, 'by': 'b'})");
    assert_eq!(shown(&b).len(), 4);
    subscribe(&a);
    subscribe(&b);
    dial(&b, &listen(&a));
    let expected = [
        r#"{"_id":2,"by":"b"}"#,
        r#"{"_id":3,"by":"a"}"#,
        r#"{"_id":5,"by":"b"}"#,
    ];
    for idem in [&a, &b] {
        wait_until("what was deleted is gone, and the rest is there", || {
            shown(idem) == expected
        });
    }
    wait_equal(&a, &b);
    let quarantined = "SELECT * FROM system:quarantine";
    for idem in [&a, &b] {
        assert_eq!(rows(idem, quarantined), Vec::<String>::new());
    }
    // Nothing is ahead of the clocks since, and changes pass.
    run(&a, "UPDATE t SET by = 'A' WHERE _id = 3");
    wait_until("a change passes", || {
        shown(&b)[1] == r#"{"_id":3,"by":"A"}"#
    });
    assert_eq!(shown(&a).len(), 3);
}

//! Each reason for which something does not sync, between two peers: it is shown while it lasts, and no longer.

use idem::Idem;

use crate::fixture::{count, link, memory, rows, run, wait_until};

const SHOWN: &str = "SELECT collection, direction, id, reason FROM system:sync_degradations";

fn row(collection: &str, direction: &str, id: &str, reason: &str) -> String {
    format!(
        r#"{{"collection":{collection},"direction":"{direction}","id":{id},"reason":"{reason}"}}"#
    )
}

#[track_caller]
fn wait_shown(idem: &Idem, expected: &[String]) {
    let start = std::time::Instant::now();
    while rows(idem, SHOWN) != expected {
        let shown = rows(idem, SHOWN);
        assert!(
            start.elapsed().as_secs() < 20,
            "{shown:?}, not {expected:?}"
        );
        std::thread::yield_now();
    }
}

fn set_scope(idem: &Idem, scope: &str) {
    run(
        idem,
        &format!("ALTER SYSTEM SET USER_COLLECTION_SYNC_SCOPES = {{'t': '{scope}'}}"),
    );
}

fn insert(idem: &Idem, id: u32) {
    run(
        idem,
        &format!("INSERT INTO t DOCUMENTS ({{'_id': {id}, 'text': 'it'}})"),
    );
}

/// Waits until everything that both peers wrote so far, of what is not closed, is on the other side.
fn wait_synced(a: &Idem, b: &Idem) {
    for (here, there) in [(a, b), (b, a)] {
        let commit = here.store().statistics().unwrap().last_commit;
        let limit = std::time::Duration::from_secs(60);
        let synced = here
            .sync()
            .await_synced_blocking(there.peer_key(), commit, limit);
        synced.unwrap();
    }
}

#[test]
fn a_sync_scope_is_shown_on_both_sides_as_long_as_it_is_closed() {
    for is_first in [true, false] {
        let (a, b) = (memory(), memory());
        link(&a, &b, "t");
        insert(&a, 1);
        wait_until("b has it", || count(&b, "t") == 1);
        let (closing, other) = if is_first { (&a, &b) } else { (&b, &a) };
        set_scope(closing, "LocalPeerOnly");
        wait_shown(closing, &[row("\"t\"", "both", "null", "sync_scope")]);
        // Towards who closed it, the other one cannot send what it is not asked for; it is told that it
        // does not get what it asks for.
        wait_shown(other, &[row("\"t\"", "incoming", "null", "sync_scope")]);
        insert(&a, 2);
        insert(&b, 3);
        // What does not sync is not waited for.
        wait_synced(&a, &b);
        assert_eq!((count(&a, "t"), count(&b, "t")), (2, 2));
        set_scope(closing, "AllPeers");
        wait_shown(closing, &[]);
        wait_shown(other, &[]);
        for idem in [&a, &b] {
            wait_until("all is there", || count(idem, "t") == 3);
        }
        wait_synced(&a, &b);
        a.close_blocking().unwrap();
        b.close_blocking().unwrap();
    }
}

//! What a peer says of how far others are, and of what does not sync.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use idem::{ErrorKind, Idem, IdemConfig, PeerId};

use crate::fixture::{count, dial, link, listen, memory, open, rows, run, wait_until};

/// Far more than anything needs.
const LIMIT: Duration = Duration::from_secs(60);

fn insert(idem: &Idem, number: u32) -> u64 {
    let statement = format!("INSERT INTO t DOCUMENTS ({{'_id': {number}}})");
    let result = idem.store().execute_blocking(statement).unwrap();
    result.commit_id().unwrap()
}

fn last_commit(idem: &Idem) -> u64 {
    idem.store().statistics().unwrap().last_commit
}

fn info(idem: &Idem, column: &str) -> String {
    let statement = format!("SELECT {column} AS it FROM system:data_sync_info");
    let shown = rows(idem, &statement).join(" ");
    shown.replace("{\"it\":", "").replace('}', "")
}

#[test]
fn what_was_awaited_is_there() {
    let (a, b) = (memory(), memory());
    link(&a, &b, "t");
    for number in 0..40 {
        let commit = insert(&a, number);
        let synced = a.sync().await_synced_blocking(b.peer_key(), commit, LIMIT);
        synced.unwrap();
        assert_eq!(count(&b, "t"), number as usize + 1);
    }
    // What the other peer does not ask for is not waited for.
    run(&a, "INSERT INTO u DOCUMENTS ({'_id': 1})");
    let commit = last_commit(&a);
    let synced = a.sync().await_synced_blocking(b.peer_key(), commit, LIMIT);
    synced.unwrap();
    assert_eq!(count(&b, "u"), 0);
}

#[test]
fn a_peer_that_is_away_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let a = memory();
    let address = listen(&a);
    let b = open(directory.path());
    let all = "SELECT * FROM t";
    b.sync().register_subscription(all).unwrap().keep();
    dial(&b, &address);
    let (peer, first) = (b.peer_key(), insert(&a, 1));
    a.sync().await_synced_blocking(peer, first, LIMIT).unwrap();
    assert_eq!(info(&a, "is_connected"), "true");
    assert_eq!(info(&a, "documents.documents_behind"), "0");
    b.close_blocking().unwrap();
    wait_until("b is gone", || info(&a, "is_connected") == "false");
    insert(&a, 2);
    let last = insert(&a, 3);
    // What it confirmed counts, what came since does not.
    a.sync().await_synced_blocking(peer, first, LIMIT).unwrap();
    let moment = Duration::from_millis(5);
    let error = a.sync().await_synced_blocking(peer, last, moment);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::SyncTimedOut);
    assert_eq!(info(&a, "documents.documents_behind"), "2");
    assert_eq!(
        info(&a, "documents.synced_up_to_local_commit_id"),
        first.to_string()
    );
    assert_eq!(
        info(&a, "documents.sync_session_status"),
        "\"Not Connected\""
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| a.sync().await_synced_blocking(peer, last, LIMIT));
        let b = open(directory.path());
        b.sync().register_subscription(all).unwrap().keep();
        dial(&b, &address);
        waiting.join().unwrap().unwrap();
        assert_eq!(count(&b, "t"), 3);
    });
}

#[test]
fn a_new_subscription_takes_a_confirmation_back() {
    let (a, b) = (memory(), memory());
    insert(&a, 1);
    b.sync()
        .register_subscription("SELECT * FROM u")
        .unwrap()
        .keep();
    dial(&b, &listen(&a));
    let peer = b.peer_key();
    let commit = last_commit(&a);
    a.sync().await_synced_blocking(peer, commit, LIMIT).unwrap();
    assert_eq!(count(&b, "t"), 0);
    b.sync()
        .register_subscription("SELECT * FROM t")
        .unwrap()
        .keep();
    wait_until("b has it", || count(&b, "t") == 1);
    a.sync().await_synced_blocking(peer, commit, LIMIT).unwrap();
    assert_eq!(info(&a, "documents.documents_behind"), "0");
}

#[test]
fn waiting_in_vain_is_refused() {
    let (a, b) = (memory(), memory());
    let refused = |idem: &Idem, peer: PeerId, commit: u64| {
        let awaited = idem.sync().await_synced_blocking(peer, commit, LIMIT);
        awaited.unwrap_err().kind()
    };
    let commit = insert(&a, 1);
    assert_eq!(
        refused(&a, b.peer_key(), commit + 1),
        ErrorKind::SyncCommitUnknown
    );
    assert_eq!(
        refused(&a, a.peer_key(), commit),
        ErrorKind::ValidationValue
    );
    let nested = a.store().transaction_blocking(|tx| {
        tx.execute_blocking("SELECT * FROM t")?;
        a.sync().await_synced_blocking(b.peer_key(), commit, LIMIT)
    });
    assert_eq!(
        nested.unwrap_err().kind(),
        ErrorKind::StoreTransactionNested
    );
    let offline = Idem::open_sync(IdemConfig::local()).unwrap();
    assert_eq!(
        refused(&offline, b.peer_key(), 0),
        ErrorKind::SyncUnavailable
    );
    a.close_blocking().unwrap();
    assert_eq!(refused(&a, b.peer_key(), commit), ErrorKind::Closed);
}

#[test]
fn closing_ends_waiting() {
    struct Thread(thread::Thread);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let (a, b) = (memory(), memory());
    let commit = insert(&a, 1);
    let sync = a.sync().clone();
    thread::scope(|scope| {
        let blocked = scope.spawn(|| sync.await_synced_blocking(b.peer_key(), commit, LIMIT));
        let (is_polled, polled) = std::sync::mpsc::channel();
        let (sync, peer) = (sync.clone(), b.peer_key());
        let awaiting = scope.spawn(move || {
            let waker = Waker::from(Arc::new(Thread(thread::current())));
            let mut future = pin!(sync.await_synced(peer, commit));
            loop {
                match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(outcome) => return outcome,
                    Poll::Pending => is_polled.send(()).unwrap(),
                }
                thread::park_timeout(LIMIT);
            }
        });
        polled.recv_timeout(LIMIT).unwrap();
        a.close_blocking().unwrap();
        for outcome in [blocked.join().unwrap(), awaiting.join().unwrap()] {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

#[test]
fn what_stays_here_is_told() {
    let (a, b) = (memory(), memory());
    link(&a, &b, "t");
    let degraded = "SELECT collection, id, direction, reason FROM system:sync_degradations";
    assert!(rows(&a, degraded).is_empty());
    run(
        &a,
        "ALTER SYSTEM SET USER_COLLECTION_SYNC_SCOPES = {'secret': 'LocalPeerOnly', 't': 'AllPeers'}",
    );
    let expected = r#"{"collection":"secret","direction":"both","id":null,"reason":"sync_scope"}"#;
    assert_eq!(rows(&a, degraded), [expected]);
}

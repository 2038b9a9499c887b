//! Nothing waits for ever, in whatever order and from wherever an app calls.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use idem::{Error, ErrorKind, ExecuteOptions, Idem, Transaction, TransactionOptions};

use crate::fixture::{count, link, memory, run, wait_until};

/// Longest time for what must end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

const INSERT: &str = "INSERT INTO t DOCUMENTS ({})";

/// Runs `body` on a thread and fails if it does not end.
#[track_caller]
fn ends(what: &str, body: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let _ended: mpsc::Sender<()> = sender;
        body();
    });
    let outcome = receiver.recv_timeout(PATIENCE);
    assert_eq!(
        outcome,
        Err(mpsc::RecvTimeoutError::Disconnected),
        "{what} waits for ever"
    );
    thread.join().unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A peer on which nobody waits long for an idle transaction.
fn hasty() -> Idem {
    let idem = memory();
    run(&idem, "ALTER SYSTEM SET transaction_idle_ms = 100");
    idem
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

#[test]
fn many_waiting_writers_leave_room_for_the_one_they_wait_for() {
    ends("a transaction before 200 writers", || {
        let idem = memory();
        runtime().block_on(async move {
            let store = idem.store().clone();
            let open = tokio::sync::oneshot::channel();
            let waiting = Arc::new(AtomicU64::new(0));
            let transaction = {
                let (store, waiting) = (store.clone(), Arc::clone(&waiting));
                tokio::spawn(async move {
                    let ended = store.transaction(async |tx: &Transaction| {
                        open.0.send(()).unwrap();
                        while waiting.load(Ordering::SeqCst) < 200 {
                            tokio::task::yield_now().await;
                        }
                        for _ in 0..10 {
                            tx.execute(INSERT).await?;
                        }
                        Ok::<_, Error>(())
                    });
                    ended.await.unwrap();
                })
            };
            open.1.await.unwrap();
            let writers: Vec<_> = (0..200)
                .map(|_| {
                    let (store, waiting) = (store.clone(), Arc::clone(&waiting));
                    tokio::spawn(async move {
                        waiting.fetch_add(1, Ordering::SeqCst);
                        store.execute(INSERT).await.unwrap();
                    })
                })
                .collect();
            // Reading goes on meanwhile.
            store.execute("SELECT * FROM t").await.unwrap();
            transaction.await.unwrap();
            for writer in writers {
                writer.await.unwrap();
            }
            assert_eq!(count(&idem, "t"), 210);
        });
    });
}

#[test]
fn a_task_that_has_a_transaction_open_gets_an_error_at_once() {
    ends("a statement beside the own transaction", || {
        let idem = memory();
        runtime().block_on(async move {
            let store = idem.store().clone();
            let body = async move {
                let transaction = store.begin(TransactionOptions::new()).await.unwrap();
                let nested = ErrorKind::StoreTransactionNested;
                assert_kind(store.execute(INSERT).await, nested);
                assert_kind(store.begin(TransactionOptions::new()).await, nested);
                assert_kind(idem.close().await, nested);
                let scoped = store.transaction(async |_: &Transaction| Ok::<_, Error>(()));
                assert_kind(scoped.await, nested);
                // Another task may, and waits for its turn.
                let other = store.clone();
                let other = tokio::spawn(async move { other.execute(INSERT).await.unwrap() });
                transaction.execute(INSERT).await.unwrap();
                transaction.commit().await.unwrap();
                other.await.unwrap();
                store.execute(INSERT).await.unwrap();
                // Whoever goes on with a transaction is the one it belongs to.
                let moved = store.begin(TransactionOptions::new()).await.unwrap();
                let moved = tokio::spawn(async move {
                    moved.execute(INSERT).await.unwrap();
                    moved
                });
                let moved = moved.await.unwrap();
                store.execute("SELECT * FROM t").await.unwrap();
                drop(moved);
            };
            tokio::spawn(body).await.unwrap();
        });
    });
}

#[test]
fn waiting_in_a_circle_ends_with_an_error() {
    ends("a transaction that waits for another task", || {
        let idem = hasty();
        runtime().block_on(async move {
            let store = idem.store().clone();
            let ended = store.transaction(async |_: &Transaction| {
                let store = idem.store().clone();
                let other = tokio::spawn(async move { store.execute(INSERT).await });
                other.await.unwrap()?;
                Ok::<_, Error>(())
            });
            assert_kind(ended.await, ErrorKind::StoreTransactionBusy);
        });
    });
    ends("a transaction that waits for another thread", || {
        let idem = hasty();
        let store = idem.store().clone();
        let ended = idem.store().transaction_blocking(|tx| {
            let other = thread::spawn(move || store.execute_blocking(INSERT));
            other.join().unwrap()?;
            tx.execute_blocking(INSERT)?;
            Ok::<_, Error>(())
        });
        assert_kind(ended, ErrorKind::StoreTransactionBusy);
    });
}

#[test]
fn a_scan_that_uses_its_own_transaction_gets_an_error() {
    ends("a scan inside of which its transaction is used", || {
        let idem = hasty();
        run(&idem, INSERT);
        let transaction = Arc::new(
            idem.store()
                .begin_blocking(TransactionOptions::new())
                .unwrap(),
        );
        let busy = ErrorKind::StoreTransactionBusy;
        let (same, store) = (Arc::clone(&transaction), idem.store().clone());
        let mut visited = 0;
        let scanned = transaction.scan_blocking("t", |_| {
            visited += 1;
            assert_kind(same.execute_blocking(INSERT), busy);
            let other = Arc::clone(&same);
            let other = thread::spawn(move || other.execute_blocking(INSERT));
            assert_kind(other.join().unwrap(), busy);
            let store = store.clone();
            let outside = thread::spawn(move || store.execute_blocking(INSERT));
            assert_kind(outside.join().unwrap(), busy);
            ControlFlow::Continue(())
        });
        scanned.unwrap();
        assert_eq!(visited, 1);
        transaction.execute_blocking(INSERT).unwrap();
    });
}

#[test]
fn sync_stops_and_the_peer_refuses_to_close_inside_a_transaction() {
    ends("stopping sync inside a transaction", || {
        let (a, b) = (memory(), memory());
        run(&a, INSERT);
        link(&a, &b, "t");
        wait_until("the first sync", || count(&b, "t") == 1);
        let transaction = b.store().begin_blocking(TransactionOptions::new()).unwrap();
        run(&a, INSERT);
        // The second document has come so far that it waits for the transaction, or will.
        wait_until("the document is on its way", || {
            !b.presence().graph().remote_peers.is_empty()
        });
        assert_kind(b.close_blocking(), ErrorKind::StoreTransactionNested);
        b.sync().stop();
        assert!(!b.sync().is_active());
        transaction.execute_blocking(INSERT).unwrap();
        transaction.commit_blocking().unwrap();
        b.sync().start().unwrap();
        wait_until("both are there", || count(&b, "t") == 3);
        b.close_blocking().unwrap();
        a.close_blocking().unwrap();
    });
}

#[test]
fn another_threads_transaction_does_not_keep_sync_or_the_peer_open() {
    ends("closing beside an idle transaction", || {
        let (a, b) = (memory(), hasty());
        link(&a, &b, "t");
        let store = b.store().clone();
        let begin = move || store.begin_blocking(TransactionOptions::new()).unwrap();
        let transaction = thread::spawn(begin).join().unwrap();
        run(&a, INSERT);
        b.sync().stop();
        // Nothing has run in it for too long, so that closing does not wait for it.
        assert_kind(b.close_blocking(), ErrorKind::StoreTransactionBusy);
        assert_kind(transaction.execute_blocking(INSERT), ErrorKind::Closed);
    });
}

#[test]
fn callbacks_may_do_anything() {
    ends("callbacks that use the peer", || {
        let idem = hasty();
        let calls = Arc::new(AtomicU64::new(0));
        let (inside, counted) = (idem.clone(), Arc::clone(&calls));
        let observer = idem
            .store()
            .register_observer("SELECT * FROM t", move |result| {
                counted.fetch_add(1, Ordering::SeqCst);
                if result.item_count() >= 5 {
                    return;
                }
                let store = inside.store();
                store
                    .transaction_blocking(|tx| {
                        tx.execute_blocking(INSERT)?;
                        assert_kind(
                            store.execute_blocking(INSERT),
                            ErrorKind::StoreTransactionNested,
                        );
                        let more = store.register_observer("SELECT * FROM t", |_| {})?;
                        more.cancel();
                        inside.sync().stop();
                        Ok::<_, Error>(())
                    })
                    .unwrap();
            })
            .unwrap();
        wait_until("the callbacks fed each other", || count(&idem, "t") == 5);
        let closer = idem.clone();
        let closed = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&closed);
        let _closing = idem
            .store()
            .register_observer("SELECT * FROM u", move |result| {
                if result.item_count() > 0 {
                    closer.close_blocking().unwrap();
                    seen.store(1, Ordering::SeqCst);
                }
            })
            .unwrap();
        run(&idem, "INSERT INTO u DOCUMENTS ({})");
        wait_until("a callback closed the peer", || {
            closed.load(Ordering::SeqCst) == 1
        });
        assert_kind(idem.store().execute_blocking(INSERT), ErrorKind::Closed);
        drop(observer);
    });
}

#[test]
fn a_dropped_future_leaves_nothing_running() {
    const ENDLESS: &str = "SELECT COUNT(*) FROM big WHERE \
        ANY a IN list SATISFIES ANY b IN list SATISFIES a + b < 0 END END";
    ends("what runs when its future is dropped", || {
        let idem = memory();
        let list = idem::Value::Array((0..2000).map(idem::Value::Int).collect());
        let document = idem::Object::from([("list".to_owned(), list)]);
        let fail = idem::InsertConflict::Fail;
        idem.store()
            .insert_many_blocking("big", vec![document; 60], fail)
            .unwrap();
        let running = "SELECT id FROM system:active_requests WHERE statement = :text";
        let running = (running, serde_json::json!({"text": ENDLESS}));
        let runs = |idem: &Idem| {
            let result = idem.store().execute_blocking(running.clone()).unwrap();
            result.item_count() > 0
        };
        let tasks = runtime();
        let store = idem.store().clone();
        let alone = tasks.spawn(async move { store.execute(ENDLESS).await });
        wait_until("it runs", || runs(&idem));
        alone.abort();
        wait_until("it was stopped", || !runs(&idem));
        let store = idem.store().clone();
        let inside = tasks.spawn(async move {
            let ended = store.transaction(async |tx: &Transaction| {
                tx.execute("DELETE FROM big WHERE list[0] = 7").await?;
                tx.execute(ENDLESS).await?;
                Ok::<_, Error>(())
            });
            ended.await
        });
        wait_until("it runs inside a transaction", || runs(&idem));
        inside.abort();
        wait_until("it was stopped with its transaction", || !runs(&idem));
        // The turn is free again.
        run(&idem, INSERT);
        let soon = ExecuteOptions::new().timeout(Duration::from_millis(20));
        assert_kind(
            idem.store().execute_with_options_blocking(ENDLESS, soon),
            ErrorKind::QueryTimedOut,
        );
    });
}

/// A small generator: the order of threads differs anyway.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// One thread of the crowd. Every outcome is fine, as long as there is one.
fn wander(idem: &Idem, mut random: u64) {
    let store = idem.store();
    let mut kept = Vec::new();
    let mut open: Vec<Transaction> = Vec::new();
    for _ in 0..60 {
        match next(&mut random) % 12 {
            0 | 1 => {
                let options =
                    TransactionOptions::new().read_only(next(&mut random).is_multiple_of(3));
                open.extend(store.begin_blocking(options));
            }
            2 | 3 => drop(store.execute_blocking(INSERT)),
            4 => drop(store.execute_blocking("SELECT COUNT(*) FROM t")),
            5 => {
                for transaction in &open {
                    let _outcome = transaction.execute_blocking(INSERT);
                }
            }
            6 => {
                if let Some(transaction) = open.pop() {
                    let _outcome = transaction.commit_blocking();
                }
            }
            7 => drop(open.pop()),
            8 => {
                let inside = idem.clone();
                kept.extend(
                    store.register_observer("SELECT * FROM t LIMIT 3", move |_| {
                        let _outcome = inside.store().execute_blocking("UPDATE u SET n = 1");
                    }),
                );
            }
            9 => drop(kept.pop()),
            10 => {
                if let Ok(subscription) = idem.sync().register_subscription("SELECT * FROM t") {
                    subscription.keep();
                }
                let _outcome = idem.sync().start();
            }
            _ => idem.sync().stop(),
        }
    }
    let _outcome = idem.close_blocking();
}

#[test]
fn a_crowd_that_does_everything_in_every_order_comes_to_its_end() {
    for seed in 1..=4_u64 {
        ends(&format!("the crowd of seed {seed}"), move || {
            let idem = memory();
            run(&idem, "ALTER SYSTEM SET transaction_idle_ms = 5");
            let crowd: Vec<_> = (1..=8)
                .map(|number| {
                    let idem = idem.clone();
                    thread::spawn(move || wander(&idem, seed * 1000 + number))
                })
                .collect();
            drop(idem);
            crowd.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

//! Each reason for which something does not sync, between two peers: it is shown while it lasts, and no longer.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use idem::{ErrorKind, Idem, PeerId};
use idem_model::{CollectionName, DocId, DocumentKey, DocumentOp, InsertConflict, Object, Value};
use idem_query::Selector;
use idem_sync::{Lane, Priority, subscription_id_of};
use idem_wire::{BatchWriter, Message, Transfer};

use crate::{
    fixture::{count, dial, link, listen, memory, open, rows, run, wait_until},
    scripted::Scripted,
};

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
        let limit = Duration::from_secs(60);
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

#[test]
fn a_stamp_from_the_future_is_shown_on_both_sides_until_its_document_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    // The clock of this peer was two days ahead once.
    let ahead = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(now.as_millis()).unwrap() + 2 * 24 * 60 * 60 * 1000
    };
    let config = idem_store::StoreConfig::directory(directory.path()).clock(Arc::new(ahead));
    let store = idem_store::Store::open(config).unwrap();
    let statement = "INSERT INTO t DOCUMENTS ({'_id': 7})";
    store.execute(statement, Object::new()).unwrap();
    drop(store);

    let (a, b) = (memory(), open(directory.path()));
    link(&a, &b, "t");
    wait_shown(&a, &[row("\"t\"", "incoming", "7", "clock_skew")]);
    wait_shown(&b, &[row("\"t\"", "outgoing", "7", "not_held")]);
    let commit = b.store().statistics().unwrap().last_commit;
    let awaited = |limit| b.sync().await_synced_blocking(a.peer_key(), commit, limit);
    let error = awaited(Duration::from_millis(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SyncTimedOut);

    run(&b, "EVICT FROM t");
    b.sync().stop();
    dial(&b, &a.sync().tcp_addresses()[0].to_string());
    wait_shown(&a, &[]);
    wait_shown(&b, &[]);
    awaited(Duration::from_secs(60)).unwrap();
}

#[test]
fn a_subscription_too_many_is_shown_until_there_is_room() {
    let (a, b) = (memory(), memory());
    let subscribe = |number: usize| {
        let query = format!("SELECT * FROM c{number:03}");
        b.sync().register_subscription(query.as_str()).unwrap()
    };
    // One is that to the declarations of collections.
    let most = idem_model::limits::SUBSCRIPTIONS_PER_SESSION_MAX - 1;
    let subscriptions: Vec<_> = (0..most).map(subscribe).collect();
    dial(&b, &listen(&a));
    wait_until("they are linked", || {
        !rows(&b, "SELECT * FROM system:data_sync_info").is_empty()
    });
    assert!(rows(&b, SHOWN).is_empty());
    let last = subscribe(999);
    wait_shown(
        &b,
        &[row("\"c999\"", "incoming", "null", "subscription_refused")],
    );
    drop(last);
    wait_shown(&b, &[]);
    drop(subscriptions);
}

#[test]
fn a_peer_that_was_never_met_is_waited_for_in_vain() {
    let a = memory();
    insert(&a, 1);
    let commit = a.store().statistics().unwrap().last_commit;
    let awaited =
        a.sync()
            .await_synced_blocking(PeerId([77; 32]), commit, Duration::from_millis(5));
    assert_eq!(awaited.unwrap_err().kind(), ErrorKind::SyncTimedOut);
}

/// A peer that subscribes to `t` and listens, and a scripted one that is linked with it and holds the
/// document 1 of `t`, which has not left.
fn scripted() -> (Idem, String, Scripted) {
    let idem = memory();
    let subscription = idem.sync().register_subscription("SELECT * FROM t");
    subscription.unwrap().keep();
    let address = listen(&idem);
    let mut scripted = Scripted::new(idem.peer_key());
    scripted.insert("t", "1");
    scripted.dial(&address);
    (idem, address, scripted)
}

fn first() -> DocumentKey {
    named("t", "1")
}

fn named(collection: &str, id: &str) -> DocumentKey {
    DocumentKey {
        collection: CollectionName::new(collection).unwrap(),
        id: DocId::from(id),
    }
}

impl Scripted {
    fn insert(&mut self, collection: &str, id: &str) {
        let insert = DocumentOp::Insert {
            fields: Object::from([("text".to_owned(), Value::from("it"))]),
            kinds: Vec::new(),
            conflict: InsertConflict::Fail,
        };
        let written = self.replica.commit(&[(named(collection, id), insert)]);
        written.unwrap();
        self.replica.make_durable();
    }
}

fn selector(statement: &str) -> Selector {
    let statement = idem_query::parse(statement).unwrap();
    statement.subscription(&Object::new()).unwrap()
}

/// A frame as it is.
fn same(frame: Vec<u8>) -> Vec<u8> {
    frame
}

/// Links anew and has the document come.
#[track_caller]
fn send_it_at_last(idem: &Idem, address: &str, scripted: &mut Scripted) {
    scripted.dial(address);
    scripted.run("the document comes", same, || count(idem, "t") == 1);
    scripted.run("nothing is shown", same, || rows(idem, SHOWN).is_empty());
}

#[test]
fn what_is_no_document_is_shown_until_documents_come() {
    let (idem, address, mut scripted) = scripted();
    let mut spoilt = scripted.replica.state(&first()).unwrap();
    let text = spoilt.windows(2).position(|it| it == b"it").unwrap();
    spoilt[text] = 0xff;
    let spoil = |frame: Vec<u8>| match Message::decode(&frame) {
        Ok(Message::Transfer(transfer)) => {
            let mut batch = BatchWriter::new();
            batch.document(&first(), false, &spoilt);
            batch.end_group();
            let transfer = Transfer {
                raw_bytes: None,
                payload: &batch.into_bytes(),
                ..transfer
            };
            Message::Transfer(transfer).to_bytes()
        }
        _ => frame,
    };
    let expected = [
        row("\"t\"", "incoming", "\"1\"", "refused"),
        row("null", "both", "null", "session_failed"),
    ];
    scripted.run("it is shown", spoil, || rows(&idem, SHOWN) == expected);
    send_it_at_last(&idem, &address, &mut scripted);
}

#[test]
fn a_session_that_failed_is_shown_until_documents_come() {
    let (idem, address, mut scripted) = scripted();
    scripted.say(Lane::Control, vec![0xff; 9]);
    let silent = || {
        let expected = [row("null", "both", "null", "session_failed")];
        rows(&idem, SHOWN) == expected
    };
    wait_until("it is shown", silent);
    send_it_at_last(&idem, &address, &mut scripted);
}

fn closed_while_it_came(is_evicted: bool) {
    let (idem, _, mut scripted) = scripted();
    // While the document is on its way.
    let close = |frame: Vec<u8>| {
        if let Ok(Message::Transfer(_)) = Message::decode(&frame) {
            set_scope(&idem, "LocalPeerOnly");
        }
        frame
    };
    let expected = [
        row("\"t\"", "both", "null", "sync_scope"),
        row("\"t\"", "incoming", "\"1\"", "out_of_scope"),
    ];
    scripted.run("it is shown", close, || rows(&idem, SHOWN) == expected);
    assert_eq!(count(&idem, "t"), 0);
    // Others come meanwhile.
    let subscription = idem.sync().register_subscription("SELECT * FROM u");
    subscription.unwrap().keep();
    scripted.insert("u", "2");
    scripted.run("another comes", same, || count(&idem, "u") == 1);
    assert_eq!(rows(&idem, SHOWN), expected);
    if is_evicted {
        // It never comes.
        scripted.replica.evict_documents(&[first()]).unwrap();
        scripted.replica.make_durable();
    }
    set_scope(&idem, "AllPeers");
    scripted.run("nothing is shown", same, || rows(&idem, SHOWN).is_empty());
    assert_eq!(count(&idem, "t"), usize::from(!is_evicted));
}

#[test]
fn what_came_though_a_scope_was_closed_is_shown_until_it_comes_again() {
    closed_while_it_came(false);
}

#[test]
fn what_came_though_a_scope_was_closed_is_shown_until_all_has_come() {
    closed_while_it_came(true);
}

#[test]
fn what_was_not_taken_is_not_shown_once_nobody_asks_for_it() {
    let (idem, _, mut scripted) = scripted();
    scripted.run("the first one comes", same, || count(&idem, "t") == 1);
    let other = idem
        .sync()
        .register_subscription("SELECT * FROM v")
        .unwrap();
    scripted.insert("v", "3");
    let close = |frame: Vec<u8>| {
        if let Ok(Message::Transfer(_)) = Message::decode(&frame) {
            let scopes = "{'v': 'LocalPeerOnly'}";
            let setting = format!("ALTER SYSTEM SET USER_COLLECTION_SYNC_SCOPES = {scopes}");
            run(&idem, &setting);
        }
        frame
    };
    let closed = row("\"v\"", "both", "null", "sync_scope");
    let expected = [
        closed.clone(),
        row("\"v\"", "incoming", "\"3\"", "out_of_scope"),
    ];
    scripted.run("it is shown", close, || rows(&idem, SHOWN) == expected);
    other.cancel();
    drop(other);
    scripted.run("it is not", same, || rows(&idem, SHOWN) == [closed.clone()]);
}

#[test]
fn a_subscription_that_cannot_be_read_is_shown_until_it_is_given_back() {
    let (idem, _, mut scripted) = scripted();
    let selector = selector("SELECT * FROM other");
    let session = &mut scripted.session;
    let subscription = session.subscribe(&selector, Priority::Normal).unwrap();
    let later_language = |frame: Vec<u8>| match Message::decode(&frame) {
        Ok(Message::Subscribe(mut subscribe)) if subscribe.subscription == subscription => {
            subscribe.statement = Some("RECALL EVERYTHING".to_owned());
            Message::Subscribe(subscribe).to_bytes()
        }
        _ => frame,
    };
    let expected = [row("null", "outgoing", "null", "subscription_refused")];
    let is_shown = || rows(&idem, SHOWN) == expected;
    scripted.run("it is shown", later_language, is_shown);
    scripted.session.unsubscribe(subscription);
    scripted.run("nothing is shown", same, || rows(&idem, SHOWN).is_empty());
}

#[test]
fn a_subscription_that_the_other_cannot_read_is_shown_until_it_is_given_back() {
    let idem = memory();
    let subscription = idem.sync().register_subscription("SELECT * FROM t");
    let subscription = subscription.unwrap();
    let address = listen(&idem);
    let mut scripted = Scripted::new(idem.peer_key());
    scripted.dial(&address);
    let wanted = subscription_id_of(&selector("SELECT * FROM t"));
    let alias = scripted.asked_for(wanted);
    let refusal = Message::Refuse {
        alias,
        is_closed: false,
        detail: "no such word",
    };
    scripted.say(Lane::Control, refusal.to_bytes());
    let expected = [row("\"t\"", "incoming", "null", "subscription_refused")];
    scripted.run("it is shown", same, || rows(&idem, SHOWN) == expected);
    drop(subscription);
    scripted.run("nothing is shown", same, || rows(&idem, SHOWN).is_empty());
}

#[test]
fn a_document_in_quarantine_is_shown_until_somebody_decides() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (open(directory.path()), memory());
    let subscription = b.sync().register_subscription("SELECT * FROM t");
    subscription.unwrap().keep();
    insert(&a, 1);
    dial(&b, &listen(&a));
    wait_until("b has it", || count(&b, "t") == 1);
    wait_synced(&a, &b);
    b.sync().stop();
    a.close_blocking().unwrap();
    // It is deleted while the other is away, and that is forgotten at once.
    let config = idem_store::StoreConfig::directory(directory.path()).tombstone_ttl_ms(0);
    let store = idem_store::Store::open(config).unwrap();
    let deleted = store.execute("DELETE FROM t", Object::new());
    deleted.unwrap();
    store.forget_tombstones().unwrap();
    drop(store);

    let a = open(directory.path());
    dial(&b, &listen(&a));
    wait_shown(&b, &[row("\"t\"", "outgoing", "1", "quarantine")]);
    // What stays here is not waited for.
    wait_synced(&a, &b);
    assert!(rows(&a, SHOWN).is_empty());
    run(&b, "EXECUTE FUNCTION quarantine_keep('t')");
    wait_shown(&b, &[]);
}

/// Prints how long it takes until a change of a sync scope is shown on the other side.
#[test]
fn how_soon_a_change_is_shown() {
    let (a, b) = (memory(), memory());
    link(&a, &b, "t");
    wait_synced(&a, &b);
    let closed = [row("\"t\"", "incoming", "null", "sync_scope")];
    let mut times = Vec::new();
    for _ in 0..20 {
        for (scope, expected) in [("LocalPeerOnly", &closed[..]), ("AllPeers", &[])] {
            let start = std::time::Instant::now();
            set_scope(&a, scope);
            wait_shown(&b, expected);
            times.push(start.elapsed());
        }
    }
    times.sort_unstable();
    let last = times.len() - 1;
    println!(
        "shown after {:?}, at most {:?}",
        times[last / 2],
        times[last]
    );
}

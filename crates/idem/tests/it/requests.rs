//! An app that chooses with whom it links.

use std::sync::{Mutex, mpsc};

use idem::{
    ConditionKind, ConnectionKind,
    ConnectionRequestAuthorization::{Allow, Deny},
    Idem,
};
use serde_json::json;

use crate::fixture::{
    Heard, conditions, config, count, dial, link, listen, memory, run, wait_for_kind, wait_until,
};

/// Neither of the two has synced anything with the other, or sees it.
fn are_strangers(a: &Idem, b: &Idem) {
    for idem in [a, b] {
        assert!(idem.presence().graph().remote_peers.is_empty());
        assert_eq!(count(idem, "cars"), 1);
    }
}

fn pair() -> [Idem; 2] {
    let pair = [memory(), memory()];
    for (idem, id) in pair.iter().zip(1..) {
        run(
            idem,
            &format!("INSERT INTO cars DOCUMENTS ({{'_id': {id}}})"),
        );
    }
    pair
}

#[test]
fn both_hear_that_one_does_not_want_the_other() {
    // The first one listens, the second one dials.
    for refusing in [0, 1] {
        let pair = pair();
        let [a, b] = &pair;
        let judge = &pair[refusing];
        judge
            .presence()
            .set_connection_request_handler(|_| Deny)
            .unwrap();
        let heard = pair.each_ref().map(conditions);
        link(a, b, "cars");
        let told = heard
            .each_ref()
            .map(|(heard, _)| wait_for_kind(heard, ConditionKind::Denied));
        assert_eq!(told[refusing].message, "the app does not want the peer");
        assert_eq!(told[refusing].peer, Some(pair[1 - refusing].peer_key()));
        let there = "the app of the other side does not want this peer";
        assert_eq!(told[1 - refusing].message, there);
        are_strangers(a, b);
        let heard = heard.each_ref().map(|(heard, _)| heard.all());
        assert!(
            heard
                .iter()
                .flatten()
                .all(|it| it.kind != ConditionKind::Linked)
        );
        // Who changes its mind is linked with soon.
        judge
            .presence()
            .set_connection_request_handler(|_| Allow)
            .unwrap();
        wait_until("they sync", || {
            count(a, "cars") == 2 && count(b, "cars") == 2
        });
    }
}

#[test]
fn a_handler_sees_who_asks() {
    let host = memory();
    let guest = Idem::open_sync(config(1).with_device_name("guest")).unwrap();
    guest
        .presence()
        .set_peer_metadata(&json!({"flight": "LH 400"}))
        .unwrap();
    let seen = Heard::new();
    for idem in [&host, &guest] {
        let (push, name) = (seen.clone(), idem.peer_key());
        let handler = move |request| {
            push.push((name, request));
            Allow
        };
        idem.presence()
            .set_connection_request_handler(handler)
            .unwrap();
    }
    let address = listen(&host);
    dial(&guest, &address);
    let (_, request) = seen.wait_for("at the host", |(at, _)| *at == host.peer_key());
    assert_eq!(request.peer_key, guest.peer_key());
    assert_eq!(request.device_name, "guest");
    assert_eq!(request.peer_metadata.get("flight"), Some(&"LH 400".into()));
    assert_eq!(
        (request.kind, request.is_inbound),
        (ConnectionKind::Tcp, true)
    );
    assert!(request.address.is_some());
    let (_, request) = seen.wait_for("at the guest", |(at, _)| *at == guest.peer_key());
    assert_eq!(request.peer_key, host.peer_key());
    assert!(request.peer_metadata.is_empty() && !request.is_inbound);
    assert_eq!(request.address.unwrap().to_string(), address);
}

#[test]
fn links_that_there_are_stay() {
    let [a, b] = pair();
    link(&a, &b, "cars");
    wait_until("they sync", || count(&a, "cars") == 2);
    a.presence()
        .set_connection_request_handler(|_| Deny)
        .unwrap();
    run(&b, "INSERT INTO cars DOCUMENTS ({'_id': 3})");
    wait_until("they still sync", || count(&a, "cars") == 3);
    a.presence().clear_connection_request_handler();
    let third = memory();
    dial(&third, &a.sync().tcp_addresses()[0].to_string());
    wait_until("all are let in", || {
        third.presence().graph().remote_peers.len() == 2
    });
}

#[test]
fn a_handler_that_panics_refuses() {
    let [a, b] = pair();
    let (at_a, _a) = conditions(&a);
    let (at_b, _b) = conditions(&b);
    a.presence()
        .set_connection_request_handler(|_| panic!("on purpose"))
        .unwrap();
    link(&a, &b, "cars");
    let told = wait_for_kind(&at_a, ConditionKind::Denied).message;
    assert!(told.contains("panicked"), "{told}");
    let told = wait_for_kind(&at_b, ConditionKind::Denied).message;
    assert!(told.contains("failed to say"), "{told}");
    are_strangers(&a, &b);
}

#[test]
fn a_handler_that_keeps_its_thread_refuses_in_the_end() {
    let [a, b] = pair();
    let (at_b, _b) = conditions(&b);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let handler = move |_| {
        let _ = released.lock().unwrap().recv();
        Allow
    };
    a.presence()
        .set_connection_request_handler(handler)
        .unwrap();
    link(&a, &b, "cars");
    let told = wait_for_kind(&at_b, ConditionKind::Denied).message;
    assert!(told.contains("did not say in time"), "{told}");
    are_strangers(&a, &b);
    // It returns, and the next request finds it ready.
    drop(release);
    wait_until("they sync", || count(&a, "cars") == 2);
}

#[test]
fn a_handler_may_think_about_several_at_once() {
    let host = memory();
    let (waiting, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |request: idem::ConnectionRequest| {
        let (send, decided) = tokio::sync::oneshot::channel();
        waiting.send((request.peer_key, send)).unwrap();
        async move { decided.await.unwrap_or(Deny) }
    };
    host.presence()
        .set_connection_request_handler_async(handler)
        .unwrap();
    let address = listen(&host);
    let guests = [memory(), memory()];
    for guest in &guests {
        dial(guest, &address);
    }
    let mut requests = [
        asked.blocking_recv().unwrap(),
        asked.blocking_recv().unwrap(),
    ];
    requests.sort_by_key(|(key, _)| *key != guests[0].peer_key());
    let [(wanted, yes), (unwanted, no)] = requests;
    assert_eq!([wanted, unwanted], guests.each_ref().map(Idem::peer_key));
    yes.send(Allow).unwrap();
    no.send(Deny).unwrap();
    wait_until("one is linked", || {
        let graph = host.presence().graph();
        graph.peer(wanted).is_some() && graph.peer(unwanted).is_none()
    });
}

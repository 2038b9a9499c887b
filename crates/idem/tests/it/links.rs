//! Two links between the same two peers, through relays that the test cuts.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use idem::{ConditionKind, Idem, TransportConfig};
use serde_json::json;

use crate::fixture::{Heard, conditions, count, listen, memory, run, wait_equal, wait_until};

/// Passes on what it hears on a port of its own to `target`, until it is cut.
struct Relay {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
    open: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Relay {
    fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            bytes: Arc::default(),
            open: Arc::new(Mutex::new(Some(Vec::new()))),
        };
        let (bytes, open) = (Arc::clone(&relay.bytes), Arc::clone(&relay.open));
        let target = target.to_owned();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(&target).unwrap());
                match open.lock().unwrap().as_mut() {
                    Some(open) => {
                        open.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                    }
                    None => return,
                }
                let (back_from, back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                pass(near, far, Arc::clone(&bytes));
                pass(back_from, back_to, Arc::clone(&bytes));
            }
        });
        relay
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ends all that goes through here, for good.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().take().into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, bytes: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
            bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Starts sync with two links through relays to a peer that listens at `address`.
fn dial_twice(idem: &Idem, address: &str) -> [Relay; 2] {
    let relays = [Relay::to(address), Relay::to(address)];
    let mut config = TransportConfig::new();
    for relay in &relays {
        config = config.with_tcp_server(relay.address.to_string());
    }
    idem.set_transport_config(config).unwrap();
    idem.sync().start().unwrap();
    relays
}

#[test]
fn a_link_that_dies_in_a_transfer_neither_loses_nor_repeats_a_callback() {
    let (a, b) = (memory(), memory());
    for idem in [&a, &b] {
        let subscription = idem
            .sync()
            .register_subscription("SELECT * FROM t")
            .unwrap();
        subscription.keep();
    }
    let heard = Heard::new();
    let push = heard.clone();
    let observe = b
        .store()
        .register_observer("SELECT n FROM t", move |result| {
            push.push(result.item_count());
        });
    let _observer = observe.unwrap();
    let (events, _events) = conditions(&b);
    let relays = dial_twice(&b, &listen(&a));
    wait_until("two links", || {
        let graph = b.presence().graph();
        let connections = graph.remote_peers.iter().map(|it| it.connections.len());
        connections.sum::<usize>() == 2
    });
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'first'})");
    wait_until("the first", || count(&b, "t") == 1);
    // So much that it cannot be there at once.
    let text = "text ".repeat(200);
    for part in 0..20 {
        let documents: Vec<_> = (0..500)
            .map(|n| json!({"_id": part * 500 + n, "text": text}))
            .collect();
        let insert = "INSERT INTO t DOCUMENTS (:a)".to_owned();
        for document in documents {
            let args = json!({"a": document});
            a.store().execute_blocking((insert.as_str(), args)).unwrap();
        }
        if part == 10 {
            // The link in use is the one that carried more.
            let [one, other] = &relays;
            let in_use = if one.bytes() > other.bytes() {
                one
            } else {
                other
            };
            in_use.cut();
        }
    }
    wait_equal(&a, &b);
    assert_eq!(count(&b, "t"), 10_001);
    heard.wait_for("the last document", |count| *count == 10_001);
    let counts = heard.all();
    assert!(
        counts.is_sorted_by(|before, after| before < after),
        "each callback shows more than the one before: {counts:?}"
    );
    let kinds = events.all().into_iter().map(|it| it.kind);
    let caught_up = kinds.filter(|kind| *kind == ConditionKind::CaughtUp);
    assert_eq!(caught_up.count(), 1, "told once");
}

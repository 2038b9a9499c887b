//! Links in WebSockets: what comes through, and what is made of everything else that reaches the port.

use std::net::SocketAddr;

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use idem_model::limits;
use idem_transport::{
    HttpLinkListener, Lane, Link, LinkCredentials, LinkError, LinkKind, Role, TcpLinkListener,
    WEBSOCKET_PATH, WebSocketUrl, websocket_connect,
};
use proptest::prelude::{Strategy, any};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, client_async,
    tungstenite::{Bytes, Message},
};

use crate::{DATABASE, credentials, on_runtime};

fn url(address: SocketAddr) -> WebSocketUrl {
    format!("ws://{address}").parse().unwrap()
}

fn both() -> (LinkCredentials, LinkCredentials) {
    (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7))
}

/// Links two peers, of which one dials `dialled`.
async fn linked(listener: &HttpLinkListener, dialled: SocketAddr) -> (Link, Link) {
    let (a, b) = both();
    let url = url(dialled);
    let (at_a, at_b) = tokio::join!(websocket_connect(&url, None, &a), async {
        let incoming = listener.accept().await.unwrap();
        incoming.handshake(&b).await
    });
    (at_a.unwrap(), at_b.unwrap().expect("it asked for a link"))
}

/// What a peer makes of one connection to its port.
async fn judged(listener: &HttpLinkListener) -> Result<(), &'static str> {
    let (_, b) = both();
    let incoming = listener.accept().await.unwrap();
    match incoming.handshake(&b).await {
        Ok(Some(_)) => panic!("a stranger was linked"),
        Ok(None) => Ok(()),
        Err(error) => Err(error.reason()),
    }
}

async fn free_port() -> HttpLinkListener {
    HttpLinkListener::bind("127.0.0.1:0").await.unwrap()
}

#[test]
fn peers_learn_who_the_other_is() {
    on_runtime(async {
        let listener = free_port().await;
        let (at_a, mut at_b) = linked(&listener, listener.address()).await;
        let (a, b) = both();
        assert_eq!(at_a.properties().remote_peer, b.identity().peer_id());
        assert_eq!(at_b.properties().remote_peer, a.identity().peer_id());
        assert_eq!(at_a.properties().kind, LinkKind::WebSocket);
        assert_eq!(at_a.properties().address, Some(listener.address()));
        assert_eq!(at_b.properties().role, Role::Responder);
        at_a.send(Lane::Interactive, b"hello".to_vec())
            .await
            .unwrap();
        let frame = at_b.recv().await.unwrap();
        assert_eq!(frame, Some((Lane::Interactive, b"hello".to_vec())));
    });
}

/// Both directions at once, more than fits into any buffer, and a goodbye that is heard.
#[test]
fn a_bulk_transfer_both_ways_arrives_in_order() {
    on_runtime(async {
        let listener = free_port().await;
        let (at_a, at_b) = linked(&listener, listener.address()).await;
        transfer_both_ways(at_a, at_b, 100).await;
    });
}

async fn transfer_both_ways(at_a: Link, at_b: Link, frames: u32) {
    let (_, a_sends, mut a_receives) = at_a.split();
    let (_, b_sends, mut b_receives) = at_b.split();
    let send = |sender: idem_transport::LinkSender| async move {
        for n in 0..frames {
            let mut frame = vec![n as u8; 4 + n as usize * 131 % 60_000];
            frame[..4].copy_from_slice(&n.to_le_bytes());
            sender.send(Lane::Bulk, frame).await.unwrap();
        }
    };
    let receive = async |receiver: &mut idem_transport::LinkReceiver| {
        for n in 0..frames {
            let (_, frame) = receiver.recv().await.unwrap().unwrap();
            assert_eq!(frame[..4], n.to_le_bytes());
            assert!(frame[4..].iter().all(|byte| *byte == n as u8));
        }
    };
    // Dropping the last sender says goodbye.
    let senders = (a_sends.clone(), b_sends.clone());
    tokio::join!(
        send(a_sends),
        send(b_sends),
        receive(&mut a_receives),
        receive(&mut b_receives)
    );
    drop(senders.0);
    assert_eq!(b_receives.recv().await.unwrap(), None);
    drop(senders.1);
    assert_eq!(a_receives.recv().await.unwrap(), None);
}

/// A proxy that takes messages apart as `cuts` say, and puts pings and empty messages between.
async fn proxy(listener: TcpListener, server: SocketAddr, cuts: Vec<u16>) {
    let (stream, _) = listener.accept().await.unwrap();
    let client = accept_async(stream).await.unwrap();
    let stream = TcpStream::connect(server).await.unwrap();
    let url = format!("ws://{server}{WEBSOCKET_PATH}");
    let (server, _) = client_async(url, stream).await.unwrap();
    let (to_client, from_client) = client.split();
    let (to_server, from_server) = server.split();
    tokio::join!(
        pass_on(from_client, to_server, &cuts),
        pass_on(from_server, to_client, &cuts)
    );
}

type From = SplitStream<WebSocketStream<TcpStream>>;
type To = SplitSink<WebSocketStream<TcpStream>, Message>;

async fn pass_on(mut from: From, mut to: To, cuts: &[u16]) {
    let mut cuts = cuts.iter().cycle();
    while let Some(Ok(message)) = from.next().await {
        let Message::Binary(mut bytes) = message else {
            continue;
        };
        while !bytes.is_empty() {
            let cut = usize::from(*cuts.next().unwrap());
            if cut.is_multiple_of(3) {
                to.send(Message::Ping(Bytes::from_static(b"?")))
                    .await
                    .unwrap();
            }
            let len = cut.min(bytes.len());
            to.send(Message::Binary(bytes.split_to(len))).await.unwrap();
        }
    }
    let _ = to.close().await;
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(8))]

    /// Where a message ends means nothing.
    #[test]
    fn a_link_survives_a_proxy_that_cuts_messages(
        cuts in proptest::collection::vec(any::<u16>().prop_map(|cut| cut % 3000), 1..20)
            .prop_filter("something must pass", |cuts| cuts.iter().any(|cut| *cut > 500))
    ) {
        on_runtime(async {
            let listener = free_port().await;
            let at_proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let dialled = at_proxy.local_addr().unwrap();
            tokio::spawn(proxy(at_proxy, listener.address(), cuts));
            let (at_a, at_b) = linked(&listener, dialled).await;
            transfer_both_ways(at_a, at_b, 30).await;
        });
    }
}

#[test]
fn another_key_is_told_to_both() {
    on_runtime(async {
        let listener = free_port().await;
        let (a, b) = (credentials(1, DATABASE, 7), credentials(2, DATABASE, 8));
        let url = url(listener.address());
        let (at_a, at_b) = tokio::join!(websocket_connect(&url, None, &a), async {
            listener.accept().await.unwrap().handshake(&b).await
        });
        assert_eq!(at_a.unwrap_err().reason(), "key-mismatch");
        assert_eq!(at_b.unwrap_err().reason(), "key-mismatch");
    });
}

/// Sends `request` and gives the answer, and what the peer made of it.
async fn asked(request: &[u8]) -> (String, Result<(), &'static str>) {
    let listener = free_port().await;
    let address = listener.address();
    tokio::join!(
        async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            // What comes after an error may be cut off by a reset.
            let _ = stream.read_to_string(&mut answer).await;
            answer
        },
        judged(&listener)
    )
}

#[test]
fn other_requests_are_answered() {
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(9000));
    let sync = |fields: &str| format!("GET {WEBSOCKET_PATH} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /?a=b HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /admin HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            405,
        ),
        (&format!("POST {WEBSOCKET_PATH} HTTP/1.1\r\n\r\n"), 405),
        (&sync(""), 426),
        (&sync(upgrade), 426),
        (
            &sync(&format!("{upgrade}Sec-WebSocket-Version: 12\r\n")),
            426,
        ),
        (
            &sync(&format!(
                "{upgrade}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"
            )),
            426,
        ),
        ("GET / HTTP/3\r\n\r\n", 400),
        ("nonsense without a meaning\r\n\r\n", 400),
        (&sync(&"A: a\r\n".repeat(200)), 426),
        (&long, 431),
    ] {
        let (answer, judged) = on_runtime(asked(request.as_bytes()));
        let start = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&start), "{request:?}: {answer:?}");
        assert_eq!(judged, Ok(()), "{request:?}");
        let is_page = request.starts_with("GET /") && status == 200;
        assert_eq!(answer.contains("An Idem peer"), is_page, "{request:?}");
    }
}

#[test]
fn what_is_no_request_gets_no_answer() {
    for (garbage, reason) in [
        (&b"\xf5idem\r\n\0"[..], "not-a-peer"),
        (b"\x16\x03\x01\x02\x00", "not-a-peer"),
        (b"\r\n\r\n", "not-a-peer"),
        (b"GET /", "lost"),
        (b"", "lost"),
    ] {
        let (answer, judged) = on_runtime(asked(garbage));
        assert_eq!(answer, "");
        assert_eq!(judged, Err(reason), "{garbage:?}");
    }
}

#[test]
fn half_a_request_is_timed_out() {
    for start in ["", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let listener = free_port().await;
            let mut stream = TcpStream::connect(listener.address()).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            assert_eq!(judged(&listener).await, Err("handshake-timed-out"));
        });
    }
}

/// Opens a WebSocket, sends raw bytes in it and gives what the peer makes of them.
async fn sent(bytes: &[u8]) -> Result<(), &'static str> {
    let listener = free_port().await;
    let address = listener.address();
    let (_stream, judged) = tokio::join!(
        async {
            let stream = TcpStream::connect(address).await.unwrap();
            let url = format!("ws://{address}{WEBSOCKET_PATH}");
            let (socket, _) = client_async(url, stream).await.unwrap();
            let mut stream = socket.into_inner();
            stream.write_all(bytes).await.unwrap();
            stream
        },
        judged(&listener)
    );
    judged
}

#[test]
fn frames_that_are_not_allowed_end_the_link() {
    let giant = (4 * limits::WEBSOCKET_MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes();
    let giant = [&[0x82, 0xff][..], &giant, &[0; 4]].concat();
    let absurd = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    // A message in parts of which each is within the bound.
    let part = |code: u8| {
        let len = limits::WEBSOCKET_MESSAGE_BYTES_MAX as u64 * 3;
        let content = vec![0; usize::try_from(len).unwrap()];
        [&[code, 0xff][..], &len.to_be_bytes(), &[0; 4], &content].concat()
    };
    let parts = [part(0x02), part(0x80)].concat();
    for (bytes, reason) in [
        (&b"\x81\x82\0\0\0\0hi"[..], "malformed"),
        (b"\x82\x02hi", "malformed"),
        (b"\x83\x80\0\0\0\0", "malformed"),
        (b"\xf2\x80\0\0\0\0", "malformed"),
        (b"\x80\x80\0\0\0\0", "malformed"),
        (b"\x82\x82\0\0\0\0hi", "not-a-peer"),
        (b"\x88\x80\0\0\0\0", "lost"),
        (&giant, "frame-too-large"),
        (&absurd, "frame-too-large"),
        (&parts, "frame-too-large"),
    ] {
        let start = &bytes[..bytes.len().min(16)];
        assert_eq!(on_runtime(sent(bytes)), Err(reason), "{start:x?}");
    }
}

/// Signs of life of the WebSocket are none of the link.
#[test]
fn a_stranger_that_only_pings_is_timed_out() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let listener = free_port().await;
        let address = listener.address();
        let pinging = async {
            let stream = TcpStream::connect(address).await.unwrap();
            let url = format!("ws://{address}{WEBSOCKET_PATH}");
            let (mut socket, _) = client_async(url, stream).await.unwrap();
            let every = std::time::Duration::from_secs(1);
            while socket.send(Message::Ping(Bytes::new())).await.is_ok() {
                tokio::time::sleep(every).await;
            }
        };
        let (judged, ()) = tokio::join!(judged(&listener), pinging);
        assert_eq!(judged, Err("handshake-timed-out"));
    });
}

#[test]
fn a_server_that_is_none_is_named() {
    on_runtime(async {
        let (a, b) = both();
        let listener = free_port().await;
        let elsewhere = format!("ws://{}/elsewhere", listener.address());
        let elsewhere = elsewhere.parse().unwrap();
        let (dialled, answered) =
            tokio::join!(websocket_connect(&elsewhere, None, &a), judged(&listener));
        assert_eq!(answered, Ok(()));
        let status = LinkError::HttpStatus { status: 404 };
        assert_eq!(dialled.unwrap_err().to_string(), status.to_string());

        let listener = TcpLinkListener::bind("127.0.0.1:0").await.unwrap();
        let plain = url(listener.address());
        let (dialled, answered) = tokio::join!(websocket_connect(&plain, None, &a), async {
            listener.accept().await.unwrap().handshake(&b).await
        });
        assert_eq!(answered.unwrap_err().reason(), "not-a-peer");
        assert!(["not-a-peer", "lost"].contains(&dialled.unwrap_err().reason()));

        let free = free_port().await.address();
        let dialled = websocket_connect(&url(free), None, &a).await;
        assert_eq!(dialled.unwrap_err().reason(), "unreachable");
    });
}

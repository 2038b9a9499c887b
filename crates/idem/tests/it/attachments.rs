//! Attachments: made, put into documents, fetched from peers, collected.

use std::{
    io::{Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use idem::{
    Attachment, AttachmentConfig, AttachmentFetchEvent, AttachmentMetadata, AttachmentToken,
    ErrorKind, FetchFailure, FetchOptions, Idem, TransportConfig,
};

use crate::fixture::{Heard, config, count, dial, listen, memory, open, run, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..len).map(step).collect()
}

fn make(idem: &Idem, bytes: &[u8]) -> Attachment {
    let metadata = AttachmentMetadata::new();
    let made = idem
        .store()
        .new_attachment_from_bytes_blocking(bytes, metadata);
    made.unwrap()
}

fn fetch(idem: &Idem, token: &AttachmentToken) -> Result<Attachment, idem::Error> {
    let fetch = idem.store().fetch_attachment(token, |_| {}).unwrap();
    fetch.wait_blocking(LIMIT)
}

/// The files of blobs in a directory, by what their names end with.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.join("blobs")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == end) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn what_is_put_in_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(1_500_000, 1);
    let file = folder.path().join("front.jpg");
    std::fs::write(&file, &bytes).unwrap();
    let directory = folder.path().join("store");
    {
        let idem = open(&directory);
        let metadata = AttachmentMetadata::from([("name".to_owned(), "front.jpg".to_owned())]);
        let photo = idem.store().new_attachment_blocking(&file, metadata);
        let photo = photo.unwrap();
        assert_eq!(photo.token().len(), 1_500_000);
        assert_eq!(make(&idem, &bytes).token().id(), photo.token().id());
        let read = Cursor::new(bytes.clone());
        let read = idem
            .store()
            .new_attachment_from_reader_blocking(read, AttachmentMetadata::new());
        assert_eq!(read.unwrap().token().id(), photo.token().id());
        let insert = "INSERT INTO COLLECTION cars (photo ATTACHMENT) DOCUMENTS ({'_id': 1, 'photo': :photo})";
        let args = serde_json::json!({ "photo": photo.token() });
        idem.store().execute_blocking((insert, args)).unwrap();
        idem.close_blocking().unwrap();
    }
    let idem = open(&directory);
    let row = idem
        .store()
        .execute_blocking("SELECT photo FROM cars")
        .unwrap();
    let row = row.iter().next().unwrap();
    let token = AttachmentToken::from_value(&row.value()["photo"]).unwrap();
    assert_eq!(token.metadata()["name"], "front.jpg");
    assert_eq!(token.to_value(), row.value()["photo"]);
    let photo = fetch(&idem, &token).unwrap();
    assert_eq!(photo.data_blocking().unwrap(), bytes);
    let copy = folder.path().join("copy.jpg");
    photo.copy_to_blocking(&copy).unwrap();
    assert_eq!(std::fs::read(&copy).unwrap(), bytes);
    let mut reader = photo.reader().unwrap();
    reader.seek(SeekFrom::Start(1_000_000)).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, bytes[1_000_000..]);
}

#[test]
fn a_token_is_refused_if_it_is_none() {
    let idem = memory();
    for statement in [
        "SELECT {'id': 'x', 'len': 1} AS t FROM system:dual",
        "SELECT {'id': 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 'len': -1} AS t FROM system:dual",
        "SELECT 7 AS t FROM system:dual",
    ] {
        let rows = idem.store().execute_blocking(statement).unwrap();
        let row = rows.iter().next().unwrap();
        let error = AttachmentToken::from_value(&row.value()["t"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AttachmentTokenInvalid);
    }
    let metadata = AttachmentMetadata::from([("x".to_owned(), "y".repeat(17_000))]);
    let error = idem
        .store()
        .new_attachment_from_bytes_blocking(*b"x", metadata);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::ValidationValue);
}

#[test]
fn a_linked_peer_gives_what_it_has() {
    let (a, b) = (memory(), memory());
    dial(&b, &listen(&a));
    for (seed, len) in [(1, 0), (2, 5_000), (3, 70_000), (4, 3_000_000)] {
        let bytes = content(len, seed);
        let made = make(&a, &bytes);
        let heard = Heard::new();
        let pushed = heard.clone();
        let fetcher = b
            .store()
            .fetch_attachment(made.token(), move |event| pushed.push(event))
            .unwrap();
        let got = fetcher.wait_blocking(LIMIT).unwrap();
        assert_eq!(got.data_blocking().unwrap(), bytes);
        heard.wait_for("the end", |event| {
            matches!(event, AttachmentFetchEvent::Completed(_))
        });
        let progress: Vec<u64> = heard
            .all()
            .iter()
            .filter_map(|event| match event {
                AttachmentFetchEvent::Progress { downloaded, total } => {
                    assert_eq!(*total, len as u64);
                    Some(*downloaded)
                }
                _ => None,
            })
            .collect();
        assert!(progress.is_sorted());
    }
}

#[test]
fn a_peer_between_brings_it_though_it_does_not_want_it() {
    let (a, b, c) = (memory(), memory(), memory());
    let address = listen(&b);
    dial(&a, &address);
    dial(&c, &address);
    let bytes = content(2_000_000, 5);
    let made = make(&a, &bytes);
    wait_until("all are linked", || {
        b.presence().graph().remote_peers.len() == 2
    });
    let options = FetchOptions::new().hops(0);
    let direct = c
        .store()
        .fetch_attachment_with(made.token(), options, |_| {})
        .unwrap();
    let error = direct.wait_blocking(LIMIT).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::AttachmentNotFound,
        "not over a peer"
    );
    let got = fetch(&c, made.token()).unwrap();
    assert_eq!(got.data_blocking().unwrap(), bytes);
    // It is kept there for a while.
    a.close_blocking().unwrap();
    let d = memory();
    dial(&d, &address);
    assert_eq!(
        fetch(&d, made.token()).unwrap().data_blocking().unwrap(),
        bytes
    );
}

#[test]
fn it_comes_over_strangers_in_a_row() {
    let peers: Vec<Idem> = (0..6).map(|_| memory()).collect();
    let mut addresses = Vec::new();
    // Every second one listens, and those between dial both.
    for at in [1, 3, 5] {
        let address = listen(&peers[at]);
        addresses.push(address);
    }
    for (at, around) in [
        (0, &addresses[..1]),
        (2, &addresses[..2]),
        (4, &addresses[1..]),
    ] {
        let mut config = TransportConfig::new();
        for address in around {
            config = config.with_tcp_server(address);
        }
        config.connect.retry_interval = Duration::from_millis(20);
        peers[at].set_transport_config(config).unwrap();
        peers[at].sync().start().unwrap();
    }
    let bytes = content(3_000_000, 21);
    let made = make(&peers[0], &bytes);
    wait_until("all are linked", || {
        peers[5].presence().graph().remote_peers.len() == 5
    });
    let got = fetch(&peers[5], made.token()).unwrap();
    assert_eq!(got.data_blocking().unwrap(), bytes);
}

#[test]
fn nobody_has_it() {
    let (a, b) = (memory(), memory());
    dial(&b, &listen(&a));
    let elsewhere = memory();
    let token = make(&elsewhere, b"far away").token().clone();
    wait_until("they are linked", || {
        a.presence().graph().remote_peers.len() == 1
    });
    let heard = Heard::new();
    let pushed = heard.clone();
    let fetcher = b
        .store()
        .fetch_attachment(&token, move |event| pushed.push(event))
        .unwrap();
    let error = fetcher.wait_blocking(LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AttachmentNotFound);
    heard.wait_for("the reason", |event| {
        let reason = FetchFailure::NobodyHasIt;
        matches!(event, AttachmentFetchEvent::Failed { reason: it } if *it == reason)
    });

    // Alone, it waits for a link as long as it may.
    let alone = memory();
    let options = FetchOptions::new().timeout(Duration::from_millis(50));
    let fetcher = alone
        .store()
        .fetch_attachment_with(&token, options, |_| {})
        .unwrap();
    assert!(fetcher.wait_blocking(LIMIT).is_err());
}

#[test]
fn a_fetch_that_was_broken_off_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(40_000_000, 6);
    let a = memory();
    let address = listen(&a);
    let made = make(&a, &bytes);
    let token = made.token().clone();
    {
        let b = open(folder.path());
        dial(&b, &address);
        let heard = Heard::new();
        let pushed = heard.clone();
        let fetcher = b
            .store()
            .fetch_attachment(&token, move |event| pushed.push(event))
            .unwrap();
        heard.wait_for("a part", |event| {
            matches!(event, AttachmentFetchEvent::Progress { downloaded, .. } if *downloaded > 2_000_000)
        });
        // A slow test machine hears of the part when all is there; then nothing is left to go on with.
        let is_ended = fetcher.is_ended();
        b.close_blocking().unwrap();
        assert!(is_ended || fetcher.wait_blocking(LIMIT).is_err());
        assert_eq!(files(folder.path(), "part").len(), usize::from(!is_ended));
    }
    let b = open(folder.path());
    dial(&b, &address);
    let heard = Heard::new();
    let pushed = heard.clone();
    let fetcher = b
        .store()
        .fetch_attachment(&token, move |event| pushed.push(event))
        .unwrap();
    let got = fetcher.wait_blocking(LIMIT).unwrap();
    assert_eq!(got.data_blocking().unwrap(), bytes);
    for event in heard.all() {
        if let AttachmentFetchEvent::Progress { downloaded, .. } = event {
            assert!(downloaded > 2_000_000, "it did not begin anew");
        }
    }
    assert!(files(folder.path(), "part").is_empty());
}

#[test]
fn a_fetch_ends_with_its_handle() {
    let a = memory();
    let token = make(&memory(), b"somewhere").token().clone();
    let fetcher = a.store().fetch_attachment(&token, |_| {}).unwrap();
    fetcher.cancel();
    let error = fetcher.wait_blocking(LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AttachmentCancelled);
    let waiting = a.store().fetch_attachment(&token, |_| {}).unwrap();
    a.close_blocking().unwrap();
    let error = waiting.wait_blocking(LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(a.store().fetch_attachment(&token, |_| {}).is_err());
}

#[test]
fn nothing_is_heard_of_a_fetch_once_its_handle_is_gone() {
    let token = make(&memory(), b"somewhere").token().clone();
    let heard = Heard::new();
    // Whether the thread of attachments sees the end of the handle before that of the peer is a race.
    for _ in 0..50 {
        let a = memory();
        let pushed = heard.clone();
        let dropped = a
            .store()
            .fetch_attachment(&token, move |event| pushed.push(event))
            .unwrap();
        // The first one is under way when this one is answered.
        let cancelled = a.store().fetch_attachment(&token, |_| {}).unwrap();
        cancelled.cancel();
        cancelled.wait_blocking(LIMIT).unwrap_err();
        drop(dropped);
        a.close_blocking().unwrap();
    }
    assert!(heard.all().is_empty(), "{:?}", heard.all());
}

#[test]
fn a_fetch_ends_when_no_document_refers_to_it_any_more() {
    let (a, elsewhere) = (memory(), memory());
    let [token, never] =
        [&b"far away"[..], b"further"].map(|bytes| make(&elsewhere, bytes).token().clone());
    let args = serde_json::json!({ "photo": token, "other": token });
    let insert = "INSERT INTO COLLECTION cars (photo ATTACHMENT) DOCUMENTS ({'_id': 1, 'photo': :photo}), ({'_id': 2, 'a': [:other]})";
    a.store().execute_blocking((insert, args)).unwrap();
    let heard = Heard::new();
    let pushed = heard.clone();
    let fetch = a
        .store()
        .fetch_attachment(&token, move |event| pushed.push(event))
        .unwrap();
    let unknown = a.store().fetch_attachment(&never, |_| {}).unwrap();
    // Two refer to it; first one goes, then the other.
    run(
        &a,
        "UPDATE COLLECTION cars (photo ATTACHMENT) UNSET photo WHERE _id = 1",
    );
    let nothing = fetch.wait_blocking(Duration::from_secs(3)).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::AttachmentTimedOut);
    assert!(!fetch.is_ended(), "the other document refers to it");
    // On a busy machine the documents are looked at late, perhaps when it is gone already.
    wait_until("the fetch has ended", || {
        let args = serde_json::json!({ "other": token });
        let insert =
            "INSERT INTO cars DOCUMENTS ({'_id': 2, 'a': [:other]}) ON ID CONFLICT DO UPDATE";
        a.store().execute_blocking((insert, args)).unwrap();
        let _ = fetch.wait_blocking(Duration::from_millis(200));
        run(&a, "DELETE FROM cars WHERE _id = 2");
        let _ = fetch.wait_blocking(Duration::from_secs(3));
        fetch.is_ended()
    });
    let error = fetch.wait_blocking(LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AttachmentDeleted);
    heard.wait_for("the end", |event| {
        matches!(event, AttachmentFetchEvent::Deleted)
    });
    assert!(!unknown.is_ended(), "no document ever referred to it");
}

#[test]
fn what_no_document_refers_to_is_collected() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = AttachmentConfig::new().grace(Duration::ZERO);
    let config = config(1).with_persistence_directory(folder.path());
    let idem = Idem::open_sync(config.with_attachments(bounds)).unwrap();
    let kept = make(&idem, b"kept").token().clone();
    let deep = make(&idem, b"deep").token().clone();
    let lost = make(&idem, b"lost").token().clone();
    let held = make(&idem, b"held");
    let args = serde_json::json!({ "kept": kept, "deep": deep });
    let insert =
        "INSERT INTO `odd name` DOCUMENTS ({'_id': 1, 'a': :kept, 'b': [1, {'c': [:deep]}]})";
    idem.store().execute_blocking((insert, args)).unwrap();
    let done = idem.store().collect_attachments_blocking().unwrap();
    assert_eq!((done.attachments, done.bytes), (1, 4));
    assert_eq!(held.data_blocking().unwrap(), b"held");
    for token in [&kept, &deep] {
        assert!(fetch(&idem, token).is_ok());
    }
    let options = FetchOptions::new().timeout(Duration::from_millis(20));
    let gone = idem
        .store()
        .fetch_attachment_with(&lost, options, |_| {})
        .unwrap();
    assert!(gone.wait_blocking(LIMIT).is_err());
    drop(held);
    run(&idem, "DELETE FROM `odd name`");
    let done = idem.store().collect_attachments_blocking().unwrap();
    assert_eq!(done.attachments, 3);
    assert!(files(folder.path(), "blob").is_empty());
}

#[test]
fn damage_on_disk_is_found_and_mended_from_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(1_200_000, 7);
    let a = memory();
    let made = make(&a, &bytes);
    let b = open(folder.path());
    dial(&b, &listen(&a));
    fetch(&b, made.token()).unwrap();
    let file = files(folder.path(), "blob").remove(0);
    let mut stored = std::fs::read(&file).unwrap();
    stored[700_000] ^= 1;
    std::fs::write(&file, &stored).unwrap();
    let got = fetch(&b, made.token()).unwrap();
    let error = got.data_blocking().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AttachmentDamaged);
    let got = fetch(&b, made.token()).unwrap();
    assert_eq!(got.data_blocking().unwrap(), bytes);
}

#[test]
fn a_bound_is_a_bound() {
    let a = memory();
    let made = make(&a, &content(300_000, 8));
    let address = listen(&a);
    let bounds = AttachmentConfig::new().bytes_max(200_000);
    let b = Idem::open_sync(config(1).with_attachments(bounds)).unwrap();
    dial(&b, &address);
    let error = fetch(&b, made.token()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AttachmentQuota);
    let large = b
        .store()
        .new_attachment_from_bytes_blocking(content(200_001, 9), AttachmentMetadata::new());
    assert_eq!(large.unwrap_err().kind(), ErrorKind::AttachmentQuota);
}

#[test]
fn documents_pass_while_a_large_attachment_flows() {
    let folder = tempfile::tempdir().unwrap();
    let a = memory();
    let b = open(folder.path());
    let made = make(&a, &content(60_000_000, 10));
    b.sync()
        .register_subscription("SELECT * FROM ticks")
        .unwrap()
        .keep();
    dial(&b, &listen(&a));
    run(&a, "INSERT INTO ticks DOCUMENTS ({'_id': 'first'})");
    wait_until("they sync", || count(&b, "ticks") == 1);
    let fetcher = b.store().fetch_attachment(made.token(), |_| {}).unwrap();
    let mut sent = 0;
    let mut passed = 0;
    while !fetcher.is_ended() {
        run(&a, "INSERT INTO ticks DOCUMENTS ({'n': 1})");
        sent += 1;
        wait_until("a document passed", || count(&b, "ticks") == 1 + sent);
        passed += usize::from(!fetcher.is_ended());
    }
    assert!(
        passed > 0,
        "at least one came while the attachment was under way"
    );
    assert_eq!(fetcher.wait_blocking(LIMIT).unwrap().token(), made.token());
}

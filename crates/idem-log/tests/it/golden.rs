//! The bytes of a segment, as `docs/format/disk.md`, section "Log", describes them.

use std::fmt::Write;
use std::path::Path;

use idem_log::{LogStorage, MemoryStorage};

use crate::support::{open, replay};

const HEADER: usize = 52;

#[test]
fn a_segment_has_the_bytes_of_the_golden_file() {
    let storage = MemoryStorage::default();
    let (log, _) = open(storage.clone()).unwrap();
    for payload in [&b"first"[..], b"", b"third"] {
        log.append(payload).unwrap();
    }
    log.sync_to(log.end()).unwrap();
    let last = log.append(b"after a sync").unwrap();
    log.sync_to(last).unwrap();
    log.close().unwrap();

    let file = storage.open("segment-00000001").unwrap();
    let mut bytes = vec![0; 8192];
    file.read_at(0, &mut bytes).unwrap();
    let end = 4096 + usize::try_from(log.end()).unwrap();
    assert!(bytes[end..].iter().all(|&byte| byte == 0));
    let parts = [
        &bytes[..HEADER],
        &bytes[512..512 + HEADER],
        &bytes[4096..end],
    ];
    let found = parts.map(hex).join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/disk/log-segment.hex");
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(found, golden);
}

#[test]
fn the_golden_segment_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/disk/log-segment.hex");
    let golden = std::fs::read_to_string(path).unwrap();
    let storage = MemoryStorage::default();
    let file = storage.create("segment-00000001").unwrap();
    file.allocate(8192).unwrap();
    for (line, offset) in golden.lines().zip([0, 512, 4096]) {
        let bytes: Vec<u8> = (0..line.len() / 2)
            .map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        file.write_at(offset, &bytes).unwrap();
    }
    let (log, recovery) = open(storage).unwrap();
    assert_eq!(
        (recovery.id, recovery.created, recovery.torn),
        (77, false, None)
    );
    let payloads: Vec<_> = replay(&log, 0)
        .unwrap()
        .into_iter()
        .map(|(_, payload)| payload)
        .collect();
    assert_eq!(payloads, [&b"first"[..], b"", b"third", b"after a sync"]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

//! Frames and batches that are refused, and why: a reader that takes one of them has not understood
//! docs/format/wire.md.

use std::{collections::BTreeMap, fs, path::PathBuf};

use idem_model::{
    DecodeError,
    codec::{put_bytes, put_varint},
    limits,
};
use idem_wire::{BatchReader, Message, WireError};

use super::messages;

/// What begins the file.
const HEAD: &str = "\
# Frames and batches that must be refused: what it is, its name, why, and its bytes. `61*300` is the byte
# 61 three hundred times, `-` is nothing.
";

/// A line of the file.
struct Reject {
    is_batch: bool,
    name: String,
    why: String,
    bytes: Vec<u8>,
}

impl Reject {
    fn line(&self) -> String {
        let kind = if self.is_batch { "batch" } else { "frame" };
        let (name, why) = (&self.name, &self.why);
        format!("{kind} | {name} | {why} | {}\n", notation(&self.bytes))
    }

    fn parse(line: &str) -> Self {
        let [kind, name, why, bytes] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line} has four parts");
        };
        Self {
            is_batch: kind == "batch",
            name: name.to_owned(),
            why: why.to_owned(),
            bytes: expand(bytes),
        }
    }
}

fn notation(bytes: &[u8]) -> String {
    let mut out = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        let digits = format!("{:02x}", run[0]);
        if run.len() < 24 {
            out.push_str(&digits.repeat(run.len()));
        } else {
            out.push_str(&format!(" {digits}*{} ", run.len()));
        }
    }
    match out.trim() {
        "" => "-".to_owned(),
        out => out.to_owned(),
    }
}

fn expand(notation: &str) -> Vec<u8> {
    let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("two digits");
    let parts = notation.split(' ').filter(|part| *part != "-");
    parts
        .flat_map(|part| match part.split_once('*') {
            Some((digits, count)) => vec![byte(digits); count.parse().expect("a count")],
            None => {
                let places = (0..part.len()).step_by(2);
                places.map(|at| byte(&part[at..at + 2])).collect()
            }
        })
        .collect()
}

/// Why bytes are refused; `None` if they are not.
fn refusal(is_batch: bool, bytes: &[u8]) -> Option<String> {
    let error = if is_batch {
        let mut reader = BatchReader::new(bytes);
        loop {
            match reader.next_item() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => break error,
            }
        }
    } else {
        match Message::decode(bytes) {
            Ok(_) => return None,
            Err(WireError::Body { source, .. }) => source,
            Err(WireError::UnknownMessage { .. }) => return Some("unknown message".to_owned()),
            Err(WireError::FrameTooLarge { .. }) => return Some("frame over the limit".to_owned()),
            Err(WireError::Empty) => return Some("empty frame".to_owned()),
            Err(other) => panic!("{other} has no word here"),
        }
    };
    Some(match error {
        DecodeError::Truncated { .. } => "truncated".to_owned(),
        DecodeError::TrailingBytes { .. } => "bytes left".to_owned(),
        DecodeError::Invalid { what, .. } => format!("invalid {what}"),
        DecodeError::TooLarge { what, .. } => format!("{what} over the limit"),
        other => panic!("{other} has no word here"),
    })
}

// Parts of frames.

fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, value);
    out
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, bytes);
    out
}

/// So many things, told to be as many.
fn list(count: usize, thing: &[u8]) -> Vec<u8> {
    [varint(count as u64), thing.repeat(count)].concat()
}

const OVER_32_BITS: [u8; 5] = [0x80, 0x80, 0x80, 0x80, 0x10];

/// A golden frame with other bytes from `at` on, in place of as many.
fn golden(name: &str, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frames = messages().into_iter();
    let (_, message) = frames.find(|(it, _)| *it == name).expect("a golden frame");
    let mut frame = message.to_bytes();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

type Named = (&'static str, &'static str, Vec<u8>);

fn rejects() -> Vec<Reject> {
    let mut rejects = Vec::new();
    let mut frame = |name: &str, why: &str, bytes| {
        rejects.push(Reject {
            is_batch: false,
            name: name.to_owned(),
            why: why.to_owned(),
            bytes,
        });
    };
    for (name, message) in messages() {
        let mut bytes = message.to_bytes();
        // The rest of a TRANSFER is its payload, an extension is skipped, and a HELLO may go on.
        if !matches!(message, Message::Transfer(_) | Message::Extension { .. }) {
            let cut = bytes[..bytes.len() - 1].to_vec();
            // Of a message that is its number nothing is left.
            if !cut.is_empty() {
                frame(&format!("{name}, cut off"), "truncated", cut);
            }
            if !matches!(message, Message::Hello(_)) {
                bytes.push(0);
                frame(&format!("{name} and a byte"), "bytes left", bytes);
            }
        }
    }
    let parts = [
        frames(),
        texts(),
        hello(),
        sets(),
        keyed(),
        compared(),
        flags(),
    ];
    for (name, why, bytes) in parts.into_iter().flatten() {
        frame(name, why, bytes);
    }
    for (name, why, bytes) in batches() {
        rejects.push(Reject {
            is_batch: true,
            name: name.to_owned(),
            why: why.to_owned(),
            bytes,
        });
    }
    rejects
}

/// What is wrong before or below a message.
fn frames() -> Vec<Named> {
    let long = [&[0x0a, 2, 0][..], &vec![0; limits::FRAME_BYTES_MAX - 2]].concat();
    let varint = "invalid varint";
    vec![
        ("nothing", "empty frame", Vec::new()),
        ("one byte too many", "frame over the limit", long),
        ("message 00", "unknown message", vec![0]),
        ("message 19", "unknown message", vec![0x19]),
        ("message 7f", "unknown message", vec![0x7f]),
        (
            "a varint with a zero behind it",
            varint,
            vec![6, 0xac, 0x82, 0],
        ),
        ("zero in two bytes", varint, vec![6, 0x80, 0]),
        (
            "a varint of 65 bits",
            varint,
            [&[9, 1][..], &[0xff; 9], &[2, 0]].concat(),
        ),
        (
            "a varint of 11 bytes",
            varint,
            [&[9, 1][..], &[0xff; 10], &[0, 0]].concat(),
        ),
    ]
}

fn texts() -> Vec<Named> {
    let with = |head: &[u8], text: &[u8]| [head, &sized(text)].concat();
    let detail = vec![b'a'; limits::WIRE_DETAIL_BYTES_MAX + 1];
    let statement = vec![b'a'; limits::SUBSCRIPTION_STATEMENT_BYTES_MAX + 1];
    let named = |number| [&[number][..], &[0xab; 32]].concat();
    let flagged = [&named(5)[..], &[0]].concat();
    let subscribe = [&[3, 1][..], &[0xab; 32], &[1, 8]].concat();
    vec![
        ("bye, no text", "invalid detail", with(&[2, 4], &[0xff])),
        (
            "bye, half a character",
            "invalid detail",
            with(&[2, 4], &[0xc3]),
        ),
        (
            "bye, text too long",
            "detail over the limit",
            with(&[2, 4], &detail),
        ),
        ("bye, length without text", "truncated", vec![2, 4, 5, b'a']),
        (
            "refuse, no text",
            "invalid detail",
            with(&[8, 1, 0], &[0xff]),
        ),
        (
            "refuse, flags that mean nothing",
            "invalid flags of a refusal",
            with(&[8, 1, 2], b"no"),
        ),
        (
            "refuse, text too long",
            "detail over the limit",
            with(&[8, 1, 0], &detail),
        ),
        (
            "statement, no text",
            "invalid statement",
            with(&flagged, &[0xff]),
        ),
        (
            "statement, flags that mean nothing",
            "invalid flags of a statement",
            with(&[&named(5)[..], &[2]].concat(), b"no"),
        ),
        (
            "statement, text too long",
            "statement over the limit",
            with(&flagged, &statement),
        ),
        (
            "subscribe, no text",
            "invalid statement",
            with(&subscribe, &[0xff]),
        ),
        (
            "subscribe, text too long",
            "statement over the limit",
            with(&subscribe, &statement),
        ),
    ]
}

fn hello() -> Vec<Named> {
    // The limit and the credit are two varints of 3 and 4 bytes.
    let start = golden("hello", 0, &[])[..48].to_vec();
    let with = |limits: &[&[u8]]| [&start[..], &limits.concat(), &[0, 0, 0]].concat();
    let big_version = [&[1][..], b"idem", &[1, 0x80, 0x80, 4], &start[7..]].concat();
    vec![
        (
            "hello, another magic",
            "invalid magic",
            golden("hello", 4, b"n"),
        ),
        (
            "hello, oldest version above the newest",
            "invalid range of protocol versions",
            golden("hello", 5, &[2]),
        ),
        (
            "hello, a version of 17 bits",
            "invalid protocol version",
            big_version,
        ),
        (
            "hello, a limit of 33 bits",
            "invalid frame limit",
            with(&[&OVER_32_BITS, &[0x80, 0x80, 0x80, 2]]),
        ),
        (
            "hello, a credit of 33 bits",
            "invalid lane credit",
            with(&[&[0x80, 0x80, 0x10], &OVER_32_BITS]),
        ),
        (
            "hello, neither with resumption nor without",
            "invalid resumption",
            [&golden("hello", 0, &[])[..58], &[2]].concat(),
        ),
    ]
}

/// Items, sketches and version vectors.
#[expect(clippy::too_many_lines, reason = "one entry for each refusal")]
fn sets() -> Vec<Named> {
    let subscribe = |flags: u8, rest: &[u8]| [&[3, 1][..], &[0xab; 32], &[1, flags], rest].concat();
    let items = |head: &[u8], count| [head, &list(count, &[1; 12])].concat();
    let symbols = |block: &[u8]| [&[0x0f, 1], block].concat();
    let block = |first, count| [varint(first), list(count, &[1; 17])].concat();
    let sketch = |block: &[u8]| [&[5; 21][..], block].concat();
    let vector = |vector: &[u8]| [&[0x15, 2, 0], &varint(1 << 31)[..], &[0], vector, &[0]].concat();
    let entry = |actor: u128, n: u8| [&actor.to_be_bytes()[..], &[n]].concat();
    let actors = list(limits::VERSION_VECTOR_ENTRIES_MAX + 1, &[0; 17]);
    let check = [&[0x14][..], &varint(1 << 31), &[1, b'a', 1]].concat();
    let checked = [&[0x15, 2, 0][..], &varint(1 << 31)].concat();
    let over = "items over the limit";
    let index = "invalid index of a symbol";
    let order = "invalid version vector entry";
    vec![
        ("subscribe, 65 items", over, subscribe(16, &items(&[], 65))),
        ("check, 65 items", over, items(&check, 65)),
        ("items, 1,301 of them", over, items(&[0x10, 2, 0, 1], 1301)),
        (
            "checked, 1,301 items",
            over,
            [items(&checked, 1301), vec![0, 0]].concat(),
        ),
        (
            "items, fewer than told",
            "truncated",
            [&[0x10, 2, 0, 1, 2][..], &[1; 12]].concat(),
        ),
        ("symbols, symbol 0", index, symbols(&block(0, 1))),
        ("symbols, symbol 4,096", index, symbols(&block(4096, 1))),
        (
            "symbols, an index of 33 bits",
            index,
            symbols(&[&OVER_32_BITS[..], &list(1, &[1; 17])].concat()),
        ),
        (
            "symbols, none",
            "invalid block without symbols",
            symbols(&block(1, 0)),
        ),
        (
            "symbols, up to symbol 4,096",
            "symbols of a sketch over the limit",
            symbols(&block(4095, 2)),
        ),
        (
            "symbols, all and one more",
            "symbols of a sketch over the limit",
            symbols(&block(1, 4096)),
        ),
        (
            "subscribe, a sketch from symbol 0 on",
            index,
            subscribe(32, &sketch(&block(0, 1))),
        ),
        (
            "checked, actors that fall",
            order,
            vector(&[vec![2], entry(2, 1), entry(1, 1)].concat()),
        ),
        (
            "checked, an actor twice",
            order,
            vector(&[vec![2], entry(2, 1), entry(2, 2)].concat()),
        ),
        (
            "checked, an actor without a commit",
            order,
            vector(&[vec![1], entry(2, 0)].concat()),
        ),
        (
            "checked, 4,097 actors",
            "version vector over the limit",
            vector(&actors),
        ),
    ]
}

/// HAVE and WANT: names, and keys of documents.
#[expect(clippy::too_many_lines, reason = "one entry for each refusal")]
fn keyed() -> Vec<Named> {
    let have = |names: &[&[u8]], documents: &[(u8, &[u8])]| {
        let names = names.iter().map(|name| sized(name)).collect::<Vec<_>>();
        let documents = documents
            .iter()
            .map(|(place, key)| [vec![*place], sized(key), vec![0xf0; 8]].concat())
            .collect::<Vec<_>>();
        [
            vec![0x0b, 2, 1],
            varint(names.len() as u64),
            names.concat(),
            varint(documents.len() as u64),
            documents.concat(),
        ]
        .concat()
    };
    let id = &b"\x40a\0\0"[..];
    let long = [
        &[0x40][..],
        &vec![b'a'; limits::DOC_ID_BYTES_MAX - 2],
        &[0, 0],
    ]
    .concat();
    let many: Vec<String> = (0..=limits::VERSIONS_PER_FRAME_MAX)
        .map(|number| format!("{number:03}"))
        .collect();
    let many: Vec<&[u8]> = many.iter().map(String::as_bytes).collect();
    let places: Vec<(u8, &[u8])> = vec![(0, id); limits::VERSIONS_PER_FRAME_MAX + 1];
    let float = [&[0x20][..], &[0xbf, 0xf8, 0, 0, 0, 0, 0, 0], &[0x80, 0, 1]].concat();
    let name = "invalid collection name";
    let order = "invalid order of collection names";
    let unused = "invalid unused collection name";
    vec![
        (
            "have, names that fall",
            order,
            have(&[b"b", b"a"], &[(0, id), (1, id)]),
        ),
        (
            "have, a name twice",
            order,
            have(&[b"a", b"a"], &[(0, id), (1, id)]),
        ),
        (
            "have, a name without documents",
            unused,
            have(&[b"a", b"b"], &[(0, id)]),
        ),
        (
            "have, 513 names",
            "collection names over the limit",
            have(&many, &[]),
        ),
        (
            "have, 513 documents",
            "document versions over the limit",
            have(&[b"a"], &places),
        ),
        (
            "have, the place of no name",
            "invalid collection number",
            have(&[b"a"], &[(1, id)]),
        ),
        ("have, an empty name", name, have(&[b""], &[(0, id)])),
        (
            "have, a name of 129 bytes",
            "collection name over the limit",
            have(&[&[b'a'; 129]], &[(0, id)]),
        ),
        (
            "have, a name with a line end",
            name,
            have(&[b"a\n"], &[(0, id)]),
        ),
        (
            "have, a name that is no text",
            name,
            have(&[b"a\xff"], &[(0, id)]),
        ),
        (
            "have, the id null",
            "invalid document id",
            have(&[b"a"], &[(0, &[0x70])]),
        ),
        (
            "have, the id MISSING",
            "invalid document id",
            have(&[b"a"], &[(0, &[0x78])]),
        ),
        (
            "have, the id 1.5",
            "invalid document id",
            have(&[b"a"], &[(0, &float)]),
        ),
        ("have, no id", "truncated", have(&[b"a"], &[(0, &[])])),
        (
            "have, an id that is no key",
            "invalid key tag",
            have(&[b"a"], &[(0, &[0])]),
        ),
        (
            "have, two ids in one",
            "bytes left",
            have(&[b"a"], &[(0, &[id, id].concat())]),
        ),
        (
            "have, an id of 1,025 bytes",
            "document id over the limit",
            have(&[b"a"], &[(0, &long)]),
        ),
        (
            "want, names that fall",
            order,
            [
                &[0x0c, 2][..],
                &[1, b'b', 1, b'a'],
                &[1, 0],
                &sized(id),
                &[0],
            ]
            .concat(),
        ),
        (
            "want, a name without documents",
            unused,
            vec![0x0c, 1, 1, b'a', 0],
        ),
        (
            "want, an actor without a commit",
            "invalid version vector entry",
            [
                &[0x0c, 1, 1, b'a', 1, 0][..],
                &sized(id),
                &[1],
                &[7; 16],
                &[0],
            ]
            .concat(),
        ),
    ]
}

/// COMPARED and LACKS.
#[expect(clippy::too_many_lines, reason = "one entry for each refusal")]
fn compared() -> Vec<Named> {
    let subscribe =
        |flags, rest: &[u8]| [&[3, 1][..], &[0xab; 32], &[1], &varint(flags), rest].concat();
    let subscribed = "invalid subscription flags";
    let lacks = |rest: &[&[u8]]| [&[0x12, 0, 1][..], &rest.concat()].concat();
    let (a, b, key) = ([1; 16], [2; 16], [0x4b; 8]);
    let list_of_actors = "invalid list of actors";
    let entry = "invalid version vector entry";
    let flags = "invalid flags of a comparison";
    vec![
        ("subscribe, flags 4", subscribed, subscribe(4, &[])),
        ("subscribe, flags 512", subscribed, subscribe(512, &[])),
        (
            "subscribe, flags of 17 bits",
            subscribed,
            subscribe(1 << 16, &[]),
        ),
        ("subscribe, flags 144", subscribed, subscribe(144, &[0])),
        (
            "subscribe, a comparison of 33 bits",
            "invalid subscription number",
            { subscribe(128, &OVER_32_BITS) },
        ),
        ("compared, flag 2", flags, vec![0x11, 2, 2, 1, 0, 0, 0]),
        ("lacks, flag 2", flags, vec![0x12, 2, 1, 0, 0]),
        (
            "compared, lane 4",
            "invalid lane",
            vec![0x11, 4, 0, 1, 0, 0, 0],
        ),
        ("lacks, 65,537 actors", "actors over the limit", {
            lacks(&[&varint(65_537), &[0; 100]])
        }),
        ("lacks, places that fall", "invalid version vector entry", {
            lacks(&[&[2], &a, &b, &[1], &key, &[2, 1, 1, 0, 1]])
        }),
        (
            "compared, 4,097 tags",
            "tags over the limit",
            [&[0x11, 2, 0, 1][..], &list(4097, &[7; 4]), &[0, 0]].concat(),
        ),
        (
            "lacks, 4,097 versions",
            "versions over the limit",
            lacks(&[&[0], &list(4097, &[0; 9])]),
        ),
        (
            "lacks, actors that fall",
            list_of_actors,
            lacks(&[&[2], &b, &a, &[1], &key, &[2, 0, 1, 1, 1]]),
        ),
        (
            "lacks, an actor that nobody names",
            list_of_actors,
            lacks(&[&[1], &a, &[0]]),
        ),
        (
            "lacks, the place of no actor",
            entry,
            lacks(&[&[1], &a, &[1], &key, &[1, 1, 1]]),
        ),
        (
            "lacks, an actor twice",
            entry,
            lacks(&[&[1], &a, &[1], &key, &[2, 0, 1, 0, 1]]),
        ),
        (
            "lacks, an actor without a commit",
            entry,
            lacks(&[&[1], &a, &[1], &key, &[1, 0, 0]]),
        ),
        (
            "lacks, 17 actors",
            "version vector over the limit",
            lacks(&[&[1], &a, &[1], &key, &list(17, &[0, 1])]),
        ),
    ]
}

/// Flags, lanes, codes and small numbers.
#[expect(clippy::too_many_lines, reason = "one entry for each refusal")]
fn flags() -> Vec<Named> {
    let subscribe = |flags, rest: &[u8]| [&[3, 1][..], &[0xab; 32], &[1, flags], rest].concat();
    let cursor = [[3; 16].to_vec(), vec![5]].concat();
    let alias = |number: u8, rest: &[u8]| [&[number][..], &OVER_32_BITS, rest].concat();
    let check = |alias, flags| [&[0x14][..], &varint(alias), &[1, b'a', flags, 0]].concat();
    let checked = [&[0x15, 2, 8][..], &varint(1 << 31), &[0, 0, 0, 0]].concat();
    let of_days = |days: &[u8]| [&[0x15, 2, 0][..], &varint(1 << 31), &[0, 0, 0], days].concat();
    let raw = [&[0x0a, 2, 2][..], &varint(262_145), b"payload"].concat();
    let answers = [&[0x17, 1, 0][..], &varint(513), &[0; 129]].concat();
    let subscription = "invalid subscription number";
    let subscribed = "invalid subscription flags";
    vec![
        ("subscribe, flags 129", subscribed, subscribe(129, &cursor)),
        ("subscribe, flags 17", subscribed, subscribe(17, &cursor)),
        ("subscribe, flags 33", subscribed, subscribe(33, &cursor)),
        ("subscribe, flags 48", subscribed, subscribe(48, &[0])),
        (
            "subscribe, an alias of 33 bits",
            subscription,
            alias(3, &[0; 34]),
        ),
        (
            "unsubscribe, an alias of 33 bits",
            subscription,
            alias(6, &[]),
        ),
        (
            "accept, an alias of 33 bits",
            subscription,
            alias(7, &[0, 0]),
        ),
        ("accept, tier 3", "invalid catch-up tier", vec![7, 1, 3, 0]),
        ("ack, lane 4", "invalid lane", vec![9, 4, 0, 0]),
        ("transfer, lane 4", "invalid lane", vec![0x0a, 4, 0]),
        (
            "transfer of nothing",
            "invalid payload of a transfer",
            vec![0x0a, 2, 0],
        ),
        (
            "transfer of nothing, compressed",
            "invalid payload of a transfer",
            vec![0x0a, 2, 2, 0, 0],
        ),
        (
            "transfer, 262,145 raw bytes",
            "decompressed frame over the limit",
            raw,
        ),
        ("have, lane 4", "invalid lane", vec![0x0b, 4, 1, 0, 0]),
        (
            "resumed, flags 2",
            "invalid flags of a resumption",
            vec![0x0d, 2],
        ),
        (
            "resumed, flags 4",
            "invalid flags of a resumption",
            vec![0x0d, 4],
        ),
        (
            "ask_holdings, a count of 33 bits",
            "invalid number of symbols",
            { [&[0x0e, 1][..], &OVER_32_BITS].concat() },
        ),
        (
            "items, flags 4",
            "invalid flags of a list",
            vec![0x10, 2, 4, 1, 0],
        ),
        (
            "check, an alias below 2^31",
            "invalid number of a check",
            check((1 << 31) - 1, 1),
        ),
        (
            "check, an alias of 33 bits",
            "invalid number of a check",
            check(1 << 32, 1),
        ),
        (
            "check, flags 0",
            "invalid flags of a check",
            check(1 << 31, 0),
        ),
        (
            "check, flags 3",
            "invalid flags of a check",
            check(1 << 31, 3),
        ),
        ("checked, flags 8", "invalid flags of an answer", checked),
        (
            "checked, 513 days",
            "invalid number of days",
            of_days(&varint(513)),
        ),
        (
            "checked, a day of 33 bits",
            "invalid number of a day",
            of_days(&[&[1][..], &varint(1 << 33), &[0; 8]].concat()),
        ),
        (
            "checked, a day twice with the same sum",
            "invalid sum of a day",
            of_days(&[&[2, 4][..], &[7; 8], &[4], &[7; 8]].concat()),
        ),
        (
            "checked, a day of which nothing is kept and that is said",
            "invalid sum of a day",
            of_days(&[&[1, 5][..], &[7; 8], &[0; 8]].concat()),
        ),
        ("floor, lane 4", "invalid lane", vec![0x16, 4, 0]),
        ("gossip of nothing", "invalid gossip", vec![0x13, 0]),
        (
            "gossip of 16,385 bytes",
            "gossip over the limit",
            vec![0x13, 0x81, 0x80, 1],
        ),
        ("move, lane 4", "invalid lane", vec![0x1e, 4, 0]),
        (
            "move, flags 2",
            "invalid flags of a move",
            vec![0x1e, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2],
        ),
        ("feed, flags 2", "invalid flags of a feed", vec![0x21, 2]),
        (
            "pull of nothing",
            "invalid number of places",
            vec![0x22, 1, 0],
        ),
        (
            "pull, a place twice",
            "invalid place",
            vec![0x22, 1, 2, 3, 3],
        ),
        (
            "pull, place 512",
            "invalid place",
            [&[0x22, 1, 1][..], &varint(512)].concat(),
        ),
        (
            "pull, 513 places",
            "places over the limit",
            [&[0x22, 1][..], &varint(513), &[0; 600]].concat(),
        ),
        (
            "answer, flags 2",
            "invalid flags of an answer",
            vec![0x17, 1, 2, 0],
        ),
        ("answer, 513 documents", "answers over the limit", answers),
        (
            "answer, a code behind the last",
            "invalid answers",
            vec![0x17, 1, 0, 1, 0b0101],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "one entry for each refusal")]
fn batches() -> Vec<Named> {
    // A document of collection `a`, and one of the collection with the number 0, both with no state.
    let named = |tag: u8| [&[tag, 1, b'a'][..], &sized(b"\x40a\0\0"), &[0]].concat();
    let numbered = |tag: u8| [&[tag, 0][..], &sized(b"\x40b\0\0"), &[0]].concat();
    let cursor = [0x80, 1, 5];
    let state = [&[6, 1, b'a'][..], &sized(b"\x40a\0\0")].concat();
    let state = [
        state,
        sized(&vec![0; limits::DOCUMENT_MERGED_BYTES_MAX + 1]),
    ]
    .concat();
    let document = "invalid document record";
    let cursors = "invalid cursor record";
    let number = "invalid collection number";
    vec![
        ("a document with bit 4", document, named(0x16)),
        ("a document with bit 6", document, named(0x46)),
        (
            "a document behind a cursor",
            document,
            [&cursor[..], &named(6)].concat(),
        ),
        ("a number before any name", number, numbered(2)),
        ("a number that is not given", number, {
            [&named(6)[..], &[2, 1], &sized(b"\x40b\0\0"), &[0]].concat()
        }),
        (
            "a name that has a number",
            "invalid collection that has a number",
            named(6).repeat(2),
        ),
        (
            "an end inside a group",
            "invalid end inside a group",
            [named(6), numbered(0)].concat(),
        ),
        (
            "a document that is cut off",
            "truncated",
            named(6)[..7].to_vec(),
        ),
        (
            "a state of 20,971,521 bytes",
            "document state over the limit",
            state,
        ),
        ("a cursor with bit 1", cursors, vec![0x82, 1, 5]),
        ("a cursor with bit 3", cursors, vec![0x88, 1, 5]),
        ("an answer with bit 1", cursors, vec![0xa2]),
        (
            "an answer behind announcements",
            "invalid order of records",
            [&[0xc0, 1][..], &[7; 8], &[0xa0]].concat(),
        ),
        (
            "an answer inside a group",
            "invalid order of records",
            [&named(4)[..], &[0xa0]].concat(),
        ),
        (
            "no announcements",
            "invalid number of announcements",
            vec![0xc0, 0],
        ),
        (
            "513 announcements",
            "announcements over the limit",
            [&[0xc0][..], &varint(513), &[7; 8 * 513]].concat(),
        ),
        (
            "a cursor inside a group",
            cursors,
            [&named(4)[..], &cursor].concat(),
        ),
        ("257 cursors", cursors, cursor.repeat(257)),
        (
            "a cursor of an alias of 33 bits",
            "invalid subscription number",
            { [&[0x80][..], &OVER_32_BITS, &[5]].concat() },
        ),
    ]
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/wire/reject.txt")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may be asked to write")]
fn what_must_be_refused_is_refused_for_its_reason() {
    let mut file = fs::read_to_string(path()).unwrap_or_else(|_| HEAD.to_owned());
    let missing: Vec<String> = rejects()
        .iter()
        .map(Reject::line)
        .filter(|line| !file.contains(line))
        .collect();
    if !missing.is_empty() && std::env::var("IDEM_VECTORS").is_ok_and(|it| it == "write") {
        file.push_str(&missing.concat());
        fs::write(path(), &file).expect("the vectors are writable");
    }
    let mut names = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let reject = Reject::parse(line);
        let refused = refusal(reject.is_batch, &reject.bytes);
        if refused.as_ref() != Some(&reject.why) {
            wrong.push(format!("{}: {}, but {refused:?}", reject.name, reject.why));
        }
        let before = names.insert(reject.name.clone(), reject.bytes);
        assert_eq!(before, None, "{} is there once", reject.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for reject in rejects() {
        let held = names.get(&reject.name);
        assert_eq!(held, Some(&reject.bytes), "{} is in the file", reject.name);
    }
}

/// Text of the decoder that is no reason here, as it is for a broken rule of this side.
const NO_REASONS: [&str; 8] = [
    // Only where a varint has more bits than an index.
    "place of an actor",
    "at most the limit, which is small",
    "a document was added",
    "documents come before cursors",
    "a group holds at least one document",
    "who holds nothing has nothing to ask",
    "a block holds symbols of a sketch, without the summary",
    "below the limit",
];

#[test]
fn every_reason_to_refuse_has_a_vector() {
    let whys: Vec<String> = rejects().into_iter().map(|reject| reject.why).collect();
    let sources = [
        include_str!("../../../src/batch.rs"),
        include_str!("../../../src/check.rs"),
        include_str!("../../../src/compared.rs"),
        include_str!("../../../src/decode.rs"),
        include_str!("../../../src/sketch.rs"),
    ];
    let code = sources.iter().flat_map(|source| source.lines());
    let code = code.filter(|line| !line.trim_start().starts_with("//"));
    let texts = code.flat_map(|line| line.split('"').skip(1).step_by(2));
    // The names of messages are in capitals.
    let texts = texts.filter(|text| text.contains(|it: char| it.is_ascii_lowercase()));
    let mut found = 0;
    for text in texts.filter(|text| !NO_REASONS.contains(text)) {
        let reasons = [format!("invalid {text}"), format!("{text} over the limit")];
        let has_vector = whys.iter().any(|why| reasons.contains(why));
        assert!(has_vector, "{text} is refused by no vector");
        found += 1;
    }
    assert!(found > 30, "{found} reasons were found");
}

//! Every frame as version 1 wrote it, and frames that no reader may take. A released file is never
//! changed. To add one, run the test with `IDEM_VECTORS=write`.

use std::{fs, path::PathBuf};

use idem_mesh::{
    Gossip, Interest, PeerHash, PeerKind, PresenceRecord, RecordLink, SignedRecord, SubscriptionId,
    Way,
};
use idem_model::{DatabaseId, PeerId, codec::Reader};

use crate::key::Key;

fn database() -> DatabaseId {
    DatabaseId(std::array::from_fn(|at| {
        u8::try_from(at).expect("below 16")
    }))
}

fn hash(byte: u8) -> PeerHash {
    PeerHash::from_bytes([byte; 8])
}

fn key() -> Key {
    Key::from_secret([0x42; 32])
}

fn peer() -> PeerId {
    key().peer()
}

fn full_record() -> PresenceRecord {
    PresenceRecord {
        seq: 1_790_000_000_000 << 16 | 3,
        lifetime_s: 1200,
        kind: PeerKind::BigPeer,
        name: "Gate 7".to_owned(),
        os: "Linux".to_owned(),
        links: vec![
            RecordLink {
                peer: hash(0x11),
                medium: 1,
            },
            RecordLink {
                peer: hash(0x11),
                medium: 2,
            },
            RecordLink {
                peer: hash(0x80),
                medium: 3,
            },
        ],
        interests: vec![[1, 2, 3, 4], [0xf0; 4]],
        metadata: br#"{"seat":"12A"}"#.to_vec(),
    }
}

fn signed(record: &PresenceRecord) -> SignedRecord {
    SignedRecord::new(database(), peer(), record, &key())
}

fn interest() -> Gossip {
    let interest = |hops, is_carried, statement: &str| Interest {
        hops,
        up: 0,
        is_carried,
        statement: statement.to_owned(),
    };
    Gossip::Interest {
        is_first: false,
        entries: vec![
            interest(2, false, "SELECT * FROM cars AS d"),
            interest(1, true, "SELECT * FROM flights AS d WHERE (d.gate = 7)"),
            interest(0, true, "SELECT * FROM seats AS d"),
        ],
    }
}

fn interest_up() -> Gossip {
    let interest = |up: u8, is_carried: bool| Interest {
        hops: u8::from(!is_carried),
        up,
        is_carried,
        statement: format!("SELECT * FROM c{up} AS d"),
    };
    Gossip::Interest {
        is_first: false,
        entries: vec![interest(15, false), interest(14, true), interest(1, true)],
    }
}

fn gateways() -> Gossip {
    let way = |byte, distance, is_by_receiver, carried| Way {
        gateway: hash(byte),
        distance,
        is_by_receiver,
        carried,
    };
    Gossip::Gateways(vec![
        way(1, 0, false, 0),
        way(2, 15, true, 0x0102_0304_0506_0708),
        way(0xfe, 16, false, u64::MAX),
    ])
}

fn demand() -> Gossip {
    let statements = ["SELECT * FROM cars AS d", "SELECT * FROM seats AS d"];
    Gossip::Demand {
        gateway: hash(2),
        statements: statements.map(str::to_owned).to_vec(),
    }
}

fn frames() -> Vec<(&'static str, Gossip)> {
    let mut sums = Box::new([0; 64]);
    sums[0] = 1;
    sums[63] = 0x0102_0304_0506_0708;
    let least = PresenceRecord {
        seq: 1,
        lifetime_s: 90,
        ..PresenceRecord::default()
    };
    vec![
        ("interest_up", interest_up()),
        ("gateways", gateways()),
        ("gateways_none", Gossip::Gateways(Vec::new())),
        ("demand", demand()),
        ("summary", Gossip::Summary(sums)),
        ("summary_nothing", Gossip::Summary(Box::new([0; 64]))),
        (
            "have",
            Gossip::Have(vec![(hash(1), 7), (hash(0xfe), u64::MAX)]),
        ),
        ("want", Gossip::Want(vec![hash(1), hash(0xfe)])),
        ("interest", interest()),
        ("interest_nothing", {
            let (is_first, entries) = (true, Vec::new());
            Gossip::Interest { is_first, entries }
        }),
        (
            "no_interest",
            Gossip::NoInterest(vec![SubscriptionId([1; 32]), SubscriptionId([0xfe; 32])]),
        ),
        (
            "records",
            Gossip::Records(vec![(0, signed(&least)), (300, signed(&full_record()))]),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test may be asked to write")]
fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors/presence")
        .join(name);
    if std::env::var("IDEM_VECTORS").is_ok_and(|it| it == "write") && !path.exists() {
        fs::write(&path, text).expect("the vectors are writable");
    }
    let golden = fs::read_to_string(&path).expect("the vector is checked in");
    assert_eq!(text, golden, "{name} is written as it was");
}

#[test]
fn frames_are_written_and_read_as_they_were() {
    for (name, gossip) in frames() {
        let bytes = gossip.to_bytes();
        check(&format!("{name}.hex"), &format!("{}\n", hex(&bytes)));
        assert_eq!(Gossip::decode(&bytes), Ok(gossip), "{name}");
    }
}

#[test]
fn a_record_says_what_it_said_and_its_signature_holds() {
    let record = signed(&full_record());
    assert!(record.holds(database(), &key()));
    assert!(!record.holds(DatabaseId([9; 16]), &key()));
    assert_eq!(record.read(), Ok(full_record()));
}

#[test]
fn names_are_hashed_as_they_were() {
    let hash = PeerHash::of(database(), peer());
    let (database, peer) = (hex(&database().0), hex(&peer().0));
    check(
        "hashes.txt",
        &format!("peer hash | database {database} peer {peer} | {hash}\n"),
    );
}

/// What is wrong, and a frame with that fault.
#[expect(clippy::too_many_lines, reason = "one entry for each fault")]
fn rejected() -> Vec<(&'static str, Vec<u8>)> {
    let record = |change: &dyn Fn(&mut PresenceRecord)| {
        let mut record = full_record();
        change(&mut record);
        let mut body = Vec::new();
        signed(&record).encode(&mut body);
        [&[4, 1, 0], &body[..]].concat()
    };
    let [.., (_, records)] = &frames()[..] else {
        panic!("some frames");
    };
    let records = records.to_bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = records.clone();
        bytes[at] = byte;
        bytes
    };
    vec![
        ("nothing", vec![]),
        ("unknown number", vec![0]),
        ("unknown number", vec![0x7f]),
        ("short map", vec![1, 0, 0, 0]),
        ("sum is missing", vec![1, 0, 0, 0, 0, 0, 0, 0, 1]),
        (
            "sum of zero",
            [&[1, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 8]].concat(),
        ),
        (
            "byte behind the summary",
            vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("no entries", vec![2, 0]),
        (
            "fewer entries than counted",
            [&[2, 2][..], &[1; 16]].concat(),
        ),
        ("an entry twice", [&[2, 2][..], &[1; 32]].concat()),
        ("entries fall", [&[2, 2][..], &[2; 16], &[1; 16]].concat()),
        ("byte behind the entries", [&[2, 1][..], &[1; 17]].concat()),
        ("no questions", vec![3, 0]),
        ("a question twice", [&[3, 2][..], &[1; 16]].concat()),
        (
            "1,001 questions",
            [&[3, 0xe9, 0x07][..], &[0; 8008]].concat(),
        ),
        ("no records", vec![4, 0]),
        (
            "an age of 65,536",
            [&[4, 1, 0x80, 0x80, 4][..], &records[3..]].concat(),
        ),
        ("a long varint", [&[4, 0x82, 0][..], &records[2..]].concat()),
        (
            "a body that is too long",
            [&[4, 1, 0][..], &[1; 96], &[0x81, 0x40], &[1; 8193]].concat(),
        ),
        ("a record version of 2", with(3 + 96 + 1, 2)),
        ("a lifetime of 0", record(&|it| it.lifetime_s = 0)),
        ("a lifetime of 7,201", record(&|it| it.lifetime_s = 7201)),
        ("a name of 25 bytes", record(&|it| it.name = "n".repeat(25))),
        (
            "an operating system of 25 bytes",
            record(&|it| it.os = "n".repeat(25)),
        ),
        ("links fall", record(&|it| it.links.reverse())),
        ("a link twice", record(&|it| it.links[1] = it.links[0])),
        (
            "257 links",
            record(&|it| {
                let link = |number: u64| RecordLink {
                    peer: PeerHash::from_bytes(number.to_be_bytes()),
                    medium: 1,
                };
                it.links = (0..257).map(link).collect();
            }),
        ),
        ("interests fall", record(&|it| it.interests.reverse())),
        (
            "9 interests",
            record(&|it| it.interests = (0..9).map(|byte| [byte; 4]).collect()),
        ),
        (
            "metadata of 4,097 bytes",
            record(&|it| it.metadata = vec![0; 4097]),
        ),
        ("an unknown flag of interests", vec![5, 2, 1, 2, 1, b'x']),
        ("no interests, and nothing is void", vec![5, 0, 0]),
        ("an interest of no hops", vec![5, 0, 1, 0, 1, b'x']),
        ("an interest of 3 hops", vec![5, 0, 1, 6, 1, b'x']),
        ("a carried one of 2 hops", vec![5, 0, 1, 5, 1, b'x']),
        ("an interest without text", vec![5, 0, 1, 2, 0]),
        ("an interest that is not UTF-8", vec![5, 0, 1, 2, 1, 0xff]),
        (
            "an interest of 4,097 bytes",
            [&[5, 0, 1, 2, 0x81, 0x20][..], &[b'x'; 4097]].concat(),
        ),
        (
            "129 interests",
            [&[5, 0, 0x81, 1][..], &[2, 1, b'x'].repeat(129)].concat(),
        ),
        ("byte behind the interests", vec![5, 1, 0, 0]),
        ("nothing given back", vec![6, 0]),
        ("one given back twice", [&[6, 2][..], &[1; 64]].concat()),
    ]
}

/// The same of gateways.
fn rejected_of_gateways() -> Vec<(&'static str, Vec<u8>)> {
    let way = |byte: u8, terms: u8| [&[byte; 8][..], &[terms], &[0; 8]].concat();
    vec![
        (
            "a carried interest of 15 hops up",
            vec![5, 0, 1, 0x79, 1, b'x'],
        ),
        ("an interest of 16 hops up", vec![5, 0, 1, 0x82, 1, b'x']),
        ("a distance of 17", [&[7, 1][..], &way(1, 34)].concat()),
        (
            "gateways fall",
            [&[7, 2][..], &way(2, 0), &way(1, 0)].concat(),
        ),
        (
            "a gateway twice",
            [&[7, 2][..], &way(1, 0), &way(1, 2)].concat(),
        ),
        (
            "5 gateways",
            [&[7, 5][..], &[1, 2, 3, 4, 5].map(|it| way(it, 0)).concat()].concat(),
        ),
        ("byte behind the gateways", vec![7, 0, 0]),
        (
            "a statement without text",
            [&[8][..], &[1; 8], &[1, 0]].concat(),
        ),
        (
            "statements fall",
            [&[8][..], &[1; 8], b"\x02\x01y\x01x"].concat(),
        ),
        (
            "a statement twice",
            [&[8][..], &[1; 8], b"\x02\x01x\x01x"].concat(),
        ),
        (
            "65 statements",
            [&[8][..], &[1; 8], &[65], &[1, b'x'].repeat(65)].concat(),
        ),
        (
            "statements of 12,289 bytes",
            [
                &[8][..],
                &[1; 8],
                &[4],
                &[&[0x80, 0x20][..], &[b'w'; 4096]].concat(),
                &[&[0x80, 0x20][..], &[b'x'; 4096]].concat(),
                &[&[0x80, 0x20][..], &[b'y'; 4096]].concat(),
                &[1, b'z'],
            ]
            .concat(),
        ),
    ]
}

#[test]
fn what_breaks_a_rule_is_refused() {
    check_rejected("reject.txt", rejected());
    check_rejected("reject_gateways.txt", rejected_of_gateways());
}

fn check_rejected(name: &str, rejected: Vec<(&'static str, Vec<u8>)>) {
    let mut text = String::new();
    for (reason, frame) in rejected {
        // A record is read when it is taken, so that a table never holds a broken one.
        let is_refused = match Gossip::decode(&frame) {
            Err(_) => true,
            Ok(Gossip::Records(records)) => records.iter().any(|(_, it)| it.read().is_err()),
            Ok(_) => false,
        };
        assert!(is_refused, "{reason}");
        text += &format!("{reason} | {}\n", hex(&frame));
    }
    check(name, &text);
}

#[test]
fn a_record_of_a_later_version_is_read_and_passed_on() {
    let mut bytes = Vec::new();
    signed(&full_record()).encode(&mut bytes);
    let length = 97;
    bytes[length - 1] += 3;
    bytes.extend([1, 2, 3]);
    let record = SignedRecord::decode(&mut Reader::new(&bytes)).expect("a record");
    assert_eq!(record.read(), Ok(full_record()));
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!(again, bytes);
    assert_eq!(record.encoded_len(), bytes.len());
}

//! Everything that is signed, as version 1 wrote it, and what no reader may take. A released file is never
//! changed. To add one, run the test with `IDEM_VECTORS=write`.

use std::{fs, path::PathBuf};

use idem_auth::{
    Access, Authority, AuthorityChange, Blinding, Certificate, CommitOperation, CommitStatement,
    CommitTree, Equivocation, Grants, InclusionProof, ListName, OperationKind, Revocation,
    RevocationList, RevokedId, SignedCertificate, SignedCommit, TimeBeacon, TrustFrame, ValueHash,
};
use idem_model::{ActorId, DecodeError, Dot, FieldPath, Timestamp, Value};

use crate::parties::{
    DAY, ISSUED, Key, authorities, certificate, collection, database, holder, issuer, object, trust,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test may be asked to write")]
fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors/auth")
        .join(name);
    if std::env::var("IDEM_VECTORS").is_ok_and(|it| it == "write") && !path.exists() {
        fs::write(&path, text).expect("the vectors are writable");
    }
    let golden = fs::read_to_string(&path).expect("the vector is checked in");
    assert_eq!(text, golden, "{name} is written as it was");
}

fn check_bytes(name: &str, bytes: &[u8]) {
    check(&format!("{name}.hex"), &format!("{}\n", hex(bytes)));
}

fn operations() -> Vec<CommitOperation> {
    let operation = |kind, path: Option<&str>, value| CommitOperation {
        collection: collection("cars"),
        id: "a1".into(),
        path: path.map(FieldPath::field),
        kind,
        value,
    };
    vec![
        operation(
            OperationKind::Insert,
            None,
            ValueHash::of(&Value::Object(object(r#"{"color": "blue"}"#))),
        ),
        operation(
            OperationKind::Set,
            Some("color"),
            ValueHash::of(&Value::from("red")),
        ),
        operation(OperationKind::Unset, Some("seats"), ValueHash::NONE),
    ]
}

fn tree() -> CommitTree {
    CommitTree::new(&operations(), Blinding::new([0xb1; 32])).expect("well-formed")
}

fn commit(n: u64) -> SignedCommit {
    CommitStatement {
        author: holder().peer(),
        certificate: certificate().serial,
        dot: Dot {
            actor: ActorId([0xac; 16]),
            n,
        },
        time: Timestamp::new(ISSUED + n, 1),
        root: tree().root(),
    }
    .sign(database(), &holder())
}

fn revocations() -> RevocationList {
    let entries = [
        RevokedId::peer(database(), &Key::new(7).peer()),
        RevokedId::user(database(), "eve@example.com"),
        RevokedId::certificate(database(), &certificate().serial),
    ]
    .map(|id| Revocation {
        id,
        issued_before_ms: ISSUED,
        until_ms: ISSUED + DAY,
    });
    RevocationList::sign(database(), 300, ISSUED, &entries, &issuer()).expect("well-formed")
}

fn change() -> AuthorityChange {
    let mut keys = vec![
        Authority::always(Key::new(0x43).authority()),
        Authority::always(issuer().authority()),
    ];
    keys[1].until_ms = ISSUED + DAY;
    AuthorityChange::sign(&authorities(), keys, ISSUED, &issuer()).expect("well-formed")
}

fn equivocation() -> Equivocation {
    let other = CommitStatement {
        time: Timestamp::new(ISSUED, 2),
        ..*commit(7).statement()
    };
    Equivocation::of(&commit(7), &other.sign(database(), &holder())).expect("well-formed")
}

#[test]
fn certificates_are_written_and_read_as_they_were() {
    let least = Certificate {
        claims: object("{}"),
        grants: Grants::default(),
        ..certificate()
    };
    let everything = Certificate {
        grants: Grants::everything(),
        ..certificate()
    };
    let all = [
        ("certificate", certificate()),
        ("certificate_least", least),
        ("certificate_everything", everything),
    ];
    for (name, certificate) in all {
        let bytes = certificate.clone().sign(&issuer()).unwrap().to_bytes();
        check_bytes(name, &bytes);
        let signed = SignedCertificate::decode(&bytes).unwrap();
        assert_eq!(*signed.certificate(), certificate, "{name}");
        assert!(
            trust().judge(&signed, &holder().peer(), ISSUED).holds(),
            "{name}"
        );
    }
}

#[test]
fn what_authorities_sign_is_written_and_read_as_it_was() {
    let bytes = revocations().to_bytes();
    check_bytes("revocations", &bytes);
    assert_eq!(RevocationList::decode(&bytes), Ok(revocations()));
    assert_eq!(trust().handle_revocations(revocations()), Ok(true));
    let bytes = change().to_bytes();
    check_bytes("authority_change", &bytes);
    assert_eq!(AuthorityChange::decode(&bytes), Ok(change()));
    assert!(authorities().accept(change()).is_ok());
    let beacon = TimeBeacon::sign(database(), ISSUED, &issuer());
    check_bytes("time_beacon", &beacon.to_bytes());
    assert_eq!(TimeBeacon::decode(&beacon.to_bytes()).as_ref(), Ok(&beacon));
    assert_eq!(trust().handle_beacon(&beacon), Ok(true));
}

#[test]
fn frames_are_written_and_read_as_they_were() {
    let (issuer, list) = (issuer().authority(), revocations().to_bytes());
    let frames = [
        TrustFrame::Summary {
            is_answer: true,
            last_number: 300,
            head: [7; 32],
            lists: vec![ListName {
                issuer,
                epoch: 4,
                hash: revocations().hash(),
            }],
            times: vec![(issuer, ISSUED)],
        },
        TrustFrame::Change(change().to_bytes()),
        TrustFrame::Revocations {
            issuer,
            epoch: revocations().epoch(),
            bytes_total: list.len(),
            offset: 3,
            part: list[3..40].to_vec(),
        },
        TrustFrame::WantRevocations {
            issuer,
            epoch: 4,
            offset: 15_360,
        },
        TrustFrame::Time(vec![5; 9]),
        TrustFrame::Certificate(vec![6; 9]),
    ];
    let lines = frames.iter().map(|frame| {
        let bytes = frame.to_bytes();
        assert_eq!(TrustFrame::decode(&bytes).as_ref(), Ok(frame));
        format!("{}\n", hex(&bytes))
    });
    check("frames.txt", &lines.collect::<String>());
}

#[test]
fn commits_are_written_and_read_as_they_were() {
    let bytes = commit(7).to_bytes();
    check_bytes("commit", &bytes);
    assert_eq!(SignedCommit::decode(&bytes), Ok(commit(7)));
    assert!(commit(7).holds(database()));
    let proof = tree().proof(1).unwrap();
    check_bytes("commit_proof", &proof.to_bytes());
    assert_eq!(
        InclusionProof::decode(&proof.to_bytes()).as_ref(),
        Ok(&proof)
    );
    assert!(proof.holds(&operations()[1], &commit(7).statement().root));
    let bytes = equivocation().to_bytes();
    check_bytes("equivocation", &bytes);
    assert_eq!(Equivocation::decode(&bytes), Ok(equivocation()));
    assert!(equivocation().holds(database()));
    let mut lines = String::new();
    for operation in operations() {
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        lines += &format!("operation | {}\n", hex(&bytes));
    }
    lines += &format!("root | {}\n", hex(&tree().root().0));
    check("commit_tree.txt", &lines);
}

#[test]
fn names_are_hashed_as_they_were() {
    let authorities = format!("first authorities | {}\n", hex(&authorities().head()));
    let change = format!("change of authorities | {}\n", hex(&change().hash()));
    check("hashes.txt", &(authorities + &change));
}

/// Cuts the signature off, changes the body and puts it back on.
fn with_body(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (body, signature) = bytes.split_last_chunk::<64>().expect("well-formed");
    let mut body = body.to_vec();
    change(&mut body);
    body.extend(signature);
    body
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|it| it == from)
        .expect("well-formed");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[expect(clippy::too_many_lines, reason = "one entry for each fault")]
fn rejected_certificates() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = certificate()
        .sign(&issuer())
        .expect("well-formed")
        .to_bytes();
    let two = Certificate {
        grants: Grants {
            read: Access::of(&[("a", &["x = 1", "y = 2"]), ("b", &["true"])]),
            ..Grants::default()
        },
        claims: object(r#"{"k": 1, "l": 2}"#),
        ..certificate()
    };
    let two = two.sign(&issuer()).expect("well-formed").to_bytes();
    vec![
        ("nothing", vec![]),
        ("a signature alone", vec![0; 64]),
        ("version 2", with_body(&bytes, |it| it[0] = 2)),
        ("a byte behind", with_body(&bytes, |it| it.push(0))),
        (
            "a byte less",
            with_body(&bytes, |it| it.truncate(it.len() - 1)),
        ),
        (
            "a user with a line break",
            replaced(&bytes, b"ada@", b"ad\n@"),
        ),
        (
            "a user that is not UTF-8",
            replaced(&bytes, b"ada@", b"ad\xff@"),
        ),
        (
            "predicates fall",
            replaced(&two, b"\x05x = 1\x05y = 2", b"\x05y = 2\x05x = 1"),
        ),
        (
            "a predicate twice",
            replaced(&two, b"\x05x = 1\x05y = 2", b"\x05x = 1\x05x = 1"),
        ),
        (
            "collections fall",
            replaced(&two, b"\x01a\x02", b"\x01c\x02"),
        ),
        (
            "a collection twice",
            replaced(&two, b"\x01a\x02", b"\x01b\x02"),
        ),
        (
            "a collection of the system",
            replaced(&bytes, b"\x05notes", b"\x05__tes"),
        ),
        (
            "a collection with a backtick",
            replaced(&bytes, b"\x05notes", b"\x05no`es"),
        ),
        (
            "a collection without predicates",
            replaced(&bytes, b"\x06places\x01\x04true", b"\x06places\x00"),
        ),
        ("claims fall", replaced(&two, b"\x01k", b"\x01m")),
        (
            "an unknown flag",
            replaced(
                &bytes,
                b"\x01\x02\x03\x07flights",
                b"\x05\x02\x03\x07flights",
            ),
        ),
        (
            "an unknown access",
            replaced(
                &bytes,
                b"\x01\x02\x03\x07flights",
                b"\x01\x03\x03\x07flights",
            ),
        ),
        (
            "a long varint",
            replaced(&bytes, b"\x0fada@", b"\x8f\x00ada@"),
        ),
    ]
}

/// What is wrong, bytes with that fault, and what reads them.
type Rejected = (&'static str, Vec<u8>, fn(&[u8]) -> Option<DecodeError>);

#[expect(clippy::too_many_lines, reason = "one entry for each fault")]
fn rejected_others() -> Vec<Rejected> {
    fn list(bytes: &[u8]) -> Option<DecodeError> {
        RevocationList::decode(bytes).err()
    }
    fn authorities(bytes: &[u8]) -> Option<DecodeError> {
        AuthorityChange::decode(bytes).err()
    }
    fn time(bytes: &[u8]) -> Option<DecodeError> {
        TimeBeacon::decode(bytes).err()
    }
    fn commit_of(bytes: &[u8]) -> Option<DecodeError> {
        SignedCommit::decode(bytes).err()
    }
    fn proof_of(bytes: &[u8]) -> Option<DecodeError> {
        InclusionProof::decode(bytes).err()
    }
    fn evidence(bytes: &[u8]) -> Option<DecodeError> {
        Equivocation::decode(bytes).err()
    }
    let lines = revocations().to_bytes();
    // Version, database, issuer, epoch 300, time, count.
    let first = 1 + 16 + 32 + 2 + 6 + 1;
    let beacon = TimeBeacon::sign(database(), ISSUED, &issuer()).to_bytes();
    let key = issuer().authority().0;
    let change = change().to_bytes();
    let proof = tree().proof(1).expect("well-formed").to_bytes();
    vec![
        (
            "revocations fall",
            with_body(&lines, |it| it[first] = 0xff),
            list,
        ),
        (
            "a revocation less",
            with_body(&lines, |it| it.truncate(first)),
            list,
        ),
        (
            "a time over 48 bits",
            with_body(&beacon, |it| {
                it.truncate(49);
                it.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]);
            }),
            time,
        ),
        (
            "a byte behind the time",
            with_body(&beacon, |it| it.push(0)),
            time,
        ),
        (
            "a key twice",
            with_body(&change, |it| {
                let at = it.len() - 40 - 39;
                assert_eq!(it[at..at + 32], Key::new(0x43).authority().0);
                it[at..at + 32].copy_from_slice(&key);
            }),
            authorities,
        ),
        (
            "commit number 0",
            replaced(&commit(7).to_bytes(), &[0xac, 7], &[0xac, 0]),
            commit_of,
        ),
        (
            "commit version 2",
            [&[2], &commit(7).to_bytes()[1..]].concat(),
            commit_of,
        ),
        (
            "a proof beyond the last",
            replaced(&proof, &[1, 3], &[3, 3]),
            proof_of,
        ),
        (
            "a proof of nothing",
            replaced(&proof, &[1, 3], &[0, 0]),
            proof_of,
        ),
        (
            "a proof without its last hash",
            proof[..proof.len() - 32].to_vec(),
            proof_of,
        ),
        (
            "one commit as evidence",
            [commit(7).to_bytes(), commit(7).to_bytes()].concat(),
            evidence,
        ),
        (
            "two commits that agree",
            [commit(7).to_bytes(), commit(8).to_bytes()].concat(),
            evidence,
        ),
    ]
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let mut text = String::new();
    for (reason, bytes) in rejected_certificates() {
        assert!(SignedCertificate::decode(&bytes).is_err(), "{reason}");
        text += &format!("certificate, {reason} | {}\n", hex(&bytes));
    }
    for (reason, bytes, decode) in rejected_others() {
        assert!(decode(&bytes).is_some(), "{reason}");
        text += &format!("{reason} | {}\n", hex(&bytes));
    }
    check("reject.txt", &text);
}

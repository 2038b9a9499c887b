//! What signed commits cost on one core: `cargo bench -p idem-auth --bench commit`. Commits a second, the best
//! of 40 rounds of processor time, so that what else the machine does counts little.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

mod cpu;

use std::hint::black_box;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use idem_auth::{
    Blinding, CertificateSerial, CommitOperation, CommitRoot, CommitStatement, CommitTree,
    OperationKind, SignedCommit, Signer, ValueHash, failing,
};
use idem_model::{ActorId, CollectionName, DatabaseId, Dot, FieldPath, PeerId, Timestamp, Value};

const ROUNDS: usize = 40;
const DATABASE: DatabaseId = DatabaseId([1; 16]);

struct Key(SigningKey);

impl Signer for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

fn main() {
    let keys: Vec<Key> = (0..=255)
        .map(|byte| Key(SigningKey::from_bytes(&[byte; 32])))
        .collect();
    let commits = |count: usize, authors: usize| -> Vec<SignedCommit> {
        (0..count)
            .map(|at| sign(&keys[at % authors], at as u64 + 1))
            .collect()
    };
    let all = commits(256, 256);
    report("signed, each", all.len(), || {
        for n in 0..256 {
            black_box(sign(&keys[0], n + 1));
        }
    });
    report("verified one by one", all.len(), || {
        assert!(all.iter().all(|commit| commit.holds(DATABASE)));
    });
    for (batch, authors) in [
        (16, 16),
        (64, 64),
        (256, 256),
        (1024, 256),
        (256, 8),
        (1024, 1),
    ] {
        let all = commits(1024, authors);
        report(
            &format!("verified by {batch}, of {authors} authors"),
            all.len(),
            || {
                let bad: usize = all
                    .chunks(batch)
                    .map(|it| failing(DATABASE, it).len())
                    .sum();
                assert_eq!(bad, 0);
            },
        );
    }
    let mut one_bad = commits(1024, 256);
    one_bad[700] = broken(&one_bad[700]);
    report("verified by 256, one of 1,024 is bad", 1024, || {
        let bad: usize = one_bad
            .chunks(256)
            .map(|it| failing(DATABASE, it).len())
            .sum();
        assert_eq!(bad, 1);
    });
    let all_bad: Vec<_> = commits(1024, 256).iter().map(broken).collect();
    report("verified by 256, all of them bad", 1024, || {
        let bad: usize = all_bad
            .chunks(256)
            .map(|it| failing(DATABASE, it).len())
            .sum();
        assert_eq!(bad, 1024);
    });
    of_the_library(&keys);
    trees();
}

fn sign(key: &Key, n: u64) -> SignedCommit {
    let statement = CommitStatement {
        author: PeerId(key.public_key()),
        certificate: CertificateSerial([7; 16]),
        dot: Dot {
            actor: ActorId([9; 16]),
            n,
        },
        time: Timestamp::new(1_790_000_000_000 + n, 0),
        root: CommitRoot([n as u8; 32]),
    };
    statement.sign(DATABASE, key)
}

fn broken(commit: &SignedCommit) -> SignedCommit {
    let mut bytes = commit.to_bytes();
    let root_at = bytes.len() - 70;
    bytes[root_at] ^= 1;
    SignedCommit::decode(&bytes).expect("well-formed")
}

/// What the same takes there, whose answers depend on the batch.
fn of_the_library(keys: &[Key]) {
    let messages: Vec<Vec<u8>> = (0..256u32).map(|n| vec![n as u8; 160]).collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let signatures: Vec<Signature> = messages
        .iter()
        .zip(keys)
        .map(|(message, key)| key.0.sign(message))
        .collect();
    let verifying: Vec<VerifyingKey> = keys.iter().map(|key| key.0.verifying_key()).collect();
    report(
        "ed25519-dalek: verify_strict, keys read before",
        256,
        || {
            for at in 0..256 {
                assert!(
                    verifying[at]
                        .verify_strict(messages[at], &signatures[at])
                        .is_ok()
                );
            }
        },
    );
    report(
        "ed25519-dalek: verify_batch by 256, keys read before",
        256,
        || {
            assert!(ed25519_dalek::verify_batch(&messages, &signatures, &verifying).is_ok());
        },
    );
}

fn trees() {
    let collection = CollectionName::new("seats").expect("a name");
    let operations: Vec<CommitOperation> = (0..1000)
        .map(|number| CommitOperation {
            collection: collection.clone(),
            id: format!("seat {number:031}").as_str().into(),
            path: Some(FieldPath::field("taken")),
            kind: OperationKind::Set,
            value: ValueHash::of(&Value::from(number)),
        })
        .collect();
    let tree = |operations| CommitTree::new(operations, Blinding::new([3; 32])).expect("a tree");
    report("tree over one operation", 1, || {
        black_box(tree(&operations[..1]).root());
    });
    report("tree over 1,000 operations, each", 1000, || {
        black_box(tree(&operations).root());
    });
    let whole = tree(&operations);
    let (proof, root) = (whole.proof(500).expect("it is there"), whole.root());
    report("proof out of 1,000 checked", 1, || {
        assert!(proof.holds(black_box(&operations[500]), &root));
    });
}

fn report(name: &str, count: usize, mut run: impl FnMut()) {
    // A millisecond at least: the clock has to see it.
    let started = cpu::seconds();
    run();
    let once = (cpu::seconds() - started).max(1e-6);
    let times = (0.001 / once).ceil() as u32;
    let rounds = (0..ROUNDS).map(|_| {
        let started = cpu::seconds();
        for _ in 0..times {
            run();
        }
        (cpu::seconds() - started) / f64::from(times)
    });
    let best = rounds.fold(f64::INFINITY, f64::min) / count as f64;
    println!("{name:<54} {:>9.1} us {:>9.0} /s", best * 1e6, 1.0 / best);
}

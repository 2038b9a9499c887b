//! Trees over operations, signatures one by one and all at once, and evidence.

use idem_auth::{
    Blinding, CommitError, CommitOperation, CommitRoot, CommitStatement, CommitTree, Equivocation,
    InclusionProof, OperationKind, SignedCommit, ValueHash, failing,
};
use idem_model::{ActorId, Dot, FieldPath, Timestamp, Value, codec::Reader};
use proptest::prelude::*;

use crate::parties::{ISSUED, Key, certificate, collection, database};

fn operation(number: u32) -> CommitOperation {
    CommitOperation {
        collection: collection("seats"),
        id: format!("seat {}", number / 3).as_str().into(),
        path: (!number.is_multiple_of(3)).then(|| FieldPath::field(&format!("field {number}"))),
        kind: OperationKind::ALL[number as usize % OperationKind::ALL.len()],
        value: ValueHash::of(&Value::from(i64::from(number))),
    }
}

fn signed(byte: u8, n: u64, root: [u8; 32]) -> SignedCommit {
    let key = Key::new(byte);
    CommitStatement {
        author: key.peer(),
        certificate: certificate().serial,
        dot: Dot {
            actor: ActorId([byte; 16]),
            n,
        },
        time: Timestamp::new(ISSUED, 0),
        root: CommitRoot(root),
    }
    .sign(database(), &key)
}

#[test]
fn a_signature_costs_what_the_documentation_says() {
    let bytes = signed(1, 1, [0; 32]).to_bytes();
    assert_eq!(bytes.len(), 170);
    let operations: Vec<_> = (0..1000).map(operation).collect();
    let tree = CommitTree::new(&operations, Blinding::new([1; 32])).unwrap();
    assert_eq!(
        tree.proof(500).unwrap().to_bytes().len(),
        2 + 2 + 16 + 10 * 32
    );
    let alone = CommitTree::new(&operations[..1], Blinding::new([1; 32])).unwrap();
    assert_eq!(alone.proof(0).unwrap().to_bytes().len(), 18);
}

#[test]
fn a_commit_without_operations_is_none() {
    let empty = CommitTree::new(&[], Blinding::new([1; 32]));
    assert_eq!(empty.unwrap_err(), CommitError::Empty);
}

#[test]
fn two_commits_of_one_name_convict_their_author() {
    let (one, other) = (signed(1, 5, [1; 32]), signed(1, 5, [2; 32]));
    let evidence = Equivocation::of(&one, &other).expect("one name, two roots");
    assert_eq!(Equivocation::of(&other, &one), Some(evidence));
    assert!(evidence.holds(database()));
    assert_eq!(evidence.author(), Key::new(1).peer());
    assert_eq!(evidence.dot().n, 5);
    assert_eq!(Equivocation::decode(&evidence.to_bytes()), Ok(evidence));
    // In the other order it would be a second form of the same.
    let bytes = evidence.to_bytes();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert!(Equivocation::decode(&[second, first].concat()).is_err());
    // What is no contradiction is no evidence.
    assert_eq!(Equivocation::of(&one, &one), None);
    assert_eq!(Equivocation::of(&one, &signed(1, 6, [2; 32])), None);
    assert_eq!(Equivocation::of(&one, &signed(2, 5, [2; 32])), None);
}

#[test]
fn evidence_that_somebody_made_up_convicts_nobody() {
    let one = signed(1, 5, [1; 32]);
    let mut bytes = signed(1, 5, [2; 32]).to_bytes();
    let root_at = bytes.len() - 64 - 32;
    bytes[root_at] ^= 1;
    let forged = SignedCommit::decode(&bytes).unwrap();
    let evidence = Equivocation::of(&one, &forged).expect("it looks like evidence");
    assert!(!evidence.holds(database()));
}

#[test]
fn bad_ones_are_found_among_many() {
    let mut commits: Vec<_> = (1..=200)
        .map(|n| signed(1 + (n % 5) as u8, n, [3; 32]))
        .collect();
    assert_eq!(failing(database(), &commits), Vec::<usize>::new());
    assert_eq!(failing(database(), &[]), Vec::<usize>::new());
    for at in [0, 17, 18, 199] {
        let mut bytes = commits[at].to_bytes();
        let last = bytes.len() - 1;
        bytes[last - 40] ^= 4;
        commits[at] = SignedCommit::decode(&bytes).unwrap();
    }
    assert_eq!(failing(database(), &commits), [0, 17, 18, 199]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_operation_is_proved_and_no_other(count in 1..70u32, salt in any::<[u8; 32]>()) {
        let operations: Vec<_> = (0..count).map(operation).collect();
        let tree = CommitTree::new(&operations, Blinding::new(salt)).unwrap();
        let root = tree.root();
        for (at, own) in (0..).zip(&operations) {
            let proof = tree.proof(at).expect("it is there");
            let proof = InclusionProof::decode(&proof.to_bytes()).expect("its own bytes");
            prop_assert!(proof.holds(own, &root));
            prop_assert_eq!(proof.index(), at);
            let other = operation(at + 1);
            prop_assert!(!proof.holds(&other, &root));
        }
        prop_assert!(tree.proof(count).is_none());
        // Another order, or fewer of them, is another commit.
        let mut fewer = operations.clone();
        fewer.pop();
        if let Ok(fewer) = CommitTree::new(&fewer, Blinding::new(salt)) {
            prop_assert_ne!(fewer.root(), root);
        }
    }

    #[test]
    fn operations_and_commits_are_read_as_written(number in any::<u32>(), n in 1..u64::MAX) {
        let operation = operation(number);
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(CommitOperation::decode(&mut reader), Ok(operation));
        prop_assert!(reader.is_empty());
        let commit = signed(number as u8, n, [number as u8; 32]);
        prop_assert_eq!(SignedCommit::decode(&commit.to_bytes()), Ok(commit));
        prop_assert!(commit.holds(database()));
    }
}

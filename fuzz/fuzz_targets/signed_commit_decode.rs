//! Signed commits, evidence against their authors, operations and proofs. Behind the first byte, which says what the
//! rest is, what decodes encodes to the same bytes, and proves nothing.

use idem_auth::{
    Blinding, CertificateSerial, CommitOperation, CommitRoot, CommitStatement, CommitTree,
    Equivocation, InclusionProof, OperationKind, SignedCommit, ValueHash, failing,
};
use idem_model::{
    ActorId, CollectionName, DatabaseId, Dot, FieldPath, PeerId, Timestamp, Value, codec::Reader,
};

use super::samples::Unsigned;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "signed_commit_decode",
    run,
    seeds,
};

const DATABASE: DatabaseId = DatabaseId([7; 16]);

fn operation() -> CommitOperation {
    CommitOperation {
        collection: CollectionName::new("c").expect("a name"),
        id: "a".into(),
        path: Some(FieldPath::field("x")),
        kind: OperationKind::Set,
        value: ValueHash::of(&Value::from(1)),
    }
}

fn commit(root: u8) -> SignedCommit {
    let statement = CommitStatement {
        author: PeerId([3; 32]),
        certificate: CertificateSerial([1; 16]),
        dot: Dot {
            actor: ActorId([2; 16]),
            n: 300,
        },
        time: Timestamp::new(1000, 1),
        root: CommitRoot([root; 32]),
    };
    statement.sign(DATABASE, &Unsigned)
}

fn tree() -> CommitTree {
    let operations = [operation(), operation(), operation()];
    CommitTree::new(&operations, Blinding::new([1; 32])).expect("three operations")
}

fn seeds() -> Vec<Vec<u8>> {
    let evidence = Equivocation::of(&commit(1), &commit(2)).expect("one name, two roots");
    let proof = tree().proof(1).expect("the second of three");
    let mut bytes = vec![3];
    operation().encode(&mut bytes);
    vec![
        [&[0], &commit(1).to_bytes()[..]].concat(),
        [&[1], &evidence.to_bytes()[..]].concat(),
        [&[2], &proof.to_bytes()[..]].concat(),
        bytes,
    ]
}

fn run(data: &[u8]) -> Verdict {
    let Some((kind, data)) = data.split_first() else {
        return Verdict::Rejected;
    };
    let bytes = match kind % 4 {
        0 => SignedCommit::decode(data).map(|commit| {
            assert_eq!(failing(DATABASE, &[commit, commit]), [0, 1]);
            commit.to_bytes()
        }),
        1 => Equivocation::decode(data).map(|evidence| {
            assert!(!evidence.holds(DATABASE), "nobody signs in here");
            evidence.to_bytes()
        }),
        2 => InclusionProof::decode(data).map(|proof| {
            let holds = proof.holds(&operation(), &tree().root());
            let is_true = (0..3).any(|at| tree().proof(at).as_ref() == Some(&proof));
            assert_eq!(holds, is_true, "only what the tree proves");
            proof.to_bytes()
        }),
        _ => {
            let mut reader = Reader::new(data);
            let read = CommitOperation::decode(&mut reader);
            read.and_then(|operation| {
                reader.finish()?;
                let mut bytes = Vec::new();
                operation.encode(&mut bytes);
                Ok(bytes)
            })
        }
    };
    match bytes {
        Ok(bytes) => {
            assert_eq!(bytes, data, "one thing has one form");
            Verdict::Accepted
        }
        Err(_) => Verdict::Rejected,
    }
}

//! Commits that are signed by their authors (docs/format/auth.md, "Signed commits").

mod signature;
mod statement;
mod tree;

pub use statement::{CommitStatement, Equivocation, SignedCommit, failing};
pub use tree::{
    Blinding, CommitError, CommitOperation, CommitRoot, CommitTree, InclusionProof, OperationKind,
    ValueHash,
};

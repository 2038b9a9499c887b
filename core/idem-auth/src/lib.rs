//! Who may do what in a database, and how every peer can tell.
//!
//! An *authority* of a database signs *certificates*: this peer acts for this user, may read and write this, from then
//! until then. A peer judges a certificate with what it knows of the database ([`Trust`]), compiles the grants in it
//! once ([`Permit`]), and asks the permit about each document. Commits are signed by their authors
//! ([`SignedCommit`]), so that who relays them need not be trusted.
//!
//! ```text
//! certificate bytes -> SignedCertificate::decode -> Trust::judge -> Permit::compile -> may_read, may_write
//! ```
//!
//! What is signed begins with words that say what it is, and has one form in bytes (`docs/format/auth.md`).
//! Everything that cannot be decided is a no: a predicate that fails, a field that is missing, work beyond
//! its bound, a format of a later version.
//!
//! There is no clock, no entropy and no secret key in here: times and serial numbers are arguments, and keys stay
//! with the caller behind [`Signer`]. Nothing here talks to anybody; `idem-sync` and `idem-mesh` will.

mod authorities;
mod certificate;
mod clock;
mod commit;
mod exchange;
mod grants;
mod passing;
mod permit;
mod revocation;
mod signed;
mod trust;
mod verdict;

pub use authorities::{Authorities, AuthoritiesError, Authority, AuthorityChange, ChangeTaken};
pub use certificate::{Certificate, CertificateError, CertificateSerial, SignedCertificate};
pub use clock::{TimeBeacon, in_words};
pub use commit::{
    Blinding, CommitError, CommitOperation, CommitRoot, CommitStatement, CommitTree, Equivocation,
    InclusionProof, OperationKind, SignedCommit, ValueHash, failing,
};
pub use exchange::{Heard, Misbehaviour, TrustExchange, TrustItem, TrustItemError};
pub use grants::{Access, GrantError, Grants};
pub use passing::{ListName, TrustFrame};
pub use permit::{Permit, Reach};
pub use revocation::{Revocation, RevocationError, RevocationList, Revocations, RevokedId};
pub use signed::{AuthorityKey, AuthorityKeyError, Signer};
pub use trust::{Trust, TrustError};
pub use verdict::{ClockNote, Refused, RevokedBy, Verdict};

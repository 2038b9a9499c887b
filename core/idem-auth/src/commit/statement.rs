//! What an author signs of a commit, and evidence against authors that sign two things of one.

use idem_model::{
    ActorId, DatabaseId, DecodeError, Dot, PeerId, Timestamp,
    codec::{Reader, put_varint},
};

use super::{
    signature::{self, Claim},
    tree::CommitRoot,
};
use crate::{
    certificate::CertificateSerial,
    signed::{Domain, Signer},
};

const VERSION: u8 = 1;

/// What an author says of one of its commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitStatement {
    /// Who made it.
    pub author: PeerId,
    /// The certificate under which the author made it: by its grants every peer judges the commit, whatever
    /// certificate the author has when it arrives.
    pub certificate: CertificateSerial,
    /// Its name.
    pub dot: Dot,
    /// Its time.
    pub time: Timestamp,
    /// What is in it.
    pub root: CommitRoot,
}

/// A commit's statement with the signature of its author.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedCommit {
    statement: CommitStatement,
    signature: [u8; 64],
}

impl CommitStatement {
    /// Signs it for a database, with the key of the author. The author is who signs, whatever it said before.
    pub fn sign(mut self, database: DatabaseId, signer: &dyn Signer) -> SignedCommit {
        self.author = PeerId(signer.public_key());
        SignedCommit {
            signature: signer.sign(&self.message(database)),
            statement: self,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend(self.author.0);
        out.extend(self.certificate.0);
        out.extend(self.dot.actor.0);
        put_varint(out, self.dot.n);
        out.extend(self.time.0.to_be_bytes());
        out.extend(self.root.0);
    }

    fn message(&self, database: DatabaseId) -> Vec<u8> {
        let mut body = database.0.to_vec();
        self.encode(&mut body);
        Domain::Commit.message(&body)
    }
}

impl SignedCommit {
    /// What the author says.
    pub fn statement(&self) -> &CommitStatement {
        &self.statement
    }

    /// Whether the author that it names signed it, for this database. The same answer as [`failing`] gives.
    pub fn holds(&self, database: DatabaseId) -> bool {
        failing(database, std::slice::from_ref(self)).is_empty()
    }

    /// Its bytes: 170 and a few for a long number, of which 64 are the signature.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(180);
        self.statement.encode(&mut out);
        out.extend(self.signature);
        out
    }

    /// Reads [`SignedCommit::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let signed = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(signed)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.byte()?;
        if version != VERSION {
            let what = "signed commit";
            return Err(DecodeError::UnknownVersion { what, version });
        }
        let author = PeerId(reader.array()?);
        let certificate = CertificateSerial(reader.array()?);
        let actor = ActorId(reader.array()?);
        let at = reader.position();
        let n = reader.varint()?;
        if n == 0 {
            let what = "number of a commit";
            return Err(DecodeError::Invalid { what, at });
        }
        Ok(Self {
            statement: CommitStatement {
                author,
                certificate,
                dot: Dot { actor, n },
                time: Timestamp(u64::from_be_bytes(reader.array()?)),
                root: CommitRoot(reader.array()?),
            },
            signature: reader.array()?,
        })
    }
}

/// The places of those commits that are not signed by the author that they name, rising. Verifies all at once, and
/// looks for the bad ones only if there is one. One alone gets the same answer as among others.
pub fn failing(database: DatabaseId, commits: &[SignedCommit]) -> Vec<usize> {
    let messages = commits.iter().map(|it| it.statement.message(database));
    let messages: Vec<Vec<u8>> = messages.collect();
    let claims = commits.iter().zip(&messages);
    let claims = claims.map(|(commit, message)| Claim {
        key: &commit.statement.author.0,
        message,
        signature: &commit.signature,
    });
    signature::failing(&claims.collect::<Vec<_>>())
}

/// Two different commits of one name, both signed by one author: nobody honest does that, not even after restoring a
/// backup, which takes a new actor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Equivocation {
    first: SignedCommit,
    second: SignedCommit,
}

impl Equivocation {
    /// The evidence that two commits are, if they are.
    pub fn of(one: &SignedCommit, other: &SignedCommit) -> Option<Self> {
        let (a, b) = (&one.statement, &other.statement);
        if a.author != b.author || a.dot != b.dot || a == b {
            return None;
        }
        let is_in_order = one.to_bytes() < other.to_bytes();
        let (first, second) = if is_in_order {
            (one, other)
        } else {
            (other, one)
        };
        Some(Self {
            first: *first,
            second: *second,
        })
    }

    /// Whether it convicts the author: both signatures hold.
    pub fn holds(&self, database: DatabaseId) -> bool {
        failing(database, &[self.first, self.second]).is_empty()
    }

    /// Whom it is about.
    pub fn author(&self) -> PeerId {
        self.first.statement.author
    }

    /// The name that was used twice.
    pub fn dot(&self) -> Dot {
        self.first.statement.dot
    }

    /// Its bytes: both commits, the lesser first.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.first.to_bytes(), self.second.to_bytes()].concat()
    }

    /// Reads [`Equivocation::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`], also if the two are no evidence.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let first = SignedCommit::read(&mut reader)?;
        let second = SignedCommit::read(&mut reader)?;
        reader.finish()?;
        let invalid = DecodeError::Invalid {
            what: "evidence",
            at: 0,
        };
        let evidence = Self::of(&first, &second).ok_or(invalid.clone())?;
        match evidence.first == first {
            true => Ok(evidence),
            false => Err(invalid),
        }
    }
}

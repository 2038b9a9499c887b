//! What all signed things have in common (docs/format/auth.md, "Signatures").

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signature, VerifyingKey};
use idem_model::{
    DatabaseId, DecodeError,
    codec::{Reader, put_varint},
    limits,
};

/// Signs with a key that stays with the caller.
pub trait Signer {
    /// The ed25519 public key.
    fn public_key(&self) -> [u8; 32];

    /// The ed25519 signature over `message`, which begins with words that say what it is.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

/// The public key of an authority: who signs certificates of a database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityKey(pub [u8; 32]);

impl fmt::Display for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no key of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key of an authority is 64 hex digits")]
pub struct AuthorityKeyError;

impl FromStr for AuthorityKey {
    type Err = AuthorityKeyError;

    fn from_str(text: &str) -> Result<Self, AuthorityKeyError> {
        let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut key = [0; 32];
        for (slot, at) in key.iter_mut().zip((0..64).step_by(2)) {
            let digits = text.get(at..at + 2).filter(|_| is_hex);
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            *slot = byte.ok_or(AuthorityKeyError)?;
        }
        Ok(Self(key))
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "AuthorityKey({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// What a signature is about. The words of no domain begin those of another one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Domain {
    Certificate,
    AuthorityChange,
    Revocations,
    Beacon,
    Commit,
}

impl Domain {
    fn words(self) -> &'static [u8] {
        match self {
            Self::Certificate => b"idem auth certificate, version 1\0",
            Self::AuthorityChange => b"idem auth change of authorities, version 1\0",
            Self::Revocations => b"idem auth revocations, version 1\0",
            Self::Beacon => b"idem auth time, version 1\0",
            Self::Commit => b"idem auth commit, version 1\0",
        }
    }

    pub(crate) fn message(self, body: &[u8]) -> Vec<u8> {
        [self.words(), body].concat()
    }
}

const VERSION: u8 = 1;

/// The body and the signature of something that an authority signs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sealed {
    pub(crate) database: DatabaseId,
    pub(crate) issuer: AuthorityKey,
    /// Everything but the signature.
    pub(crate) body: Box<[u8]>,
    signature: [u8; 64],
}

impl Sealed {
    /// Signs what `fill` appends to the head.
    pub(crate) fn new(
        domain: Domain,
        database: DatabaseId,
        signer: &dyn Signer,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let issuer = AuthorityKey(signer.public_key());
        let mut body = vec![VERSION];
        body.extend(database.0);
        body.extend(issuer.0);
        fill(&mut body);
        let signature = signer.sign(&domain.message(&body));
        Self {
            database,
            issuer,
            body: body.into(),
            signature,
        }
    }

    /// Splits bytes, and gives a reader of what stands behind the head.
    pub(crate) fn decode<'b>(
        what: &'static str,
        bytes: &'b [u8],
        bytes_max: usize,
    ) -> Result<(Self, Reader<'b>), DecodeError> {
        if bytes.len() > bytes_max {
            return Err(DecodeError::TooLarge {
                what,
                value: bytes.len() as u64,
                limit: bytes_max as u64,
            });
        }
        let Some((body, signature)) = bytes.split_last_chunk::<64>() else {
            return Err(DecodeError::Truncated {
                at: 0,
                needed: 64 - bytes.len(),
            });
        };
        let mut reader = Reader::new(body);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { what, version });
        }
        let sealed = Self {
            database: DatabaseId(reader.array()?),
            issuer: AuthorityKey(reader.array()?),
            body: body.into(),
            signature: *signature,
        };
        Ok((sealed, reader))
    }

    /// Whether the issuer signed it.
    pub(crate) fn holds(&self, domain: Domain) -> bool {
        holds(&self.issuer.0, &domain.message(&self.body), &self.signature)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [&self.body[..], &self.signature].concat()
    }

    pub(crate) fn encoded_len(&self) -> usize {
        self.body.len() + self.signature.len()
    }

    /// Names it: what was signed, not the signature, of which its signer could make many.
    pub(crate) fn hash(&self, domain: Domain) -> [u8; 32] {
        *blake3::hash(&domain.message(&self.body)).as_bytes()
    }
}

/// Strict: no key and no point of small order, one form of everything.
fn holds(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| {
        let signature = Signature::from_bytes(signature);
        key.verify_strict(message, &signature).is_ok()
    })
}

pub(crate) fn put_time(out: &mut Vec<u8>, ms: u64) {
    put_varint(out, ms);
}

pub(crate) fn read_time(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let value = reader.varint()?;
    let limit = limits::SIGNED_TIME_MS_MAX;
    match value <= limit {
        true => Ok(value),
        false => Err(DecodeError::TooLarge {
            what: "time",
            value,
            limit,
        }),
    }
}

/// Whether a text can be shown in a line of a log or a terminal as it is.
pub(crate) fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

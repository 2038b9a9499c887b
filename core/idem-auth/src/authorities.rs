//! Which keys a database trusts, and how that changes (docs/format/auth.md, "Authorities").

use idem_model::{
    DatabaseId, DecodeError,
    codec::{Reader, put_bytes, put_varint},
    limits,
};

use crate::signed::{AuthorityKey, Domain, Sealed, Signer, put_time, read_time};

/// A key that a database trusts for some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Its key.
    pub key: AuthorityKey,
    /// From when on its certificates count.
    pub from_ms: u64,
    /// The last moment at which they do.
    pub until_ms: u64,
}

impl Authority {
    /// A key that is trusted until it is removed.
    pub fn always(key: AuthorityKey) -> Self {
        Self {
            key,
            from_ms: 0,
            until_ms: limits::SIGNED_TIME_MS_MAX,
        }
    }
}

/// All keys that a database trusts from now on, signed by one that it trusted before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorityChange {
    number: u64,
    previous: [u8; 32],
    issued_at_ms: u64,
    keys: Vec<Authority>,
    sealed: Sealed,
}

/// Why a change of authorities is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// None, too many, one twice, or a time out of bounds.
    #[error(
        "a database trusts 1 to {limit} keys, each once, and each from a time up to one that is not before it"
    )]
    Keys {
        /// [`limits::AUTHORITIES_MAX`].
        limit: usize,
    },
    /// It is about another database.
    #[error("the change is about database {theirs}, and this one is {ours}")]
    OtherDatabase {
        /// This database.
        ours: DatabaseId,
        /// The one that it names.
        theirs: DatabaseId,
    },
    /// Changes before it are missing here, or it is about a past that is not that of this peer.
    #[error(
        "the change has number {number} and does not follow any that is known; the last one is {last}"
    )]
    Unconnected {
        /// Its number.
        number: u64,
        /// That of the newest change that is known.
        last: u64,
    },
    /// Who signed it was not trusted then, or is not now.
    #[error("the change is signed by {issuer}, which the database does not trust")]
    NotTrusted {
        /// The key.
        issuer: AuthorityKey,
    },
    /// A key cannot touch those that stand before it.
    #[error("the change by {issuer} touches keys that stand before it")]
    AboveItself {
        /// The key.
        issuer: AuthorityKey,
    },
    /// The signature is not that of the key that it names.
    #[error("the signature of the change is wrong")]
    Signature,
    /// There is another change in its place, by a key that stands before or is the same.
    #[error("number {number} is already a change by {by}, which counts for more")]
    Outranked {
        /// The number of both.
        number: u64,
        /// Who signed the one that counts.
        by: AuthorityKey,
    },
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeTaken {
    /// It was known.
    Known,
    /// It is the newest one.
    Added,
    /// It took the place of so many others.
    Replaced {
        /// How many do not count any more.
        dropped: usize,
    },
}

impl AuthorityChange {
    /// The change after the newest one of `authorities`: from now on `keys` are trusted, the first one most.
    ///
    /// # Errors
    /// [`AuthoritiesError`] if no peer would take it.
    pub fn sign(
        authorities: &Authorities,
        keys: Vec<Authority>,
        issued_at_ms: u64,
        signer: &dyn Signer,
    ) -> Result<Self, AuthoritiesError> {
        let (number, previous) = (authorities.last_number() + 1, authorities.head());
        check_keys(&keys)?;
        let database = authorities.database;
        let sealed = Sealed::new(Domain::AuthorityChange, database, signer, |out| {
            put_varint(out, number);
            out.extend(previous);
            put_time(out, issued_at_ms);
            encode_keys(&keys, out);
        });
        let change = Self {
            number,
            previous,
            issued_at_ms,
            keys,
            sealed,
        };
        authorities.check(authorities.changes.len(), &change)?;
        Ok(change)
    }

    /// Reads [`AuthorityChange::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (sealed, mut reader) = Sealed::decode("change of authorities", bytes, BYTES_MAX)?;
        let number = reader.varint()?;
        let previous = reader.array()?;
        let issued_at_ms = read_time(&mut reader)?;
        let keys = decode_keys(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            number,
            previous,
            issued_at_ms,
            keys,
            sealed,
        })
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.sealed.to_bytes()
    }

    /// The how manyth change it is, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was signed.
    pub fn issued_at_ms(&self) -> u64 {
        self.issued_at_ms
    }

    /// Who signed it.
    pub fn issuer(&self) -> AuthorityKey {
        self.sealed.issuer
    }

    /// Names it.
    pub fn hash(&self) -> [u8; 32] {
        self.sealed.hash(Domain::AuthorityChange)
    }
}

/// Head, number, hash, time, count, keys, signature.
pub(crate) const BYTES_MAX: usize =
    1 + 16 + 32 + 10 + 32 + 10 + 1 + limits::AUTHORITIES_MAX * (32 + 10 + 10) + 64;

fn encode_keys(keys: &[Authority], out: &mut Vec<u8>) {
    put_varint(out, keys.len() as u64);
    for authority in keys {
        out.extend(authority.key.0);
        put_time(out, authority.from_ms);
        put_time(out, authority.until_ms);
    }
}

fn decode_keys(reader: &mut Reader<'_>) -> Result<Vec<Authority>, DecodeError> {
    let at = reader.position();
    let what = "authorities";
    let count = reader.count(what, limits::AUTHORITIES_MAX, 34)?;
    let keys = (0..count).map(|_| {
        Ok(Authority {
            key: AuthorityKey(reader.array()?),
            from_ms: read_time(reader)?,
            until_ms: read_time(reader)?,
        })
    });
    let keys = keys.collect::<Result<Vec<_>, DecodeError>>()?;
    check_keys(&keys).map_err(|_| DecodeError::Invalid { what, at })?;
    Ok(keys)
}

fn check_keys(keys: &[Authority]) -> Result<(), AuthoritiesError> {
    let limit = limits::AUTHORITIES_MAX;
    let is_single = |at: usize| !keys[..at].iter().any(|other| other.key == keys[at].key);
    let times_fit =
        |it: &Authority| it.from_ms <= it.until_ms && it.until_ms <= limits::SIGNED_TIME_MS_MAX;
    let fits = (1..=limit).contains(&keys.len())
        && (0..keys.len()).all(is_single)
        && keys.iter().all(times_fit);
    match fits {
        true => Ok(()),
        false => Err(AuthoritiesError::Keys { limit }),
    }
}

/// The keys that a database trusts, and the changes that led there.
///
/// A key can change itself and what stands behind it. So the first key, which can stay in a safe, takes the database
/// back from whoever stole another one; of changes in one place that of the earlier key counts, on every peer that
/// sees both. Of two by one key the first one that came stays: somebody who stole a key after it was
/// removed changes nothing for who knows of the removal.
#[derive(Clone, Debug)]
pub struct Authorities {
    database: DatabaseId,
    /// The keys before the oldest change that is kept.
    base: Vec<Authority>,
    base_head: [u8; 32],
    base_number: u64,
    changes: Vec<AuthorityChange>,
}

impl Authorities {
    /// Begins with the keys that a peer was configured with, the first one trusted most.
    ///
    /// # Errors
    /// [`AuthoritiesError::Keys`].
    pub fn new(database: DatabaseId, keys: Vec<Authority>) -> Result<Self, AuthoritiesError> {
        check_keys(&keys)?;
        let mut text = b"idem auth first authorities, version 1\0".to_vec();
        text.extend(database.0);
        encode_keys(&keys, &mut text);
        Ok(Self {
            database,
            base: keys,
            base_head: *blake3::hash(&text).as_bytes(),
            base_number: 0,
            changes: Vec::new(),
        })
    }

    /// The database.
    pub fn database(&self) -> DatabaseId {
        self.database
    }

    /// The keys that are trusted now.
    pub fn keys(&self) -> &[Authority] {
        self.keys_at(self.changes.len())
    }

    /// What is said of a key that is trusted now.
    pub fn find(&self, key: &AuthorityKey) -> Option<&Authority> {
        self.keys().iter().find(|authority| authority.key == *key)
    }

    /// Whether a key was trusted at some time that is remembered, and is not now.
    pub fn was_removed(&self, key: &AuthorityKey) -> bool {
        let knows = |keys: &[Authority]| keys.iter().any(|authority| authority.key == *key);
        !knows(self.keys()) && (0..self.changes.len()).any(|at| knows(self.keys_at(at)))
    }

    /// The changes that are kept, oldest first: what a peer that knows less is sent.
    pub fn changes(&self) -> &[AuthorityChange] {
        &self.changes
    }

    /// The number of the newest change, 0 before the first.
    pub fn last_number(&self) -> u64 {
        self.base_number + self.changes.len() as u64
    }

    /// Names the newest change and so all before it.
    pub fn head(&self) -> [u8; 32] {
        self.head_at(self.changes.len())
    }

    /// Takes a change that came from anybody.
    ///
    /// # Errors
    /// [`AuthoritiesError`] with what is wrong; [`AuthoritiesError::Unconnected`] if earlier ones have to be asked
    /// for.
    pub fn accept(&mut self, change: AuthorityChange) -> Result<ChangeTaken, AuthoritiesError> {
        let unconnected = AuthoritiesError::Unconnected {
            number: change.number,
            last: self.last_number(),
        };
        let at = change
            .number
            .checked_sub(self.base_number + 1)
            .and_then(|at| usize::try_from(at).ok())
            .filter(|at| *at <= self.changes.len() && self.head_at(*at) == change.previous)
            .ok_or(unconnected)?;
        let known = self.changes.get(at);
        if known.is_some_and(|known| known.hash() == change.hash()) {
            return Ok(ChangeTaken::Known);
        }
        let rank = self.check(at, &change)?;
        let dropped = self.changes.len() - at;
        if let Some(known) = known {
            // Whoever is not trusted any more does not rewrite the past.
            let issuer = change.issuer();
            if self.find(&issuer).is_none() {
                return Err(AuthoritiesError::NotTrusted { issuer });
            }
            if self.rank(at, &known.issuer()) <= Some(rank) {
                return Err(AuthoritiesError::Outranked {
                    number: change.number,
                    by: known.issuer(),
                });
            }
        }
        self.changes.truncate(at);
        self.changes.push(change);
        if self.changes.len() > limits::AUTHORITY_CHANGES_MAX {
            let oldest = self.changes.remove(0);
            self.base_head = oldest.hash();
            self.base_number = oldest.number;
            self.base = oldest.keys;
        }
        Ok(match dropped {
            0 => ChangeTaken::Added,
            dropped => ChangeTaken::Replaced { dropped },
        })
    }

    /// Whether a change could stand behind so many that are kept; with the place of its signer.
    fn check(&self, at: usize, change: &AuthorityChange) -> Result<usize, AuthoritiesError> {
        let issuer = change.issuer();
        if change.sealed.database != self.database {
            return Err(AuthoritiesError::OtherDatabase {
                ours: self.database,
                theirs: change.sealed.database,
            });
        }
        let rank = self
            .rank(at, &issuer)
            .ok_or(AuthoritiesError::NotTrusted { issuer })?;
        let before = self.keys_at(at);
        let authority = &before[rank];
        if !(authority.from_ms..=authority.until_ms).contains(&change.issued_at_ms) {
            return Err(AuthoritiesError::NotTrusted { issuer });
        }
        if !change.keys.starts_with(&before[..rank]) {
            return Err(AuthoritiesError::AboveItself { issuer });
        }
        match change.sealed.holds(Domain::AuthorityChange) {
            true => Ok(rank),
            false => Err(AuthoritiesError::Signature),
        }
    }

    /// Writes it for the peer itself to go on from.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.base_head);
        put_varint(out, self.base_number);
        encode_keys(&self.base, out);
        put_varint(out, self.changes.len() as u64);
        for change in &self.changes {
            put_bytes(out, &change.to_bytes());
        }
    }

    /// Reads [`Authorities::encode`]. The beginning is believed, each change is judged again.
    pub(crate) fn decode(
        database: DatabaseId,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let what = "changes of authorities";
        let mut authorities = Self {
            database,
            base_head: reader.array()?,
            base_number: reader.varint()?,
            base: decode_keys(reader)?,
            changes: Vec::new(),
        };
        let count = reader.count(what, limits::AUTHORITY_CHANGES_MAX, 1)?;
        for _ in 0..count {
            let at = reader.position();
            let change = AuthorityChange::decode(reader.bytes(what, BYTES_MAX)?)?;
            let invalid = |_| DecodeError::Invalid { what, at };
            authorities.accept(change).map_err(invalid)?;
        }
        Ok(authorities)
    }

    fn rank(&self, at: usize, key: &AuthorityKey) -> Option<usize> {
        let keys = self.keys_at(at);
        keys.iter().position(|authority| authority.key == *key)
    }

    fn keys_at(&self, at: usize) -> &[Authority] {
        match at.checked_sub(1) {
            None => &self.base,
            Some(last) => &self.changes[last].keys,
        }
    }

    fn head_at(&self, at: usize) -> [u8; 32] {
        match at.checked_sub(1) {
            None => self.base_head,
            Some(last) => self.changes[last].hash(),
        }
    }
}

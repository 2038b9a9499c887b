//! Certificates that do not count any more (docs/format/auth.md, "Revocations").

use std::{collections::BTreeMap, fmt};

use idem_model::{
    DatabaseId, DecodeError, PeerId,
    codec::{Reader, put_varint},
    limits,
};

use crate::{
    authorities::Authorities,
    certificate::{Certificate, CertificateSerial},
    grants::check_rising,
    signed::{AuthorityKey, Domain, Sealed, Signer, put_time, read_time},
    verdict::RevokedBy,
};

/// What is revoked, hashed, so that a list that everybody passes on names nobody to those who do not know the name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevokedId([u8; 16]);

impl RevokedId {
    /// All certificates of a peer.
    pub fn peer(database: DatabaseId, peer: &PeerId) -> Self {
        Self::of(database, b'p', &peer.0)
    }

    /// All certificates of a user.
    pub fn user(database: DatabaseId, user: &str) -> Self {
        Self::of(database, b'u', user.as_bytes())
    }

    /// One certificate.
    pub fn certificate(database: DatabaseId, serial: &CertificateSerial) -> Self {
        Self::of(database, b'c', &serial.0)
    }

    fn of(database: DatabaseId, kind: u8, name: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(b"idem auth revoked id, version 1\0");
        hasher.update(&database.0);
        hasher.update(&[kind]);
        hasher.update(name);
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }
}

impl fmt::Debug for RevokedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RevokedId(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// One line of a revocation list. Times are Unix milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// Whose certificates, or which one.
    pub id: RevokedId,
    /// Those that were issued before then: later ones count, so that a change of grants is a new certificate
    /// and a revocation of the old ones. `limits::SIGNED_TIME_MS_MAX` is for good.
    pub issued_before_ms: u64,
    /// Until when the line counts: when the last certificate that it is about has expired it can go.
    pub until_ms: u64,
}

/// All revocations of one authority, signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevocationList {
    epoch: u64,
    issued_at_ms: u64,
    entries: Vec<Revocation>,
    sealed: Sealed,
}

/// Why a revocation list is not taken, or not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// Too many lines.
    #[error("{count} revocations are over the limit of {limit}")]
    TooMany {
        /// How many.
        count: usize,
        /// [`limits::REVOCATIONS_MAX`].
        limit: usize,
    },
    /// A time is out of bounds.
    #[error("a time of the revocation list is out of bounds")]
    Time,
    /// It is about another database.
    #[error("the revocation list is about database {theirs}, and this one is {ours}")]
    OtherDatabase {
        /// This database.
        ours: DatabaseId,
        /// The one that it names.
        theirs: DatabaseId,
    },
    /// Who signed it is no authority.
    #[error("the revocation list is signed by {issuer}, which the database does not trust")]
    NotTrusted {
        /// The key.
        issuer: AuthorityKey,
    },
    /// The signature is not that of the key that it names.
    #[error("the signature of the revocation list is wrong")]
    Signature,
    /// A newer one of the same authority is known.
    #[error("the revocation list is of epoch {epoch}, and {known} is known")]
    Older {
        /// Its epoch.
        epoch: u64,
        /// The one that is known.
        known: u64,
    },
}

/// Head, epoch, time, count, signature.
const HEAD_BYTES: usize = 1 + 16 + 32 + 10 + 10 + 10 + 64;

/// An id and two times.
const ENTRY_BYTES_MAX: usize = 16 + 7 + 7;

const _: () = assert!(
    HEAD_BYTES + limits::REVOCATIONS_MAX * ENTRY_BYTES_MAX <= limits::REVOCATION_LIST_BYTES_MAX
);

impl RevocationList {
    /// Signs a list of all that an authority revokes. Of several lines about one id the ones that say more
    /// are joined. `epoch` rises with each list of the authority.
    ///
    /// # Errors
    /// [`RevocationError`] if it is too long, or a time is out of bounds.
    pub fn sign(
        database: DatabaseId,
        epoch: u64,
        issued_at_ms: u64,
        entries: &[Revocation],
        signer: &dyn Signer,
    ) -> Result<Self, RevocationError> {
        let mut joined: BTreeMap<RevokedId, Revocation> = BTreeMap::new();
        for entry in entries {
            let known = joined.entry(entry.id).or_insert(*entry);
            known.issued_before_ms = known.issued_before_ms.max(entry.issued_before_ms);
            known.until_ms = known.until_ms.max(entry.until_ms);
        }
        let entries: Vec<_> = joined.into_values().collect();
        let (count, limit) = (entries.len(), limits::REVOCATIONS_MAX);
        if count > limit {
            return Err(RevocationError::TooMany { count, limit });
        }
        let mut times = entries
            .iter()
            .flat_map(|entry| [entry.issued_before_ms, entry.until_ms])
            .chain([issued_at_ms]);
        if times.any(|time| time > limits::SIGNED_TIME_MS_MAX) {
            return Err(RevocationError::Time);
        }
        let sealed = Sealed::new(Domain::Revocations, database, signer, |out| {
            put_varint(out, epoch);
            put_time(out, issued_at_ms);
            put_varint(out, entries.len() as u64);
            for entry in &entries {
                out.extend(entry.id.0);
                put_time(out, entry.issued_before_ms);
                put_time(out, entry.until_ms);
            }
        });
        Ok(Self {
            epoch,
            issued_at_ms,
            entries,
            sealed,
        })
    }

    /// Reads [`RevocationList::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "revocation list";
        let (sealed, mut reader) = Sealed::decode(what, bytes, limits::REVOCATION_LIST_BYTES_MAX)?;
        let epoch = reader.varint()?;
        let issued_at_ms = read_time(&mut reader)?;
        let at = reader.position();
        let count = reader.count("revocations", limits::REVOCATIONS_MAX, 18)?;
        let entries = (0..count).map(|_| read_entry(&mut reader));
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        check_rising("revocations", at, &entries, |entry| &entry.id)?;
        reader.finish()?;
        Ok(Self {
            epoch,
            issued_at_ms,
            entries,
            sealed,
        })
    }

    /// Its bytes, which are passed on as they are.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.sealed.to_bytes()
    }

    /// The database.
    pub fn database(&self) -> DatabaseId {
        self.sealed.database
    }

    /// Who signed it.
    pub fn issuer(&self) -> AuthorityKey {
        self.sealed.issuer
    }

    /// Of two lists of an authority the one with the greater epoch counts.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When it was signed.
    pub fn issued_at_ms(&self) -> u64 {
        self.issued_at_ms
    }

    /// Its lines, rising by id.
    pub fn entries(&self) -> &[Revocation] {
        &self.entries
    }

    /// Names it.
    pub fn hash(&self) -> [u8; 32] {
        self.sealed.hash(Domain::Revocations)
    }

    /// Whether a line revokes a certificate at a time.
    fn revokes(&self, id: RevokedId, issued_at_ms: u64, now_ms: u64) -> bool {
        let found = self.entries.binary_search_by(|entry| entry.id.cmp(&id));
        found.is_ok_and(|at| {
            let entry = &self.entries[at];
            issued_at_ms < entry.issued_before_ms && now_ms <= entry.until_ms
        })
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Revocation, DecodeError> {
    Ok(Revocation {
        id: RevokedId(reader.array()?),
        issued_before_ms: read_time(reader)?,
        until_ms: read_time(reader)?,
    })
}

/// The newest revocation list of each authority. Those of several add up.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// As many as there are authorities; those of removed ones go when a list comes.
    lists: BTreeMap<AuthorityKey, RevocationList>,
}

impl Revocations {
    /// Takes a list that came from anybody. `false` if it is the one that is known.
    ///
    /// # Errors
    /// [`RevocationError`] with what is wrong with it.
    pub fn accept(
        &mut self,
        list: RevocationList,
        authorities: &Authorities,
    ) -> Result<bool, RevocationError> {
        let (ours, theirs) = (authorities.database(), list.database());
        if ours != theirs {
            return Err(RevocationError::OtherDatabase { ours, theirs });
        }
        let issuer = list.issuer();
        if authorities.find(&issuer).is_none() {
            return Err(RevocationError::NotTrusted { issuer });
        }
        if let Some(known) = self.lists.get(&issuer) {
            if known.sealed == list.sealed {
                return Ok(false);
            }
            // An authority that uses a number twice is broken. All peers then keep the same one.
            let order = |list: &RevocationList| (list.epoch, list.sealed.hash(Domain::Revocations));
            if order(&list) <= order(known) {
                let (epoch, known) = (list.epoch, known.epoch);
                return Err(RevocationError::Older { epoch, known });
            }
        }
        if !list.sealed.holds(Domain::Revocations) {
            return Err(RevocationError::Signature);
        }
        self.lists.retain(|key, _| authorities.find(key).is_some());
        self.lists.insert(issuer, list);
        Ok(true)
    }

    /// The lists that are known.
    pub fn lists(&self) -> impl Iterator<Item = &RevocationList> {
        self.lists.values()
    }

    /// Whether, and by what, a certificate is revoked. Lists of authorities that were removed do not count: who
    /// takes over repeats what still has to hold.
    pub(crate) fn find(
        &self,
        certificate: &Certificate,
        authorities: &Authorities,
        now_ms: u64,
    ) -> Option<RevokedBy> {
        let database = certificate.database;
        let ids = [
            (
                RevokedBy::Peer,
                RevokedId::peer(database, &certificate.subject),
            ),
            (
                RevokedBy::User,
                RevokedId::user(database, &certificate.user),
            ),
            (
                RevokedBy::Serial,
                RevokedId::certificate(database, &certificate.serial),
            ),
        ];
        let issued_at_ms = certificate.issued_at_ms;
        let revokes = |id| {
            self.lists
                .iter()
                .filter(|(issuer, _)| authorities.find(issuer).is_some())
                .any(|(_, list)| list.revokes(id, issued_at_ms, now_ms))
        };
        ids.into_iter()
            .find_map(|(by, id)| revokes(id).then_some(by))
    }
}

//! Signs certificates: what runs where a database is administered.

use std::{fmt, fs, path::Path, time::Duration};

use idem_auth::{
    Authorities, Authority, AuthorityChange, AuthorityKey, Certificate, CertificateSerial, Grants,
    Revocation, RevocationList, RevokedId, SignedCertificate, Signer, TimeBeacon,
};
use idem_model::{DatabaseId, Object, PeerId, limits};
use idem_transport::LinkIdentity;
use zeroize::Zeroizing;

use crate::{
    auth::{SignedText, from_hex, to_hex},
    driver::unix_ms,
    error::{Error, ErrorKind},
    identity,
};

const HEAD: &str = "idem authority 1";

/// How long certificates last unless something else is asked for: a device may be away for a week.
const LASTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// The secret of an authority of a database, what it revoked, and the changes of authorities that it knows.
///
/// Whoever has its file decides who belongs to the database: keep it where you keep backups of keys, and not on a
/// device that syncs.
pub struct DatabaseAuthority {
    key: Key,
    authorities: Authorities,
    /// The keys with which the database began.
    first: Vec<AuthorityKey>,
    revoked: Option<RevocationList>,
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    peer: PeerId,
    user: String,
    lasts: Duration,
    claims: Object,
    grants: Grants,
}

impl CertificateRequest {
    /// For the peer with this key ([`Idem::peer_key`](crate::Idem::peer_key)), acting for `user`, a week long, with
    /// everything granted.
    pub fn new(peer: PeerId, user: impl Into<String>) -> Self {
        Self {
            peer,
            user: user.into(),
            lasts: LASTS,
            claims: Object::new(),
            grants: Grants::everything(),
        }
    }

    /// How long it counts, from now. Default: a week. The shorter, the fewer revocations are needed, and the sooner
    /// devices that are away have to come back for another one.
    #[must_use]
    pub fn lasting(mut self, lasts: Duration) -> Self {
        self.lasts = lasts;
        self
    }

    /// What is said of the user, for the predicates of grants and for other peers to see. Default: nothing.
    #[must_use]
    pub fn with_claims(mut self, claims: Object) -> Self {
        self.claims = claims;
        self
    }

    /// What is granted. Default: everything. Peers of this version refuse links with whoever is granted less than to read
    /// and write everything, since they do not keep to other grants yet.
    #[must_use]
    pub fn with_grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }
}

struct Key(LinkIdentity);

impl Signer for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.peer_id().0
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::AuthAuthorityInvalid, message)
}

impl DatabaseAuthority {
    /// The first authority of a database.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate(database: DatabaseId) -> Result<Self, Error> {
        let key = Key(identity::fresh_identity()?);
        let first = vec![AuthorityKey(key.public_key())];
        Self::begin(database, key, first)
    }

    /// A key that may become an authority of a database that `other` is one of: [`DatabaseAuthority::rotate_to`] makes it
    /// one.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate_beside(other: &Self) -> Result<Self, Error> {
        Ok(Self {
            key: Key(identity::fresh_identity()?),
            authorities: other.authorities.clone(),
            first: other.first.clone(),
            revoked: None,
        })
    }

    fn begin(database: DatabaseId, key: Key, first: Vec<AuthorityKey>) -> Result<Self, Error> {
        let keys = first.iter().copied().map(Authority::always).collect();
        let authorities = Authorities::new(database, keys);
        let authorities = authorities.map_err(|error| failed("no authorities").with_source(error));
        Ok(Self {
            key,
            authorities: authorities?,
            first,
            revoked: None,
        })
    }

    /// Reads [`DatabaseAuthority::write_file`].
    ///
    /// # Errors
    /// [`ErrorKind::AuthAuthorityInvalid`] if it is not such a file, [`ErrorKind::Io`] if it cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|source| {
            let message = format!("cannot read {}", path.display());
            Error::new(ErrorKind::Io, message).with_source(source)
        })?;
        let invalid = || {
            failed(format!(
                "{} is not the file of an authority",
                path.display()
            ))
        };
        Self::parse(&text).ok_or_else(invalid)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return None;
        }
        let mut field = |name: &str| {
            let (found, content) = lines.next()?.split_once(' ')?;
            (found == name).then_some(content)
        };
        let database: DatabaseId = field("database")?.parse().ok()?;
        let secret = Zeroizing::new(from_hex(field("secret")?)?);
        let secret = Zeroizing::new(<[u8; 32]>::try_from(&secret[..]).ok()?);
        let first = field("first")?.split(',').map(|key| key.parse().ok());
        let first = first.collect::<Option<Vec<AuthorityKey>>>()?;
        let key = Key(LinkIdentity::from_secret(&secret));
        let mut authority = Self::begin(database, key, first).ok()?;
        let rest: Vec<&str> = lines.collect();
        for signed in SignedText::parse(&rest.join("\n")).ok()? {
            match signed {
                SignedText::Authorities(change) => {
                    authority.authorities.accept(change).ok()?;
                }
                SignedText::Revocations(list) => authority.revoked = Some(list),
                _ => return None,
            }
        }
        Some(authority)
    }

    /// Writes all of it, for this user of the machine alone to read. What is there is replaced whole or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn write_file(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let secret = Zeroizing::new(to_hex(&*self.key.0.to_secret()));
        let first: Vec<String> = self.first.iter().map(ToString::to_string).collect();
        let mut text = Zeroizing::new(format!(
            "{HEAD}\ndatabase {}\nsecret {}\nfirst {}\n",
            self.database(),
            *secret,
            first.join(",")
        ));
        let changes = self.authorities.changes().iter().cloned();
        let changes = changes.map(SignedText::Authorities);
        let revoked = self.revoked.clone().map(SignedText::Revocations);
        for signed in changes.chain(revoked) {
            text.push_str(&signed.to_line());
            text.push('\n');
        }
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        identity::write(directory, path, text.as_bytes()).map_err(|source| {
            let message = format!("cannot write {}", path.display());
            Error::new(ErrorKind::Io, message).with_source(source)
        })
    }

    /// The database.
    pub fn database(&self) -> DatabaseId {
        self.authorities.database()
    }

    /// Its public key.
    pub fn key(&self) -> AuthorityKey {
        AuthorityKey(self.key.public_key())
    }

    /// The keys with which the database began: what peers are configured with.
    pub fn first_keys(&self) -> &[AuthorityKey] {
        &self.first
    }

    /// The keys that the database trusts, as far as this authority knows.
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// What it revoked, to be given to any peer ([`Auth::apply`](crate::Auth::apply)).
    pub fn revocations(&self) -> Option<&RevocationList> {
        self.revoked.as_ref()
    }

    /// Signs a certificate.
    ///
    /// # Errors
    /// [`ErrorKind::AuthAuthorityInvalid`] if no peer would take it, as when a predicate is none.
    pub fn issue(&self, request: CertificateRequest) -> Result<SignedCertificate, Error> {
        let mut serial = [0; 16];
        getrandom::fill(&mut serial)
            .map_err(|_| Error::new(ErrorKind::Io, "the system has no randomness to give"))?;
        let now_ms = unix_ms();
        let lasts_ms = u64::try_from(request.lasts.as_millis()).unwrap_or(u64::MAX);
        let certificate = Certificate {
            database: self.database(),
            serial: CertificateSerial(serial),
            subject: request.peer,
            user: request.user,
            issued_at_ms: now_ms,
            not_before_ms: now_ms,
            not_after_ms: now_ms
                .saturating_add(lasts_ms)
                .min(limits::SIGNED_TIME_MS_MAX),
            claims: request.claims,
            grants: request.grants,
        };
        let signed = certificate.sign(&self.key);
        signed.map_err(|error| failed("the certificate cannot be issued").with_source(error))
    }

    /// Revokes certificates that were issued until now, beside what it revoked before: those of a peer
    /// ([`RevokedId::peer`]), of a user, or one. Later ones count again. Keep the file, and give the list to a peer.
    ///
    /// # Errors
    /// [`ErrorKind::AuthAuthorityInvalid`] if there are too many.
    pub fn revoke(&mut self, ids: &[RevokedId]) -> Result<RevocationList, Error> {
        let now_ms = unix_ms();
        let before = self.revoked.as_ref();
        let epoch = before.map_or(1, |list| list.epoch() + 1);
        let entries = before.map(RevocationList::entries).unwrap_or_default();
        let fresh = ids.iter().map(|id| Revocation {
            id: *id,
            issued_before_ms: now_ms.saturating_add(1),
            until_ms: limits::SIGNED_TIME_MS_MAX,
        });
        let entries: Vec<_> = entries.iter().copied().chain(fresh).collect();
        let list = RevocationList::sign(self.database(), epoch, now_ms, &entries, &self.key);
        let list = list.map_err(|error| failed("the list cannot be signed").with_source(error))?;
        self.revoked = Some(list.clone());
        Ok(list)
    }

    /// Has `next` be trusted beside this authority from now on, and this one until `overlap` is over. Keep the files of
    /// both, and give the change to a peer. Certificates of this one are to be renewed by the next one meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::AuthAuthorityInvalid`] if no peer would take it.
    pub fn rotate_to(
        &mut self,
        next: &mut Self,
        overlap: Duration,
    ) -> Result<AuthorityChange, Error> {
        let now_ms = unix_ms();
        let own = self.key();
        let overlap_ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
        let until_ms = now_ms
            .saturating_add(overlap_ms)
            .min(limits::SIGNED_TIME_MS_MAX);
        let mut keys = self.authorities.keys().to_vec();
        for authority in keys.iter_mut().filter(|it| it.key == own) {
            authority.until_ms = authority.until_ms.min(until_ms);
        }
        if !keys.iter().any(|it| it.key == next.key()) {
            keys.push(Authority::always(next.key()));
        }
        let refused = |error| failed("the change cannot be signed").with_source(error);
        let change = AuthorityChange::sign(&self.authorities, keys, now_ms, &self.key);
        let change = change.map_err(refused)?;
        for authority in [self, next] {
            let taken = authority.authorities.accept(change.clone());
            taken.map_err(refused)?;
        }
        Ok(change)
    }

    /// Signs that it is at least now, for peers whose clock cannot be trusted.
    pub fn time(&self) -> TimeBeacon {
        TimeBeacon::sign(self.database(), unix_ms(), &self.key)
    }
}

impl fmt::Debug for DatabaseAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseAuthority")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

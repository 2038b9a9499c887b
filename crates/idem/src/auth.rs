//! Certificates, as an app uses them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use idem_auth::{
    Authorities, AuthorityChange, AuthorityKey, RevocationList, SignedCertificate, TimeBeacon,
    TrustItem, Verdict,
};

use crate::{
    config::SharedKey,
    core::Core,
    error::{Error, ErrorKind},
};

/// Who may sync with a peer whose database has authorities: whoever shows a certificate that one of them signed.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idem::{AuthorityConfig, CertificateRequest, ConnectMode, DatabaseAuthority, DatabaseId, Idem, IdemConfig};
///
/// // Whoever runs the database, once: the authority, whose file stays with it.
/// let database = DatabaseId([1; 16]);
/// let authority = DatabaseAuthority::generate(database)?;
///
/// // Each device says its key, and gets a certificate for it.
/// let mode = ConnectMode::Authority(AuthorityConfig::new([authority.key()]));
/// let idem = Idem::open_sync(IdemConfig::new(database, mode))?;
/// let certificate = authority.issue(CertificateRequest::new(idem.peer_key(), "ada@example.com"))?;
/// let auth = idem.auth().expect("its database has authorities");
/// auth.set_certificate(&certificate.to_bytes())?;
/// idem.sync().start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    pub(crate) authorities: Vec<AuthorityKey>,
    pub(crate) shared_key: Option<SharedKey>,
    certificate: Option<Source>,
}

#[derive(Debug, Clone)]
enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl AuthorityConfig {
    /// Trusts these keys, the first one most: 1 to 8, the same on every peer of the database. What they change
    /// later ([`Auth::apply`]) is known to the store.
    pub fn new(authorities: impl IntoIterator<Item = AuthorityKey>) -> Self {
        Self {
            authorities: authorities.into_iter().collect(),
            shared_key: None,
            certificate: None,
        }
    }

    /// The certificate of this peer. Default: that which the store keeps from [`Auth::set_certificate`]. Of both the one
    /// that was issued later counts.
    #[must_use]
    pub fn with_certificate(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.certificate = Some(Source::Bytes(bytes.into()));
        self
    }

    /// The certificate of this peer in a file, as `idem authority issue` writes it. It is read once, when the peer
    /// is opened.
    #[must_use]
    pub fn with_certificate_file(mut self, path: impl AsRef<Path>) -> Self {
        self.certificate = Some(Source::File(path.as_ref().to_owned()));
        self
    }

    /// A key that all peers of the database hold too. With it a stranger who knows the id of the database and
    /// is dialled by a peer does not hear who that is. Default: none.
    #[must_use]
    pub fn with_shared_key(mut self, key: SharedKey) -> Self {
        self.shared_key = Some(key);
        self
    }

    pub(crate) fn read_certificate(&self) -> Result<Option<Vec<u8>>, Error> {
        match &self.certificate {
            None => Ok(None),
            Some(Source::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(Source::File(path)) => {
                let text = fs::read_to_string(path).map_err(|source| {
                    let message = format!("cannot read the certificate {}", path.display());
                    Error::new(ErrorKind::Io, message).with_source(source)
                })?;
                let found = SignedText::parse(&text)?.into_iter();
                let mut certificates = found.filter_map(|it| match it {
                    SignedText::Certificate(certificate) => Some(certificate.to_bytes()),
                    _ => None,
                });
                let message = || format!("{} holds no certificate", path.display());
                let missing = || Error::new(ErrorKind::AuthCertificateInvalid, message());
                certificates.next().map(Some).ok_or_else(missing)
            }
        }
    }
}

/// Something that an authority signed, as it stands in a file: a line each, `idem-certificate`, `idem-authorities`,
/// `idem-revocations` or `idem-time`, a blank, and its bytes in hexadecimal. Lines that begin with `#` say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignedText {
    /// Who a peer is and what it may do.
    Certificate(SignedCertificate),
    /// Which keys are trusted.
    Authorities(AuthorityChange),
    /// What is revoked.
    Revocations(RevocationList),
    /// How late it is.
    Time(TimeBeacon),
}

impl SignedText {
    /// The line.
    pub fn to_line(&self) -> String {
        let (name, bytes) = match self {
            Self::Certificate(it) => ("idem-certificate", it.to_bytes()),
            Self::Authorities(it) => ("idem-authorities", it.to_bytes()),
            Self::Revocations(it) => ("idem-revocations", it.to_bytes()),
            Self::Time(it) => ("idem-time", it.to_bytes()),
        };
        format!("{name} {}", to_hex(&bytes))
    }

    /// Reads a file of lines.
    ///
    /// # Errors
    /// [`ErrorKind::AuthTrustRefused`] if a line is something else.
    pub fn parse(text: &str) -> Result<Vec<Self>, Error> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(Self::parse_line).collect()
    }

    fn parse_line(line: &str) -> Result<Self, Error> {
        let refused = |message: &str| Error::new(ErrorKind::AuthTrustRefused, message);
        let nothing = || refused("a line is nothing that an authority signs");
        let (name, hex) = line.split_once(' ').ok_or_else(nothing)?;
        let bytes = from_hex(hex.trim()).ok_or_else(nothing)?;
        let decoded = match name {
            "idem-certificate" => SignedCertificate::decode(&bytes).map(Self::Certificate),
            "idem-authorities" => AuthorityChange::decode(&bytes).map(Self::Authorities),
            "idem-revocations" => RevocationList::decode(&bytes).map(Self::Revocations),
            "idem-time" => TimeBeacon::decode(&bytes).map(Self::Time),
            _ => return Err(nothing()),
        };
        decoded.map_err(|error| nothing().with_source(error))
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|it| it.is_ascii_hexdigit());
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    is_hex.then(|| digits.map(byte).collect()).flatten()
}

/// The certificate in use is about to end, or there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateExpiry {
    /// How long it counts, without the grace that others give. Zero once it has ended.
    pub left: Duration,
    /// Whether there is one at all.
    pub has_certificate: bool,
}

/// The certificate of this peer, and whom its database trusts.
#[derive(Debug, Clone, Copy)]
pub struct Auth<'a> {
    core: &'a Arc<Core>,
}

impl<'a> Auth<'a> {
    pub(crate) fn of(core: &'a Arc<Core>) -> Option<Self> {
        core.desk.is_some().then_some(Self { core })
    }

    fn desk(&self) -> &crate::desk::Desk {
        self.core
            .desk
            .as_ref()
            .expect("it was there when this was made")
    }

    /// The certificate that this peer shows, if it has one.
    pub fn certificate(&self) -> Option<SignedCertificate> {
        self.desk().own()
    }

    /// Whether it holds now, by what this peer knows. `None` if there is none.
    pub fn verdict(&self) -> Option<Verdict> {
        self.desk().own_verdict()
    }

    /// The keys that the database trusts now, as far as this peer knows.
    pub fn authorities(&self) -> Authorities {
        self.desk().authorities()
    }

    /// Shows this certificate from now on: on links that there are at once, without a new handshake. It is kept in the
    /// store.
    ///
    /// # Errors
    /// [`ErrorKind::AuthCertificateInvalid`] if it is about another peer, for another database, or does not hold.
    pub fn set_certificate(&self, bytes: &[u8]) -> Result<(), Error> {
        self.desk().set_certificate(bytes)?;
        self.core.replication.redial();
        Ok(())
    }

    /// Calls `handler`, on a thread of its own, when the certificate in use is about to end while sync runs: when a fifth of
    /// its time is left (at least a minute, at most a day), and again and again until there is a better one. Give it to
    /// [`set_certificate`](Self::set_certificate). With a handler, sync starts without a certificate that holds.
    pub fn set_expiration_handler(
        &self,
        handler: impl Fn(CertificateExpiry) + Send + Sync + 'static,
    ) {
        self.desk().set_handler(Some(Arc::new(handler)));
    }

    /// Takes what an authority signed for all peers: a change of authorities, a revocation list, a time. It is kept in
    /// the store and passed on to neighbours, and what they are linked by is judged again. `true` if it is news.
    ///
    /// # Errors
    /// [`ErrorKind::AuthTrustRefused`] if no authority signed it, or something newer is known.
    pub fn apply(&self, signed: SignedText) -> Result<bool, Error> {
        let item = match signed {
            SignedText::Authorities(change) => TrustItem::Change(change),
            SignedText::Revocations(list) => TrustItem::Revocations(list),
            SignedText::Time(beacon) => TrustItem::Time(beacon),
            SignedText::Certificate(certificate) => {
                let bytes = certificate.to_bytes();
                return self.set_certificate(&bytes).map(|()| true);
            }
        };
        self.desk().apply(item)
    }
}

//! Who a peer is, and what lets it in. Nothing here prints a secret, and all of it is wiped on drop.

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use idem_model::{DatabaseId, PeerId, limits};
use zeroize::Zeroizing;

use crate::{
    certified::{Certifier, LinkMode},
    error::{LinkError, Refusal},
    handshake::Role,
    link::LinkKind,
};

/// The ed25519 key pair of a peer.
pub struct LinkIdentity {
    key: SigningKey,
}

impl LinkIdentity {
    /// Takes the 32 secret bytes of an identity.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(secret),
        }
    }

    /// Draws an identity from the operating system.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret)?;
        Ok(Self::from_secret(&secret))
    }

    /// The secret bytes, for storing them.
    pub fn to_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// The public key, which is the peer's name.
    pub fn peer_id(&self) -> PeerId {
        PeerId(self.key.verifying_key().to_bytes())
    }

    /// Signs `message`. Whatever is signed must begin with words that say what it is, so that no signature
    /// stands for two things.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl Clone for LinkIdentity {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
        }
    }
}

impl fmt::Debug for LinkIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkIdentity({:?})", self.peer_id())
    }
}

/// Whether `signature` over `message` is that of `peer`. A key of small order signs nothing.
pub fn signature_holds(peer: &PeerId, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(&peer.0).is_ok_and(|key| {
        !key.is_weak()
            && key
                .verify(message, &ed25519_dalek::Signature::from_bytes(signature))
                .is_ok()
    })
}

/// 32 secret bytes.
#[derive(Clone)]
pub struct SharedSecret(Zeroizing<[u8; 32]>);

impl SharedSecret {
    /// Takes the bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// What a side of a handshake brings.
#[derive(Clone)]
pub struct LinkCredentials {
    identity: LinkIdentity,
    database: DatabaseId,
    mode: LinkMode,
    psk: SharedSecret,
    certifier: Option<Arc<dyn Certifier>>,
    device_name: String,
    metadata: Option<Metadata>,
    admission: Option<Admission>,
    approval: Option<Approval>,
}

type Metadata = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

type Admission = Arc<dyn Fn(&PeerId) -> Result<(), Refusal> + Send + Sync>;

/// What becomes of the question whether a peer is wanted.
pub type Verdict = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

type Approval = Arc<dyn Fn(Applicant) -> Verdict + Send + Sync>;

/// A peer that proved who it is, and wants a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applicant {
    /// Who it is.
    pub peer: PeerId,
    /// What it calls itself.
    pub device_name: String,
    /// What its app says of it, at most `limits::PRESENCE_METADATA_BYTES_MAX`. Nobody has looked at it.
    pub metadata: Vec<u8>,
    /// What the link would run over.
    pub kind: LinkKind,
    /// Whether this side dialled.
    pub role: Role,
    /// The address of the other side, where the medium has one.
    pub address: Option<SocketAddr>,
}

impl LinkCredentials {
    /// Credentials for `database` with its shared key. The name is cut to
    /// [`limits::DEVICE_NAME_BYTES_MAX`](limits::DEVICE_NAME_BYTES_MAX).
    pub fn new(
        identity: LinkIdentity,
        database: DatabaseId,
        shared_key: &SharedSecret,
        device_name: &str,
    ) -> Self {
        let mode = LinkMode::SharedKey;
        Self::in_mode(mode, identity, database, Some(shared_key), device_name)
    }

    /// As [`LinkCredentials::new`] for peers that show certificates to each other, which `certifier` has and judges.
    /// With a shared key only who has that too hears who is there; without one whoever knows the id of the database
    /// does.
    pub fn with_certificates(
        identity: LinkIdentity,
        database: DatabaseId,
        shared_key: Option<&SharedSecret>,
        device_name: &str,
        certifier: Arc<dyn Certifier>,
    ) -> Self {
        let mode = match shared_key {
            Some(_) => LinkMode::CertificatesAndKey,
            None => LinkMode::Certificates,
        };
        Self {
            certifier: Some(certifier),
            ..Self::in_mode(mode, identity, database, shared_key, device_name)
        }
    }

    /// As [`LinkCredentials::new`] with a token for development in place of the key: peers with a key that is the
    /// same do not meet those with the token.
    pub fn for_development(
        identity: LinkIdentity,
        database: DatabaseId,
        token: &SharedSecret,
        device_name: &str,
    ) -> Self {
        let mode = LinkMode::Development;
        Self::in_mode(mode, identity, database, Some(token), device_name)
    }

    fn in_mode(
        mode: LinkMode,
        identity: LinkIdentity,
        database: DatabaseId,
        secret: Option<&SharedSecret>,
        device_name: &str,
    ) -> Self {
        let mut material = Zeroizing::new([0u8; 48]);
        let material = match secret {
            Some(secret) => {
                material[..32].copy_from_slice(secret.expose());
                material[32..].copy_from_slice(&database.0);
                &material[..]
            }
            None => {
                material[32..].copy_from_slice(&database.0);
                &material[32..]
            }
        };
        Self {
            identity,
            database,
            mode,
            psk: SharedSecret::new(blake3::derive_key(mode.contexts().1, material)),
            certifier: None,
            device_name: cut(device_name, limits::DEVICE_NAME_BYTES_MAX).to_owned(),
            metadata: None,
            admission: None,
            approval: None,
        }
    }

    /// Tells the other side of each link what `metadata` gives then. Without it that is nothing.
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.metadata = Some(Arc::new(metadata));
        self
    }

    /// What the other side is told now.
    ///
    /// # Panics
    /// If it is longer than `limits::PRESENCE_METADATA_BYTES_MAX`.
    pub(crate) fn metadata(&self) -> Vec<u8> {
        let metadata = self.metadata.as_ref().map(|metadata| metadata());
        let metadata = metadata.unwrap_or_default();
        assert!(metadata.len() <= limits::PRESENCE_METADATA_BYTES_MAX);
        metadata
    }

    /// Asks `admission` about every peer that proved who it is, dialled or dialling. Without it
    /// everybody who holds the shared key is admitted.
    #[must_use]
    pub fn with_admission(
        mut self,
        admission: impl Fn(&PeerId) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.admission = Some(Arc::new(admission));
        self
    }

    /// Asks `approval` about every peer that was admitted, dialled or dialling, and waits for its word,
    /// at most [`limits::LINK_APPROVAL_TIMEOUT_MS`]; no word is a refusal.
    #[must_use]
    pub fn with_approval(
        mut self,
        approval: impl Fn(Applicant) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.approval = Some(Arc::new(approval));
        self
    }

    pub(crate) async fn judge(&self, applicant: Applicant) -> Result<(), LinkError> {
        let peer = applicant.peer;
        let admitted = self.admission.as_ref().map_or(Ok(()), |admit| admit(&peer));
        let judged = match (admitted, &self.approval) {
            (Ok(()), Some(approve)) => {
                let limit = Duration::from_millis(limits::LINK_APPROVAL_TIMEOUT_MS);
                let verdict = tokio::time::timeout(limit, approve(applicant)).await;
                verdict.unwrap_or(Err(Refusal::Unanswered))
            }
            (admitted, _) => admitted,
        };
        judged.map_err(|refusal| LinkError::turn_away(peer, refusal))
    }

    /// The identity.
    pub fn identity(&self) -> &LinkIdentity {
        &self.identity
    }

    /// The database.
    pub fn database(&self) -> DatabaseId {
        self.database
    }

    /// The name that the other side is told.
    pub fn device_name(&self) -> &str {
        &self.device_name
    }

    /// What this side shows, and asks the other for.
    pub fn mode(&self) -> LinkMode {
        self.mode
    }

    pub(crate) fn certifier(&self) -> Option<&dyn Certifier> {
        self.certifier.as_deref()
    }

    pub(crate) fn psk(&self) -> &[u8; 32] {
        self.psk.expose()
    }
}

impl fmt::Debug for LinkCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkCredentials")
            .field("identity", &self.identity)
            .field("device_name", &self.device_name)
            .finish_non_exhaustive()
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_nothing() {
        let secret = [0xAB; 32];
        let credentials = LinkCredentials::new(
            LinkIdentity::from_secret(&secret),
            DatabaseId([1; 16]),
            &SharedSecret::new(secret),
            "a",
        );
        let text = format!("{credentials:?}");
        assert!(!text.to_lowercase().contains("abab"), "{text}");
        assert!(!text.contains("171"), "{text}");
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(cut("abc", 24), "abc");
        assert_eq!(cut("\u{e9}\u{e9}", 3), "\u{e9}");
    }

    struct Silent;

    impl Certifier for Silent {
        fn own_certificate(&self) -> Vec<u8> {
            Vec::new()
        }

        fn now_ms(&self) -> u64 {
            0
        }

        fn judge(&self, _: &PeerId, _: &[u8], _: u64) -> Result<(), crate::CertificateRefusal> {
            Ok(())
        }

        fn explain(&self, _: crate::CertificateFault, _: u64) -> String {
            String::new()
        }
    }

    #[test]
    fn pre_shared_keys_are_made_as_they_were() {
        let hashes = include_str!("../../../vectors/wire/hashes.txt");
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let database = DatabaseId(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let shared: [u8; 32] = std::array::from_fn(|at| u8::try_from(0x40 + at).unwrap());
        let identity = || LinkIdentity::from_secret(&[1; 32]);
        let secret = SharedSecret::new(shared);
        let certified = |key| {
            let certifier = Arc::new(Silent);
            LinkCredentials::with_certificates(identity(), database, key, "a", certifier)
        };
        let all = [
            LinkCredentials::new(identity(), database, &secret, "a"),
            certified(None),
            certified(Some(&secret)),
            LinkCredentials::for_development(identity(), database, &secret, "a"),
        ];
        assert_eq!(all.each_ref().map(LinkCredentials::mode), LinkMode::ALL);
        let (shared, database) = (hex(&shared), hex(&database.0));
        let [key, certificates, both, development] = all.map(|it| hex(it.psk()));
        for (name, with, key) in [
            ("", format!("shared {shared} "), key),
            (", certificates", String::new(), certificates),
            (", certificates and key", format!("shared {shared} "), both),
            (", development", format!("shared {shared} "), development),
        ] {
            let line = format!("pre-shared key{name} | {with}database {database} | {key}\n");
            assert!(hashes.contains(&line), "{line}");
        }
    }
}

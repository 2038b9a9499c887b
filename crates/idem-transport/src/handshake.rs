//! From a stream of bytes to a link.

use std::{fmt, net::SocketAddr, time::Duration};

use idem_model::{PeerId, limits};
use snow::HandshakeState;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::{
    certified::{
        CertificateFault, CertificateRefusal, Certifier, REFUSAL_BYTES, decode_refusal,
        encode_refusal,
    },
    cipher::Cipher,
    error::{LinkError, Refusal},
    identity::{Applicant, LinkCredentials, signature_holds},
    link::{Link, LinkKind, LinkProperties},
    preamble::{HEAD_BYTES, PREAMBLE_BYTES, Preamble, VersionRange},
};

const NOISE_PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";

/// Signatures of a link must not pass for signatures of anything else.
const PROOF_CONTEXT: &[u8; 24] = b"idem 2026 link identity\0";

/// More than the longest message of the pattern: a hash, a key, and tags.
const HANDSHAKE_MESSAGE_BYTES_MAX: usize = 256;

/// The longest proof without a certificate: key, signature, length of the name, name, metadata, tag.
const PROOF_BYTES_MAX: usize =
    32 + 64 + 1 + limits::DEVICE_NAME_BYTES_MAX + limits::PRESENCE_METADATA_BYTES_MAX + 16;

/// What a certificate adds: the clock, its length, itself.
const CERTIFICATE_PART_BYTES_MAX: usize = 8 + 2 + limits::CERTIFICATE_BYTES_MAX;

/// A word of consent: nothing but the tag.
const CONSENT_BYTES: usize = 16;

/// What a side waits for the other to read its refusal. A socket that is closed while unread bytes
/// are there resets the connection and may take the refusal with it.
const REFUSAL_LINGER: Duration = Duration::from_millis(500);

/// Any medium that carries bytes both ways in order.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for T {}

/// Which side speaks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The side that dialled.
    Initiator,
    /// The side that listened.
    Responder,
}

impl Role {
    fn proof_byte(self) -> u8 {
        match self {
            Self::Initiator => 1,
            Self::Responder => 2,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// Makes a link over `stream`. Both sides have [`limits::LINK_HANDSHAKE_TIMEOUT_MS`] to prove that they hold
/// the shared key; then there is as much again for the proofs of who they are, and
/// [`limits::LINK_APPROVAL_TIMEOUT_MS`] for the word of each side's app. Must be called inside a tokio
/// runtime, which will run the link's writer.
///
/// # Errors
/// [`LinkError`] with the reason; the stream is closed.
pub async fn link_over(
    stream: Box<dyn ByteStream>,
    role: Role,
    kind: LinkKind,
    address: Option<SocketAddr>,
    credentials: &LinkCredentials,
) -> Result<Link, LinkError> {
    let shake = Handshake {
        stream,
        role,
        kind,
        address,
        credentials,
        shown: Vec::new(),
    };
    let (stream, cipher, remote, shown) = shake.run().await?;
    let properties = LinkProperties {
        kind,
        role,
        address,
        local_address: None,
        remote_peer: remote.peer,
        remote_device_name: remote.device_name,
        remote_metadata: remote.metadata,
        remote_certificate: remote.certificate,
        shown_certificate: shown,
        frame_bytes_max: u32::try_from(limits::FRAME_BYTES_MAX).expect("256 KiB fits"),
    };
    Ok(Link::start(stream, cipher, properties))
}

/// The stream is dropped when it fails in time: then there is nobody to say more to.
async fn in_time<T>(
    limit_ms: u64,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let limit = Duration::from_millis(limit_ms);
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or(Err(LinkError::HandshakeTimedOut))
}

struct Remote {
    peer: PeerId,
    device_name: String,
    metadata: Vec<u8>,
    certificate: Vec<u8>,
    /// What its clock reads, as it says.
    clock_ms: u64,
}

/// What a link is made of: also who is there, and the certificate that this side showed.
type Shaken = (Box<dyn ByteStream>, Cipher, Remote, Vec<u8>);

struct Handshake<'a> {
    stream: Box<dyn ByteStream>,
    role: Role,
    kind: LinkKind,
    address: Option<SocketAddr>,
    credentials: &'a LinkCredentials,
    /// The certificate that this side showed.
    shown: Vec<u8>,
}

impl Handshake<'_> {
    async fn run(mut self) -> Result<Shaken, LinkError> {
        match self.shake().await {
            Ok((cipher, remote)) => Ok((self.stream, cipher, remote, self.shown)),
            Err(error) => {
                match error {
                    // Said already, where nobody else can read it.
                    LinkError::NotCertified { .. } => self.linger().await,
                    LinkError::Refused {
                        refusal,
                        by_remote: false,
                        ..
                    } => self.refuse(refusal).await,
                    // Nobody is reading.
                    LinkError::HandshakeTimedOut => {}
                    // The other side may still be reading our preamble.
                    _ => self.linger().await,
                }
                Err(error)
            }
        }
    }

    async fn shake(&mut self) -> Result<(Cipher, Remote), LinkError> {
        let (cipher, transcript) = in_time(limits::LINK_HANDSHAKE_TIMEOUT_MS, self.meet()).await?;
        let limit = limits::LINK_HANDSHAKE_TIMEOUT_MS + 2 * limits::LINK_APPROVAL_TIMEOUT_MS;
        let remote = in_time(limit, self.introduce(&cipher, &transcript)).await?;
        Ok((cipher, remote))
    }

    /// Up to where both know that the other holds the shared key.
    async fn meet(&mut self) -> Result<(Cipher, Transcript), LinkError> {
        let prologue = self.exchange_preambles().await?;
        let (mut noise, local_static) = self.noise(&prologue)?;
        match self.role {
            Role::Initiator => {
                self.write_noise(&mut noise).await?;
                self.read_noise(&mut noise).await?;
                self.write_noise(&mut noise).await?;
            }
            Role::Responder => {
                self.read_noise(&mut noise).await?;
                self.write_noise(&mut noise).await?;
                // The shared key enters with the third message, so it is the one that fails.
                self.read_noise(&mut noise).await.map_err(|e| match e {
                    LinkError::Tampered => LinkError::refuse(Refusal::KeyMismatch),
                    other => other,
                })?;
            }
        }
        let hash: [u8; 32] = noise
            .get_handshake_hash()
            .try_into()
            .expect("BLAKE2s hashes have 32 bytes");
        let remote_static: [u8; 32] = noise
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .expect("the XX pattern carries both static keys");
        let cipher = Cipher::new(
            noise
                .into_transport_mode()
                .map_err(|_| LinkError::Tampered)?,
        );
        let transcript = Transcript {
            hash,
            local_static,
            remote_static,
        };
        Ok((cipher, transcript))
    }

    /// Both prove who they are, and consent: the responder with its proof, the initiator with a word of
    /// its own, for it hears last who is there.
    async fn introduce(
        &mut self,
        cipher: &Cipher,
        transcript: &Transcript,
    ) -> Result<Remote, LinkError> {
        match self.role {
            Role::Initiator => {
                self.write_proof(cipher, transcript).await?;
                let remote = self.read_proof(cipher, transcript).await?;
                self.judge_certificate(cipher, &remote).await?;
                self.judge(&remote).await?;
                self.write_record(cipher, &[]).await?;
                Ok(remote)
            }
            Role::Responder => {
                let remote = self.read_proof(cipher, transcript).await?;
                self.judge_certificate(cipher, &remote).await?;
                self.judge(&remote).await?;
                self.write_proof(cipher, transcript).await?;
                self.read_consent(cipher, remote.peer).await?;
                Ok(remote)
            }
        }
    }

    /// Judges what the other side shows, and tells it what is wrong with that, and nobody else.
    async fn judge_certificate(
        &mut self,
        cipher: &Cipher,
        remote: &Remote,
    ) -> Result<(), LinkError> {
        let Some(certifier) = self.credentials.certifier() else {
            return Ok(());
        };
        let judged = certifier.judge(&remote.peer, &remote.certificate, remote.clock_ms);
        let Err(CertificateRefusal { fault, words }) = judged else {
            return Ok(());
        };
        let word = encode_refusal(fault, certifier.now_ms());
        // Best effort: the link is refused whether or not the other side hears why.
        let _ = self.write_record(cipher, &word).await;
        Err(LinkError::NotCertified {
            fault,
            by_remote: false,
            peer: Some(remote.peer),
            words,
        })
    }

    /// The other side does not take the certificate of this one.
    fn not_certified(&self, (fault, their_ms): (CertificateFault, u64)) -> LinkError {
        let explain = |certifier: &dyn Certifier| certifier.explain(fault, their_ms);
        LinkError::NotCertified {
            fault,
            by_remote: true,
            peer: None,
            words: self
                .credentials
                .certifier()
                .map(explain)
                .unwrap_or_default(),
        }
    }

    async fn judge(&self, remote: &Remote) -> Result<(), LinkError> {
        let applicant = Applicant {
            peer: remote.peer,
            device_name: remote.device_name.clone(),
            metadata: remote.metadata.clone(),
            kind: self.kind,
            role: self.role,
            address: self.address,
        };
        self.credentials.judge(applicant).await
    }

    /// Sends our preamble, checks theirs, and gives both in the initiator's order.
    async fn exchange_preambles(&mut self) -> Result<[u8; 2 * PREAMBLE_BYTES], LinkError> {
        let mut nonce = [0; 16];
        random(&mut nonce)?;
        let (database, mode) = (self.credentials.database(), self.credentials.mode());
        let ours = Preamble::new(VersionRange::OURS, database, mode, nonce).to_bytes();
        if self.role == Role::Initiator {
            self.stream.write_all(&ours).await?;
            self.stream.flush().await?;
        }
        let mut theirs = [0; PREAMBLE_BYTES];
        self.read_head(&mut theirs).await?;
        if self.role == Role::Responder {
            // Before anything is judged, so that the other side can judge as well.
            self.stream.write_all(&ours).await?;
            self.stream.flush().await?;
        }
        let (head, rest) = theirs
            .split_first_chunk_mut::<HEAD_BYTES>()
            .expect("a preamble is longer than its head");
        let versions = Preamble::decode_versions(head)?;
        if VersionRange::OURS.common(versions).is_none() {
            return Err(LinkError::VersionMismatch {
                ours: VersionRange::OURS,
                theirs: versions,
            });
        }
        self.stream.read_exact(rest).await?;
        match Preamble::decode(&theirs)?.mode_in(database) {
            None => return Err(LinkError::DatabaseMismatch),
            Some(theirs) if theirs != mode => {
                return Err(LinkError::ModeMismatch { ours: mode, theirs });
            }
            Some(_) => {}
        }
        let mut prologue = [0; 2 * PREAMBLE_BYTES];
        let (first, second) = prologue.split_at_mut(PREAMBLE_BYTES);
        let (initiator, responder) = match self.role {
            Role::Initiator => (&ours, &theirs),
            Role::Responder => (&theirs, &ours),
        };
        first.copy_from_slice(initiator);
        second.copy_from_slice(responder);
        Ok(prologue)
    }

    /// Reads the head of a preamble. Fails at the first wrong byte: somebody who speaks another
    /// protocol may send less than a head and wait.
    async fn read_head(&mut self, theirs: &mut [u8; PREAMBLE_BYTES]) -> Result<(), LinkError> {
        let (database, mode) = (self.credentials.database(), self.credentials.mode());
        let expected = Preamble::new(VersionRange::OURS, database, mode, [0; 16]);
        let magic = &expected.to_bytes()[..8];
        let mut filled = 0;
        while filled < HEAD_BYTES {
            let len = self.stream.read(&mut theirs[filled..HEAD_BYTES]).await?;
            let checked = (filled + len).min(magic.len());
            if theirs[..checked] != magic[..checked] || (len == 0 && filled > 0) {
                return Err(LinkError::NotAPeer);
            }
            if len == 0 {
                return Err(LinkError::Lost { source: None });
            }
            filled += len;
        }
        Ok(())
    }

    /// The Noise state, and the public half of its static key.
    fn noise(&self, prologue: &[u8]) -> Result<(HandshakeState, [u8; 32]), LinkError> {
        let failed = |_| LinkError::Malformed {
            what: "the handshake could not be set up",
        };
        let builder =
            || snow::Builder::new(NOISE_PATTERN.parse().expect("the pattern is well formed"));
        // The static key lives as long as the link: the identity signs it, so it need not be kept.
        let pair = builder().generate_keypair().map_err(failed)?;
        let secret = Zeroizing::new(pair.private);
        let builder = builder()
            .local_private_key(&secret)
            .and_then(|builder| builder.psk(3, self.credentials.psk()))
            .and_then(|builder| builder.prologue(prologue))
            .map_err(failed)?;
        let noise = match self.role {
            Role::Initiator => builder.build_initiator(),
            Role::Responder => builder.build_responder(),
        };
        let public = pair.public.try_into().expect("x25519 keys have 32 bytes");
        Ok((noise.map_err(failed)?, public))
    }

    async fn write_noise(&mut self, noise: &mut HandshakeState) -> Result<(), LinkError> {
        let mut message = [0; HANDSHAKE_MESSAGE_BYTES_MAX];
        let len = noise
            .write_message(&[], &mut message)
            .map_err(|_| LinkError::Tampered)?;
        self.write_message(&message[..len]).await
    }

    async fn read_noise(&mut self, noise: &mut HandshakeState) -> Result<(), LinkError> {
        let message = self.read_message(HANDSHAKE_MESSAGE_BYTES_MAX).await?;
        let mut payload = [0; HANDSHAKE_MESSAGE_BYTES_MAX];
        let len = noise
            .read_message(&message, &mut payload)
            .map_err(|_| LinkError::Tampered)?;
        if len != 0 {
            return Err(LinkError::Malformed {
                what: "a handshake message with a payload",
            });
        }
        Ok(())
    }

    async fn write_message(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let field = u16::try_from(message.len()).expect("handshake messages are short");
        let mut out = field.to_be_bytes().to_vec();
        out.extend_from_slice(message);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        Ok(())
    }

    async fn read_message(&mut self, bytes_max: usize) -> Result<Vec<u8>, LinkError> {
        let mut field = [0; 2];
        self.stream.read_exact(&mut field).await?;
        let len = usize::from(u16::from_be_bytes(field));
        if len == 0 {
            let refusal = Refusal::from_byte(self.stream.read_u8().await?);
            return Err(refusal.map_or(
                LinkError::Malformed {
                    what: "an unknown refusal",
                },
                |refusal| LinkError::Refused {
                    refusal,
                    by_remote: true,
                    peer: None,
                },
            ));
        }
        if len > bytes_max {
            return Err(LinkError::Malformed {
                what: "a handshake message over its limit",
            });
        }
        let mut message = vec![0; len];
        self.stream.read_exact(&mut message).await?;
        Ok(message)
    }

    async fn write_proof(
        &mut self,
        cipher: &Cipher,
        transcript: &Transcript,
    ) -> Result<(), LinkError> {
        let identity = self.credentials.identity();
        let signed = transcript.signed_text(self.role, &transcript.local_static);
        let mut proof = identity.peer_id().0.to_vec();
        proof.extend_from_slice(&identity.sign(&signed));
        let name = self.credentials.device_name().as_bytes();
        proof.push(u8::try_from(name.len()).expect("a name is cut to its limit"));
        proof.extend_from_slice(name);
        if let Some(certifier) = self.credentials.certifier() {
            proof.extend_from_slice(&certifier.now_ms().to_be_bytes());
            let certificate = certifier.own_certificate();
            let len = u16::try_from(certificate.len())
                .ok()
                .filter(|_| certificate.len() <= limits::CERTIFICATE_BYTES_MAX);
            let len = len.expect("a certificate within its limit");
            proof.extend_from_slice(&len.to_be_bytes());
            proof.extend_from_slice(&certificate);
            self.shown = certificate;
        }
        proof.extend_from_slice(&self.credentials.metadata());
        self.write_record(cipher, &proof).await
    }

    async fn write_record(&mut self, cipher: &Cipher, plain: &[u8]) -> Result<(), LinkError> {
        let mut record = Vec::new();
        cipher.seal(plain, &mut record)?;
        self.stream.write_all(&record).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Waits for the initiator's word that it wants this side.
    async fn read_consent(&mut self, cipher: &Cipher, remote: PeerId) -> Result<(), LinkError> {
        let has_certificates = self.credentials.certifier().is_some();
        let refusal_bytes = if has_certificates { REFUSAL_BYTES } else { 0 };
        let read = self.read_message(CONSENT_BYTES + refusal_bytes).await;
        let record = read.map_err(|error| match error {
            LinkError::Refused {
                refusal, by_remote, ..
            } => LinkError::Refused {
                refusal,
                by_remote,
                peer: Some(remote),
            },
            other => other,
        })?;
        let mut plain = Vec::new();
        cipher.open(&record, &mut plain)?;
        if has_certificates && let Some(refusal) = decode_refusal(&plain) {
            return Err(self.not_certified(refusal));
        }
        if !plain.is_empty() {
            return Err(LinkError::Malformed {
                what: "a word of consent with a content",
            });
        }
        Ok(())
    }

    async fn read_proof(
        &mut self,
        cipher: &Cipher,
        transcript: &Transcript,
    ) -> Result<Remote, LinkError> {
        let has_certificates = self.credentials.certifier().is_some();
        let bytes_max = match has_certificates {
            true => PROOF_BYTES_MAX + CERTIFICATE_PART_BYTES_MAX,
            false => PROOF_BYTES_MAX,
        };
        let record = self.read_message(bytes_max).await?;
        let mut proof = Vec::new();
        cipher.open(&record, &mut proof)?;
        // Who dials is told here, before the other side has said who it is.
        if has_certificates
            && self.role == Role::Initiator
            && let Some(refusal) = decode_refusal(&proof)
        {
            return Err(self.not_certified(refusal));
        }
        let invalid = || LinkError::refuse(Refusal::IdentityInvalid);
        let (peer, rest) = proof.split_first_chunk::<32>().ok_or_else(invalid)?;
        let (signature, rest) = rest.split_first_chunk::<64>().ok_or_else(invalid)?;
        let peer = PeerId(*peer);
        let signed = transcript.signed_text(self.role.other(), &transcript.remote_static);
        if !signature_holds(&peer, &signed, signature) {
            return Err(invalid());
        }
        let (name_bytes, rest) = rest.split_first().ok_or_else(invalid)?;
        let name = rest.split_at_checked(usize::from(*name_bytes));
        let (name, rest) = name.ok_or_else(invalid)?;
        let (mut clock_ms, mut certificate, mut metadata) = (0, &[][..], rest);
        if has_certificates {
            let (clock, rest) = rest.split_first_chunk::<8>().ok_or_else(invalid)?;
            let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(invalid)?;
            clock_ms = u64::from_be_bytes(*clock);
            let len = usize::from(u16::from_be_bytes(*len));
            (certificate, metadata) = rest.split_at_checked(len).ok_or_else(invalid)?;
        }
        let device_name = std::str::from_utf8(name).map_err(|_| invalid())?;
        if name.len() > limits::DEVICE_NAME_BYTES_MAX
            || certificate.len() > limits::CERTIFICATE_BYTES_MAX
            || metadata.len() > limits::PRESENCE_METADATA_BYTES_MAX
        {
            return Err(invalid());
        }
        if peer == self.credentials.identity().peer_id() {
            return Err(LinkError::refuse(Refusal::SelfLink));
        }
        Ok(Remote {
            peer,
            device_name: device_name.to_owned(),
            metadata: metadata.to_vec(),
            certificate: certificate.to_vec(),
            clock_ms,
        })
    }

    async fn refuse(&mut self, refusal: Refusal) {
        // Best effort: the link is refused whether or not the other side hears why.
        if self
            .stream
            .write_all(&[0, 0, refusal.to_byte()])
            .await
            .is_ok()
        {
            self.linger().await;
        }
    }

    async fn linger(&mut self) {
        let until_closed = async {
            if self.stream.shutdown().await.is_err() {
                return;
            }
            let mut rest = [0; 256];
            while matches!(self.stream.read(&mut rest).await, Ok(1..)) {}
        };
        let _ = tokio::time::timeout(REFUSAL_LINGER, until_closed).await;
    }
}

/// What both sides saw of the handshake.
struct Transcript {
    hash: [u8; 32],
    local_static: [u8; 32],
    remote_static: [u8; 32],
}

impl Transcript {
    /// What a side signs: the handshake hash, which covers the preambles and all keys, and its own
    /// Noise static key. The role keeps a signature from being sent back to its maker.
    fn signed_text(&self, signer: Role, signer_static: &[u8; 32]) -> Vec<u8> {
        let mut text = PROOF_CONTEXT.to_vec();
        text.push(signer.proof_byte());
        text.extend_from_slice(&self.hash);
        text.extend_from_slice(signer_static);
        text
    }
}

impl fmt::Debug for Handshake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

pub(crate) fn random(bytes: &mut [u8]) -> Result<(), LinkError> {
    getrandom::fill(bytes).map_err(|error| LinkError::Lost {
        source: Some(std::io::Error::other(error.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use idem_model::DatabaseId;

    use super::*;
    use crate::{
        identity::{LinkIdentity, SharedSecret},
        memory::memory_streams,
    };

    fn credentials(identity: u8) -> LinkCredentials {
        LinkCredentials::new(
            LinkIdentity::from_secret(&[identity; 32]),
            DatabaseId([1; 16]),
            &SharedSecret::new([7; 32]),
            "test",
        )
    }

    /// What a peer that holds the shared key puts into its proof in place of the truth.
    #[derive(Debug, Clone, Copy)]
    enum Forgery {
        None,
        /// Another peer's key under our signature.
        Name,
        /// A signature in the other role, as if theirs was sent back.
        Role,
        /// A signature of another handshake.
        Hash,
        /// A signature for another static key.
        Static,
    }

    async fn dial_with(forgery: Forgery, stream: Box<dyn ByteStream>) -> Result<(), LinkError> {
        let (ours, victim) = (credentials(1), credentials(3));
        let mut shake = Handshake {
            stream,
            role: Role::Initiator,
            kind: LinkKind::Memory,
            address: None,
            credentials: &ours,
            shown: Vec::new(),
        };
        let prologue = shake.exchange_preambles().await?;
        let (mut noise, mut local_static) = shake.noise(&prologue)?;
        shake.write_noise(&mut noise).await?;
        shake.read_noise(&mut noise).await?;
        shake.write_noise(&mut noise).await?;
        let mut hash: [u8; 32] = noise.get_handshake_hash().try_into().unwrap();
        let cipher = Cipher::new(noise.into_transport_mode().unwrap());
        let (mut role, mut name) = (Role::Initiator, ours.identity().peer_id());
        match forgery {
            Forgery::None => {}
            Forgery::Name => name = victim.identity().peer_id(),
            Forgery::Role => role = Role::Responder,
            Forgery::Hash => hash[0] ^= 1,
            Forgery::Static => local_static[0] ^= 1,
        }
        let transcript = Transcript {
            hash,
            local_static,
            remote_static: [0; 32],
        };
        let mut proof = name.0.to_vec();
        let signed = transcript.signed_text(role, &local_static);
        proof.extend_from_slice(&ours.identity().sign(&signed));
        proof.push(0);
        shake.write_record(&cipher, &proof).await?;
        shake.read_message(PROOF_BYTES_MAX).await?;
        shake.write_record(&cipher, &[]).await
    }

    #[test]
    fn a_peer_cannot_claim_to_be_another() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for forgery in [
            Forgery::None,
            Forgery::Name,
            Forgery::Role,
            Forgery::Hash,
            Forgery::Static,
        ] {
            let (a, b) = memory_streams();
            let host = credentials(2);
            let accept = link_over(Box::new(b), Role::Responder, LinkKind::Memory, None, &host);
            let (dialled, accepted) =
                runtime.block_on(async { tokio::join!(dial_with(forgery, Box::new(a)), accept) });
            if matches!(forgery, Forgery::None) {
                dialled.unwrap();
                accepted.unwrap();
                continue;
            }
            let reason = accepted.unwrap_err().reason();
            assert_eq!(reason, "identity-invalid", "{forgery:?}");
            let told = dialled.unwrap_err().reason();
            assert_eq!(told, "identity-invalid", "{forgery:?}");
        }
    }
}

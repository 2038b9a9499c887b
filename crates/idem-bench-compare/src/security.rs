//! What security costs: processor time of the handshake of a link.

use std::sync::Arc;

use idem_auth::{
    Access, Authorities, Authority, AuthorityKey, Certificate, CertificateSerial, Grants,
    SignedCertificate, Signer, Trust,
};
use idem_model::{DatabaseId, Object, PeerId};
use idem_transport::{
    CertificateFault, CertificateRefusal, Certifier, LinkCredentials, LinkIdentity, LinkKind, Role,
    SharedSecret, link_over, memory_streams,
};

use crate::{
    engines::Failure,
    report::{Better, Row, median},
};

const DATABASE: DatabaseId = DatabaseId([1; 16]);
const NOW_MS: u64 = 1_790_000_000_000;
const GOAL_MS: f64 = 2.0;

/// How much work is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Handshakes of a round.
    pub(crate) handshakes: u32,
}

impl Effort {
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        handshakes: 2,
    };

    pub(crate) fn full(rounds: usize) -> Self {
        Self {
            rounds,
            handshakes: 200,
        }
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

/// Does what the desk of a peer does, without keeping anything.
struct Judge {
    own: Vec<u8>,
    trust: Trust,
}

impl Certifier for Judge {
    fn own_certificate(&self) -> Vec<u8> {
        self.own.clone()
    }

    fn now_ms(&self) -> u64 {
        NOW_MS
    }

    fn judge(
        &self,
        peer: &PeerId,
        certificate: &[u8],
        _clock_ms: u64,
    ) -> Result<(), CertificateRefusal> {
        let refused = |words: String| CertificateRefusal {
            fault: CertificateFault::Signature,
            words,
        };
        let signed = SignedCertificate::decode(certificate);
        let signed = signed.map_err(|error| refused(error.to_string()))?;
        let verdict = self.trust.judge(&signed, peer, NOW_MS);
        match verdict.holds() {
            true => Ok(()),
            false => Err(refused(verdict.to_string())),
        }
    }

    fn explain(&self, fault: CertificateFault, _their_ms: u64) -> String {
        fault.reason().to_owned()
    }
}

fn shared(byte: u8) -> LinkCredentials {
    let identity = LinkIdentity::from_secret(&[byte; 32]);
    LinkCredentials::new(identity, DATABASE, &SharedSecret::new([9; 32]), "bench")
}

fn certified(byte: u8) -> Result<LinkCredentials, Failure> {
    let authority = Key(LinkIdentity::from_secret(&[0x41; 32]));
    let identity = LinkIdentity::from_secret(&[byte; 32]);
    let own = Certificate {
        database: DATABASE,
        serial: CertificateSerial([byte; 16]),
        subject: identity.peer_id(),
        user: "ada@example.com".to_owned(),
        issued_at_ms: NOW_MS,
        not_before_ms: NOW_MS,
        not_after_ms: NOW_MS + 1000,
        claims: Object::from([("site".to_owned(), "north".into())]),
        grants: Grants {
            read: Access::of(&[("flights", &["site = :claims.site"])]),
            ..Grants::everything()
        },
    };
    let keys = vec![Authority::always(AuthorityKey(authority.public_key()))];
    let judge = Judge {
        own: own.sign(&authority)?.to_bytes(),
        trust: Trust::new(Authorities::new(DATABASE, keys)?),
    };
    let judge = Arc::new(judge);
    Ok(LinkCredentials::with_certificates(
        identity, DATABASE, None, "bench", judge,
    ))
}

/// Processor time of this thread, on which both sides run.
fn seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Milliseconds that one side of a handshake takes.
fn measure(a: &LinkCredentials, b: &LinkCredentials, count: u32) -> Result<f64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let began = seconds();
    for _ in 0..count {
        let (at_a, at_b) = memory_streams();
        let (one, two) = runtime.block_on(async {
            tokio::join!(
                link_over(Box::new(at_a), Role::Initiator, LinkKind::Memory, None, a),
                link_over(Box::new(at_b), Role::Responder, LinkKind::Memory, None, b),
            )
        });
        drop((one?, two?));
    }
    Ok((seconds() - began) * 1000.0 / f64::from(count) / 2.0)
}

/// The row of handshakes: with certificates, beside those with a shared key.
pub(crate) fn run(effort: Effort, tell: impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    tell("handshakes of links");
    let (keys, certificates) = ([shared(1), shared(2)], [certified(1)?, certified(2)?]);
    let (mut plain, mut with) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        with.push(measure(
            &certificates[0],
            &certificates[1],
            effort.handshakes,
        )?);
        plain.push(measure(&keys[0], &keys[1], effort.handshakes)?);
    }
    let (with, plain) = (median(&with), median(&plain));
    Ok(vec![Row {
        workload: "handshake-cpu-per-side",
        unit: "ms",
        idem: Some(with),
        other: Some(plain),
        other_name: "the same with a shared key and without certificates",
        ratio: Better::Less.ratio(with, plain),
        durability: "none (in memory)",
        errors: 0,
        verified: true,
        goal: "below 2 ms",
        reached: with < GOAL_MS,
    }])
}

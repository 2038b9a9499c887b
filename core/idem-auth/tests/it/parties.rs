//! Keys and certificates for tests.

use ed25519_dalek::{Signer as _, SigningKey};
use idem_auth::{
    Access, Authorities, Authority, AuthorityKey, Certificate, CertificateSerial, Grants, Signer,
    Trust,
};
use idem_model::{CollectionName, DatabaseId, Object, PeerId, Value, json};

pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const DAY: u64 = 24 * HOUR;

/// When certificates of these tests are issued.
pub(crate) const ISSUED: u64 = 1_790_000_000_000;

/// A key of a test.
pub(crate) struct Key(SigningKey);

impl Key {
    pub(crate) fn new(byte: u8) -> Self {
        Self(SigningKey::from_bytes(&[byte; 32]))
    }

    pub(crate) fn peer(&self) -> PeerId {
        PeerId(self.public_key())
    }

    pub(crate) fn authority(&self) -> AuthorityKey {
        AuthorityKey(self.public_key())
    }
}

impl Signer for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

pub(crate) fn database() -> DatabaseId {
    DatabaseId(std::array::from_fn(|at| {
        u8::try_from(at).expect("below 16")
    }))
}

/// The key that signs certificates of these tests.
pub(crate) fn issuer() -> Key {
    Key::new(0x41)
}

/// Whom they are about.
pub(crate) fn holder() -> Key {
    Key::new(0x42)
}

pub(crate) fn collection(name: &str) -> CollectionName {
    CollectionName::new(name).expect("the name of a collection")
}

pub(crate) fn object(text: &str) -> Object {
    match json::parse(text).expect("JSON") {
        Value::Object(fields) => fields,
        other => panic!("{other:?} is no object"),
    }
}

/// A day's certificate with some of everything.
pub(crate) fn certificate() -> Certificate {
    Certificate {
        database: database(),
        serial: CertificateSerial([0x5e; 16]),
        subject: holder().peer(),
        user: "ada@example.com".to_owned(),
        issued_at_ms: ISSUED,
        not_before_ms: ISSUED,
        not_after_ms: ISSUED + DAY,
        claims: object(r#"{"site": "north", "gates": [7, 8], "level": 2.5}"#),
        grants: Grants {
            read: Access::of(&[
                ("flights", &["gate IN :claims.gates", "site = :claims.site"]),
                (
                    "notes",
                    &["owner = :user", "ANY x IN readers SATISFIES x = :user END"],
                ),
                ("places", &["true"]),
            ]),
            write: Access::of(&[("notes", &["owner = :user"])]),
            remote_query: true,
            admin: false,
        },
    }
}

pub(crate) fn authorities() -> Authorities {
    Authorities::new(database(), vec![Authority::always(issuer().authority())])
        .expect("one authority")
}

pub(crate) fn trust() -> Trust {
    Trust::new(authorities())
}

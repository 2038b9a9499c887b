//! TLS around WebSockets: a way through proxies that pass nothing else on.
//!
//! It keeps nothing secret that a link does not keep secret by itself, and proves nothing about peers: the
//! handshake of a link runs inside of it as it does over TCP.

use std::{
    io,
    path::{Path, PathBuf},
};

#[cfg(feature = "tls")]
mod rustls;
#[cfg(not(feature = "tls"))]
mod without;

#[cfg(feature = "tls")]
pub use rustls::{TlsCertificate, TlsTrust};
#[cfg(feature = "tls")]
pub(crate) use rustls::{begin_as_client, begin_as_server};
#[cfg(not(feature = "tls"))]
pub use without::{TlsCertificate, TlsTrust};
#[cfg(not(feature = "tls"))]
pub(crate) use without::{begin_as_client, begin_as_server};

/// Why TLS cannot be used as it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// This crate was built without it.
    #[error("this build has no TLS; build it with the feature tls")]
    NotBuilt,
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that should hold certificates holds none.
    #[error("{} holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// Which one.
        path: PathBuf,
    },
    /// A file that should hold a private key holds none.
    #[error("{} holds no private key in PEM form", path.display())]
    NoKey {
        /// Which one.
        path: PathBuf,
    },
    /// What is in a file cannot be used.
    #[error("{} cannot be used: {what}", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A key and a certificate do not belong together.
    #[error("the key in {} is not the one of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// Where the certificate is.
        certificate: PathBuf,
        /// Where the key is.
        key: PathBuf,
    },
    /// The system trusts nobody.
    #[error(
        "this system has no certificates of authorities (Debian: ca-certificates); name a file that has some"
    )]
    NoAuthorities,
}

/// A file of at most as many bytes as any sensible one has.
#[cfg_attr(
    not(feature = "tls"),
    expect(dead_code, reason = "nothing is read without TLS")
)]
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;

    let unreadable = |source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let limit = idem_model::limits::TLS_FILE_BYTES_MAX;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(TlsError::Damaged {
            path: path.to_owned(),
            what: format!("it has more than {limit} bytes"),
        });
    }
    Ok(bytes)
}

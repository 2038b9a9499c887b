//! TLS by rustls, with the algorithms of ring.

use std::{fmt, io, path::Path, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        AlertDescription, CertificateError, ClientConfig, Error, InconsistentKeys, RootCertStore,
        ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject as _},
    },
};

use super::{TlsError, read};
use crate::{error::LinkError, handshake::ByteStream};

/// What a WebSocket begins with. Without it a proxy may choose HTTP/2, which begins one in another way.
const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

/// Which authorities a dialled server has to be certified by.
#[derive(Clone)]
pub struct TlsTrust(Arc<ClientConfig>);

impl TlsTrust {
    /// Those that this system trusts. Reads a file of some 300 KB, so it is worth keeping.
    ///
    /// # Errors
    /// [`TlsError::NoAuthorities`].
    pub fn of_system() -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        // Some that are there are of no use, as old ones with negative numbers. That is no reason to trust
        // none.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoAuthorities);
        }
        Ok(Self::of(roots))
    }

    /// Those in the file `path`, certificates in PEM form, and no others. It may be the certificate of the server
    /// itself, if that is signed by nobody else.
    ///
    /// # Errors
    /// [`TlsError`] that names the file.
    pub fn of_file(path: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| damaged(path, error))?;
        }
        Ok(Self::of(roots))
    }

    fn of(roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has algorithms for every version of TLS");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Self(Arc::new(config))
    }
}

impl fmt::Debug for TlsTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTrust")
    }
}

/// What a listener shows to prove its name.
#[derive(Clone)]
pub struct TlsCertificate(Arc<ServerConfig>);

impl TlsCertificate {
    /// Reads a chain of certificates, that of the listener first, and the private key of the first one, both in
    /// PEM form.
    ///
    /// # Errors
    /// [`TlsError`] that names the file.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey { path: key.into() },
            error => damaged(key, error),
        })?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has algorithms for every version of TLS");
        let config = config.with_no_client_auth().with_single_cert(chain, secret);
        let mut config = config.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                certificate: certificate.into(),
                key: key.into(),
            },
            Error::InvalidCertificate(_) => damaged(certificate, error),
            error => damaged(key, error),
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self(Arc::new(config)))
    }
}

impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsCertificate")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| damaged(path, error))?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { path: path.into() });
    }
    Ok(found)
}

fn damaged(path: &Path, error: impl fmt::Display) -> TlsError {
    TlsError::Damaged {
        path: path.into(),
        what: error.to_string(),
    }
}

/// Begins TLS with a server that has to prove that it is `host`, as a URL has it.
pub(crate) async fn begin_as_client(
    stream: TcpStream,
    host: &str,
    trust: &TlsTrust,
) -> Result<Box<dyn ByteStream>, LinkError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| LinkError::AddressInvalid {
        address: host.to_owned(),
        what: "its name is none that a certificate can be for",
    })?;
    let connector = TlsConnector::from(Arc::clone(&trust.0));
    let begun = connector.connect(name, stream).await;
    Ok(Box::new(begun.map_err(|error| failure(error, host))?))
}

/// Begins TLS with a client.
pub(crate) async fn begin_as_server(
    stream: TcpStream,
    certificate: &TlsCertificate,
) -> Result<Box<dyn ByteStream>, LinkError> {
    let acceptor = TlsAcceptor::from(Arc::clone(&certificate.0));
    let begun = acceptor.accept(stream).await;
    Ok(Box::new(begun.map_err(|error| failure(error, ""))?))
}

/// Says why TLS did not begin.
fn failure(error: io::Error, host: &str) -> LinkError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        None => error.into(),
        Some(Error::InvalidCertificate(why)) => LinkError::CertificateInvalid {
            host: host.to_owned(),
            what: refused_certificate(why),
        },
        Some(why) => LinkError::TlsFailed {
            what: match why {
                Error::InvalidMessage(_) => "the other side speaks no TLS".to_owned(),
                Error::AlertReceived(alert) => match alert {
                    AlertDescription::UnknownCA
                    | AlertDescription::BadCertificate
                    | AlertDescription::CertificateExpired
                    | AlertDescription::DecryptError
                    | AlertDescription::CertificateUnknown => {
                        "the other side does not accept the certificate of this one".to_owned()
                    }
                    alert => format!("the other side says {alert:?}"),
                },
                why => why.to_string(),
            },
        },
    }
}

/// What is wrong with a certificate, in words that say what to do.
fn refused_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "no authority that is trusted here has signed it".to_owned()
        }
        CertificateError::BadSignature => {
            "its signature is not that of the authority that it names".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, or the clock of this machine is behind".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let shown: Vec<&str> = presented.iter().map(|name| name_alone(name)).collect();
            match shown.as_slice() {
                [] => "it is for no name at all".to_owned(),
                shown => format!("it is for {}", shown.join(", ")),
            }
        }
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        why => why.to_string(),
    }
}

/// `example.org` of `DnsName("example.org")`.
fn name_alone(shown: &str) -> &str {
    shown
        .split_once("(\"")
        .and_then(|(_, rest)| rest.strip_suffix("\")"))
        .unwrap_or(shown)
}

//! What there is of TLS in a build that has none.

use std::{convert::Infallible, path::Path};

use tokio::net::TcpStream;

use super::TlsError;
use crate::{error::LinkError, handshake::ByteStream};

/// Which authorities a dialled server has to be certified by. There is none in a build without the feature
/// `tls`.
#[derive(Debug, Clone)]
pub struct TlsTrust(Infallible);

impl TlsTrust {
    /// Those that this system trusts.
    ///
    /// # Errors
    /// [`TlsError::NotBuilt`].
    pub fn of_system() -> Result<Self, TlsError> {
        Err(TlsError::NotBuilt)
    }

    /// Those in a file.
    ///
    /// # Errors
    /// [`TlsError::NotBuilt`].
    pub fn of_file(_: &Path) -> Result<Self, TlsError> {
        Err(TlsError::NotBuilt)
    }
}

/// What a listener shows to prove its name. There is none in a build without the feature `tls`.
#[derive(Debug, Clone)]
pub struct TlsCertificate(Infallible);

impl TlsCertificate {
    /// Reads it from files.
    ///
    /// # Errors
    /// [`TlsError::NotBuilt`].
    pub fn read(_: &Path, _: &Path) -> Result<Self, TlsError> {
        Err(TlsError::NotBuilt)
    }
}

pub(crate) async fn begin_as_client(
    _: TcpStream,
    _: &str,
    trust: &TlsTrust,
) -> Result<Box<dyn ByteStream>, LinkError> {
    match trust.0 {}
}

pub(crate) async fn begin_as_server(
    _: TcpStream,
    certificate: &TlsCertificate,
) -> Result<Box<dyn ByteStream>, LinkError> {
    match certificate.0 {}
}

//! What there is of links over the internet in a build without them.

use std::convert::Infallible;

use super::{InternetAddress, InternetConfig};
use crate::{
    error::LinkError,
    identity::{LinkCredentials, LinkIdentity},
    link::Link,
};

/// One end of links over the internet. There is none in a build without the feature `internet`.
#[derive(Debug)]
pub struct InternetEndpoint(Infallible);

impl InternetEndpoint {
    /// Opens it.
    ///
    /// # Errors
    /// [`LinkError::Listen`].
    #[expect(clippy::unused_async, reason = "the real one waits")]
    pub async fn bind(_: &LinkIdentity, config: &InternetConfig) -> Result<Self, LinkError> {
        Err(LinkError::Listen {
            address: config.bind.to_string(),
            source: std::io::Error::new(
                std::io::ErrorKind::Unsupported,
                "there are no links over the internet in this build; build it with the feature internet",
            ),
        })
    }

    /// Where others reach it.
    pub fn address(&self) -> InternetAddress {
        match self.0 {}
    }

    /// The next connection.
    ///
    /// # Errors
    /// None; there is none.
    pub async fn accept(&self) -> Result<InternetIncoming, LinkError> {
        match self.0 {}
    }

    /// Dials a peer.
    ///
    /// # Errors
    /// None; there is none.
    pub async fn connect(
        &self,
        _: &InternetAddress,
        _: &LinkCredentials,
    ) -> Result<Link, LinkError> {
        match self.0 {}
    }

    /// Ends it and its links.
    pub async fn close(&self) {
        match self.0 {}
    }
}

/// Somebody connected.
#[derive(Debug)]
pub struct InternetIncoming(Infallible);

impl InternetIncoming {
    /// Where it came from.
    pub fn address(&self) -> String {
        match self.0 {}
    }

    /// Makes it a link.
    ///
    /// # Errors
    /// None; there is none.
    pub async fn handshake(self, _: &LinkCredentials) -> Result<Link, LinkError> {
        match self.0 {}
    }
}

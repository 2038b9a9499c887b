//! Who is in sight, and who connects.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use idem_model::{DatabaseId, limits};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    ble::{
        BleAddress, BleBackend, BleBearer, BleError, BleEvent, BleRadio,
        advert::{BleAdvert, ble_service},
        stream::BleStream,
    },
    error::LinkError,
    handshake::{Role, link_over},
    identity::LinkCredentials,
    link::{Link, LinkKind},
};

/// Who was not seen for this long is not there any more. Adverts come several times a second, but a radio
/// that is busy may miss them for seconds.
const VANISHED_AFTER: Duration = Duration::from_secs(30);

/// How long an L2CAP channel may take before GATT is tried.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(6);

/// How long a connection over GATT may take: services are read first.
const GATT_TIMEOUT: Duration = Duration::from_secs(15);

/// Uses a backend for the peers of one database.
pub struct BleScout {
    radio: Arc<dyn BleRadio>,
    own: BleAdvert,
    /// When each was seen last, and what it said.
    seen: BTreeMap<BleAddress, (Instant, BleAdvert)>,
}

/// What a scout tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum BleSighting {
    /// A peer of the database is in sight, or says something else than before.
    Found {
        /// Where.
        place: BlePlace,
        /// The hash of the peer. Nobody vouches for it.
        peer: [u8; 8],
        /// How strong its signal is.
        signal_dbm: Option<i8>,
    },
    /// It is not in sight any more.
    Vanished(BleAddress),
    /// Somebody connected.
    Incoming(BleIncoming),
}

/// A peer in sight, which can be linked with.
#[derive(Clone)]
pub struct BlePlace {
    radio: Arc<dyn BleRadio>,
    address: BleAddress,
    psm: Option<u8>,
}

/// Somebody who connected.
#[derive(Debug)]
pub struct BleIncoming {
    bearer: BleBearer,
}

impl BleScout {
    /// Advertises the peer with the hash `local`, and looks for others, until it is dropped.
    ///
    /// # Errors
    /// [`BleError`].
    pub async fn start(
        backend: &dyn BleBackend,
        database: DatabaseId,
        local: [u8; 8],
    ) -> Result<Self, BleError> {
        let own = BleAdvert {
            service: ble_service(database),
            psm: None,
            peer: local,
        };
        Ok(Self {
            radio: backend.start(own).await?.into(),
            own,
            seen: BTreeMap::new(),
        })
    }

    /// The next thing to tell. May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// [`BleError`] when the radio is of no use any more.
    pub async fn next(&mut self) -> Result<BleSighting, BleError> {
        loop {
            let last = self.seen.iter().min_by_key(|(_, (at, _))| *at);
            let last = last.map(|(address, (at, _))| (address.clone(), *at + VANISHED_AFTER));
            let vanish = async {
                match last {
                    Some((address, at)) => {
                        sleep_until(at).await;
                        address
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.radio.next() => match event? {
                    BleEvent::Seen { address, service, data, signal_dbm } => {
                        let advert = BleAdvert::decode(service, &data);
                        let told = advert.and_then(|advert| self.see(address, advert, signal_dbm));
                        if let Some(told) = told {
                            return Ok(told);
                        }
                    }
                    BleEvent::Connected(bearer) => {
                        return Ok(BleSighting::Incoming(BleIncoming { bearer }));
                    }
                },
                address = vanish => {
                    self.seen.remove(&address);
                    return Ok(BleSighting::Vanished(address));
                }
            }
        }
    }

    fn see(
        &mut self,
        address: BleAddress,
        advert: BleAdvert,
        signal_dbm: Option<i8>,
    ) -> Option<BleSighting> {
        if advert.service != self.own.service || advert.peer == self.own.peer {
            return None;
        }
        let is_known = self.seen.contains_key(&address);
        // Whoever was there first stays: anybody can make up as many as he likes.
        if !is_known && self.seen.len() >= limits::DISCOVERED_PEERS_MAX {
            return None;
        }
        let before = self.seen.insert(address.clone(), (Instant::now(), advert));
        if before.is_some_and(|(_, before)| before == advert) {
            return None;
        }
        Some(BleSighting::Found {
            place: BlePlace {
                radio: Arc::clone(&self.radio),
                address,
                psm: advert.psm,
            },
            peer: advert.peer,
            signal_dbm,
        })
    }
}

impl BlePlace {
    /// Where it is.
    pub fn address(&self) -> &BleAddress {
        &self.address
    }

    /// Makes a link with the peer: over an L2CAP channel if it takes any, and over GATT if it does not or
    /// none comes about. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] with a [`BleError`] if neither works; otherwise as [`link_over`].
    pub async fn connect(&self, credentials: &LinkCredentials) -> Result<Link, LinkError> {
        let bearer = match self.bearer().await {
            Ok(bearer) => bearer,
            Err(error) => {
                return Err(LinkError::Unreachable {
                    address: self.address.to_string(),
                    source: error.into(),
                });
            }
        };
        link(bearer, Role::Initiator, credentials).await
    }

    async fn bearer(&self) -> Result<BleBearer, BleError> {
        if self.psm.is_some() {
            match self.carried(self.psm, CHANNEL_TIMEOUT).await {
                Ok(bearer) => return Ok(bearer),
                Err(error) => {
                    let (address, error) = (&self.address, error.in_full());
                    tracing::debug!(%address, error, "no L2CAP channel, trying GATT");
                }
            }
        }
        self.carried(None, GATT_TIMEOUT).await
    }

    async fn carried(&self, psm: Option<u8>, limit: Duration) -> Result<BleBearer, BleError> {
        let connected = timeout(limit, self.radio.connect(self.address.clone(), psm)).await;
        connected.unwrap_or_else(|_| Err(BleError::failed("the device did not answer in time")))
    }
}

impl BleIncoming {
    /// Somebody who connected over `bearer`.
    pub fn of(bearer: BleBearer) -> Self {
        Self { bearer }
    }

    /// Who it says that it is.
    pub fn address(&self) -> &BleAddress {
        &self.bearer.address
    }

    /// Makes a link of it. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// As [`link_over`].
    pub async fn handshake(self, credentials: &LinkCredentials) -> Result<Link, LinkError> {
        link(self.bearer, Role::Responder, credentials).await
    }
}

async fn link(
    bearer: BleBearer,
    role: Role,
    credentials: &LinkCredentials,
) -> Result<Link, LinkError> {
    let stream = Box::new(BleStream::start(bearer)?);
    link_over(stream, role, LinkKind::Ble, None, credentials).await
}

impl fmt::Debug for BleScout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BleScout").finish_non_exhaustive()
    }
}

impl fmt::Debug for BlePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlePlace")
            .field("address", &self.address)
            .field("psm", &self.psm)
            .finish_non_exhaustive()
    }
}

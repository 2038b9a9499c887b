//! The radio of this machine, used for the mesh.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use idem_mesh::{Medium, PeerHash};
use idem_model::{DatabaseId, limits};
use idem_transport::{BleBackend, BleError, BleIncoming, BleScout, BleSighting};
use tokio::sync::Semaphore;

use crate::{
    inbox::{Input, Sighting},
    links::{Ground, Origin, Stage, jittered, until},
    media::Spot,
    transport::{ConditionKind, TransportCondition},
    ways::{Use, Way},
};

/// The first pause before a radio that does not work is tried again. It doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Adapters are plugged in and switched on by people.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Those who connected and have not proved anything yet: as many as a radio carries anyway.
const HANDSHAKES_MAX: usize = limits::MESH_BLE_LINKS_MAX;

/// The Bluetooth that this build knows.
pub(crate) fn of_system() -> Option<Arc<dyn BleBackend>> {
    #[cfg(all(feature = "ble", target_os = "linux"))]
    return Some(Arc::new(idem_transport::BluezBackend::new()));
    #[cfg(not(all(feature = "ble", target_os = "linux")))]
    None
}

/// Looks for peers, is found by others and takes links from them, until the run ends.
pub(crate) async fn run(
    ground: Arc<Ground>,
    backend: Option<Arc<dyn BleBackend>>,
    database: DatabaseId,
    local: PeerHash,
) {
    let _task = ground.tasks.begin();
    let way = ground.ways.open("ble", Use::Discover, "");
    let mut pause = RETRY_MIN;
    loop {
        let started_at = Instant::now();
        let ended = async {
            let backend = backend.as_deref().ok_or(BleError::NotBuilt)?;
            let mut scout = BleScout::start(backend, database, local.to_bytes()).await?;
            scan(&ground, &way, &mut scout).await
        };
        let Err(error): Result<Infallible, BleError> = tokio::select! {
            ended = ended => ended,
            () = until(ground.stage.clone(), Stage::Draining) => return,
        };
        if started_at.elapsed() > RETRY_MAX {
            pause = RETRY_MIN;
        }
        let kind = ConditionKind::DiscoveryTroubled;
        ground.tell_failure(&way, TransportCondition::new(kind, error.in_full()));
        let waits = jittered(pause);
        pause = RETRY_MAX.min(pause * 2);
        way.wait(waits);
        tokio::select! {
            () = tokio::time::sleep(waits) => {}
            () = until(ground.stage.clone(), Stage::Draining) => return,
        }
    }
}

/// Tells the driver that the radio is not used any more, also when the task is cancelled.
struct Scanning<'a>(&'a Ground);

impl Drop for Scanning<'_> {
    fn drop(&mut self) {
        let (medium, is_on) = (Medium::Ble, false);
        self.0.inbox.push(Input::Discovering { medium, is_on });
    }
}

async fn scan(
    ground: &Arc<Ground>,
    way: &Arc<Way>,
    scout: &mut BleScout,
) -> Result<Infallible, BleError> {
    let (medium, is_on) = (Medium::Ble, true);
    ground.inbox.push(Input::Discovering { medium, is_on });
    let _scanning = Scanning(ground);
    way.rest("advertising");
    ground.conditions.push(TransportCondition::new(
        ConditionKind::Listening,
        "looking for peers by Bluetooth, and advertising this one",
    ));
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        match scout.next().await? {
            BleSighting::Found {
                place,
                peer,
                signal_dbm,
            } => {
                let found = Sighting::Found {
                    name: place.address().to_string(),
                    peer,
                    spot: Spot::Ble(place),
                    signal_dbm,
                };
                ground.inbox.discover(found).await;
            }
            BleSighting::Vanished(address) => {
                let name = address.to_string();
                ground.inbox.discover(Sighting::Vanished { name }).await;
            }
            BleSighting::Incoming(incoming) => {
                // Without room its connection ends.
                if let Ok(room) = Arc::clone(&room).try_acquire_owned() {
                    let (ground, way) = (Arc::clone(ground), Arc::clone(way));
                    tokio::spawn(async move { take(&ground, &way, incoming, room).await });
                }
            }
            _ => {}
        }
    }
}

/// Keeps the link of somebody who connected, if it becomes one.
async fn take(
    ground: &Ground,
    way: &Arc<Way>,
    incoming: BleIncoming,
    room: tokio::sync::OwnedSemaphorePermit,
) {
    let _task = ground.tasks.begin();
    let address = incoming.address().to_string();
    let origin = Origin {
        accepted_at: Some(Instant::now()),
        ..Origin::default()
    };
    let shaken = tokio::select! {
        shaken = incoming.handshake(&ground.credentials) => shaken,
        () = until(ground.stage.clone(), Stage::Draining) => return,
    };
    drop(room);
    match shaken {
        Ok(link) => ground.keep(link, &address, origin, way).await,
        Err(error) => ground.report(&error, &address, way),
    }
}

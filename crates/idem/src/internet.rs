//! The end of links over the internet that this peer has: one, for all that it dials and all that dial it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use idem_transport::{InternetConfig, InternetEndpoint, InternetIncoming, LinkError, LinkIdentity};
use tokio::sync::watch;

use crate::{
    links::{Ground, Origin, Stage, jittered, until},
    transport::{ConditionKind, TransportCondition},
    ways::{Use, Way},
};

/// The first pause before an address that could not be bound is tried again. It doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);

/// What is in the way is most likely another process.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The endpoint, once it is open.
pub(crate) type Opened = watch::Receiver<Option<Arc<InternetEndpoint>>>;

/// Keeps an endpoint open until the run ends, and takes links on it.
pub(crate) async fn run(
    ground: Arc<Ground>,
    identity: LinkIdentity,
    config: InternetConfig,
    opened: watch::Sender<Option<Arc<InternetEndpoint>>>,
) {
    let _task = ground.tasks.begin();
    let bind = config.bind.to_string();
    let way = ground.ways.open("internet", Use::Listen, bind);
    let mut pause = RETRY_MIN;
    loop {
        let bound = tokio::select! {
            bound = Box::pin(InternetEndpoint::bind(&identity, &config)) => bound,
            () = until(ground.stage.clone(), Stage::Draining) => return,
        };
        let ended = match bound {
            Ok(endpoint) => {
                let endpoint = Arc::new(endpoint);
                opened.send_replace(Some(Arc::clone(&endpoint)));
                let ended = tokio::select! {
                    ended = take(&ground, &way, &endpoint, &config) => ended,
                    () = until(ground.stage.clone(), Stage::Draining) => {
                        close_after(&ground, endpoint);
                        return;
                    }
                };
                opened.send_replace(None);
                ended
            }
            Err(error) => Err(error),
        };
        let Err(error) = ended;
        ground.tell_failure(&way, TransportCondition::from_failure(&error));
        let waits = jittered(pause);
        pause = RETRY_MAX.min(pause * 2);
        way.wait(waits);
        tokio::select! {
            () = tokio::time::sleep(waits) => {}
            () = until(ground.stage.clone(), Stage::Draining) => return,
        }
    }
}

/// Takes links, if it is to take some.
async fn take(
    ground: &Arc<Ground>,
    way: &Arc<Way>,
    endpoint: &Arc<InternetEndpoint>,
    config: &InternetConfig,
) -> Result<Infallible, LinkError> {
    if !config.is_listening {
        way.rest("open");
        return std::future::pending().await;
    }
    way.rest("listening");
    let address = endpoint.address().to_string();
    way.move_to(address.clone());
    let message = format!("listening on {address}");
    ground
        .conditions
        .push(TransportCondition::new(ConditionKind::Listening, message).at(address));
    loop {
        let incoming = endpoint.accept().await?;
        way.attempt();
        let (ground, way) = (Arc::clone(ground), Arc::clone(way));
        tokio::spawn(async move { accept(&ground, &way, incoming).await });
    }
}

async fn accept(ground: &Arc<Ground>, way: &Arc<Way>, incoming: InternetIncoming) {
    let _task = ground.tasks.begin();
    let address = incoming.address();
    let origin = Origin {
        accepted_at: Some(std::time::Instant::now()),
        ..Origin::default()
    };
    // What it needs is on the heap until it ends: the task that then keeps the link would hold on to it.
    let shaken = tokio::select! {
        shaken = Box::pin(incoming.handshake(&ground.credentials)) => shaken,
        () = until(ground.stage.clone(), Stage::Draining) => return,
    };
    match shaken {
        Ok(link) => ground.keep(link, &address, origin, way).await,
        Err(error) => ground.report(&error, &address, way),
    }
}

/// Closes the endpoint when the last link has ended: the goodbyes go out over it.
fn close_after(ground: &Arc<Ground>, endpoint: Arc<InternetEndpoint>) {
    let over = until(ground.stage.clone(), Stage::Killed);
    tokio::spawn(async move {
        over.await;
        endpoint.close().await;
    });
}

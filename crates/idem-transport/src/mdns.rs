//! Finding peers of the same database on the networks that this machine is in, with mDNS and DNS-SD.
//!
//! A [`Discovery`] asks on all networks, IPv4 and IPv6, also on those that come later, and says there
//! where this peer is. What it says names neither the database nor the peer to anybody who does not know
//! the database id, and looks different after each start (docs/format/wire.md, "Discovery").
//!
//! Anybody in the network may answer whatever he likes. So what was found is a place to dial and no
//! more: who is there is proved by the handshake of the link.

mod advert;
mod sightings;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use idem_model::{DatabaseId, limits};
use mdns_sd::{RecvTimeoutError, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::sync::Notify;

use crate::{error::LinkError, handshake::random};
use advert::Advert;
use sightings::Sightings;

/// The name under which peers of all databases are looked for.
const SERVICE: &str = "_idem._tcp.local.";

/// How often the interfaces of this machine are looked at, and how much the responder holds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How many looks in a row a responder may leave without an answer before it is taken for drowned.
const SILENT_LOOKS_MAX: u32 = 4;

/// The first pause before the responder is started again. It doubles up to sixteen times this, until
/// it has run well for as long.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(32);

/// What a discovery is for.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// Only peers of this database are found.
    pub database: DatabaseId,
    /// What others may call this peer before they linked with it.
    pub local: [u8; 8],
    /// Where this peer waits for links, `None` if it only looks for others.
    pub reachable: Option<Reachable>,
}

/// Where a peer waits for links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reachable {
    /// The port.
    pub port: u16,
    /// The address, `None` for all that this machine has, and will have.
    pub ip: Option<IpAddr>,
}

impl Reachable {
    /// What a listener that is bound to `address` can be reached at, `None` from this machine only.
    pub fn of(address: SocketAddr) -> Option<Self> {
        let ip = address.ip();
        (!ip.is_loopback()).then(|| Self {
            port: address.port(),
            ip: (!ip.is_unspecified()).then_some(ip),
        })
    }
}

/// What a discovery has to tell. `instance` names a start of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscoveryEvent {
    /// A peer is there, or can be reached at other addresses than before.
    Found {
        /// Its name as long as it runs.
        instance: String,
        /// Who it says it is; nobody has proved it.
        peer: [u8; 8],
        /// Where it says that it can be reached, what is best tried first in front. At most
        /// [`limits::DISCOVERED_ADDRESSES_MAX`].
        addresses: Vec<SocketAddr>,
    },
    /// A peer said goodbye, or was silent for too long.
    Vanished {
        /// Its name.
        instance: String,
    },
    /// Nobody can be found for a while.
    Troubled {
        /// Why, as a sentence.
        message: String,
    },
}

/// Looks for peers, and says that this one is there, until it is dropped.
///
/// It runs two threads of its own, one of them of the responder.
pub struct Discovery {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    sightings: Mutex<Sightings>,
    changed: Notify,
    is_stopped: AtomicBool,
    /// There while it runs, so that stopping does not wait.
    responder: Mutex<Option<ServiceDaemon>>,
}

impl Discovery {
    /// Begins.
    ///
    /// # Errors
    /// [`LinkError::Lost`] if the system has no randomness or starts no thread. That no network can be
    /// used is no error but a [`DiscoveryEvent::Troubled`], since there may be one later.
    pub fn start(config: &DiscoveryConfig) -> Result<Self, LinkError> {
        let mut name = [0; 16];
        random(&mut name)?;
        let advert = Advert::new(config.database, config.local, name);
        let shared = Arc::new(Shared {
            sightings: Mutex::new(Sightings::new(
                config.database,
                advert.instance().to_owned(),
            )),
            changed: Notify::new(),
            is_stopped: AtomicBool::new(false),
            responder: Mutex::new(None),
        });
        let watch = Watch {
            shared: Arc::clone(&shared),
            advert,
            reachable: config.reachable,
        };
        let thread = thread::Builder::new()
            .name("idem-mdns".to_owned())
            .spawn(move || watch.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The next event. May be cancelled without losing one. At most twice
    /// [`limits::DISCOVERED_PEERS_MAX`] wait; several about one peer become one.
    pub async fn next(&self) -> DiscoveryEvent {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(event) = self.shared.sightings().poll_event() {
                return event;
            }
            changed.await;
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        let responder = self.shared.responder().take();
        if let Some(responder) = responder {
            // It says goodbye, and the thread below ends with it.
            let _ = responder.shutdown();
        }
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

impl Shared {
    fn sightings(&self) -> MutexGuard<'_, Sightings> {
        let locked = self.sightings.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    fn responder(&self) -> MutexGuard<'_, Option<ServiceDaemon>> {
        let locked = self.responder.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Sightings)) {
        change(&mut self.sightings());
        self.changed.notify_one();
    }
}

/// The thread that looks after the responder.
struct Watch {
    shared: Arc<Shared>,
    advert: Advert,
    reachable: Option<Reachable>,
}

impl Watch {
    fn run(self) {
        let mut pause = PAUSE_MIN;
        while !self.shared.is_stopped() {
            let began = Instant::now();
            let ended = self.watch();
            let responder = self.shared.responder().take();
            if self.shared.is_stopped() {
                // Who stops shuts it down, unless it came up too late for that.
                responder.map(|responder| responder.shutdown());
                return;
            }
            let message = match ended {
                Ok(()) => "mDNS is flooded with answers".to_owned(),
                Err(error) => format!("mDNS does not work: {error}"),
            };
            self.shared.change(|sightings| sightings.trouble(message));
            // It reads what comes in before anything else, so that it ends when the flood does. Another
            // one beside it would drown as well.
            if let Some(Ok(ended)) = responder.map(|responder| responder.shutdown()) {
                while !self.shared.is_stopped()
                    && ended.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout)
                {
                }
            }
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            if !self.shared.is_stopped() {
                thread::park_timeout(pause);
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Runs a responder until it holds too much, does not keep up or is shut down.
    fn watch(&self) -> Result<(), mdns_sd::Error> {
        let responder = ServiceDaemon::new()?;
        *self.shared.responder() = Some(responder.clone());
        responder.set_ip_check_interval(u32::try_from(LOOK_INTERVAL.as_secs()).unwrap_or(1))?;
        if let Some(reachable) = self.reachable {
            responder.register(self.service(reachable)?)?;
        }
        let events = responder.browse(SERVICE)?;
        let mut look_at = Instant::now() + LOOK_INTERVAL;
        let mut asked = responder.get_metrics()?;
        let mut silent_looks = 0;
        while !self.shared.is_stopped() {
            match events.recv_deadline(look_at) {
                Ok(event) => self.take_in(event),
                Err(RecvTimeoutError::Timeout) => {}
                // The channel is closed when it overflows, too.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() < look_at {
                continue;
            }
            look_at = Instant::now() + LOOK_INTERVAL;
            if let Ok(metrics) = asked.try_recv() {
                if records(&metrics) > limits::MDNS_RECORDS_MAX {
                    break;
                }
                asked = responder.get_metrics()?;
                silent_looks = 0;
            } else {
                silent_looks += 1;
                if silent_looks >= SILENT_LOOKS_MAX {
                    break;
                }
            }
        }
        Ok(())
    }

    fn service(&self, reachable: Reachable) -> Result<ServiceInfo, mdns_sd::Error> {
        let instance = self.advert.instance();
        let host = format!("{instance}.local.");
        let (port, texts) = (reachable.port, self.advert.texts());
        let mut service = match reachable.ip {
            Some(ip) => ServiceInfo::new(SERVICE, instance, &host, ip, port, &texts[..])?,
            None => {
                ServiceInfo::new(SERVICE, instance, &host, "", port, &texts[..])?.enable_addr_auto()
            }
        };
        // The names are random, so nobody has them already, and asking would take most of a second.
        service.set_requires_probe(false);
        Ok(service)
    }

    fn take_in(&self, event: ServiceEvent) {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let Some(instance) = instance_of(&service.fullname) else {
                    return;
                };
                let text = |key| service.txt_properties.get_property_val_str(key);
                let found = advert::Texts {
                    version: text("v"),
                    database: text("d"),
                    peer: text("p"),
                };
                let addresses = service.addresses.iter();
                let addresses = sightings::ranked(addresses.map(|ip| (ip, service.port)));
                self.shared
                    .change(|sightings| sightings.see(instance, &found, addresses));
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                if let Some(instance) = instance_of(&name) {
                    self.shared.change(|sightings| sightings.lose(instance));
                }
            }
            _ => {}
        }
    }
}

/// The name of a peer in the name of its service.
fn instance_of(name: &str) -> Option<&str> {
    let instance = name.strip_suffix(SERVICE)?.strip_suffix('.')?;
    (instance.len() == advert::INSTANCE_LEN).then_some(instance)
}

/// How many records the responder holds.
fn records(metrics: &mdns_sd::Metrics) -> u64 {
    let held = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("cached-"));
    held.map(|(_, count)| u64::try_from(*count).unwrap_or(0))
        .sum()
}

//! A radio that is none: peers of one process, for tests.
//!
//! It has what makes real ones hard: a range, adverts that get lost, connections that take time, fail or
//! break in the middle of something, carriers that one side does not have, small datagrams, and a medium
//! that carries one datagram at a time. What is lost follows from the seed. When things happen follows
//! from the clock of tokio, so that under a paused one nothing waits.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Airtime, mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use crate::ble::{
    BleAddress, BleAdvert, BleBackend, BleBearer, BleError, BleEvent, BleFuture, BleRadio,
};

/// Events that wait for a slow peer; more adverts are lost then.
const EVENTS_MAX: usize = 64;

/// How the air is.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SimulatedAirConfig {
    /// What is lost follows from it. Default: 1.
    pub seed: u64,
    /// How far an antenna can be heard, in the unit of its places. Default: 30.
    pub range: f64,
    /// Which share of adverts is lost, from 0 to 1. Default: 0.
    pub advert_loss: f64,
    /// Between two adverts of an antenna. Default: 20 ms.
    pub advert_interval: Duration,
    /// What connecting takes. Default: 20 ms.
    pub connect_delay: Duration,
    /// What all connections of an antenna share, in bytes a second. Default: 1,000,000.
    pub bytes_per_second: u32,
    /// The largest SDU of an L2CAP channel. Default: 1,000.
    pub channel_datagram_bytes: usize,
    /// The largest value that fits into a GATT write or notification. Default: 182, from an MTU of 185.
    pub gatt_datagram_bytes: usize,
    /// How many connections an antenna carries. Default: 7.
    pub connections_max: usize,
}

impl Default for SimulatedAirConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            range: 30.0,
            advert_loss: 0.0,
            advert_interval: Duration::from_millis(20),
            connect_delay: Duration::from_millis(20),
            bytes_per_second: 1_000_000,
            channel_datagram_bytes: 1_000,
            gatt_datagram_bytes: 182,
            connections_max: 7,
        }
    }
}

/// The space that antennas share.
#[derive(Debug, Clone)]
pub struct SimulatedAir {
    shared: Arc<Shared>,
}

struct Shared {
    config: SimulatedAirConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    antennas: Vec<Antenna>,
    connections: Vec<Connection>,
    drawn: u64,
    made: Made,
}

/// What came about, by the carrier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Made {
    channels: usize,
    gatt: usize,
}

struct Antenna {
    at: [f64; 2],
    has_channels: bool,
    /// Whether channels are announced and then do not work.
    breaks_channels: bool,
    on: Option<(BleAdvert, mpsc::Sender<BleEvent>)>,
    /// How often its radio was switched on.
    starts: usize,
    airtime: Arc<Airtime<()>>,
}

struct Connection {
    ends: [usize; 2],
    /// Becomes true when it breaks.
    broken: watch::Sender<bool>,
    /// Datagrams that it carries before it breaks by itself.
    datagrams_left: Option<usize>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl SimulatedAir {
    /// Air with nobody in it.
    pub fn new(config: SimulatedAirConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                state: Mutex::default(),
            }),
        }
    }

    /// An antenna at a place.
    pub fn antenna(&self, at: [f64; 2]) -> SimulatedAntenna {
        let mut state = self.shared.lock();
        state.antennas.push(Antenna {
            at,
            has_channels: true,
            breaks_channels: false,
            on: None,
            starts: 0,
            airtime: Arc::default(),
        });
        SimulatedAntenna {
            shared: Arc::clone(&self.shared),
            index: state.antennas.len() - 1,
        }
    }

    /// Connections that there are now.
    pub fn connection_count(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// How many connections were made in L2CAP channels, and how many over GATT.
    pub fn made_count(&self) -> (usize, usize) {
        let made = self.shared.lock().made;
        (made.channels, made.gatt)
    }

    /// Breaks all connections at once.
    pub fn break_all(&self) {
        self.shared.break_where(|_| true);
    }

    /// Lets each connection that there is now carry so many more datagrams, and then break.
    pub fn break_all_after(&self, datagrams: usize) {
        for connection in &mut self.shared.lock().connections {
            connection.datagrams_left = Some(datagrams);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_where(&self, is_broken: impl Fn([usize; 2]) -> bool) {
        for connection in &self.lock().connections {
            if is_broken(connection.ends) {
                connection.broken.send_replace(true);
            }
        }
    }

    /// Whether two antennas hear each other.
    fn is_near(&self, state: &State, a: usize, b: usize) -> bool {
        let [a, b] = [a, b].map(|index| state.antennas[index].at);
        (a[0] - b[0]).hypot(a[1] - b[1]) <= self.config.range
    }

    /// One round of adverts of an antenna.
    fn advertise(&self, from: usize) {
        let mut state = self.lock();
        let Some((advert, _)) = &state.antennas[from].on else {
            return;
        };
        let (service, data) = (advert.service, advert.to_data().to_vec());
        for to in 0..state.antennas.len() {
            if to == from || !self.is_near(&state, from, to) {
                continue;
            }
            state.drawn += 1;
            if chance(self.config.seed, state.drawn) < self.config.advert_loss {
                continue;
            }
            if let Some((_, events)) = &state.antennas[to].on {
                // A full queue is one more reason to lose it.
                let _ = events.try_send(BleEvent::Seen {
                    address: address(from),
                    service,
                    data: data.clone(),
                    signal_dbm: Some(-60),
                });
            }
        }
    }

    /// Connects two antennas, if they can be.
    fn join(
        self: &Arc<Self>,
        from: usize,
        to: usize,
        is_channel: bool,
    ) -> Result<BleBearer, BleError> {
        let mut state = self.lock();
        let count = |index| {
            let ends = state
                .connections
                .iter()
                .filter(|it| it.ends.contains(&index));
            ends.count()
        };
        let most = self.config.connections_max;
        if !self.is_near(&state, from, to) {
            return Err(BleError::failed("the device is out of range"));
        }
        if count(from) >= most || count(to) >= most {
            return Err(BleError::failed("a radio carries no more connections"));
        }
        let antenna = &state.antennas[to];
        if is_channel && (!antenna.has_channels || antenna.breaks_channels) {
            return Err(BleError::failed("no L2CAP channel comes about"));
        }
        let Some((_, events)) = &antenna.on else {
            return Err(BleError::failed("the radio of the other device is off"));
        };
        let size = if is_channel {
            self.config.channel_datagram_bytes
        } else {
            self.config.gatt_datagram_bytes
        };
        let (ours, our_outgoing, our_incoming) = BleBearer::with_ends(address(to), size);
        let (theirs, their_outgoing, their_incoming) = BleBearer::with_ends(address(from), size);
        if events.try_send(BleEvent::Connected(theirs)).is_err() {
            return Err(BleError::failed("the other device is busy"));
        }
        let (broken, watched) = watch::channel(false);
        let ends = [from, to];
        state.connections.push(Connection {
            ends,
            broken,
            datagrams_left: None,
        });
        if is_channel {
            state.made.channels += 1;
        } else {
            state.made.gatt += 1;
        }
        let airtimes = [ends[0].min(ends[1]), ends[0].max(ends[1])];
        let airtimes = airtimes.map(|index| Arc::clone(&state.antennas[index].airtime));
        drop(state);
        let carry = |outgoing, incoming| {
            carry(
                Arc::clone(self),
                ends,
                watched.clone(),
                airtimes.clone(),
                outgoing,
                incoming,
            )
        };
        tokio::spawn(carry(our_outgoing, their_incoming));
        tokio::spawn(carry(their_outgoing, our_incoming));
        Ok(ours)
    }

    /// Notes that a datagram was carried. Gives whether the connection breaks by that.
    fn count_datagram(&self, ends: [usize; 2], watched: &watch::Receiver<bool>) -> bool {
        let mut state = self.lock();
        let connection = state
            .connections
            .iter_mut()
            .find(|it| it.ends == ends && watched.same_channel(&it.broken.subscribe()));
        let left = connection.and_then(|it| it.datagrams_left.as_mut());
        left.is_some_and(|left| {
            *left = left.saturating_sub(1);
            *left == 0
        })
    }

    fn forget(&self, watched: &watch::Receiver<bool>) {
        let mut state = self.lock();
        let mut at = state.connections.iter();
        let at = at.position(|it| watched.same_channel(&it.broken.subscribe()));
        if let Some(at) = at {
            let connection = state.connections.swap_remove(at);
            connection.broken.send_replace(true);
        }
    }
}

/// Carries the datagrams of one direction of a connection until that breaks or is given up.
async fn carry(
    shared: Arc<Shared>,
    ends: [usize; 2],
    watched: watch::Receiver<bool>,
    airtimes: [Arc<Airtime<()>>; 2],
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    incoming: mpsc::Sender<Vec<u8>>,
) {
    let rate = shared.config.bytes_per_second;
    let _carrying = Carrying {
        shared: Arc::clone(&shared),
        watched: watched.clone(),
    };
    let mut broken = watched.clone();
    let carried = async {
        while let Some(datagram) = outgoing.recv().await {
            {
                // Always in the same order, so nobody waits for somebody who waits for him.
                let _first = airtimes[0].lock().await;
                let _second = airtimes[1].lock().await;
                let bytes = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
                sleep(Duration::from_secs(1) * bytes / rate).await;
            }
            if shared.count_datagram(ends, &watched) || incoming.send(datagram).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = carried => {}
        _ = broken.wait_for(|is_broken| *is_broken) => {}
    }
}

/// Takes a connection out of the air, also when the task that carries it is cancelled.
struct Carrying {
    shared: Arc<Shared>,
    watched: watch::Receiver<bool>,
}

impl Drop for Carrying {
    fn drop(&mut self) {
        self.shared.forget(&self.watched);
    }
}

fn address(index: usize) -> BleAddress {
    BleAddress(format!("antenna {index}"))
}

/// A number from 0 to 1 (SplitMix64, Steele and others 2014).
fn chance(seed: u64, drawn: u64) -> f64 {
    let mut mixed = seed.wrapping_add(drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let top = u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits are left");
    f64::from(top) / f64::from(u32::MAX)
}

/// A device in the air: the backend of one peer.
#[derive(Debug, Clone)]
pub struct SimulatedAntenna {
    shared: Arc<Shared>,
    index: usize,
}

impl SimulatedAntenna {
    /// Without L2CAP channels: others see that it has none.
    #[must_use]
    pub fn without_channels(self) -> Self {
        self.shared.lock().antennas[self.index].has_channels = false;
        self
    }

    /// With L2CAP channels that do not come about, as where a system announces more than it can.
    #[must_use]
    pub fn with_broken_channels(self) -> Self {
        self.shared.lock().antennas[self.index].breaks_channels = true;
        self
    }

    /// Moves. Connections to those that are out of range then break.
    pub fn move_to(&self, at: [f64; 2]) {
        let mut state = self.shared.lock();
        state.antennas[self.index].at = at;
        for connection in &state.connections {
            let [a, b] = connection.ends;
            if !self.shared.is_near(&state, a, b) {
                connection.broken.send_replace(true);
            }
        }
    }
}

impl BleBackend for SimulatedAntenna {
    fn start(&self, mut advert: BleAdvert) -> BleFuture<'_, Box<dyn BleRadio>> {
        Box::pin(async move {
            let (events, happened) = mpsc::channel(EVENTS_MAX);
            let index = self.index;
            let start = {
                let antenna = &mut self.shared.lock().antennas[index];
                advert.psm = antenna.has_channels.then_some(0x80);
                antenna.on = Some((advert, events));
                antenna.starts += 1;
                antenna.starts
            };
            let shared = Arc::downgrade(&self.shared);
            let interval = self.shared.config.advert_interval;
            let radio: Box<dyn BleRadio> = Box::new(SimulatedRadio {
                antenna: self.clone(),
                start,
                happened: Airtime::new(happened),
                advertising: tokio::spawn(advertise(shared, index, interval)),
            });
            Ok(radio)
        })
    }
}

async fn advertise(shared: Weak<Shared>, index: usize, interval: Duration) {
    while let Some(shared) = shared.upgrade() {
        shared.advertise(index);
        drop(shared);
        sleep(interval).await;
    }
}

struct SimulatedRadio {
    antenna: SimulatedAntenna,
    start: usize,
    happened: Airtime<mpsc::Receiver<BleEvent>>,
    advertising: JoinHandle<()>,
}

impl BleRadio for SimulatedRadio {
    fn next(&self) -> BleFuture<'_, BleEvent> {
        Box::pin(async {
            let event = self.happened.lock().await.recv().await;
            event.ok_or_else(|| BleError::failed("the radio was started anew elsewhere"))
        })
    }

    fn connect(&self, to: BleAddress, psm: Option<u8>) -> BleFuture<'_, BleBearer> {
        Box::pin(async move {
            sleep(self.antenna.shared.config.connect_delay).await;
            let count = self.antenna.shared.lock().antennas.len();
            let to = (0..count).find(|index| address(*index) == to);
            let to = to.ok_or_else(|| BleError::failed("there is no such device"))?;
            self.antenna
                .shared
                .join(self.antenna.index, to, psm.is_some())
        })
    }
}

impl Drop for SimulatedRadio {
    fn drop(&mut self) {
        self.advertising.abort();
        let own = self.antenna.index;
        let mut state = self.antenna.shared.lock();
        let antenna = &mut state.antennas[own];
        if antenna.starts == self.start {
            antenna.on = None;
            drop(state);
            self.antenna.shared.break_where(|ends| ends.contains(&own));
        }
    }
}

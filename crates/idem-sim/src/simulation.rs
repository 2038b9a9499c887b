//! An application of your own on simulated peers.

use std::{fmt, time::Duration};

use idem_model::Object;
use idem_store::StoreError;

use crate::{
    app::{App, AppFactory, PeerHandle},
    check::Violation,
    network::{EdgeOptions, LinkModel},
    options::Options,
    random::Random,
    scenario::{TopologyKind, mesh},
    world::World,
};

/// The number of neighbours in a mesh.
const MESH_DEGREE: usize = 4;

/// Why a simulation cannot be built.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Fewer than two.
    #[error("a simulation needs two peers or more")]
    TooFewPeers,
    /// More than it can hold: every peer has a store of its own, with its threads.
    #[error("{peers} peers with a store each are over the limit of {limit}")]
    TooManyPeers {
        /// How many were asked for.
        peers: usize,
        /// The limit.
        limit: usize,
    },
    /// A subscription that is none.
    #[error("`{statement}` is no subscription: {reason}")]
    Subscription {
        /// The statement.
        statement: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Applications cannot be put into a field.
    #[error("a simulation of applications has links that the test decides on: a field has not")]
    Field,
}

/// Peers that can have a store each.
const PEERS_MAX: usize = 256;

/// What a [`Simulation`] is made of.
#[derive(Debug)]
pub struct SimulationBuilder {
    seed: u64,
    peers: usize,
    link: LinkModel,
    topology: TopologyKind,
    statements: Vec<String>,
    app: Option<AppFactory>,
}

/// Simulated peers, each with the real store and the real sync, under a clock and a network that a test
/// has in its hand.
///
/// Time passes only in [`Simulation::run_for`] and [`Simulation::run_to_rest`], and the same seed gives
/// the same run. A test says what happens, and looks at the stores:
///
/// ```
/// use std::time::Duration;
/// use idem_model::{Object, Value};
/// use idem_sim::{App, LinkModel, PeerHandle, Simulation};
///
/// /// Counts one visit a second in a counter that all peers share.
/// #[derive(Debug)]
/// struct Visits;
///
/// impl App for Visits {
///     fn on_start(&mut self, peer: &mut PeerHandle<'_>) {
///         // The same for everybody, so it is no conflict.
///         let insert = "INSERT INTO counters INITIAL DOCUMENTS ({'_id': 'visits'})";
///         peer.execute(insert, Object::new()).expect("a valid statement");
///         peer.set_timer(Duration::from_secs(1), 0);
///     }
///
///     fn on_timer(&mut self, peer: &mut PeerHandle<'_>, _token: u64) {
///         let add = "UPDATE counters APPLY total INCREMENT BY 1 WHERE _id = 'visits'";
///         peer.execute(add, Object::new()).expect("a valid statement");
///         if peer.now() < Duration::from_secs(10) {
///             peer.set_timer(Duration::from_secs(1), 0);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut simulation = Simulation::builder(7)
///     .peers(2)
///     .link(LinkModel::wifi())
///     .subscribe("SELECT * FROM counters")
///     .app(|_peer| Visits)
///     .build()?;
/// simulation.run_for(Duration::from_secs(3))?;
/// simulation.partition(&[0]);
/// simulation.run_for(Duration::from_secs(4))?;
/// // Each side goes on by itself, and knows its own visits only.
/// simulation.heal();
/// simulation.run_to_rest()?;
/// simulation.check_convergence()?;
/// for peer in 0..2 {
///     let rows = simulation.execute(peer, "SELECT total FROM counters", Object::new())?;
///     assert_eq!(rows[0]["total"], Value::from(20));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Simulation {
    world: World,
    /// The walls that [`Simulation::heal`] takes down.
    walls: Vec<u64>,
}

impl Simulation {
    /// A simulation in which `seed` decides everything that the test does not.
    pub fn builder(seed: u64) -> SimulationBuilder {
        SimulationBuilder {
            seed,
            peers: 2,
            link: LinkModel::default(),
            topology: TopologyKind::Mesh,
            statements: Vec::new(),
            app: None,
        }
    }

    /// Lets so much simulated time pass.
    ///
    /// # Errors
    /// [`Violation`] if a session breaks a promise meanwhile.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Violation> {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.world
            .run_until(self.world.now_us.saturating_add(time_us))
    }

    /// Lets time pass until nothing is left to happen. Applications that set timers for ever never come
    /// to rest; use [`Simulation::run_for`] with them.
    ///
    /// # Errors
    /// [`Violation::Unrest`] if it takes over five simulated minutes, and what
    /// [`Simulation::run_for`] gives.
    pub fn run_to_rest(&mut self) -> Result<(), Violation> {
        self.world.run_to_rest()
    }

    /// The simulated time since the start.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.world.now_us)
    }

    /// Runs a DQL statement on a peer's store and returns the documents that it gives. What it writes
    /// leaves when time passes.
    ///
    /// # Errors
    /// [`StoreError`], as the store reports it.
    ///
    /// # Panics
    /// If there is no such peer.
    pub fn execute(
        &mut self,
        peer: usize,
        statement: &str,
        args: Object,
    ) -> Result<Vec<Object>, StoreError> {
        let mut outcome = Ok(Vec::new());
        self.world
            .with_handle(peer, |handle| outcome = handle.execute(statement, args));
        outcome
    }

    /// Separates these peers from all others, until [`Simulation::heal`]. Several partitions may be at
    /// once.
    pub fn partition(&mut self, inside: &[usize]) {
        let is_inside = (0..self.world.peers.len()).map(|peer| inside.contains(&peer));
        let wall = self.world.wall(is_inside.collect());
        self.walls.push(wall);
    }

    /// Ends all partitions. Links come up again within a tenth of a second.
    pub fn heal(&mut self) {
        for wall in std::mem::take(&mut self.walls) {
            self.world.join(wall);
        }
    }

    /// Ends the process of a peer: what was not on its disk is lost, and so is its application. Both
    /// start again within a second.
    ///
    /// # Panics
    /// If there is no such peer.
    pub fn crash(&mut self, peer: usize) {
        self.world.crash(peer);
    }

    /// Whether a peer's process runs.
    ///
    /// # Panics
    /// If there is no such peer.
    pub fn is_running(&self, peer: usize) -> bool {
        self.world.peers[peer].is_alive
    }

    /// Sets a peer's clock on the wall to the right time plus so many milliseconds.
    ///
    /// # Panics
    /// If there is no such peer.
    pub fn set_clock_offset(&mut self, peer: usize, offset_ms: i64) {
        self.world.peers[peer].skew_ms = offset_ms;
    }

    /// Whether all peers hold the same documents, byte for byte, of everything that is subscribed to.
    ///
    /// # Errors
    /// [`Violation::Diverged`] names the first two that do not, and the document.
    pub fn check_convergence(&self) -> Result<(), Violation> {
        self.world.check_agreement()
    }
}

impl SimulationBuilder {
    /// How many peers there are: 2 to 256, default 2.
    #[must_use]
    pub fn peers(mut self, peers: usize) -> Self {
        self.peers = peers;
        self
    }

    /// What the links are like. Default: [`LinkModel::default`].
    #[must_use]
    pub fn link(mut self, link: LinkModel) -> Self {
        self.link = link;
        self
    }

    /// Who is beside whom. Default: a mesh of four neighbours.
    #[must_use]
    pub fn topology(mut self, topology: TopologyKind) -> Self {
        self.topology = topology;
        self
    }

    /// Has every peer subscribe to this statement at each of its neighbours; call it again for more.
    #[must_use]
    pub fn subscribe(mut self, statement: &str) -> Self {
        self.statements.push(statement.to_owned());
        self
    }

    /// The application: `make` is called with the number of the peer for each life of each process.
    /// Without one, only the test itself writes.
    #[must_use]
    pub fn app<A: App + 'static>(mut self, mut make: impl FnMut(usize) -> A + 'static) -> Self {
        self.app = Some(AppFactory(Box::new(move |peer| Box::new(make(peer)))));
        self
    }

    /// Starts all peers at time zero. Links come up within a fifth of a second.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Simulation, BuildError> {
        if self.peers < 2 {
            return Err(BuildError::TooFewPeers);
        }
        if self.peers > PEERS_MAX {
            return Err(BuildError::TooManyPeers {
                peers: self.peers,
                limit: PEERS_MAX,
            });
        }
        for statement in &self.statements {
            check_subscription(statement)?;
        }
        let mut random = Random::new(self.seed ^ 0xa99);
        let count = self.peers;
        let pairs: Vec<(usize, usize)> = match self.topology {
            TopologyKind::Chain => (1..count).map(|peer| (peer - 1, peer)).collect(),
            TopologyKind::Star => (1..count).map(|peer| (0, peer)).collect(),
            TopologyKind::Full => {
                let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
                pairs.collect()
            }
            TopologyKind::Mesh => mesh(&mut random, count, MESH_DEGREE),
            TopologyKind::Field => return Err(BuildError::Field),
        };
        let edges = pairs.into_iter();
        let options = Options {
            edges: edges
                .map(|(a, b)| EdgeOptions::new(a, b, self.link))
                .collect(),
            has_engine: true,
            ..Options::quiet(self.seed, count)
        };
        let mut world = World::with(options, None, &self.statements);
        world.app_factory = self.app;
        world
            .start_all()
            .expect("nothing has been said that could break a promise");
        Ok(Simulation {
            world,
            walls: Vec::new(),
        })
    }
}

fn check_subscription(statement: &str) -> Result<(), BuildError> {
    let refused = |error: &dyn fmt::Display| BuildError::Subscription {
        statement: statement.to_owned(),
        reason: error.to_string(),
    };
    let parsed = idem_query::parse(statement).map_err(|error| refused(&error))?;
    let selector = parsed.subscription(&Object::new());
    selector.map_err(|error| refused(&error))?;
    Ok(())
}

impl World {
    /// Runs something with a peer's store, and does what it asked for.
    fn with_handle(&mut self, peer: usize, action: impl FnOnce(&mut PeerHandle<'_>)) {
        let done = self.with_store(peer, action);
        done.expect("a commit breaks no promise");
    }
}

//! One of the two peers: a process that does what lines on stdin say and answers each with one line.

mod blob;
mod storm;
mod watch;

use std::{
    io::{self, BufRead, Write},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use idem::{
    Attachment, ConditionKind, ConnectMode, Durability, Idem, IdemConfig, InsertConflict, Object,
    SharedKey, SyncSubscription, TransportConfig,
};

use super::{ALL, DATABASE, WAIT_MAX};
use crate::{
    documents,
    engines::{CREATE_INDEX, Failure, count, counted},
    sync::child::watch::{Sampler, Watch},
};

/// Documents of one commit while a store is filled.
const FILL_DOCUMENTS: u64 = 1_000;
const UPDATE: &str =
    "UPDATE docs SET price = :value, seen = :seen, started = :started WHERE _id = :id";

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Class {
    Durable,
    Relaxed,
}

impl Class {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Relaxed => "relaxed",
        }
    }
}

/// Does what stdin says until it ends.
pub(crate) fn run(class: Class, directory: &Path) -> Result<(), Failure> {
    let mut peer = Peer::open(class, directory)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = peer.command(&words)?;
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    peer.close()
}

/// The peer and what watches it.
struct Peer {
    idem: Idem,
    subscription: Option<SyncSubscription>,
    watch: Option<Watch>,
    sampler: Option<Sampler>,
    /// Kept, so that they are not deleted.
    made: Vec<Attachment>,
    fetch: Option<blob::Fetch>,
}

impl Peer {
    fn open(class: Class, directory: &Path) -> Result<Self, Failure> {
        let key = SharedKey::from_secret("the two processes of one benchmark");
        let config = IdemConfig::new(DATABASE, ConnectMode::SharedKey { key })
            .with_persistence_directory(directory)
            .with_durability(match class {
                Class::Durable => Durability::Durable,
                Class::Relaxed => Durability::Relaxed,
            });
        let idem = Idem::open_sync(config)?;
        idem.store().execute_blocking(CREATE_INDEX)?;
        Ok(Self {
            idem,
            subscription: None,
            watch: None,
            sampler: None,
            made: Vec::new(),
            fetch: None,
        })
    }

    fn close(self) -> Result<(), Failure> {
        drop((self.watch, self.subscription, self.made));
        Ok(self.idem.close_blocking()?)
    }

    fn command(&mut self, words: &[&str]) -> Result<String, Failure> {
        Ok(match words {
            ["fill", documents] => self.fill(documents.parse()?)?,
            ["listen"] => self.listen()?,
            ["first", address] => self.first(address)?.to_string(),
            ["count"] => count(self.idem.store())?.to_string(),
            ["digest"] => self.digest()?,
            ["cpu"] => self.cpu_nanos()?.to_string(),
            ["watch", number] => self.watch(number.parse()?)?,
            ["echo", first, times] => self.echo(first.parse()?, times.parse()?)?,
            ["ping", first, times, pause_ms] => {
                let pause = Duration::from_millis(pause_ms.parse()?);
                self.ping(first.parse()?, times.parse()?, pause)?
            }
            ["sample"] => {
                self.sampler = Some(Sampler::start()?);
                "sampling".to_owned()
            }
            ["sampled"] => {
                let sampler = self.sampler.take().ok_or("nothing is sampled")?;
                line_of(&sampler.stop()?)
            }
            ["storm", ms, per_second] => {
                let limit = Duration::from_millis(ms.parse()?);
                line_of(&storm::run(self.idem.store(), limit, per_second.parse()?)?)
            }
            ["attach", seed, bytes] => {
                let (made, name) = blob::attach(self.idem.store(), seed.parse()?, bytes.parse()?)?;
                self.made.push(made);
                name
            }
            ["fetch", names @ ..] => {
                self.fetch = Some(blob::Fetch::start(self.idem.store(), names)?);
                String::new()
            }
            ["fetching"] => {
                let is_running = self.fetch.as_ref().is_some_and(blob::Fetch::is_running);
                u8::from(is_running).to_string()
            }
            ["fetched"] => {
                let fetch = self.fetch.take().ok_or("nothing is fetched")?;
                fetch.end()?.to_string()
            }
            ["agree", value] => self.agree(value.parse()?)?.to_string(),
            _ => return Err(format!("not a command: {words:?}").into()),
        })
    }

    fn fill(&self, documents: u64) -> Result<String, Failure> {
        for first in (0..documents).step_by(usize::try_from(FILL_DOCUMENTS)?) {
            let last = documents.min(first + FILL_DOCUMENTS);
            let batch = (first..last).map(documents::document).collect();
            self.idem
                .store()
                .insert_many_blocking("docs", batch, InsertConflict::Fail)?;
        }
        Ok("filled".to_owned())
    }

    fn listen(&self) -> Result<String, Failure> {
        self.idem
            .set_transport_config(TransportConfig::new().with_tcp_listener("127.0.0.1:0"))?;
        self.idem.sync().start()?;
        let addresses = self.idem.sync().tcp_addresses();
        Ok(addresses.first().ok_or("no listener")?.to_string())
    }

    /// Subscribes to everything and dials. Gives the nanoseconds from there until all of it is here
    /// and on disk.
    fn first(&mut self, address: &str) -> Result<u128, Failure> {
        let (tell, told) = mpsc::sync_channel(1);
        let conditions = self.idem.observe_transport_conditions(move |condition| {
            if condition.kind == ConditionKind::CaughtUp {
                // Full if it was told before.
                let _ = tell.try_send(());
            }
        });
        self.subscription = Some(self.idem.sync().register_subscription(ALL)?);
        self.idem
            .set_transport_config(TransportConfig::new().with_tcp_server(address))?;
        let start = Instant::now();
        self.idem.sync().start()?;
        told.recv_timeout(WAIT_MAX)
            .map_err(|_| "the first sync did not end in time")?;
        self.until(Duration::from_micros(200), || {
            let statistics = self.idem.store().statistics()?;
            Ok(statistics.durable_commit >= statistics.last_commit)
        })?;
        let nanos = start.elapsed().as_nanos();
        drop(conditions);
        Ok(nanos)
    }

    fn digest(&self) -> Result<String, Failure> {
        let digest = self.idem.store().digest_blocking()?;
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Waits until everything has moved from memory into the database file, so that the whole cost of
    /// what was written is counted.
    fn cpu_nanos(&self) -> Result<u64, Failure> {
        self.until(Duration::from_millis(50), || {
            Ok(self.idem.store().statistics()?.pending_bytes == 0)
        })?;
        Ok(watch::cpu_nanos())
    }

    /// Wants all documents, and observes document `number` from now on.
    fn watch(&mut self, number: u64) -> Result<String, Failure> {
        if self.subscription.is_none() {
            self.subscription = Some(self.idem.sync().register_subscription(ALL)?);
        }
        self.watch = Some(Watch::start(self.idem.store(), number)?);
        Ok("watching".to_owned())
    }

    /// Answers each change of document 0 by one of document 1, which says when the former was seen.
    fn echo(&self, first: i64, times: i64) -> Result<String, Failure> {
        let watch = self.watch.as_ref().ok_or("nothing is watched")?;
        let mut is_in_order = true;
        for expected in first..first + times {
            let seen = watch.next()?;
            is_in_order &= seen.value == expected;
            self.set(1, seen.value, seen.at_nanos)?;
        }
        Ok(if is_in_order {
            "in order"
        } else {
            "in disorder"
        }
        .to_owned())
    }

    /// Sets document 0 to values from `first` on and waits for the answer to each, with a pause before
    /// it. Gives three numbers of nanoseconds each time: there, back, and until the answer was seen.
    fn ping(&self, first: i64, times: i64, pause: Duration) -> Result<String, Failure> {
        let watch = self.watch.as_ref().ok_or("nothing is watched")?;
        let mut nanos = Vec::new();
        for value in first..first + times {
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            let start = self.set(0, value, 0)?;
            let answer = watch.next()?;
            if answer.value != value {
                return Err("an answer came out of turn".into());
            }
            nanos.push(answer.seen.saturating_sub(start));
            nanos.push(answer.at_nanos.saturating_sub(answer.started));
            nanos.push(answer.at_nanos.saturating_sub(start));
        }
        Ok(line_of(&nanos))
    }

    /// Commits a value, and gives the time at which that began.
    fn set(&self, number: u64, value: i64, seen_nanos: u64) -> Result<u64, Failure> {
        let started = watch::now_nanos();
        let args = Object::from([
            ("id".to_owned(), documents::id(number).into()),
            ("value".to_owned(), value.into()),
            ("seen".to_owned(), i64::try_from(seen_nanos)?.into()),
            ("started".to_owned(), i64::try_from(started)?.into()),
        ]);
        self.idem.store().execute_blocking((UPDATE, args))?;
        Ok(started)
    }

    /// Waits until all documents have this value. Gives the time at which that was so.
    fn agree(&self, value: i64) -> Result<u64, Failure> {
        let store = self.idem.store();
        let query = "SELECT COUNT(*) AS n FROM docs WHERE price != :value";
        self.until(Duration::from_millis(2), || {
            let args = Object::from([("value".to_owned(), value.into())]);
            Ok(counted(store, query, args)? == 0)
        })?;
        Ok(watch::now_nanos())
    }

    /// Waits for a condition, looking every `interval`.
    fn until(
        &self,
        interval: Duration,
        mut is_so: impl FnMut() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        while !is_so()? {
            if start.elapsed() > WAIT_MAX {
                let documents = count(self.idem.store())?;
                return Err(format!("nothing more happens, with {documents} documents").into());
            }
            thread::sleep(interval);
        }
        Ok(())
    }
}

fn line_of(numbers: &[u64]) -> String {
    let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
    words.join(" ")
}

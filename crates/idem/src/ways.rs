//! The ways to other peers: what listens, what is dialled and what looks for others, and what came of it.
//!
//! The tasks of links write down here what happens to them; `system:transports_info` is read from it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use idem_model::{Object, PeerId, Value};
use idem_sync::LinkId;
use idem_transport::{LinkProbe, LinkProperties, LinkSender, Role};

use crate::{driver::unix_ms, transport::TransportCondition};

/// All ways of a peer that are in use. One that nobody uses any more is forgotten.
///
/// There are as many as listeners, addresses that the app named, and peers that were found, of which there
/// are at most `limits::DISCOVERED_PEERS_MAX`.
#[derive(Default)]
pub(crate) struct Ways(Mutex<Vec<Weak<Way>>>);

/// What is done on a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// Others connect.
    Listen,
    /// The app named whom to dial.
    Dial,
    /// Somebody was found, who may be dialled.
    Found,
    /// Others are looked for.
    Discover,
}

/// One way to other peers.
pub(crate) struct Way {
    transport: &'static str,
    used_to: Use,
    state: Mutex<State>,
}

struct State {
    address: String,
    /// What it is about while it has no links.
    at_rest: &'static str,
    attempts: u64,
    linked: u64,
    /// By the code of the event. There are as many codes as kinds of events.
    failures: BTreeMap<&'static str, u64>,
    last_failure: Option<Failure>,
    /// How often in a row the last failure was for the same reason.
    in_a_row: u64,
    /// Failures since there was a link.
    since_link: u64,
    next_attempt_ms: Option<u64>,
    links: BTreeMap<LinkId, Live>,
    /// Bytes of the links that have ended: sent, and received.
    ended_bytes: (u64, u64),
}

struct Failure {
    code: &'static str,
    message: String,
    at_ms: u64,
}

/// A link that is up.
struct Live {
    peer: PeerId,
    device_name: String,
    address: String,
    is_inbound: bool,
    since: Instant,
    since_ms: u64,
    probe: LinkProbe,
}

impl Ways {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Way>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to keep account of a way, for as long as somebody holds it.
    pub(crate) fn open(
        &self,
        transport: &'static str,
        used_to: Use,
        address: impl Into<String>,
    ) -> Arc<Way> {
        let way = Arc::new(Way {
            transport,
            used_to,
            state: Mutex::new(State {
                address: address.into(),
                at_rest: match used_to {
                    Use::Listen => "listening",
                    Use::Dial => "waiting",
                    Use::Found => "found",
                    Use::Discover => "looking",
                },
                attempts: 0,
                linked: 0,
                failures: BTreeMap::new(),
                last_failure: None,
                in_a_row: 0,
                since_link: 0,
                next_attempt_ms: None,
                links: BTreeMap::new(),
                ended_bytes: (0, 0),
            }),
        });
        let mut ways = self.lock();
        ways.retain(|way| way.strong_count() > 0);
        ways.push(Arc::downgrade(&way));
        way
    }

    /// The rows of `system:transports_info`. Has the round trips of all links measured, for the next time.
    pub(crate) fn rows(&self) -> Vec<Object> {
        let mut ways: Vec<Arc<Way>> = self.lock().iter().filter_map(Weak::upgrade).collect();
        ways.sort_by_cached_key(|way| (way.used_to, way.transport, way.lock().address.clone()));
        ways.iter().map(|way| way.row()).collect()
    }
}

impl Way {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is about from now on, while it has no links.
    pub(crate) fn rest(&self, at_rest: &'static str) {
        let mut state = self.lock();
        state.at_rest = at_rest;
        state.next_attempt_ms = None;
    }

    /// It leads elsewhere now.
    pub(crate) fn move_to(&self, address: String) {
        self.lock().address = address;
    }

    /// An attempt at a link begins.
    pub(crate) fn attempt(&self) {
        let mut state = self.lock();
        state.attempts += 1;
        state.next_attempt_ms = None;
        if self.used_to != Use::Listen {
            state.at_rest = "dialling";
        }
    }

    /// The next attempt comes after `pause`.
    pub(crate) fn wait(&self, pause: Duration) {
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        state.at_rest = "waiting";
        state.next_attempt_ms = Some(unix_ms().saturating_add(pause));
    }

    /// Writes down a failure. Gives the event with how often it was in a row, and whether it is to be told:
    /// the first of a row, and then those that make it ten times as long.
    pub(crate) fn fail(&self, mut event: TransportCondition) -> (TransportCondition, bool) {
        let mut state = self.lock();
        let code = event.kind.code();
        *state.failures.entry(code).or_default() += 1;
        let is_same = state
            .last_failure
            .as_ref()
            .is_some_and(|it| it.code == code);
        // Those who connect have nothing to do with each other, but for the reason.
        state.in_a_row = if is_same { state.in_a_row + 1 } else { 1 };
        state.since_link += 1;
        event.count = state.in_a_row;
        state.last_failure = Some(Failure {
            code,
            message: event.message.clone(),
            at_ms: unix_ms(),
        });
        if event.count > 1 {
            let count = event.count;
            event
                .message
                .push_str(&format!(" ({count} times in a row)"));
        }
        let is_told = is_power_of_ten(event.count);
        (event, is_told)
    }

    /// A link is up. Gives how many attempts failed since the last one.
    pub(crate) fn link_up(
        &self,
        link: LinkId,
        address: &str,
        properties: &LinkProperties,
        sender: &LinkSender,
    ) -> u64 {
        let probe = sender.probe();
        probe.measure();
        let live = Live {
            peer: properties.remote_peer,
            device_name: properties.remote_device_name.clone(),
            address: address.to_owned(),
            is_inbound: properties.role == Role::Responder,
            since: Instant::now(),
            since_ms: unix_ms(),
            probe,
        };
        let mut state = self.lock();
        state.linked += 1;
        state.links.insert(link, live);
        state.in_a_row = 0;
        state.next_attempt_ms = None;
        std::mem::take(&mut state.since_link)
    }

    /// A link is down. Gives in words how long it was up and what went over it.
    pub(crate) fn link_down(&self, link: LinkId) -> String {
        let mut state = self.lock();
        let Some(live) = state.links.remove(&link) else {
            return String::new();
        };
        let traffic = live.probe.traffic();
        state.ended_bytes.0 += traffic.sent_bytes;
        state.ended_bytes.1 += traffic.received_bytes;
        format!(
            "after {:.1} s, {} bytes sent and {} received",
            live.since.elapsed().as_secs_f64(),
            traffic.sent_bytes,
            traffic.received_bytes
        )
    }

    fn row(&self) -> Object {
        let state = self.lock();
        let (mut sent, mut received) = state.ended_bytes;
        let mut links = Vec::new();
        for live in state.links.values() {
            let traffic = live.probe.traffic();
            live.probe.measure();
            sent += traffic.sent_bytes;
            received += traffic.received_bytes;
            let trip = traffic.round_trip.map(|trip| trip.as_secs_f64() * 1000.0);
            links.push(object([
                ("peer", live.peer.to_string().into()),
                ("device_name", live.device_name.as_str().into()),
                ("address", live.address.as_str().into()),
                ("is_inbound", Value::Bool(live.is_inbound)),
                ("since", number(live.since_ms)),
                ("sent_bytes", number(traffic.sent_bytes)),
                ("received_bytes", number(traffic.received_bytes)),
                ("queued_bytes", number(traffic.queued_bytes)),
                ("round_trip_ms", trip.map_or(Value::Null, Value::Float)),
            ]));
        }
        let used_to = self.used_to.name();
        let failures = state.failures.iter();
        let failures: Object = failures
            .map(|(code, count)| ((*code).to_owned(), number(*count)))
            .collect();
        let last = state.last_failure.as_ref().map(|last| {
            object([
                ("code", last.code.into()),
                ("message", last.message.as_str().into()),
                ("at", number(last.at_ms)),
            ])
        });
        let status = if links.is_empty() || self.used_to == Use::Listen {
            state.at_rest
        } else {
            "linked"
        };
        let id = format!("{}/{used_to}/{}", self.transport, state.address);
        Object::from([
            ("_id".to_owned(), id.into()),
            ("transport".to_owned(), self.transport.into()),
            ("role".to_owned(), used_to.into()),
            ("address".to_owned(), state.address.as_str().into()),
            ("state".to_owned(), status.into()),
            ("links".to_owned(), Value::Array(links)),
            ("attempts".to_owned(), number(state.attempts)),
            ("linked".to_owned(), number(state.linked)),
            ("failures".to_owned(), Value::Object(failures)),
            ("last_failure".to_owned(), last.unwrap_or(Value::Null)),
            (
                "next_attempt".to_owned(),
                state.next_attempt_ms.map_or(Value::Null, number),
            ),
            ("sent_bytes".to_owned(), number(sent)),
            ("received_bytes".to_owned(), number(received)),
        ])
    }
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Dial => "dial",
            Self::Found => "found",
            Self::Discover => "discover",
        }
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter();
    Value::Object(
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn is_power_of_ten(count: u64) -> bool {
    count > 0 && 10u64.checked_pow(count.ilog10()) == Some(count)
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ways")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ConditionKind;

    #[test]
    fn a_row_of_failures_is_told_at_its_first_and_when_it_is_ten_times_as_long() {
        let ways = Ways::default();
        let way = ways.open("tcp", Use::Dial, "10.0.0.5:4040");
        let fail = |kind| way.fail(TransportCondition::new(kind, "it failed"));
        let told = (1..=1000).filter(|_| fail(ConditionKind::Unreachable).1);
        assert_eq!(told.count(), 4);
        let (event, is_told) = fail(ConditionKind::Full);
        assert!(is_told && event.count == 1 && event.message == "it failed");
        let (event, is_told) = fail(ConditionKind::Full);
        assert!(!is_told && event.count == 2);
        assert_eq!(event.message, "it failed (2 times in a row)");
        way.wait(Duration::from_secs(5));
        let row = &ways.rows()[0];
        let failures = row["failures"].as_object().unwrap();
        assert_eq!(failures["link/unreachable"], Value::Int(1000));
        assert_eq!(failures["link/full"], Value::Int(2));
        assert_eq!(row["state"], "waiting".into());
        assert!(matches!(row["next_attempt"], Value::Int(at) if at > 0));
        drop(way);
        assert!(ways.rows().is_empty(), "what nobody uses is forgotten");
    }
}

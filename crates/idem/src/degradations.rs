//! Why documents do not sync: the rows of `system:sync_degradations` that come from replication.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::{CollectionName, DocumentKey, Object, PeerId, Value};
use idem_sync::{CloseReason, Event, SubscriptionId};

/// Rows that name a document or a subscription: with keys of 50 bytes 1.5 MiB. What comes on top is
/// counted only.
const ROWS_MAX: usize = 4096;

/// What there is to tell of all peers.
#[derive(Debug, Default)]
pub(crate) struct Degradations {
    rows: BTreeMap<(PeerId, About), Row>,
    /// Documents that there was no room for.
    unnamed: BTreeMap<(PeerId, Reason), u64>,
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Document(Reason, DocumentKey),
    Subscription(Reason, SubscriptionId),
    Session(Reason),
}

#[derive(Debug)]
struct Row {
    collection: Option<CollectionName>,
    because: String,
    since_ms: u64,
}

/// Why something does not sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// Stamps of the peer's documents lie too far in the future to be merged here.
    ClockSkew,
    /// The peer says that it does not hold what it was sent.
    NotHeld,
    /// The peer sent what is no document, or exceeds a limit.
    Refused,
    /// The peer does not take a subscription of this one.
    SubscriptionRefused,
    /// This peer has more subscriptions than it may ask for.
    NotSubscribed,
    /// The sync scope of a collection at the peer leaves this one out.
    ClosedThere,
    /// The peer sends documents though the sync scope of their collection here leaves it out.
    OutOfScope,
    /// This peer does not take a subscription of the other.
    RemoteSubscriptionRefused,
    /// Replication ended and will not work until something changes.
    SessionFailed,
}

impl Reason {
    fn code(self) -> &'static str {
        match self {
            Self::ClockSkew => "clock_skew",
            Self::NotHeld => "not_held",
            Self::Refused => "refused",
            Self::SubscriptionRefused | Self::NotSubscribed | Self::RemoteSubscriptionRefused => {
                "subscription_refused"
            }
            Self::ClosedThere => "sync_scope",
            Self::OutOfScope => "out_of_scope",
            Self::SessionFailed => "session_failed",
        }
    }

    fn direction(self) -> &'static str {
        match self {
            Self::ClockSkew
            | Self::Refused
            | Self::SubscriptionRefused
            | Self::NotSubscribed
            | Self::ClosedThere
            | Self::OutOfScope => "incoming",
            Self::NotHeld | Self::RemoteSubscriptionRefused => "outgoing",
            Self::SessionFailed => "both",
        }
    }

    /// Whether it is about a document of the peer that was not taken in here.
    fn is_untaken(self) -> bool {
        matches!(self, Self::Refused | Self::OutOfScope)
    }

    /// Whether it holds until documents have come or gone, and not only until the next handshake: a
    /// session that fails again and again greets each time.
    fn outlives_links(self) -> bool {
        self.is_untaken() || self == Self::SessionFailed
    }
}

impl Degradations {
    /// Follows what a session tells. `name` gives the statement and the collection of a subscription.
    pub(crate) fn follow(
        &mut self,
        peer: PeerId,
        event: &Event,
        now_ms: u64,
        name: impl FnOnce(SubscriptionId) -> Option<(String, CollectionName)>,
    ) {
        match event {
            Event::Established { .. } => self.mend(peer, |reason| {
                !reason.outlives_links() && reason != Reason::NotSubscribed
            }),
            // It asks for everything anew.
            Event::RemoteRestarted => self.mend(peer, |reason| {
                matches!(reason, Reason::NotHeld | Reason::RemoteSubscriptionRefused)
            }),
            Event::CaughtUp { .. } | Event::Applied { .. } => self.works(peer),
            Event::SubscriptionRefused {
                subscription,
                detail,
            } => {
                let (statement, collection) = name(*subscription).unzip();
                let statement = statement.unwrap_or_default();
                let about = About::Subscription(Reason::SubscriptionRefused, *subscription);
                let because =
                    format!("that peer does not take the subscription {statement}: {detail}");
                self.insert(peer, about, collection, because, now_ms);
            }
            Event::ScopeClosed { subscription } => {
                let (_, collection) = name(*subscription).unzip();
                let about = About::Subscription(Reason::ClosedThere, *subscription);
                let because = "the sync scope of the collection at that peer leaves this one out";
                self.insert(peer, about, collection, because.to_owned(), now_ms);
            }
            Event::ScopeOpened { subscription } => {
                self.end(peer, Reason::ClosedThere, *subscription);
            }
            Event::RemoteRefused {
                subscription,
                detail,
            } => {
                let about = About::Subscription(Reason::RemoteSubscriptionRefused, *subscription);
                let because = format!("a subscription of that peer cannot be read here: {detail}");
                self.insert(peer, about, None, because, now_ms);
            }
            Event::RemoteRefusalEnded { subscription } => {
                self.end(peer, Reason::RemoteSubscriptionRefused, *subscription);
            }
            Event::Closed {
                reason,
                detail,
                by_remote,
                ..
            } if !is_ordinary(*reason) => {
                let who = if *by_remote { "that peer" } else { "this peer" };
                let because = format!("{who} ended replication ({}): {detail}", reason.code());
                let about = About::Session(Reason::SessionFailed);
                self.insert(peer, about, None, because, now_ms);
            }
            event => self.follow_documents(peer, event, now_ms),
        }
    }

    /// Follows what a session tells of single documents.
    fn follow_documents(&mut self, peer: PeerId, event: &Event, now_ms: u64) {
        match event {
            Event::HeldBack { documents, count } => {
                let because = "its stamp lies 24 hours or more ahead of the clock of this peer";
                self.documents(peer, Reason::ClockSkew, documents, because, now_ms);
                self.count(peer, Reason::ClockSkew, count - documents.len() as u64);
            }
            Event::NotHeld { documents } => {
                let because = "that peer did not take it, most likely because the clock of this one is far ahead of its own";
                self.documents(peer, Reason::NotHeld, documents, because, now_ms);
            }
            Event::NotAllHeld { count } => self.count(peer, Reason::NotHeld, *count),
            Event::Refused { documents } => {
                let because = "what that peer sent is not a valid document, or exceeds a limit";
                self.documents(peer, Reason::Refused, documents, because, now_ms);
            }
            Event::OutOfScope { documents, count } => {
                let because = "that peer sent it, and the sync scope of its collection here leaves that peer out";
                self.documents(peer, Reason::OutOfScope, documents, because, now_ms);
                self.count(peer, Reason::OutOfScope, count - documents.len() as u64);
            }
            Event::TakenIn { documents } => {
                for key in documents {
                    for reason in [Reason::Refused, Reason::OutOfScope] {
                        let about = About::Document(reason, key.clone());
                        self.rows.remove(&(peer, about));
                    }
                }
            }
            Event::CollectionsCaughtUp {
                collections,
                are_all,
            } => {
                self.end_untaken(peer, |collection| collections.contains(collection));
                if *are_all {
                    self.mend(peer, Reason::is_untaken);
                }
            }
            _ => {}
        }
    }

    /// A subscription of this peer could not be asked for.
    pub(crate) fn not_subscribed(
        &mut self,
        peer: PeerId,
        subscription: SubscriptionId,
        collection: CollectionName,
        because: String,
        now_ms: u64,
    ) {
        let about = About::Subscription(Reason::NotSubscribed, subscription);
        self.insert(peer, about, Some(collection), because, now_ms);
    }

    /// Of the subscriptions of this peer only these could not be asked for.
    pub(crate) fn only_not_subscribed(&mut self, peer: PeerId, still: &BTreeSet<SubscriptionId>) {
        self.rows.retain(|(other, about), _| match about {
            About::Subscription(Reason::NotSubscribed, subscription) => {
                *other != peer || still.contains(subscription)
            }
            _ => true,
        });
    }

    /// Nobody here wants this any more.
    pub(crate) fn unsubscribed(&mut self, peer: PeerId, subscription: SubscriptionId) {
        for reason in [Reason::SubscriptionRefused, Reason::ClosedThere] {
            self.end(peer, reason, subscription);
        }
    }

    /// Documents come and go.
    pub(crate) fn works(&mut self, peer: PeerId) {
        self.mend(peer, |reason| reason == Reason::SessionFailed);
    }

    /// Of what the peer sent and was not taken in, nothing is asked for of these collections any more, or
    /// all has come.
    pub(crate) fn end_untaken(&mut self, peer: PeerId, is_over: impl Fn(&CollectionName) -> bool) {
        self.rows.retain(|(other, about), _| match about {
            About::Document(reason, key) => {
                *other != peer || !reason.is_untaken() || !is_over(&key.collection)
            }
            _ => true,
        });
    }

    /// The rows of `system:sync_degradations`.
    pub(crate) fn rows(&self) -> Vec<Object> {
        let named = self.rows.iter().map(|((peer, about), row)| {
            let (reason, id) = match about {
                About::Document(reason, key) => (*reason, key.id.as_value().clone()),
                About::Subscription(reason, _) | About::Session(reason) => (*reason, Value::Null),
            };
            let since = i64::try_from(row.since_ms).map_or(Value::Null, Value::Int);
            shown(
                *peer,
                reason,
                row.collection.as_ref(),
                id,
                &row.because,
                since,
            )
        });
        let unnamed = self.unnamed.iter().map(|((peer, reason), count)| {
            let most = if *reason == Reason::NotHeld {
                "up to "
            } else {
                ""
            };
            let because = format!("{most}{count} more documents, which are not named");
            shown(*peer, *reason, None, Value::Null, &because, Value::Null)
        });
        named.chain(unnamed).collect()
    }

    fn end(&mut self, peer: PeerId, reason: Reason, subscription: SubscriptionId) {
        let about = About::Subscription(reason, subscription);
        self.rows.remove(&(peer, about));
    }

    fn documents(
        &mut self,
        peer: PeerId,
        reason: Reason,
        documents: &[DocumentKey],
        because: &str,
        now_ms: u64,
    ) {
        for key in documents {
            let about = About::Document(reason, key.clone());
            let collection = Some(key.collection.clone());
            self.insert(peer, about, collection, because.to_owned(), now_ms);
        }
    }

    fn insert(
        &mut self,
        peer: PeerId,
        about: About,
        collection: Option<CollectionName>,
        because: String,
        now_ms: u64,
    ) {
        let key = (peer, about);
        if let Some(row) = self.rows.get_mut(&key) {
            row.because = because;
            return;
        }
        if self.rows.len() >= ROWS_MAX {
            let (About::Document(reason, _)
            | About::Subscription(reason, _)
            | About::Session(reason)) = key.1;
            self.count(peer, reason, 1);
            return;
        }
        let row = Row {
            collection,
            because,
            since_ms: now_ms,
        };
        self.rows.insert(key, row);
    }

    fn count(&mut self, peer: PeerId, reason: Reason, documents: u64) {
        // As many peers as there can be rows, each with all reasons: 300 KiB.
        if documents > 0 && self.unnamed.len() < ROWS_MAX {
            *self.unnamed.entry((peer, reason)).or_default() += documents;
        }
    }

    fn mend(&mut self, peer: PeerId, is_over: impl Fn(Reason) -> bool) {
        if self.rows.is_empty() && self.unnamed.is_empty() {
            return;
        }
        self.rows.retain(|(other, about), _| {
            let (About::Document(reason, _)
            | About::Subscription(reason, _)
            | About::Session(reason)) = about;
            *other != peer || !is_over(*reason)
        });
        self.unnamed
            .retain(|(other, reason), _| *other != peer || !is_over(*reason));
    }
}

/// Whether links end for a reason after which replication goes on.
fn is_ordinary(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Goodbye | CloseReason::ActorRenewed | CloseReason::Lost
    )
}

fn shown(
    peer: PeerId,
    reason: Reason,
    collection: Option<&CollectionName>,
    id: Value,
    because: &str,
    since: Value,
) -> Object {
    let collection = collection.map_or(Value::Null, |name| name.as_str().into());
    Object::from([
        ("peer".to_owned(), peer.to_string().into()),
        ("collection".to_owned(), collection),
        ("id".to_owned(), id),
        ("direction".to_owned(), reason.direction().into()),
        ("reason".to_owned(), reason.code().into()),
        ("because".to_owned(), because.into()),
        ("since".to_owned(), since),
    ])
}

#[cfg(test)]
mod tests {
    use idem_model::DocId;

    use super::*;

    const PEER: PeerId = PeerId([3; 32]);

    fn keys(count: usize) -> Vec<DocumentKey> {
        let key = |n: usize| DocumentKey {
            collection: CollectionName::new("t").unwrap(),
            id: DocId::from(format!("{n}").as_str()),
        };
        (0..count).map(key).collect()
    }

    fn follow(degradations: &mut Degradations, event: &Event) {
        degradations.follow(PEER, event, 7, |_| None);
    }

    #[test]
    fn rows_are_bounded_and_the_rest_is_counted() {
        let mut degradations = Degradations::default();
        let event = |count: usize, all: u64| Event::HeldBack {
            documents: keys(count),
            count: all,
        };
        follow(&mut degradations, &event(3, 5));
        assert_eq!(degradations.rows().len(), 4);
        follow(
            &mut degradations,
            &event(ROWS_MAX + 10, ROWS_MAX as u64 + 10),
        );
        let rows = degradations.rows();
        assert_eq!(rows.len(), ROWS_MAX + 1);
        let last = rows.last().unwrap();
        assert_eq!(
            last["because"],
            "12 more documents, which are not named".into()
        );
        let greeting = Event::Established {
            link: idem_sync::LinkId(1),
            peer: PEER,
            version: 1,
        };
        degradations.follow(PeerId([4; 32]), &greeting, 7, |_| None);
        assert_eq!(degradations.rows().len(), ROWS_MAX + 1);
        follow(&mut degradations, &greeting);
        assert!(degradations.rows().is_empty());
    }

    #[test]
    fn what_the_peer_did_not_name_is_counted_until_it_is_sent_again() {
        for mending in [
            Event::RemoteRestarted,
            Event::Established {
                link: idem_sync::LinkId(1),
                peer: PEER,
                version: 1,
            },
        ] {
            let mut degradations = Degradations::default();
            follow(&mut degradations, &Event::NotAllHeld { count: 800_000 });
            let rows = degradations.rows();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0]["reason"], "not_held".into());
            assert_eq!(
                rows[0]["because"],
                "up to 800000 more documents, which are not named".into()
            );
            follow(&mut degradations, &mending);
            assert!(degradations.rows().is_empty());
        }
    }

    #[test]
    fn a_link_that_ends_while_replication_goes_on_is_no_failure() {
        let mut degradations = Degradations::default();
        for reason in [
            CloseReason::Goodbye,
            CloseReason::ActorRenewed,
            CloseReason::Lost,
        ] {
            let event = Event::Closed {
                link: idem_sync::LinkId(1),
                reason,
                detail: String::new(),
                by_remote: true,
            };
            follow(&mut degradations, &event);
        }
        assert!(degradations.rows().is_empty());
    }

    #[test]
    fn what_was_not_taken_in_is_shown_until_it_is() {
        let mut degradations = Degradations::default();
        let all = keys(6);
        let refused = Event::Refused {
            documents: all[..3].to_vec(),
        };
        let out_of_scope = Event::OutOfScope {
            documents: all[3..].to_vec(),
            count: 5,
        };
        let shown = |degradations: &Degradations| {
            let rows = degradations.rows();
            let ids = rows.iter().map(|row| row["id"].as_str().map(str::to_owned));
            ids.collect::<Vec<_>>()
        };
        let named = |ids: &[&str], has_more: bool| {
            let ids = ids.iter().map(|id| Some((*id).to_owned()));
            ids.chain(has_more.then_some(None)).collect::<Vec<_>>()
        };
        follow(&mut degradations, &refused);
        follow(&mut degradations, &out_of_scope);
        assert_eq!(
            shown(&degradations),
            named(&["0", "1", "2", "3", "4", "5"], true)
        );
        // Others come.
        let applied = Event::Applied {
            documents: 7,
            bytes: 7,
        };
        follow(&mut degradations, &applied);
        degradations.works(PEER);
        let taken = |at: [usize; 2]| Event::TakenIn {
            documents: at.map(|at| all[at].clone()).to_vec(),
        };
        degradations.follow(PeerId([4; 32]), &taken([0, 1]), 7, |_| None);
        follow(&mut degradations, &taken([1, 4]));
        assert_eq!(shown(&degradations), named(&["0", "2", "3", "5"], true));
        let caught_up = |name: &str, are_all| Event::CollectionsCaughtUp {
            collections: vec![CollectionName::new(name).unwrap()],
            are_all,
        };
        follow(&mut degradations, &caught_up("u", false));
        assert_eq!(shown(&degradations), named(&["0", "2", "3", "5"], true));
        follow(&mut degradations, &caught_up("t", false));
        assert_eq!(shown(&degradations), named(&[], true));
        follow(&mut degradations, &caught_up("u", true));
        assert!(degradations.rows().is_empty());
    }

    #[test]
    fn a_failure_is_shown_until_documents_come() {
        let mut degradations = Degradations::default();
        let failure = Event::Closed {
            link: idem_sync::LinkId(1),
            reason: CloseReason::Malformed,
            detail: "no message".to_owned(),
            by_remote: true,
        };
        follow(&mut degradations, &failure);
        follow(
            &mut degradations,
            &Event::Established {
                link: idem_sync::LinkId(2),
                peer: PEER,
                version: 1,
            },
        );
        let rows = degradations.rows();
        assert_eq!(rows[0]["reason"], "session_failed".into());
        assert_eq!(
            rows[0]["because"],
            "that peer ended replication (sync/malformed): no message".into()
        );
        let applied = Event::Applied {
            documents: 1,
            bytes: 1,
        };
        follow(&mut degradations, &applied);
        assert!(degradations.rows().is_empty());
    }
}

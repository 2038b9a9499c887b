//! Three peers, of which some have heard of less than others: what was deleted does not come back round
//! about.

use idem_model::{ActorId, DocumentKey, DocumentOp, PeerId, limits};
use idem_sync::{CloseReason, Event, Lane, MemoryReplica, Replica, ScopeState};

use crate::pair::{Pair, insert, key, selector, session, set};

const NOW_MS: u64 = 1_000_000;
const ALL: &str = "SELECT * FROM things";
const SOME: &str = "SELECT * FROM things WHERE kind = 'some'";

/// Three peers, any two of which can be linked for a while.
struct Trio {
    replicas: [MemoryReplica; 3],
    /// What each of them wants.
    wants: [&'static str; 3],
    /// How many sessions there were.
    sessions: u64,
}

impl Trio {
    fn new(wants: [&'static str; 3]) -> Self {
        Self {
            replicas: [1, 2, 3].map(|it| MemoryReplica::new(ActorId([it; 16]), NOW_MS)),
            wants,
            sessions: 0,
        }
    }

    /// Links two of them while `script` runs. Each link is one of processes that are new.
    fn while_linked(&mut self, ends: [usize; 2], script: impl FnOnce(&mut Pair)) {
        let mut pair = Pair::apart();
        let names = ends.map(|it| u8::try_from(it + 1).expect("there are three"));
        let statements = ends.map(|it| self.wants[it]);
        let wanted = statements.map(selector);
        for side in 0..2 {
            self.sessions += 1;
            let peer = &mut pair.peers[side];
            peer.id = PeerId([names[side]; 32]);
            peer.session = session(names[side], names[1 - side], self.sessions);
            std::mem::swap(&mut peer.replica, &mut self.replicas[ends[side]]);
            peer.replica.set_subscriptions([wanted[side].clone()]);
            peer.subscribe(statements[side]);
        }
        pair.link();
        script(&mut pair);
        for link in pair.links.clone() {
            pair.cut(link);
        }
        for (side, end) in ends.into_iter().enumerate() {
            std::mem::swap(&mut pair.peers[side].replica, &mut self.replicas[end]);
        }
    }

    /// Links two of them until they have nothing more to say. Who takes a new actor needs a new link.
    fn meet(&mut self, ends: [usize; 2]) {
        let mut is_renewed = true;
        let mut links = 0;
        while is_renewed {
            links += 1;
            assert!(links < 8, "no link lasts");
            is_renewed = false;
            self.while_linked(ends, |pair| {
                pair.settle();
                let events = pair.peers.iter().flat_map(|it| &it.events);
                for event in events {
                    if let Event::Closed { reason, .. } = event {
                        assert_eq!(*reason, CloseReason::ActorRenewed, "{event:?}");
                        is_renewed = true;
                    }
                }
            });
        }
    }

    /// Links two of them until they have nothing more to say, but for what goes to `deaf` on the bulk lane.
    fn meet_in_part(&mut self, ends: [usize; 2], deaf: usize, script: impl FnOnce(&mut Pair)) {
        let deaf = ends.iter().position(|it| *it == deaf);
        self.while_linked(ends, |pair| {
            let settle = |pair: &mut Pair| loop {
                pair.collect(usize::MAX);
                pair.wires
                    .retain(|(_, to, lane), _| (Some(*to), *lane) != (deaf, Lane::Bulk));
                if pair.deliver() == 0 {
                    break;
                }
            };
            settle(pair);
            script(pair);
            settle(pair);
        });
    }

    fn commit(&mut self, peer: usize, key: &DocumentKey, operation: DocumentOp) {
        let replica = &mut self.replicas[peer];
        let operations = [(key.clone(), operation)];
        replica.commit(&operations).expect("a valid transaction");
        replica.make_durable();
    }

    /// Time passes, and a peer forgets what was deleted.
    fn forget(&mut self, peer: usize) {
        for replica in &mut self.replicas {
            replica.set_now_ms(NOW_MS + 2 * limits::TOMBSTONE_TTL_SMALL_PEER_MS);
        }
        self.replicas[peer].remove_tombstones();
        self.replicas[peer].make_durable();
    }

    fn is_there(&self, peer: usize, key: &DocumentKey) -> bool {
        let mut documents = self.replicas[peer].documents();
        documents.any(|(it, document)| it == key && document.is_present())
    }

    fn is_in(&self, peer: usize, key: &DocumentKey, state: ScopeState) -> bool {
        let mut is_in = false;
        let Ok(()) = self.replicas[peer].scan_known(&key.collection, &mut |item| {
            is_in |= item.state == state && item.id == key.id.to_key();
            std::ops::ControlFlow::Continue(())
        });
        is_in
    }
}

/// The version vector of a deletion covers another one by the same writer of which was never heard.
#[test]
fn who_covers_a_deletion_without_having_heard_of_it_has_others_ask_again() {
    let (writer, between, holder) = (0, 1, 2);
    let mut trio = Trio::new([ALL, SOME, ALL]);
    let [gone, other] = ["gone", "other"].map(key);
    trio.commit(writer, &gone, insert(&[("kind", "none".into())]));
    trio.commit(writer, &other, insert(&[("kind", "some".into())]));
    trio.meet([writer, holder]);
    trio.commit(writer, &gone, DocumentOp::Delete);
    // A change overtakes what was there before, and the link is lost before that comes.
    trio.meet_in_part([writer, between], between, |pair| {
        pair.peers[0].commit(&[(key("other"), set("note", "later"))]);
    });
    assert!(trio.is_there(between, &other) && trio.replicas[between].state(&gone).is_none());
    // It deletes that itself, which the holder hears, and forgets it.
    trio.commit(between, &other, DocumentOp::Delete);
    trio.meet([between, holder]);
    assert!(trio.is_there(holder, &gone) && !trio.is_there(holder, &other));
    trio.forget(between);
    trio.forget(writer);
    for _ in 0..2 {
        trio.meet([writer, between]);
    }
    trio.wants[between] = ALL;
    trio.meet([holder, between]);
    trio.meet([writer, between]);
    assert!(!trio.is_there(writer, &gone), "it does not come back");
    assert!(trio.is_in(holder, &gone, ScopeState::Quarantined));
}

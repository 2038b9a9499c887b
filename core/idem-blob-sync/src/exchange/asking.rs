//! Who has it?
//!
//! A question goes out with a number and with hops, and everybody passes it on once. Who is asked the same
//! question another way says that he has nothing, so each question ends: an answer is owed to who asked
//! first only, when all who were asked have answered. Who hears that somebody has the blob tells all that
//! wait for an answer at once, and then offers what comes.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use idem_model::{BlobKey, GroupSet, PeerId, limits};
use idem_wire::BlobMessage;

use super::{ANSWER_TIMEOUT, Exchange, HOP_TIMEOUT, IDLE, ROUND_EVERY};
use crate::{
    event::FailReason,
    port::{Blobs, Purpose},
    want::{App, RINGS, STRIKES_MAX, Search, Source, Want, Work},
};

/// How long a fetch for which many asked at the same time waits at most before it asks again.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// What a neighbour says it has of a blob.
pub(super) enum Offer {
    All,
    Groups(Vec<Range<u64>>),
    /// It comes, for the neighbour itself or for others.
    Later {
        is_own: bool,
    },
}

impl Exchange {
    /// A neighbour asks for a blob.
    pub(super) fn handle_ask(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
        (hops, question): (u8, u64),
    ) {
        let is_full = !self.may_relay(peer, key);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        if neighbour.is_clogged() {
            self.misbehaved(peer, "asks and does not read the answers");
            return;
        }
        if blobs.is_whole(key) {
            neighbour.push(&BlobMessage::HaveAll { key });
            return;
        }
        let hops = hops.min(limits::BLOB_HOPS_MAX);
        let lack = |is_busy| BlobMessage::Lack {
            key,
            question,
            hops,
            is_busy,
        };
        let known = self.wants.get(&key);
        let is_hopeful = known.is_some_and(|want| want.is_hopeful_without(Some(peer)));
        if neighbour.is_full(key) {
            neighbour.push(&lack(true));
            return;
        }
        if is_hopeful || known.is_some_and(|want| want.can_offer(key)) {
            self.follow(peer, key, is_hopeful);
        }
        // While something comes, it need not be looked for elsewhere.
        let want = self.wants.get(&key);
        let is_coming = want.is_some_and(|want| now < want.progress_at + IDLE);
        if is_hopeful && (is_coming || hops == 0) {
            return;
        }
        let is_known = self.questions.knows(question, hops);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        if is_known || hops == 0 {
            if !is_hopeful {
                neighbour.push(&lack(false));
            }
            return;
        }
        if is_full || !neighbour.count_ask(now) {
            if !is_hopeful {
                neighbour.push(&lack(true));
            }
            return;
        }
        self.questions.note(question, hops);
        self.end_search(key, question);
        let want = self.wants.entry(key).or_insert_with(|| Want::new(now));
        let search = Search {
            asker: Some((peer, hops)),
            is_answered: is_hopeful,
            hops: hops - 1,
            waiting: BTreeSet::new(),
            until: now,
            is_busy: false,
        };
        want.searches.insert(question, search);
        self.send_question(now, key, question, |it| it != peer);
        self.settle(now, blobs, key);
    }

    /// Whether another blob may be looked for on behalf of a neighbour.
    fn may_relay(&self, peer: PeerId, key: BlobKey) -> bool {
        let is_known = self.wants.get(&key).is_some_and(|it| it.is_wanted_by(peer));
        let wants = self.wants.values();
        let of_peer = wants.filter(|want| want.is_wanted_by(peer)).count();
        let is_relay = self.wants.contains_key(&key) || self.relays() < limits::BLOB_RELAYS_MAX;
        is_known || (of_peer < limits::BLOB_RELAYS_PER_PEER_MAX && is_relay)
    }

    /// Sends the question of a search to the neighbours that `choose` picks.
    fn send_question(
        &mut self,
        now: Duration,
        key: BlobKey,
        question: u64,
        choose: impl Fn(PeerId) -> bool,
    ) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let peers = self.neighbours.iter().filter(|(peer, neighbour)| {
            choose(**peer) && want.may_ask(**peer) && !neighbour.damaged.contains(&key)
        });
        let peers: BTreeSet<PeerId> = peers.map(|(peer, _)| *peer).collect();
        let Some(search) = want.searches.get_mut(&question) else {
            return;
        };
        let hops = search.hops;
        search.until = now + ANSWER_TIMEOUT + HOP_TIMEOUT * u32::from(hops);
        search.waiting.clone_from(&peers);
        let ask = BlobMessage::Ask {
            key,
            hops,
            question,
        };
        for peer in peers {
            if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                neighbour.push(&ask);
            }
        }
    }

    /// Asks a question of this peer's own.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        key: BlobKey,
        hops: u8,
        choose: impl Fn(PeerId) -> bool,
    ) {
        let question = self.questions.draw();
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let search = Search {
            asker: None,
            is_answered: true,
            hops,
            waiting: BTreeSet::new(),
            until: now,
            is_busy: false,
        };
        want.searches.insert(question, search);
        self.send_question(now, key, question, choose);
    }

    /// Asks who has just come, or may have forgotten.
    pub(super) fn ask_one(&mut self, now: Duration, key: BlobKey, peer: PeerId) {
        let Some(want) = self.wants.get(&key) else {
            return;
        };
        let hops = match &want.app {
            Some(app) if want.is_hopeful_without(None) => app.terms.hops.min(1),
            Some(app) => app.ring_hops(),
            None => 0,
        };
        self.ask(now, key, hops, |it| it == peer);
    }

    /// A question counts as answered: who asked it gets none.
    fn end_search(&mut self, key: BlobKey, question: u64) {
        let want = self.wants.get_mut(&key);
        let Some(search) = want.and_then(|want| want.searches.remove(&question)) else {
            return;
        };
        self.answer_lack(key, question, &search);
    }

    pub(super) fn answer_lack(&mut self, key: BlobKey, question: u64, search: &Search) {
        if let Some((asker, hops)) = search.asker
            && !search.is_answered
            && let Some(neighbour) = self.neighbours.get_mut(&asker)
        {
            neighbour.push(&BlobMessage::Lack {
                key,
                question,
                hops,
                is_busy: search.is_busy,
            });
        }
    }

    /// A neighbour takes what comes of a blob.
    fn follow(&mut self, peer: PeerId, key: BlobKey, is_promised: bool) {
        let (Some(want), Some(neighbour)) =
            (self.wants.get_mut(&key), self.neighbours.get_mut(&peer))
        else {
            return;
        };
        want.followers.insert(peer, is_promised);
        neighbour.interests.insert(key, None);
        if is_promised {
            let is_own = want.app.is_some();
            neighbour.push(&BlobMessage::Wait { key, is_own });
        }
        if want.can_offer(key) {
            neighbour.news.insert(key);
        }
    }

    /// A neighbour has some of a blob, or will have.
    pub(super) fn handle_have(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
        offer: Offer,
    ) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let is_answer = want.is_awaiting(peer);
        // Who was not asked is not believed either.
        if !is_answer && !want.sources.contains_key(&peer) {
            return;
        }
        let is_relay = matches!(offer, Offer::Later { is_own: false });
        if is_relay && want.is_hopeful_without(Some(peer)) && !want.is_hopeful_from(peer) {
            // It would fetch all of it for who has enough in one way.
            self.decline(peer, key);
            self.settle(now, blobs, key);
            return;
        }
        let source = want.sources.entry(peer).or_insert_with(|| Source::Some {
            groups: GroupSet::new(key.groups()),
            is_waiting: false,
            is_relay,
        });
        match (&mut *source, offer) {
            (Source::Banned, _) => return,
            (Source::All, _) => {}
            (_, Offer::All) => *source = Source::All,
            (Source::Some { groups, .. }, Offer::Groups(runs)) => {
                runs.into_iter().for_each(|run| groups.insert(run));
            }
            (Source::Some { is_waiting, .. }, Offer::Later { .. }) => *is_waiting = true,
        }
        let is_there = source.has_some();
        // That answers whatever it was asked, but for groups alone: it goes on looking then.
        if is_answer && want.is_hopeful_from(peer) {
            for search in want.searches.values_mut() {
                search.waiting.remove(&peer);
            }
        }
        if want.work.is_none() && is_there {
            let purpose = match want.app {
                Some(_) => Purpose::App,
                None => Purpose::Neighbour,
            };
            match blobs.begin(key, purpose) {
                Ok(have) => {
                    let busy = GroupSet::new(key.groups());
                    want.work = Some(Work { have, busy });
                    self.came(now, blobs, key);
                }
                Err(trouble) => {
                    self.fail(blobs, key, trouble.into());
                    return;
                }
            }
        }
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.is_stirred = true;
        }
        let want = self.wants.get(&key);
        if want.is_some_and(|want| matches!(want.sources.get(&peer), Some(Source::All))) {
            self.decline_relays(key);
        }
        self.settle(now, blobs, key);
    }

    /// Somebody has all of a blob: those that have just begun to fetch it for this peer need not.
    fn decline_relays(&mut self, key: BlobKey) {
        let Some(want) = self.wants.get(&key) else {
            return;
        };
        let is_needless = |source: &Source| match source {
            Source::Some {
                groups, is_relay, ..
            } => *is_relay && groups.count() == 0,
            _ => false,
        };
        let needless = want.sources.iter().filter(|(_, it)| is_needless(it));
        let needless: Vec<PeerId> = needless.map(|(peer, _)| *peer).collect();
        for peer in needless {
            self.decline(peer, key);
        }
    }

    /// What a neighbour would fetch for this peer is not needed.
    fn decline(&mut self, peer: PeerId, key: BlobKey) {
        if let Some(want) = self.wants.get_mut(&key) {
            want.sources.remove(&peer);
            for search in want.searches.values_mut() {
                search.waiting.remove(&peer);
            }
        }
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.push(&BlobMessage::Cancel { key });
        }
    }

    /// A neighbour found nothing.
    pub(super) fn handle_lack(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        (key, question, hops, is_busy): (BlobKey, u64, u8, bool),
    ) {
        let want = self.wants.get_mut(&key);
        let Some(search) = want.and_then(|want| want.searches.get_mut(&question)) else {
            return;
        };
        if search.hops == hops && search.waiting.remove(&peer) {
            search.is_busy |= is_busy;
            self.settle(now, blobs, key);
        }
    }

    /// Nothing more of a blob comes from a neighbour.
    pub(super) fn handle_withdraw(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
        keeps: bool,
    ) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        match want.sources.get_mut(&peer) {
            None | Some(Source::Banned) => return,
            Some(Source::Some { is_waiting, .. }) if keeps => *is_waiting = false,
            Some(_) if keeps => {}
            Some(_) => {
                want.sources.remove(&peer);
                self.release_of(peer, key);
            }
        }
        self.settle(now, blobs, key);
    }

    /// A neighbour wants nothing of a blob any more.
    pub(super) fn handle_cancel(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
    ) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.gets.retain(|(wanted, _)| *wanted != key);
            if neighbour.sending.as_ref().is_some_and(|it| it.key == key) {
                neighbour.sending = None;
            }
        }
        self.forget_asker(peer, key);
        self.settle(now, blobs, key);
    }

    /// A neighbour waits for nothing of a blob any more. Those that were asked for it alone are told.
    pub(super) fn forget_asker(&mut self, peer: PeerId, key: BlobKey) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.forget(key);
        }
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        want.followers.remove(&peer);
        let mut asked = BTreeSet::new();
        want.searches.retain(|_, search| {
            let is_its = search.asker.is_some_and(|(asker, _)| asker == peer);
            if is_its {
                asked.append(&mut search.waiting);
            }
            !is_its
        });
        for peer in asked {
            if !want.is_awaiting(peer)
                && !want.sources.contains_key(&peer)
                && let Some(neighbour) = self.neighbours.get_mut(&peer)
            {
                neighbour.push(&BlobMessage::Cancel { key });
            }
        }
    }

    /// Draws the consequences of what changed about a blob.
    pub(super) fn settle(&mut self, now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        self.tell_hope(key);
        self.end_searches(key);
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let is_hopeful = want.is_hopeful_without(None);
        if want.app.is_some() {
            self.go_on(now, key, is_hopeful);
            self.give_up(blobs, key);
        } else if !want.has_asker() && (want.followers.is_empty() || !is_hopeful) {
            self.drop_want(blobs, key);
        }
    }

    /// Tells neighbours that a blob will come, or will not.
    fn tell_hope(&mut self, key: BlobKey) {
        let Some(want) = self.wants.get(&key) else {
            return;
        };
        let mut follow = Vec::new();
        for search in want.searches.values() {
            if let Some((asker, _)) = search.asker
                && !search.is_answered
                && want.is_hopeful_without(Some(asker))
            {
                follow.push(asker);
            }
        }
        let mut withdraw = Vec::new();
        for (peer, is_promised) in &want.followers {
            match (is_promised, want.is_hopeful_without(Some(*peer))) {
                (false, true) => follow.push(*peer),
                (true, false) => withdraw.push(*peer),
                _ => {}
            }
        }
        let keeps = want.can_offer(key);
        for peer in follow {
            // There is a bound to what it may wait for.
            let neighbour = self.neighbours.get(&peer);
            if neighbour.is_none_or(|it| it.is_full(key)) {
                continue;
            }
            if let Some(want) = self.wants.get_mut(&key) {
                for search in want.searches.values_mut() {
                    search.is_answered |= search.asker.is_some_and(|(it, _)| it == peer);
                }
            }
            self.follow(peer, key, true);
        }
        for peer in withdraw {
            let Some(neighbour) = self.neighbours.get_mut(&peer) else {
                continue;
            };
            neighbour.push(&BlobMessage::Withdraw { key, keeps });
            let Some(want) = self.wants.get_mut(&key) else {
                continue;
            };
            if keeps {
                want.followers.insert(peer, false);
            } else {
                neighbour.forget(key);
                want.followers.remove(&peer);
            }
        }
    }

    /// Ends the questions that all have answered.
    fn end_searches(&mut self, key: BlobKey) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let ended = want.searches.iter();
        let ended = ended.filter(|(_, search)| search.waiting.is_empty());
        let ended: Vec<u64> = ended.map(|(question, _)| *question).collect();
        for question in ended {
            let Some(want) = self.wants.get_mut(&key) else {
                return;
            };
            let Some(search) = want.searches.remove(&question) else {
                continue;
            };
            if let (None, Some(app)) = (search.asker, &mut want.app) {
                app.is_busy |= search.is_busy;
            }
            self.answer_lack(key, question, &search);
        }
    }

    /// What a fetch of the app does next, if nobody has the blob and all have said so.
    fn go_on(&mut self, now: Duration, key: BlobKey, is_hopeful: bool) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let is_asking = want.is_asking();
        let Some(app) = &mut want.app else {
            return;
        };
        app.is_lost |= std::mem::replace(&mut app.was_hopeful, is_hopeful) && !is_hopeful;
        if is_hopeful || is_asking {
            app.quiet_since = None;
            return;
        }
        if app.is_lost && now >= app.asked_at + ROUND_EVERY {
            // Who had it has gone: there may be another way.
            self.start_round(now, key, 0);
        } else if !app.is_last_ring() {
            let next = app.ring + 1;
            self.start_round(now, key, next);
        } else {
            app.quiet_since.get_or_insert(now);
        }
    }

    /// Asks everybody over as many peers as a ring of a fetch is wide.
    pub(super) fn start_round(&mut self, now: Duration, key: BlobKey, ring: usize) {
        let Some(app) = self.wants.get_mut(&key).and_then(|want| want.app.as_mut()) else {
            return;
        };
        app.asked_at = now;
        if ring == 0 {
            app.is_lost = false;
            app.is_rechecked = false;
        }
        app.ring = ring;
        app.is_busy = false;
        app.quiet_since = None;
        let hops = app.ring_hops();
        self.ask(now, key, hops, |_| true);
        // With nobody to ask, that is answered, and so are the rings beyond.
        self.end_searches(key);
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let (is_hopeful, is_asking) = (want.is_hopeful_without(None), want.is_asking());
        if let Some(app) = &mut want.app
            && !is_hopeful
            && !is_asking
        {
            app.ring = RINGS.len();
            app.quiet_since = Some(now);
        }
    }

    /// Renews a fetch of the app that nobody could serve for a while, or ends it.
    pub(super) fn reconsider(&mut self, now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        let Some(app) = self.wants.get_mut(&key).and_then(|it| it.app.as_mut()) else {
            return;
        };
        if app.is_lost {
            self.start_round(now, key, 0);
        } else if app.is_busy {
            app.pause = (app.pause * 2).min(PAUSE_MAX);
            let ring = app.ring;
            self.start_round(now, key, ring);
        } else {
            // Somebody nearby may have come by it meanwhile.
            app.is_rechecked = true;
            app.quiet_since = None;
            let hops = app.terms.hops.min(1);
            self.ask(now, key, hops, |_| true);
        }
        self.settle(now, blobs, key);
    }

    /// Ends a fetch of the app that nobody can serve.
    fn give_up(&mut self, blobs: &mut impl Blobs, key: BlobKey) {
        let Some(want) = self.wants.get(&key) else {
            return;
        };
        let is_over = |app: &App| {
            app.is_rechecked && app.quiet_since.is_some() && !app.is_busy && !app.is_lost
        };
        if want.app.as_ref().is_some_and(is_over) && !self.neighbours.is_empty() {
            let reason = match want.was_damaged() {
                true => FailReason::Damaged,
                false => FailReason::NobodyHasIt,
            };
            self.fail(blobs, key, reason);
        }
    }

    /// Nobody answers any more to what was asked long ago.
    pub(super) fn expire_searches(&mut self, now: Duration, key: BlobKey) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let mut silent = BTreeSet::new();
        for search in want.searches.values_mut() {
            if now >= search.until {
                silent.append(&mut search.waiting);
            }
        }
        for peer in silent {
            want.strike(peer, STRIKES_MAX);
        }
    }
}

/// Whether a blob can be passed on before all of it is here.
pub(super) fn can_be_split(key: BlobKey) -> bool {
    key.len > limits::BLOB_WITHOUT_TREE_BYTES_MAX
}

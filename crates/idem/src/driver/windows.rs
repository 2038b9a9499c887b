//! The windows that peers ask this one for, and how this one asks them for its own.

use std::{collections::BTreeMap, time::Duration};

use idem_model::PeerId;
use idem_query::{Reach, Selector, Window};
use idem_sync::{Event, SubscriptionId, WindowFollower, subscription_id_of};

use super::{Driver, PeerState, wants::reconcile};
use crate::windows::{Question, Windows};

/// How a peer is asked for a window.
#[derive(Debug)]
pub(super) struct Followed {
    window: Window,
    number: u8,
    follower: WindowFollower,
    /// What was made of what the follower wants.
    asked: Option<Asked>,
}

#[derive(Debug)]
pub(super) struct Asked {
    reach: Reach,
    pub(super) id: SubscriptionId,
    pub(super) selector: Selector,
}

impl Followed {
    /// What the peer is asked for.
    pub(super) fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// Goes on, and gives whether the peer is to be asked for something else.
    fn turn(&mut self) -> bool {
        let wanted = self.follower.wanted();
        if self.asked.as_ref().map(|asked| &asked.reach) == wanted {
            return false;
        }
        self.asked = wanted.map(|reach| {
            let selector = self.window.within(reach);
            Asked {
                reach: reach.clone(),
                id: subscription_id_of(&selector),
                selector,
            }
        });
        true
    }
}

impl PeerState {
    /// Takes what a session tells of windows. Gives whether nobody else needs to hear it.
    pub(super) fn follow_window(
        &mut self,
        now: Duration,
        remote: PeerId,
        event: &Event,
        windows: &Windows,
    ) -> bool {
        let followed = self.windows.values_mut();
        match event {
            Event::ReachAsked {
                number,
                count,
                window,
            } => {
                windows.ask(Question {
                    remote,
                    epoch: self.epoch,
                    number: *number,
                    count: *count,
                    window: window.clone(),
                });
                true
            }
            Event::ReachTold {
                number,
                count,
                reach,
            } => {
                for it in followed.filter(|it| it.number == *number) {
                    match reach {
                        Ok(reach) => it.follower.handle_told(now, *count, reach.clone()),
                        Err(because) => {
                            let window = it.window.canonical();
                            tracing::debug!(%remote, window, because, "no answer about a window");
                            it.follower.handle_refused(now);
                        }
                    }
                }
                true
            }
            Event::CaughtUp { subscription } => {
                let is_asked =
                    |it: &&mut Followed| it.asked().is_some_and(|asked| asked.id == *subscription);
                followed
                    .filter(is_asked)
                    .for_each(|it| it.follower.handle_caught_up(now));
                false
            }
            Event::Established { .. } => {
                self.epoch += 1;
                followed.for_each(|it| it.follower.handle_established(now));
                false
            }
            Event::Suspended | Event::Closed { .. } => {
                if !self.session.is_established() {
                    followed.for_each(|it| it.follower.handle_lost());
                }
                false
            }
            _ => false,
        }
    }

    /// Follows the windows of this peer, and no others.
    fn follow_own(&mut self, now: Duration, windows: &Windows) {
        self.windows
            .retain(|text, _| windows.own().contains_key(text));
        let is_established = self.session.is_established();
        for (text, own) in windows.own() {
            let followed = self.windows.entry(text.clone()).or_insert_with(|| {
                let mut follower = WindowFollower::new(own.window.count());
                if is_established {
                    follower.handle_established(now);
                }
                Followed {
                    window: own.window.clone(),
                    number: own.number,
                    follower,
                    asked: None,
                }
            });
            if let Some(reach) = own.reach() {
                followed.follower.handle_own(now, &reach);
            }
        }
    }
}

impl Driver {
    /// When windows want a turn.
    pub(super) fn windows_timeout(&self) -> Option<Duration> {
        let peers = self.peers.values();
        let followed = peers.flat_map(|peer| peer.windows.values());
        followed.filter_map(|it| it.follower.poll_timeout()).min()
    }

    /// Answers what peers asked about windows, and asks them for those of this one.
    pub(super) fn follow_windows(&mut self, now: Duration) {
        for (question, reach) in self.windows.take_answers() {
            let peer = self.peers.get_mut(&question.remote);
            let Some(peer) = peer.filter(|peer| peer.epoch == question.epoch) else {
                continue;
            };
            let numbers = (question.number, question.count);
            let window = &question.window;
            peer.is_stirred |= peer
                .session
                .tell_reach(&self.replica, window, numbers, &reach);
        }
        let mut is_changed = false;
        for (remote, peer) in &mut self.peers {
            let count = peer.windows.len();
            peer.follow_own(now, &self.windows);
            let mut is_due = count != peer.windows.len();
            for followed in peer.windows.values_mut() {
                let follower = &mut followed.follower;
                if follower.poll_timeout().is_some_and(|at| at <= now) {
                    follower.handle_timeout(now);
                }
                if let Some(count) = follower.poll_question(now) {
                    let (window, number) = (&followed.window, followed.number);
                    let session = &mut peer.session;
                    match session.ask_reach(&self.replica, number, count, window) {
                        true => peer.is_stirred = true,
                        false => follower.handle_refused(now),
                    }
                }
                is_due |= followed.turn();
            }
            if is_due {
                is_changed = true;
                let selectors = self.board.selectors();
                reconcile(*remote, peer, &selectors, &self.board, &self.conditions);
            }
        }
        if is_changed {
            self.tell_board();
        }
    }

    /// Tells the board what peers are asked for because of windows.
    fn tell_board(&self) {
        let mut all: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for (text, followed) in self.peers.values().flat_map(|peer| &peer.windows) {
            if let Some(asked) = followed.asked() {
                let of_window = all.entry(text.clone()).or_default();
                of_window.insert(asked.id.0, asked.selector.clone());
            }
        }
        self.board.follow_windows(&all);
    }
}

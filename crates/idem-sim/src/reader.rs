//! A peer that wants the first documents of an order and nothing else, and how it asks for them.

use std::{collections::BTreeMap, time::Duration};

use idem_model::{DocumentKey, Object};
use idem_query::{Reach, Selector, Window};
use idem_sync::{Event, OwnReach, Priority, Session, SubscriptionId, WindowCounts, WindowFollower};

use crate::{disk::Disk, workload::COLLECTIONS};

/// The fields that documents are sorted by: values of many kinds, and many that are missing.
const ORDER: [&str; 2] = ["f0", "value"];

/// What such a peer asks for, by edge.
#[derive(Debug)]
pub(crate) struct Reader {
    window: Window,
    followed: BTreeMap<usize, Followed>,
    /// How far its own documents go, and after which commit that was so.
    own: Option<(u64, OwnReach)>,
}

#[derive(Debug)]
struct Followed {
    follower: WindowFollower,
    asked: Option<(Reach, SubscriptionId, Selector)>,
}

impl Reader {
    /// A peer that wants the first `count` documents.
    pub(crate) fn new(count: u32) -> Self {
        let [first, second] = ORDER;
        let from = COLLECTIONS[0];
        let text = format!("SELECT * FROM {from} ORDER BY {first} DESC, {second} LIMIT {count}");
        let statement = idem_query::parse(&text).expect("a valid statement");
        let window = statement.window(&Object::new()).expect("a valid window");
        Self {
            window: window.expect("it has an order"),
            followed: BTreeMap::new(),
            own: None,
        }
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// What its neighbours are asked for.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Selector> {
        let asked = self.followed.values().filter_map(|it| it.asked.as_ref());
        asked.map(|(_, _, selector)| selector)
    }

    pub(crate) fn start_session(&mut self, edge: usize) {
        let follower = WindowFollower::new(self.window.count());
        let asked = None;
        self.followed.insert(edge, Followed { follower, asked });
    }

    pub(crate) fn drop_session(&mut self, edge: usize) {
        self.followed.remove(&edge);
    }

    /// Forgets what a process forgets.
    pub(crate) fn stop(&mut self) {
        self.followed.clear();
        self.own = None;
    }

    /// Takes what a session tells of windows.
    pub(crate) fn handle(&mut self, now: Duration, edge: usize, event: &Event, is_linked: bool) {
        let Some(followed) = self.followed.get_mut(&edge) else {
            return;
        };
        let follower = &mut followed.follower;
        match event {
            Event::ReachTold { count, reach, .. } => match reach {
                Ok(reach) => follower.handle_told(now, *count, reach.clone()),
                Err(_) => follower.handle_refused(now),
            },
            Event::CaughtUp { subscription } => {
                let asked = followed.asked.as_ref();
                if asked.is_some_and(|(_, id, _)| id == subscription) {
                    follower.handle_caught_up(now);
                }
            }
            Event::Established { .. } => follower.handle_established(now),
            Event::Suspended | Event::Closed { .. } if !is_linked => follower.handle_lost(),
            _ => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration, edge: usize) {
        if let Some(followed) = self.followed.get_mut(&edge) {
            let follower = &mut followed.follower;
            if follower.poll_timeout().is_some_and(|at| at <= now) {
                follower.handle_timeout(now);
            }
        }
    }

    pub(crate) fn poll_timeout(&self, edge: usize) -> Option<Duration> {
        self.followed.get(&edge)?.follower.poll_timeout()
    }

    /// Goes on with a session. Gives whether something else is asked for now. One that `stays` never asks
    /// for anything else.
    pub(crate) fn turn(
        &mut self,
        now: Duration,
        edge: usize,
        (session, disk): (&mut Session, &Disk),
        stays: bool,
    ) -> bool {
        let commit = disk.last_commit();
        if self.own.as_ref().is_none_or(|(of, _)| *of != commit) {
            self.own = Some((commit, own_reach(&self.window, disk)));
        }
        let (Some(followed), Some((_, own))) = (self.followed.get_mut(&edge), &self.own) else {
            return false;
        };
        let follower = &mut followed.follower;
        follower.handle_own(now, own);
        if let Some(count) = follower.poll_question(now)
            && !session.ask_reach(disk, 0, count, &self.window)
        {
            follower.handle_refused(now);
        }
        let before = followed.asked.as_ref().map(|(reach, ..)| reach);
        let (Some(reach), false) = (follower.wanted(), stays && before.is_some()) else {
            return false;
        };
        if before == Some(reach) {
            return false;
        }
        let selector = self.window.within(reach);
        let id = session
            .subscribe(&selector, Priority::Normal)
            .expect("few subscriptions");
        // After what takes its place, so that what is under way is taken in.
        if let Some((_, before, _)) = followed.asked.replace((reach.clone(), id, selector)) {
            session.unsubscribe(before);
        }
        true
    }
}

/// The documents of a disk that a window sorts, the first one first, with their states.
pub(crate) fn sorted(window: &Window, disk: &Disk) -> Vec<(Reach, DocumentKey, Vec<u8>)> {
    let collection = window.selector().collection();
    let states = disk.states().into_iter();
    let states = states.filter(|(key, _)| key.collection == *collection);
    let placed = states.filter_map(|(key, state)| {
        let fields = idem_crdt::visible_fields(&state).expect("written by ourselves")?;
        let keys = ORDER.iter().enumerate();
        let keys = keys.filter_map(|(at, name)| {
            let value = fields.get(*name)?;
            Some((format!("k{at}"), value.clone()))
        });
        let id = ("id".to_owned(), key.id.as_value().clone());
        let row = keys.chain([id]).collect();
        Some((window.reach_of(&row), key, state))
    });
    let mut placed: Vec<_> = placed.collect();
    placed.sort();
    placed
}

/// How far the first `count` documents of a disk go.
pub(crate) fn reach(window: &Window, disk: &Disk, count: u32) -> Reach {
    reach_in(&sorted(window, disk), count)
}

fn reach_in(sorted: &[(Reach, DocumentKey, Vec<u8>)], count: u32) -> Reach {
    let last = usize::try_from(count).expect("32 bits fit") - 1;
    sorted
        .get(last)
        .map_or(Reach::ALL, |(reach, ..)| reach.clone())
}

fn own_reach(window: &Window, disk: &Disk) -> OwnReach {
    let sorted = sorted(window, disk);
    let counts = WindowCounts::new(window.count());
    OwnReach {
        near: reach_in(&sorted, counts.near),
        middle: reach_in(&sorted, counts.middle),
        far: reach_in(&sorted, counts.far),
    }
}

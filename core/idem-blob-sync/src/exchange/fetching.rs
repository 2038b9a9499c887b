//! Which part of whom, and what becomes of it.

use std::time::Duration;

use idem_model::{BlobKey, BlobPart, PeerId, limits};
use idem_wire::BlobMessage;

use super::{DOUBLE_AFTER, Exchange, NEWS_EVERY, asking::can_be_split};
use crate::{
    event::Event,
    neighbour::Flight,
    port::{Blobs, Written},
    want::{Source, first_beyond},
    window::Window,
};

impl Exchange {
    /// Makes what is to be said to a neighbour: what it is asked for, and what is new here.
    pub(super) fn prepare(&mut self, now: Duration, peer: PeerId) {
        self.tell_news(now, peer);
        while self.neighbours.get(&peer).is_some_and(|it| it.is_stirred) {
            if !self.ask_for_part(now, peer) {
                let neighbour = self.neighbours.get_mut(&peer).expect("looked at");
                neighbour.is_stirred = false;
            }
        }
    }

    /// Asks a neighbour for a part of one of the blobs, in turn. Gives whether there was one.
    fn ask_for_part(&mut self, now: Duration, peer: PeerId) -> bool {
        let Some(neighbour) = self.neighbours.get(&peer) else {
            return false;
        };
        let level = neighbour.window.level();
        let next = |(key, want): (&BlobKey, &crate::want::Want)| {
            Some((*key, want.next_part(*key, peer, level)?))
        };
        let after = neighbour.asked_last;
        let behind = self.wants.iter().filter(|(key, _)| Some(**key) > after);
        let before = self.wants.iter().filter(|(key, _)| Some(**key) <= after);
        let found = behind.chain(before).find_map(next);
        let (key, part, is_double) = match found {
            Some((key, part)) => (key, part, false),
            None => match self.slow_part(now, peer) {
                Some((key, part)) => (key, part, true),
                None => return false,
            },
        };
        let bytes = key.piece_bytes_of(part);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return false;
        };
        if !neighbour.window.has_room(bytes) {
            return false;
        }
        if let Some(work) = self.wants.get_mut(&key).and_then(|it| it.work.as_mut()) {
            work.busy
                .insert(part.first()..part.first() + key.groups_of(part));
        }
        neighbour.asked_last = Some(key);
        neighbour.push(&BlobMessage::Get { key, part });
        neighbour.flights.push_back(Flight {
            key,
            part,
            asked: neighbour.window.ask(now, bytes),
            asked_at: now,
            received: Vec::new(),
            is_doubled: is_double,
        });
        if is_double {
            for other in self.neighbours.values_mut() {
                let mut flights = other.flights.iter_mut();
                if let Some(flight) = flights.find(|it| it.key == key && it.part == part) {
                    flight.is_doubled = true;
                }
            }
        }
        true
    }

    /// A part that another neighbour was asked for some time ago and that this one has as well.
    fn slow_part(&self, now: Duration, peer: PeerId) -> Option<(BlobKey, BlobPart)> {
        let others = self.neighbours.iter().filter(|(other, _)| **other != peer);
        let flights = others.flat_map(|(_, other)| other.flights.iter());
        let slow = flights.filter(|flight| {
            let source = self
                .wants
                .get(&flight.key)
                .and_then(|want| want.sources.get(&peer));
            !flight.is_doubled
                && now >= flight.asked_at + DOUBLE_AFTER
                && source.is_some_and(|it| it.has_all_of(flight.key, flight.part))
        });
        let oldest = slow.min_by_key(|flight| flight.asked_at)?;
        Some((oldest.key, oldest.part))
    }

    /// Bytes of a piece came.
    pub(super) fn handle_piece(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
        (part, offset, bytes): (BlobPart, u64, &[u8]),
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        neighbour.heard_at = now;
        let mut flights = neighbour.flights.iter_mut();
        let at = flights.position(|it| it.key == key && it.part == part);
        let flight = at.and_then(|at| neighbour.flights.get_mut(at));
        let Some(flight) = flight.filter(|it| it.received.len() as u64 == offset) else {
            // It may have been on its way when it was given up.
            match neighbour.forgiven.checked_sub(bytes.len() as u64) {
                Some(rest) => neighbour.forgiven = rest,
                None => self.misbehaved(peer, "sends what it was not asked for"),
            }
            return;
        };
        if flight.received.is_empty() {
            let all = usize::try_from(flight.rest()).expect("a piece fits in memory");
            flight.received.reserve_exact(all);
        }
        flight.received.extend_from_slice(bytes);
        if flight.rest() > 0 {
            return;
        }
        let flight = at.and_then(|at| neighbour.flights.remove(at));
        let flight = flight.expect("found above");
        neighbour.window.arrived(now, flight.asked);
        neighbour.is_stirred = true;
        self.take_in(now, blobs, peer, flight);
    }

    fn take_in(&mut self, now: Duration, blobs: &mut impl Blobs, peer: PeerId, flight: Flight) {
        let Flight {
            key,
            part,
            received,
            ..
        } = flight;
        let range = part.first()..part.first() + key.groups_of(part);
        let work = self.wants.get_mut(&key).and_then(|it| it.work.as_mut());
        let Some(work) = work else {
            return;
        };
        if work.have.contains_all(range.clone()) {
            return;
        }
        match blobs.write(key, part, &received) {
            Written::Kept => {
                range.clone().for_each(|group| work.busy.remove(group));
                work.have.insert(range);
                self.came(now, blobs, key);
            }
            Written::Foreign => {
                range.for_each(|group| work.busy.remove(group));
                let want = self.wants.get_mut(&key).expect("it has work");
                want.sources.insert(peer, Source::Banned);
                self.push_event(Event::Damaged { key, peer });
                let Some(neighbour) = self.neighbours.get_mut(&peer) else {
                    return;
                };
                neighbour.damaged.insert(key);
                if neighbour.damaged.len() > limits::BLOB_DAMAGED_PER_PEER_MAX {
                    self.misbehaved(
                        peer,
                        "sends damaged parts of one attachment after the other",
                    );
                }
                self.release_of(peer, key);
                self.settle(now, blobs, key);
            }
            Written::Failed(trouble) => self.fail(blobs, key, trouble.into()),
        }
    }

    /// More of a blob is here than before.
    pub(super) fn came(&mut self, now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let Some(work) = &want.work else {
            return;
        };
        want.progress_at = now;
        let (bytes, is_full) = (key.bytes_in(&work.have), work.have.is_full());
        let is_own = want.app.is_some();
        if is_own && bytes > 0 {
            self.push_event(Event::Progress { key, bytes });
        }
        if is_full {
            let finished = blobs.finish(key);
            let want = self.wants.get_mut(&key).expect("looked at");
            want.work = None;
            match finished {
                Ok(()) => self.arrived(now, blobs, key),
                Err(trouble) => self.fail(blobs, key, trouble.into()),
            }
        } else if can_be_split(key) && bytes > 0 {
            for neighbour in self.neighbours.values_mut() {
                if neighbour.interests.contains_key(&key) {
                    neighbour.news.insert(key);
                }
            }
        }
    }

    /// All of a blob is here.
    pub(super) fn arrived(&mut self, _now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        for (peer, neighbour) in &mut self.neighbours {
            if want.is_wanted_by(*peer) {
                neighbour.push(&BlobMessage::HaveAll { key });
            }
        }
        want.followers.clear();
        for search in want.searches.values_mut() {
            search.is_answered = true;
        }
        if want.app.take().is_some() {
            self.push_event(Event::Completed { key });
        }
        self.drop_want(blobs, key);
    }

    /// Tells a neighbour what is here of what it wants, not too often.
    fn tell_news(&mut self, now: Duration, peer: PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        if neighbour.news.is_empty() || now < neighbour.news_at || neighbour.is_clogged() {
            return;
        }
        neighbour.news_at = now + NEWS_EVERY;
        for key in std::mem::take(&mut neighbour.news) {
            let want = self.wants.get(&key);
            let Some(work) = want.and_then(|want| want.work.as_ref()) else {
                continue;
            };
            let Some(told) = neighbour.interests.get_mut(&key) else {
                continue;
            };
            let told = told.get_or_insert_with(|| idem_model::GroupSet::new(key.groups()));
            let mut runs = Vec::new();
            let mut at = 0;
            while let Some(start) = first_beyond(&work.have, told, at) {
                if runs.len() == limits::BLOB_RUNS_PER_FRAME_MAX {
                    neighbour.news.insert(key);
                    break;
                }
                let missing = work.have.next_missing(start);
                let known = told.next_present(start);
                let ends = [missing, known].into_iter().flatten();
                let end = ends.min().unwrap_or(key.groups());
                runs.push(start..end);
                at = end;
            }
            for run in &runs {
                told.insert(run.clone());
            }
            if !runs.is_empty() {
                neighbour.push(&BlobMessage::HaveSome { key, runs });
            }
        }
    }

    /// A neighbour will not send a part.
    pub(super) fn handle_refuse(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
        part: BlobPart,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let is_it = |flight: &Flight| flight.key == key && flight.part == part;
        if neighbour.release(is_it).is_empty() {
            return;
        }
        self.free(key, part);
        // It does not have what it said.
        if let Some(want) = self.wants.get_mut(&key) {
            want.sources.remove(&peer);
            want.strike(peer, 1);
        }
        self.release_of(peer, key);
        self.settle(now, blobs, key);
    }

    /// A neighbour keeps silent: others are asked for what it was asked for, and it is asked whether it still
    /// has it.
    pub(super) fn handle_stall(&mut self, now: Duration, peer: PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let flights = neighbour.release(|_| true);
        neighbour.window = Window::new();
        neighbour.heard_at = now;
        for flight in flights {
            let key = flight.key;
            self.free(key, flight.part);
            let want = self.wants.get_mut(&key);
            let Some(want) = want.filter(|it| it.sources.get(&peer).is_some_and(Source::has_any))
            else {
                continue;
            };
            want.sources.remove(&peer);
            if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                neighbour.push(&BlobMessage::Cancel { key });
            }
            self.ask_one(now, key, peer);
        }
        self.stir();
    }

    /// Nothing of a blob is awaited from a neighbour any more.
    pub(super) fn release_of(&mut self, peer: PeerId, key: BlobKey) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        for flight in neighbour.release(|flight| flight.key == key) {
            self.free(key, flight.part);
        }
        self.stir();
    }

    /// Nobody is asked for a part, as far as this flight goes.
    pub(super) fn free(&mut self, key: BlobKey, part: BlobPart) {
        if let Some(work) = self.wants.get_mut(&key).and_then(|it| it.work.as_mut()) {
            let range = part.first()..part.first() + key.groups_of(part);
            range.for_each(|group| work.busy.remove(group));
        }
    }
}

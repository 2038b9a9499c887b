//! What is sent next.

use std::{collections::BTreeSet, time::Duration};

use idem_model::Lane;
use idem_wire::Message;

use super::{Attachment, DATA_LANES, Lasting, Phase};
use crate::{failure::Failure, mirrors::Outcome, replica::Replica, source::Filling};

impl Attachment {
    /// The next frame and its lane.
    pub(crate) fn poll_frame<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &mut Lasting<'_>,
    ) -> Result<Option<(Lane, Vec<u8>)>, Failure> {
        if self.phase != Phase::Steady {
            return Ok(None);
        }
        if let Some(again) = self.carriage.poll_again() {
            return Ok(Some(again));
        }
        if let Some(confirmation) = self.carriage.poll_confirmation(now) {
            return Ok(Some((Lane::Control, confirmation.to_bytes())));
        }
        let frame = self.poll_next_frame(now, replica, lasting)?;
        if let Some((lane, frame)) = &frame {
            self.carriage.send(*lane, frame);
        }
        Ok(frame)
    }

    /// The next frame that was never sent.
    fn poll_next_frame<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &mut Lasting<'_>,
    ) -> Result<Option<(Lane, Vec<u8>)>, Failure> {
        self.follow_scopes(replica, lasting);
        if self.peer.is_some() {
            self.queue_questions(now, replica, lasting)?;
            self.join_mirrors(now, replica, lasting)?;
            self.queue_requests_and_acks(now, replica, lasting)?;
        }
        if let Some(frame) = self.control.pop() {
            return Ok(Some((Lane::Control, frame)));
        }
        let Some(peer) = self.peer.as_mut() else {
            return Ok(None);
        };
        let mut frame = None;
        let is_open = peer.checks.is_open(replica);
        let lanes = DATA_LANES.into_iter().zip(&mut peer.outlets);
        for (number, (lane, outlet)) in lanes.enumerate() {
            if lane == Lane::Bulk && outlet.is_empty() && outlet.has_credit() {
                let list = peer.checks.asking.poll_items(lane, replica)?;
                let answer = peer.checks.answering.poll_checked(lane);
                for message in [list, answer].into_iter().flatten() {
                    outlet.push_announcement(message.to_bytes());
                }
            }
            if lane == Lane::Bulk && outlet.is_empty() && outlet.has_credit() {
                let items = peer.sink.poll_items(lane, replica, lasting.wanted)?;
                if let Some(items) = items {
                    outlet.push_announcement(items.to_bytes());
                }
            }
            if is_open && outlet.is_empty() && outlet.has_credit() {
                let mut filling = Filling {
                    now,
                    replica,
                    known: lasting.known,
                    wanted: lasting.wanted,
                    stale: lasting.stale,
                    outlet,
                    stats: lasting.stats,
                    events: lasting.events,
                };
                match lane {
                    Lane::Interactive => peer.source.fill_live(&mut filling)?,
                    _ => peer.source.fill_bulk(&mut filling)?,
                }
            }
            if outlet.has_credit()
                && let Some(floor) = peer.checks.poll_floor(number, self.floor_told, replica)
            {
                outlet.push_announcement(floor.to_bytes());
            }
            frame = outlet.poll_frame(now).map(|frame| (lane, frame));
            if frame.is_some() {
                break;
            }
        }
        // What is outdated there is not held.
        if lasting.stale.is_empty() {
            peer.note_position();
        }
        Ok(frame)
    }

    /// Goes on with what the remote compared for both sides.
    fn join_mirrors<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &mut Lasting<'_>,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        for (subscription, theirs) in peer.source.take_mirrored() {
            peer.sink.mirror(subscription, theirs);
        }
        let comparing = lasting.comparing(now, replica, BTreeSet::new());
        let mut questions = Vec::new();
        for (alias, ours, subscription) in peer.source.waiting_mirrors() {
            let found = match peer.sink.mirrors.outcome(ours, subscription) {
                Outcome::Waiting => continue,
                Outcome::Found(found) => Some(found),
                Outcome::Unknown => None,
            };
            questions.extend(peer.source.mirror(alias, found, &comparing));
        }
        let mut questions = questions.into_iter();
        questions.try_for_each(|question| self.queue(question.to_bytes()))
    }

    fn queue_requests_and_acks<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &Lasting<'_>,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let requests = match peer.is_waiting_to_ask(now, replica, lasting.wanted)? {
            true => Vec::new(),
            false => peer.sink.poll_requests(replica, lasting.wanted)?,
        };
        let durable = replica.acknowledged_commit();
        let restart = peer.sink.take_restart().then_some(Message::Restart);
        let mut messages: Vec<_> = restart.into_iter().chain(requests).collect();
        for (lane, inlet) in DATA_LANES.into_iter().zip(&mut peer.inlets) {
            messages.extend(inlet.poll_ack(now, lane, durable));
        }
        for message in messages {
            self.control.push(message.to_bytes());
        }
        Ok(())
    }
}

//! What a batch announces, and the cursors that wait for it.

use std::time::Duration;

use idem_model::Lane;
use idem_wire::{AnnouncedItem, Message};

use super::{Sink, Taking, batch::Batch, heard::CursorItem, taking::Attempt};
use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    replica::Replica,
    wanted::Wanted,
};

/// What a batch says beside its documents, until it is known whether these can be merged.
pub(super) struct Hearsay {
    /// The items of the documents.
    items: Vec<AnnouncedItem>,
    is_answer: bool,
    announced: Vec<AnnouncedItem>,
    /// Cursors that have to wait.
    held_back: Option<Vec<CursorItem>>,
}

impl Sink {
    /// Takes out of a batch what is not to be stored with its documents, and adds to it the cursors that
    /// waited and count now.
    pub(super) fn hold_back(&self, lane: Lane, batch: &mut Batch) -> Result<Hearsay, Failure> {
        let announced = std::mem::take(&mut batch.announced);
        if lane != Lane::Interactive && (!announced.is_empty() || batch.answered.is_some()) {
            let detail = "announcement on a wrong lane";
            return Err(Failure::new(CloseReason::Malformed, detail));
        }
        let heard = self.heard.as_ref();
        let holds_back = !announced.is_empty() || heard.is_some_and(|it| it.holds_back());
        let waits = lane == Lane::Interactive && holds_back;
        let held_back = waits.then(|| std::mem::take(&mut batch.cursors));
        if lane == Lane::Interactive && held_back.is_none() {
            let ripe = heard.iter().flat_map(|it| it.ripe());
            batch.cursors.extend(ripe.copied());
        }
        Ok(Hearsay {
            items: std::mem::take(&mut batch.items),
            is_answer: batch.answered.is_some(),
            announced,
            held_back,
        })
    }

    /// Notes what a batch says beside its documents, once these are merged.
    pub(super) fn hear<R: Replica>(
        &mut self,
        hearsay: Hearsay,
        attempt: Attempt,
        taking: &mut Taking<'_, R>,
    ) -> Result<Attempt, Failure> {
        let Attempt::Applied { commit, .. } = attempt else {
            return Ok(attempt);
        };
        if let Some(gathering) = taking.replica.gathering() {
            let items = hearsay.items.into_iter();
            items.for_each(|item| gathering.arrived(item));
            gathering.reached(commit);
        }
        if hearsay.is_answer {
            self.heard.get_or_insert_default().answered()?;
        }
        match hearsay.held_back {
            Some(cursors) => {
                let heard = self.heard.get_or_insert_default();
                heard.push(taking.batch, &hearsay.announced, cursors)?;
            }
            None if taking.lane == Lane::Interactive => {
                if let Some(heard) = &mut self.heard {
                    heard.forget_ripe();
                }
            }
            None => {}
        }
        Ok(attempt)
    }

    /// Looks for what was announced and came in meanwhile. Gives what is to be asked for, and the commit that
    /// must be durable before what did not wait is acknowledged.
    pub(crate) fn gather<R: Replica>(
        &mut self,
        now: Duration,
        replica: &mut R,
        events: &mut Vec<Event>,
    ) -> Result<Option<(Vec<Message<'static>>, u64)>, Failure> {
        let Some(gathering) = replica.gathering() else {
            return Ok(None);
        };
        let Some(heard) = &mut self.heard else {
            return Ok(None);
        };
        let messages = heard.look(now, self.peer, gathering);
        let (_, commit) = gathering.progress();
        if heard.is_ripe_due(now) {
            let ripe = heard.ripe().to_vec();
            heard.forget_ripe();
            let updates = self.cursor_updates(Lane::Interactive, &ripe);
            if !updates.is_empty() {
                let stored = replica.apply(Vec::new(), &updates);
                stored.map_err(|error| Failure::store(&error))?;
            }
            self.finish_cursors(Lane::Interactive, &ripe, &updates, events);
        }
        Ok(Some((messages, commit)))
    }

    /// Whether all that is wanted comes live from the remote.
    pub(crate) fn is_live(&self, wanted: &Wanted) -> bool {
        let is_live = |it| {
            let inbound = self.inbound.get(&it);
            inbound.is_some_and(|inbound| inbound.is_caught_up)
        };
        let mut ids = wanted.ids();
        !self.inbound.is_empty() && !self.is_frozen && !self.restart_due && ids.all(is_live)
    }
}

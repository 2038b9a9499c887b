//! What the remote says that it does not hold of what was sent.

use idem_model::DocumentKey;
use idem_wire::DocumentVersion;

use super::{DATA_LANES, Lasting, Peering};
use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    known::{KeyHash, Known},
};

impl Peering {
    /// The remote names what it holds of documents.
    pub(super) fn want(&mut self, documents: Vec<DocumentVersion>, lasting: &mut Lasting<'_>) {
        let documents = self.told(documents, lasting.known);
        if !documents.is_empty() {
            self.confirmed.stick();
            lasting.events.push(Event::NotHeld { documents });
        }
    }

    /// The remote does not hold all of a batch, and did not name all that it does not.
    pub(super) fn unheld(
        &mut self,
        lane: usize,
        batch: u64,
        lasting: &mut Lasting<'_>,
    ) -> Result<(), Failure> {
        let Some(keys) = self.outlets[lane].sent(batch) else {
            let detail = "a batch that is not under way";
            return Err(Failure::new(CloseReason::Malformed, detail));
        };
        for key in keys {
            lasting.known.undelivered(*key, DATA_LANES[lane], batch);
        }
        // Of so many this side may not remember what it sent, so that it cannot tell which they are.
        let count = keys.len() as u64;
        lasting.events.push(Event::NotAllHeld { count });
        self.confirmed.stick();
        Ok(())
    }

    /// The remote holds no more of these documents than it says. Gives those of which that is less
    /// than what was sent, though it asks for them.
    fn told(&mut self, documents: Vec<DocumentVersion>, known: &mut Known) -> Vec<DocumentKey> {
        let mut lacking = Vec::new();
        for DocumentVersion { key, version } in documents {
            let hash = KeyHash::of(&key);
            let sent = |lane| known.version(hash, lane);
            let is_held = |lane| sent(lane).is_none_or(|sent| version.covers_all(&sent));
            if self.source.is_wanted(&key.collection) && !DATA_LANES.into_iter().all(is_held) {
                lacking.push(key.clone());
            }
            if version.is_empty() && !self.source.is_wanted(&key.collection) {
                // Perhaps it is only not told.
                known.forget(hash);
            } else {
                known.told(hash, &version);
            }
        }
        lacking
    }
}

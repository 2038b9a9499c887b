//! Sending what the remote was found to hold in an outdated copy.

use std::collections::BTreeSet;

use idem_crdt::encoded_version;
use idem_model::{DocumentKey, Lane, VersionVector};

use super::{Filling, Source, offer::Offering};
use crate::{
    failure::Failure,
    known::{KeyHash, Known},
    replica::Replica,
    stale::Stale,
};

/// Documents that are read at a time.
const DOCUMENTS_PER_TURN: usize = 256;

impl Source {
    /// Notes which of the documents that the remote sent, and that told nothing, are outdated there:
    /// another version is held here, and it is not on its way.
    pub(crate) fn find_stale<R: Replica>(
        &self,
        sent: Vec<(DocumentKey, VersionVector)>,
        replica: &R,
        known: &Known,
        stale: &mut Stale,
    ) -> Result<(), Failure> {
        for (key, there) in sent {
            // Early on a link the remote may not have said yet what it wants.
            if self.is_subscribed() && !self.is_wanted(&key.collection) {
                continue;
            }
            let document = replica.document(&key);
            let Some(document) = document.map_err(|error| Failure::store(&error))? else {
                continue;
            };
            let here = encoded_version(&document).map_err(|it| Failure::stored_bytes(&it))?;
            let hash = KeyHash::of(&key);
            let is_coming = |lane| {
                let known = known.version(hash, lane);
                known.is_some_and(|known| known.covers_all(&here))
            };
            if !there.covers_all(&here)
                && ![Lane::Interactive, Lane::Bulk].into_iter().any(is_coming)
            {
                stale.insert(key);
            }
        }
        Ok(())
    }

    /// Queues some of what is outdated at the remote. A catch-up may bring it, so that goes first.
    pub(super) fn fill_stale<R: Replica>(
        &mut self,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        if filling.stale.is_empty() || self.held_to().is_some() || !self.is_subscribed() {
            return Ok(());
        }
        let keys = filling.stale.first(DOCUMENTS_PER_TURN);
        // What else is in a group with them was read in the order of the feed, and is there.
        let held_to = self.live.values().map(|live| live.at).min().unwrap_or(0);
        let (groups, consumed) = self.read_documents(filling.replica, &keys, held_to)?;
        // Some version of each is held there, or this side would not have had it from there.
        let twins: BTreeSet<KeyHash> = keys[..consumed].iter().map(KeyHash::of).collect();
        let offering = Offering {
            twins: Some(&twins),
            ..Offering::live(&groups)
        };
        let draft = self.offer(&offering, filling)?;
        // Without a draft the remote was asked first, and they have their turn again.
        if let Some(draft) = draft {
            keys[..consumed]
                .iter()
                .for_each(|key| filling.stale.remove(key));
            draft.finish(filling.outlet);
        }
        Ok(())
    }
}

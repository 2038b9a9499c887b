//! Which of the documents that changed the remote gets, in which form, and which it is asked about
//! first.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use idem_crdt::{Document, encoded_version, is_first_state, visible_fields_declared};
use idem_model::{CollectionName, DocumentKey, FieldPath, Lane, VersionVector, limits};
use idem_wire::{Announced, BatchWriter, HeldVersion, Message};

use super::{Changed, Filling, Source};
use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    known::{KeyHash, Known},
    outlet::Outlet,
    replica::Replica,
    sketch::Item,
};

/// A document below this size is not worth a delta.
const DELTA_BYTES_MIN: usize = 128;

/// Where HAVE frames are cut; with one more document they stay below 16 KiB.
const ANNOUNCEMENT_BYTES: usize = 8 * 1024;

/// Documents to offer.
pub(super) struct Offering<'a> {
    pub(super) lane: Lane,
    pub(super) groups: &'a [Vec<Changed>],
    /// Documents of which the remote holds another version.
    pub(super) twins: Option<&'a BTreeSet<KeyHash>>,
    /// Whether the remote held nothing of the subscription for which they are read.
    pub(super) is_blank: bool,
    /// Whether changes that came from others may be announced.
    pub(super) may_announce: bool,
}

impl<'a> Offering<'a> {
    pub(super) fn live(groups: &'a [Vec<Changed>]) -> Self {
        Self {
            lane: Lane::Interactive,
            groups,
            twins: None,
            is_blank: false,
            may_announce: false,
        }
    }

    pub(super) fn bulk(groups: &'a [Vec<Changed>]) -> Self {
        Self {
            lane: Lane::Bulk,
            ..Self::live(groups)
        }
    }
}

/// What to do with one changed document.
enum Plan {
    Skip,
    /// Not before it is found out which subscriptions a sync scope has just closed.
    Closed,
    /// Not before what is under way on the other lane has arrived.
    Wait,
    Send(Sending),
    /// Find out first what the remote holds.
    Ask {
        hash: KeyHash,
        version: VersionVector,
    },
}

/// A document that is to be sent.
struct Sending {
    hash: KeyHash,
    version: VersionVector,
    /// The fields that travel; `None` for all.
    paths: Option<Arc<[FieldPath]>>,
    /// What the remote holds, if that is known.
    base: Option<VersionVector>,
    /// Whether it matches none of the remote's subscriptions, and is kept here.
    has_left: bool,
    /// Whether the remote may evict it for that.
    is_evicted: bool,
    /// Whether this peer changed it.
    is_own: bool,
}

impl Sending {
    /// Whether it says nothing but what the document is, as others have it too.
    fn is_plain(&self) -> bool {
        self.paths.is_none() && !self.has_left && !self.is_evicted && !self.is_own
    }
}

/// A batch under construction.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) writer: BatchWriter,
    pub(super) hashes: Vec<KeyHash>,
}

/// Documents that were announced in one frame and not answered for.
#[derive(Debug)]
pub(super) struct Question {
    lane: Lane,
    /// The rest of them, from the last to the first, with the versions that were announced.
    documents: Vec<(KeyHash, VersionVector)>,
}

impl Source {
    /// The remote told what it holds of documents that were announced. Returns whether that was asked:
    /// what was asked before a restart is of no use any more.
    pub(crate) fn answered(
        &mut self,
        number: u64,
        more: bool,
        holdings: Vec<HeldVersion>,
        known: &mut Known,
    ) -> Result<bool, Failure> {
        if (more && holdings.is_empty()) || number > self.asked_last {
            return Err(false_answer());
        }
        let Some(question) = self.asked.get_mut(&number) else {
            return Ok(false);
        };
        let lane = question.lane;
        for held in holdings {
            let (hash, announced) = question.documents.pop().ok_or_else(false_answer)?;
            match held {
                HeldVersion::Nothing => known.answered(hash, &VersionVector::new(), lane),
                HeldVersion::Announced => known.answered(hash, &announced, lane),
                HeldVersion::Other(version) => known.answered(hash, &version, lane),
                HeldVersion::Unnamed => {}
            }
            self.answers.insert((lane, hash));
        }
        if !more {
            if !question.documents.is_empty() {
                return Err(false_answer());
            }
            self.asked.remove(&number);
        }
        Ok(true)
    }

    /// Whether a lane waits for an answer of the remote, or for what is under way on the other lane.
    pub(super) fn must_wait(&self, lane: Lane) -> bool {
        let is_asking = self.asked.values().any(|question| question.lane == lane);
        is_asking || self.is_outdated || self.following.contains(&lane)
    }

    /// Turns groups into a draft, with full batches queued on the way. `None` if the remote has to be
    /// asked first, what is under way on the other lane must arrive first, or a sync scope has just
    /// closed; then nothing was queued but the question.
    pub(super) fn offer<R: Replica>(
        &mut self,
        offering: &Offering<'_>,
        filling: &mut Filling<'_, R>,
    ) -> Result<Option<Draft>, Failure> {
        let (lane, groups) = (offering.lane, offering.groups);
        let documents: usize = groups.iter().map(Vec::len).sum();
        let mut plans = Vec::with_capacity(documents);
        for changed in groups.iter().flatten() {
            plans.push(self.plan(changed, documents, offering, filling)?);
        }
        if plans.iter().any(|plan| matches!(plan, Plan::Closed)) {
            self.is_outdated = true;
            return Ok(None);
        }
        if plans.iter().any(|plan| matches!(plan, Plan::Wait)) {
            self.following.insert(lane);
            return Ok(None);
        }
        let questions = plans.iter().zip(groups.iter().flatten());
        let questions = questions.filter_map(|(plan, changed)| match plan {
            Plan::Ask { hash, version } => Some((*hash, &changed.key, version.clone())),
            _ => None,
        });
        let questions: Vec<_> = questions.collect();
        if !questions.is_empty() {
            self.ask(lane, questions, filling);
            return Ok(None);
        }
        self.answers.retain(|(answered, _)| *answered != lane);
        let mut draft = Draft::default();
        let mut plans = plans.into_iter();
        for group in groups {
            let bytes: usize = group.iter().map(|changed| changed.document.len()).sum();
            if draft.writer.len() + bytes > limits::TX_GROUP_BYTES_MAX {
                std::mem::take(&mut draft).finish(filling.outlet);
            }
            for (changed, plan) in group.iter().zip(plans.by_ref()) {
                if let Plan::Send(sending) = plan {
                    let may_announce = offering.may_announce && group.len() == 1;
                    if may_announce
                        && sending.is_plain()
                        && self.is_announced(bytes_of(changed, &sending, filling)?, filling.outlet)
                    {
                        let Sending { hash, version, .. } = sending;
                        let announcing = self.announcing.get_or_insert_default();
                        announcing.wait(filling.now, &changed.key, hash, version);
                        continue;
                    }
                    draft.add(lane, changed, sending, filling)?;
                }
            }
            draft.end_group(filling.outlet);
        }
        Ok(Some(draft))
    }

    fn plan<R: Replica>(
        &mut self,
        changed: &Changed,
        documents: usize,
        offering: &Offering<'_>,
        filling: &mut Filling<'_, R>,
    ) -> Result<Plan, Failure> {
        let known = &mut *filling.known;
        let (lane, collection) = (offering.lane, &changed.key.collection);
        if !self.live.contains_key(collection) {
            return Ok(Plan::Skip);
        }
        if !filling
            .replica
            .sync_scope(self.projections.stored(collection))
            .includes(self.is_big_peer)
        {
            return Ok(Plan::Closed);
        }
        let bytes = &changed.document;
        let version = encoded_version(bytes).map_err(|error| Failure::stored_bytes(&error))?;
        let hash = KeyHash::of(&changed.key);
        let own = version.get(filling.replica.actor());
        let is_own = lane == Lane::Interactive && self.pass(hash, &version, own, known);
        let base = known.version(hash, lane);
        let is_held = base.as_ref().is_some_and(|base| !base.is_empty());
        let is_covered = is_held && base.as_ref().is_some_and(|base| base.covers_all(&version));
        // Whoever may evict a document itself does not tell others that they can: it would be gone.
        let may_tell = !filling
            .wanted
            .may_let_go(self.projections.stored(collection));
        let is_evicted = may_tell && self.is_evicted_where_it_left(collection);
        if is_covered && lane == Lane::Interactive {
            known.passed(hash);
        }
        if is_covered && !is_evicted {
            return Ok(Plan::Skip);
        }
        let is_selected = self.is_selected(changed, filling.replica)?;
        if is_covered && is_selected {
            return Ok(Plan::Skip);
        }
        if !is_selected && known.is_elsewhere(hash, lane) {
            // If an earlier state came in after this one, it would be taken in anew and stay.
            return Ok(Plan::Wait);
        }
        let is_answered = self.answers.contains(&(lane, hash));
        let is_twin = offering.twins.is_some_and(|twins| twins.contains(&hash));
        let is_lacking = offering.twins.is_some() && !is_twin;
        if !is_held && !is_twin && !is_selected {
            // The remote may have got it while it matched: from this peer on another link, or from a
            // peer that is gone. A document of a single commit was never anything else.
            let is_unknown = base.is_none() && !offering.is_blank;
            if !is_unknown || is_first_state(bytes).map_err(|e| Failure::stored_bytes(&e))? {
                return Ok(Plan::Skip);
            }
            if !is_answered {
                return Ok(Plan::Ask { hash, version });
            }
        }
        // Of a twin the remote holds some version, so that a delta may be enough.
        let paths = self.projections.paths(collection);
        let is_large = paths.is_none() && bytes.len() >= limits::ASK_FIRST_BYTES_MIN;
        let is_doubtful = !is_lacking && (is_large || known.forgot_received());
        // The answers must fit into the memory of known versions with room to spare.
        let may_ask = documents <= limits::KNOWN_VERSIONS_MAX / 8;
        if base.is_none() && is_doubtful && may_ask && !is_answered {
            return Ok(Plan::Ask { hash, version });
        }
        Ok(Plan::Send(Sending {
            hash,
            version,
            paths,
            base,
            has_left: !is_selected && may_tell,
            is_evicted: !is_selected && is_evicted,
            is_own,
        }))
    }

    /// Whether the remote evicts what leaves its subscriptions of a collection, or some of it.
    fn is_evicted_where_it_left(&self, collection: &CollectionName) -> bool {
        let mut requests = self.requests.values();
        requests.any(|it| it.service.evicts && it.name == *collection)
    }

    /// Whether a subscription wants the document, or it is deleted, which every subscriber of the
    /// collection learns.
    fn is_selected(&self, changed: &Changed, replica: &impl Replica) -> Result<bool, Failure> {
        let name = &changed.key.collection;
        let here = || {
            let requests = self.requests.values();
            requests.filter(|request| request.name == *name)
        };
        if here().any(|request| request.is_unfiltered) {
            return Ok(true);
        }
        let kinds = replica.declared(self.projections.stored(name));
        let kinds = kinds.map_err(|error| Failure::store(&error))?;
        let fields = visible_fields_declared(&changed.document, &kinds)
            .map_err(|error| Failure::stored_bytes(&error))?;
        let Some(mut fields) = fields else {
            return Ok(true);
        };
        fields.insert("_id".to_owned(), changed.key.id.as_value().clone());
        Ok(here().any(|request| request.selector.matches(&fields)))
    }

    fn ask<R>(
        &mut self,
        lane: Lane,
        questions: Vec<(KeyHash, &DocumentKey, VersionVector)>,
        filling: &mut Filling<'_, R>,
    ) {
        self.asked_at = filling.now;
        let mut documents = Vec::new();
        let mut asked = Vec::new();
        let mut bytes = 0;
        for (hash, key, version) in questions {
            filling.known.asking(hash);
            let id = key.id.to_key();
            bytes += key.collection.as_str().len() + id.len() + 16;
            documents.push(Announced {
                version: Item::of_key(&self.salt, &key.collection, &id, &version).version,
                key: key.clone(),
            });
            asked.push((hash, version));
            let is_full = documents.len() == limits::VERSIONS_PER_FRAME_MAX;
            if is_full || bytes > ANNOUNCEMENT_BYTES {
                let asked = std::mem::take(&mut asked);
                self.announce(lane, std::mem::take(&mut documents), asked, filling.outlet);
                bytes = 0;
            }
        }
        if !documents.is_empty() {
            self.announce(lane, documents, asked, filling.outlet);
        }
    }

    fn announce(
        &mut self,
        lane: Lane,
        documents: Vec<Announced>,
        mut asked: Vec<(KeyHash, VersionVector)>,
        outlet: &mut Outlet,
    ) {
        self.asked_last += 1;
        let number = self.asked_last;
        asked.reverse();
        let documents_asked = Question {
            lane,
            documents: asked,
        };
        self.asked.insert(number, documents_asked);
        let announcement = Message::Have {
            lane,
            number,
            documents,
        };
        outlet.push_announcement_of_round(announcement.to_bytes());
    }
}

/// What is sent of a document, and whether that is a delta: what travels of it, or less if the remote holds
/// some of that.
fn state<'a>(
    whole: &'a [u8],
    base: Option<&VersionVector>,
    paths: Option<&[FieldPath]>,
) -> Result<(Cow<'a, [u8]>, bool), Failure> {
    let base = base.filter(|_| whole.len() >= DELTA_BYTES_MIN);
    if paths.is_none() && base.is_none() {
        return Ok((Cow::Borrowed(whole), false));
    }
    let document = Document::decode(whole).map_err(|error| Failure::stored_bytes(&error))?;
    let state = match paths {
        None => Cow::Borrowed(whole),
        Some(paths) => Cow::Owned(document.project(paths).to_bytes()),
    };
    let delta = base.map(|base| {
        let delta = document.delta(base);
        match paths {
            None => delta.to_bytes(),
            // What travelled before does not tell any more what was removed since.
            Some(paths) => delta.project(paths).to_bytes(),
        }
    });
    Ok(match delta.filter(|delta| delta.len() < state.len()) {
        Some(delta) => (Cow::Owned(delta), true),
        None => (state, false),
    })
}

/// How many bytes are sent of a document, before they are compressed.
fn bytes_of<R>(
    changed: &Changed,
    sending: &Sending,
    filling: &Filling<'_, R>,
) -> Result<usize, Failure> {
    let is_forgetful = filling.wanted.is_remote_forgetful;
    let base = sending.base.as_ref();
    let base = base.filter(|base| !base.is_empty() && !is_forgetful);
    let (state, _) = state(&changed.document, base, sending.paths.as_deref())?;
    Ok(state.len())
}

fn false_answer() -> Failure {
    let detail = "answer to what was not announced";
    Failure::new(CloseReason::Malformed, detail)
}

impl Draft {
    fn add<R>(
        &mut self,
        lane: Lane,
        changed: &Changed,
        sending: Sending,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let Sending {
            hash,
            version,
            paths,
            base,
            has_left,
            is_evicted,
            is_own: _,
        } = sending;
        let is_forgetful = filling.wanted.is_remote_forgetful;
        let base = base.filter(|base| !base.is_empty() && !is_forgetful);
        let (state, is_delta) = state(&changed.document, base.as_ref(), paths.as_deref())?;
        let state = &*state;
        if !self.hashes.is_empty() && self.writer.len() + state.len() > limits::TX_GROUP_BYTES_MAX {
            // Too large for any receiver to hold: the parts are applied one by one.
            let bytes = self.writer.len() as u64;
            filling.events.push(Event::TransactionSplit { bytes });
            self.writer.end_group();
            std::mem::take(self).finish(filling.outlet);
        }
        self.writer.document(&changed.key, is_delta, state);
        filling.stats.documents_sent += 1;
        filling.stats.deltas_sent += u64::from(is_delta);
        filling.stats.document_bytes_sent += state.len() as u64;
        self.hashes.push(hash);
        if has_left {
            self.writer.mark_left();
            filling.stats.leaves_sent += 1;
        }
        if is_evicted {
            // Whether it is there afterwards, the remote alone can tell.
            filling.known.forget(hash);
            return Ok(());
        }
        let mut held = version;
        if let Some(base) = &base {
            held.join(base);
        }
        let batch = filling.outlet.next_batch();
        filling.known.sending(hash, lane, batch, &held);
        Ok(())
    }

    fn end_group(&mut self, outlet: &mut Outlet) {
        if self.hashes.is_empty() {
            return;
        }
        self.writer.end_group();
        if self.writer.len() >= limits::TRANSFER_BATCH_BYTES {
            std::mem::take(self).finish(outlet);
        }
    }

    pub(super) fn finish(self, outlet: &mut Outlet) {
        if !self.writer.is_empty() {
            outlet.push_batch(self.writer.into_bytes(), self.hashes);
        }
    }
}

//! Telling a subscriber what its comparison showed, where this side wants the same of it: one sketch
//! serves both directions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use idem_model::{DocumentKey, Lane};
use idem_wire::{Compared, KeyedVersion, Lacks, Message, SubscriptionId};

use super::{
    Comparing, Filling, Source,
    catch_up::{CatchUp, Lacking},
};
use crate::{
    event::CloseReason,
    failure::Failure,
    known::{KeyHash, Known},
    mirrors::{Found, version_parts},
    sketch::KeyedHash,
};

/// Tags in one frame.
const TAGS_PER_FRAME: usize = 1500;

/// What a subscriber is told of its comparison.
#[derive(Debug, Default)]
pub(super) struct Mirrored {
    /// What is to be told before anything is sent.
    telling: VecDeque<Compared>,
    /// Documents of which the remote was told the version, and has yet to say whether it lacks it.
    asked: BTreeMap<KeyedHash, DocumentKey>,
    /// Whether the remote owes that.
    is_owed: bool,
    /// Whether the remote lacks some of them.
    is_doubted: bool,
}

impl Mirrored {
    /// The documents with these tags are lacking here; of the others it is not known who has the later
    /// version.
    pub(super) fn of(
        alias: u32,
        tags: &[[u8; 4]],
        versions: Vec<KeyedVersion>,
        asked: BTreeMap<KeyedHash, DocumentKey>,
    ) -> Self {
        let mut telling = VecDeque::new();
        let mut tags = tags.chunks(TAGS_PER_FRAME);
        let mut versions = version_parts(versions).into_iter();
        loop {
            let (tags, versions) = (tags.next(), versions.next());
            if tags.is_none() && versions.is_none() {
                break;
            }
            telling.push_back(Compared {
                lane: Lane::Bulk,
                alias,
                more: true,
                tags: tags.unwrap_or_default().to_vec(),
                versions: versions.unwrap_or_default(),
            });
        }
        if let Some(last) = telling.back_mut() {
            last.more = false;
        }
        Self {
            telling,
            is_owed: !asked.is_empty(),
            asked,
            is_doubted: false,
        }
    }

    /// Whether something is to be told.
    pub(super) fn has_more(&self) -> bool {
        !self.telling.is_empty()
    }

    /// Whether the remote owes an answer.
    pub(super) fn is_owed(&self) -> bool {
        self.is_owed
    }

    /// The documents that the remote was told of and that may be lacking there.
    pub(super) fn asked(&self) -> impl Iterator<Item = &DocumentKey> {
        self.asked.values()
    }
}

impl Source {
    /// Subscriptions of the remote that were compared for both sides since the last call, with the
    /// numbers that the remote gave them.
    pub(crate) fn take_mirrored(&mut self) -> Vec<(SubscriptionId, u32)> {
        std::mem::take(&mut self.mirrored)
    }

    /// Whether one of these subscriptions, which the remote asked for as well, is being compared.
    pub(crate) fn is_comparing(&self, subscriptions: &BTreeSet<SubscriptionId>) -> bool {
        self.requests.values().any(|request| {
            let is_asking = request.catch_up.as_ref().is_some_and(CatchUp::is_comparing);
            is_asking && subscriptions.contains(&request.subscription)
        })
    }

    /// Subscriptions for which the remote compares what this side told: its number, the number that this
    /// side gave, and which one it is.
    pub(crate) fn waiting_mirrors(&self) -> Vec<(u32, u32, SubscriptionId)> {
        let requests = self.requests.iter();
        let waiting = requests.filter_map(|(alias, request)| match request.catch_up {
            Some(CatchUp::Mirror { ours }) => Some((*alias, ours, request.subscription)),
            _ => None,
        });
        waiting.collect()
    }

    /// The remote has said what it lacks of such a subscription. If that is not known, it is asked for
    /// the list of all it holds.
    pub(crate) fn mirror<R>(
        &mut self,
        alias: u32,
        found: Option<Found>,
        comparing: &Comparing<'_, R>,
    ) -> Option<Message<'static>> {
        let live = |source: &Self, alias| {
            let name = &source.requests.get(&alias)?.name;
            Some(source.live.get(name)?.at)
        };
        let until = live(self, alias).unwrap_or(0);
        let request = self.request_of(alias);
        let next = match found {
            Some(found) => CatchUp::Lacking(Box::new(Lacking::found(found, until))),
            None => CatchUp::List { items: Vec::new() },
        };
        let question = next.question(alias);
        request.asked_at = comparing.now;
        request.catch_up = Some(next);
        question
    }

    /// The remote says which of the versions that it was told it lacks.
    pub(crate) fn take_lacks(&mut self, lacks: Lacks, known: &mut Known) -> Result<(), Failure> {
        // It may have been given back meanwhile.
        let Some(request) = self.requests.get_mut(&lacks.alias) else {
            return Ok(());
        };
        let Some(CatchUp::Lacking(lacking)) = &mut request.catch_up else {
            return Err(unasked());
        };
        let mirrored = &mut lacking.mirrored;
        if !mirrored.is_owed || mirrored.has_more() {
            return Err(unasked());
        }
        for KeyedVersion { key, version } in lacks.versions {
            let key = mirrored.asked.remove(&key).ok_or_else(unasked)?;
            let hash = KeyHash::of(&key);
            known.compared(hash, Some(&version).filter(|it| !it.is_empty()));
            lacking.twins.insert(hash);
            lacking.keys.push(key);
            mirrored.is_doubted = true;
        }
        if lacks.more {
            return Ok(());
        }
        mirrored.is_owed = false;
        mirrored.asked.clear();
        if mirrored.is_doubted {
            // What the remote took for the end so far was none; what comes after this is.
            mirrored.telling.push_back(Compared {
                lane: Lane::Bulk,
                alias: lacks.alias,
                more: false,
                tags: Vec::new(),
                versions: Vec::new(),
            });
            lacking.is_ended = false;
        } else if lacking.is_ended {
            request.catch_up = None;
        }
        self.live_waits &= self.held_to().is_some();
        Ok(())
    }

    /// Queues a part of what is to be told. `false` if there is nothing.
    pub(super) fn fill_telling<R>(&mut self, filling: &mut Filling<'_, R>) -> bool {
        for request in self.requests.values_mut() {
            if let Some(CatchUp::Lacking(lacking)) = &mut request.catch_up
                && let Some(part) = lacking.mirrored.telling.pop_front()
            {
                let frame = Message::Compared(part).to_bytes();
                filling.outlet.push_announcement_of_round(frame);
                request.asked_at = filling.now;
                return true;
            }
        }
        false
    }
}

fn unasked() -> Failure {
    let detail = "answer to a comparison that was not told";
    Failure::new(CloseReason::Malformed, detail)
}

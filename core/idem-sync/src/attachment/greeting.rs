//! How a link begins: what the remote says of itself, and what comes before it does.

use std::{collections::BTreeSet, time::Duration};

use idem_model::limits;
use idem_wire::{CAPABILITY_BIG_PEER, CAPABILITY_SUBSCRIBES, Hello, Message, Resume, Resumption};

use super::{Attachment, DATA_LANES, HANDSHAKE_TIMEOUT, Lasting, Peering, Terms, checks::Checks};
use crate::{
    confirmed::Confirmed, event::CloseReason, failure::Failure, outlet::Outlet, replica::Replica,
    sink::Sink, source::Source, wanted::subscription_set_hash,
};

impl Attachment {
    /// The remote introduced itself, and is the right one.
    pub(crate) fn establish<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &mut Lasting<'_>,
        hello: &Hello,
        terms: Terms,
    ) -> Result<(), Failure> {
        let Terms {
            remote,
            version,
            salt,
            is_leader,
        } = terms;
        // Of two sides one asks first.
        let may_wait = is_leader && hello.capabilities & CAPABILITY_SUBSCRIBES != 0;
        let credit = hello.lane_credit_bytes.min(limits::LANE_CREDIT_BYTES);
        let frame_bytes_max = hello.frame_bytes_max.min(self.properties.frame_bytes_max);
        let outlet = |lane| Outlet::new(lane, credit, frame_bytes_max);
        let is_big_peer = hello.capabilities & CAPABILITY_BIG_PEER != 0;
        self.peer = Some(Peering {
            version,
            frame_bytes_taken: hello.frame_bytes_max,
            frame_bytes_max,
            source: Source::new(salt, is_big_peer, self.spent.source),
            sink: Sink::new(
                (remote, is_big_peer),
                hello.actor,
                salt,
                lasting.wanted,
                self.offer.take(),
            ),
            checks: Checks::new(remote, is_big_peer, salt, hello, &self.spent),
            outlets: DATA_LANES.map(outlet),
            inlets: Default::default(),
            confirmed: Confirmed::default(),
            salt,
            waits_until: may_wait.then_some(self.since + HANDSHAKE_TIMEOUT),
            is_fed_by_others: false,
        });
        match &hello.resumption {
            Some(resumption) => self.resume_source(now, replica, lasting, resumption),
            None => Ok(()),
        }
    }

    /// Goes on with what the remote subscribed to on an earlier link, if that is remembered here.
    fn resume_source<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &mut Lasting<'_>,
        resumption: &Resumption,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("just established");
        let set = std::mem::take(lasting.standing);
        let actor = replica.actor();
        let is_known = subscription_set_hash(&set) == resumption.subscriptions
            && actor.0.starts_with(&resumption.actor)
            && resumption.commit <= replica.durable_commit();
        let selected = set.iter().map(|(subscription, service)| {
            let selector = lasting.statements.selector(*subscription)?;
            Some((*subscription, *service, selector))
        });
        let selected: Option<Vec<_>> = selected.collect();
        let answer = match selected.filter(|_| is_known) {
            Some(selected) => {
                let commit = resumption.commit;
                let resume = Resume { actor, commit };
                let mut comparing = lasting.comparing(now, replica, BTreeSet::new());
                let is_caught_up = peer.source.resume(selected, resume, &mut comparing)?;
                *lasting.standing = set;
                Message::Resumed {
                    is_known: true,
                    is_caught_up,
                }
            }
            None => Message::Resumed {
                is_known: false,
                is_caught_up: false,
            },
        };
        self.queue(answer.to_bytes())
    }

    /// Keeps a frame with documents until the remote has introduced itself. It is counted against the
    /// credit of its lane only then, so the credit of both lanes bounds what is kept.
    pub(crate) fn keep_early(&mut self, frame: &[u8]) -> Result<(), Failure> {
        let kept: usize = self.early.iter().map(Vec::len).sum();
        let credit = DATA_LANES.len() * limits::LANE_CREDIT_BYTES as usize;
        let is_full = self.early.len() >= limits::CONTROL_FRAMES_QUEUED_MAX;
        if self.hello_due || is_full || kept + frame.len() > credit {
            let detail = "message before the handshake";
            return Err(Failure::new(CloseReason::Malformed, detail));
        }
        self.early.push(frame.to_vec());
        Ok(())
    }

    /// What was kept.
    pub(crate) fn take_early(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.early)
    }
}

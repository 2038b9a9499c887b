//! How long this side waits for the remote.

use std::time::Duration;

use super::{ANSWER_TIMEOUT, Attachment, HANDSHAKE_TIMEOUT, Phase};
use crate::{inlet::Inlet, outlet::Outlet};

impl Attachment {
    /// The earliest time at which something is to be done.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        if let Some(since) = self.stands_since() {
            let overdue = since + HANDSHAKE_TIMEOUT;
            return Some(self.lost_at.map_or(overdue, |at| at.min(overdue)));
        }
        let peer = self.peer.as_ref()?;
        let answer = self.waiting_since().map(|since| since + ANSWER_TIMEOUT);
        let waits = peer.waits_until.filter(|_| !peer.source.has_begun());
        let confirms = self.carriage.timeout();
        let heard = peer.sink.heard.as_ref().and_then(|it| it.timeout());
        let times = [answer, waits, peer.source.timeout(), confirms, heard];
        let outlets = peer.outlets.iter().filter_map(Outlet::rests_at);
        let rests = outlets.chain(peer.inlets.iter().filter_map(Inlet::rests_at));
        let acks = peer.inlets.iter().filter_map(Inlet::ack_at);
        times.into_iter().flatten().chain(rests).chain(acks).min()
    }

    /// Whether the remote did not do in time what it must.
    pub(crate) fn is_overdue(&self, now: Duration) -> bool {
        if let Some(since) = self.stands_since() {
            return now >= since + HANDSHAKE_TIMEOUT;
        }
        self.waiting_since()
            .is_some_and(|since| now >= since + ANSWER_TIMEOUT)
    }

    /// Since when nothing goes on before the remote has said that it uses the link as well.
    pub(crate) fn stands_since(&self) -> Option<Duration> {
        match self.phase {
            Phase::Moving { since } | Phase::Adrift { since } => Some(since),
            Phase::Steady => self.peer.is_none().then_some(self.since),
        }
    }

    fn waiting_since(&self) -> Option<Duration> {
        let peer = self.peer.as_ref()?;
        let outlets = peer.outlets.iter().filter_map(Outlet::waiting_since);
        let inlets = peer.inlets.iter().filter_map(Inlet::waiting_since);
        let asked = [
            peer.source.asking_since(),
            peer.sink.heard.as_ref().and_then(|it| it.asking_since()),
            peer.checks.asking.asking_since(),
            peer.checks.answering.asking_since(),
        ];
        outlets
            .chain(inlets)
            .chain(asked.into_iter().flatten())
            .min()
    }
}

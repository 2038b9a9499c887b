//! Has the certificates of linked peers judged again, and passes on what authorities signed.

use std::{sync::Arc, time::Duration};

use idem_auth::Permit;
use idem_model::PeerId;
use idem_sync::LinkId;
use idem_transport::{CertificateRefusal, LinkProperties, LinkSender};

use super::Driver;
use crate::{
    links::Parting,
    transport::{ConditionKind, TransportCondition},
};

impl Driver {
    /// Whether a link that is up may be used. If not, it ends at once.
    pub(super) fn admits(
        &self,
        properties: &LinkProperties,
        sender: &LinkSender,
        parting: &Arc<Parting>,
    ) -> bool {
        let Some(desk) = &self.desk else {
            return true;
        };
        let LinkProperties {
            remote_certificate,
            shown_certificate,
            ..
        } = properties;
        let judged = desk.link_up(
            properties.remote_peer,
            remote_certificate,
            shown_certificate,
        );
        let Err(refusal) = judged else {
            return true;
        };
        parting.say(&refusal.words);
        sender.abort();
        parting.now();
        self.tell_refused(properties.remote_peer, &refusal);
        false
    }

    fn tell_refused(&self, peer: PeerId, refusal: &CertificateRefusal) {
        let kind = ConditionKind::of_fault(refusal.fault);
        let condition = TransportCondition::new(kind, refusal.words.clone());
        self.conditions.push(condition.with(peer));
    }

    /// What a neighbour says about trust.
    pub(super) fn hear_trust(&mut self, now: Duration, peer: PeerId, frame: &[u8]) {
        // In a database without authorities nobody asked for it.
        let Some(desk) = &self.desk else {
            return;
        };
        if let Err(misbehaviour) = desk.hear(now, peer, frame) {
            let words = misbehaviour.to_string();
            let kind = ConditionKind::ProtocolViolated;
            let condition = TransportCondition::new(kind, words.clone());
            self.conditions.push(condition.with(peer));
            self.cut_off(now, peer, &words);
        }
    }

    /// Ends the links of those whose certificate does not hold any more, and tells neighbours what is new.
    pub(super) fn trust(&mut self) {
        let Some(desk) = self.desk.clone() else {
            return;
        };
        let now = self.now();
        let tasks = desk.act(now);
        for (peer, refusal) in tasks.refused {
            self.tell_refused(peer, &refusal);
            self.cut_off(now, peer, &refusal.words);
        }
        for (peer, permit) in tasks.permits {
            self.set_permit(now, peer, permit);
        }
        for (peer, frame) in tasks.frames {
            let Some(state) = self.peers.get_mut(&peer) else {
                continue;
            };
            match state.session.gossip(&frame) {
                true => state.is_stirred = true,
                false => desk.unsent(now, peer, &frame),
            }
        }
    }

    /// Has the session with a peer, and the relays, know what it may read.
    pub(super) fn set_permit(&mut self, now: Duration, peer: PeerId, permit: Option<Arc<Permit>>) {
        self.relaying.set_permit(now, peer, permit.as_ref());
        if let Some(state) = self.peers.get_mut(&peer) {
            state.session.set_permit(now, permit);
            state.is_stirred = true;
        }
    }

    /// Ends all links of a peer now: nothing that waits goes out, and nothing that comes is looked at.
    fn cut_off(&mut self, now: Duration, peer: PeerId, because: &str) {
        let links = self.peers.get(&peer).map(|it| it.links.clone());
        for link in links.into_iter().flatten().collect::<Vec<LinkId>>() {
            if let Some(state) = self.links.get(&link) {
                state.parting.say(because);
                state.sender.abort();
                state.parting.now();
            }
            self.link_down(now, link);
        }
    }
}

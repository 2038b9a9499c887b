//! What a link does when sync scopes open and close.

use std::collections::BTreeSet;

use idem_model::CollectionName;
use idem_wire::SubscriptionId;

use super::{Attachment, Lasting};
use crate::{event::Event, failure::Failure, replica::Replica};

impl Attachment {
    /// Takes the sync scopes as they are now, before anything else is done: what they close ends, and what
    /// they open begins.
    pub(super) fn follow_scopes<R: Replica>(&mut self, replica: &R, lasting: &mut Lasting<'_>) {
        let Some(peer) = self.peer.as_mut() else {
            return;
        };
        let confirmed = peer.confirmed().unwrap_or(0);
        let mut messages = peer.source.follow_scopes(replica, confirmed);
        if !messages.is_empty() {
            *lasting.standing = peer.source.set();
        }
        messages.extend(peer.sink.follow_scopes(replica, lasting.wanted));
        for message in messages {
            self.control.push(message.to_bytes());
        }
    }

    /// The remote does not serve a subscription.
    pub(super) fn refused(
        &mut self,
        alias: u32,
        is_closed: bool,
        detail: &str,
        lasting: &mut Lasting<'_>,
    ) {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let event = if is_closed {
            let subscription = peer.sink.closed_there(alias);
            subscription.map(|subscription| Event::ScopeClosed { subscription })
        } else {
            let subscription = peer.sink.subscription(alias);
            subscription.map(|subscription| Event::SubscriptionRefused {
                subscription,
                detail: detail.to_owned(),
            })
        };
        lasting.events.extend(event);
    }

    /// The remote serves what it did not because of a sync scope.
    pub(super) fn invited(&mut self, alias: u32, lasting: &mut Lasting<'_>) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let Some(subscription) = peer.sink.invited(alias)? else {
            return Ok(());
        };
        if let Some(selector) = lasting.wanted.selector(subscription) {
            // While it was closed the remote told nothing of what it has forgotten.
            peer.checks.asking.forget_clear(selector.collection());
        }
        lasting.events.push(Event::ScopeOpened { subscription });
        Ok(())
    }

    /// Subscriptions that the remote does not serve because of its sync scopes; `None` before the handshake.
    pub(crate) fn closed_there(&self) -> Option<BTreeSet<SubscriptionId>> {
        let peer = self.peer.as_ref()?;
        Some(peer.sink.subscriptions_closed_there().collect())
    }

    /// Their collections.
    pub(super) fn collections_closed_there(
        &self,
        lasting: &Lasting<'_>,
    ) -> BTreeSet<CollectionName> {
        let closed = self.closed_there().unwrap_or_default().into_iter();
        let selectors = closed.filter_map(|subscription| lasting.wanted.selector(subscription));
        selectors.map(|it| it.collection().clone()).collect()
    }
}

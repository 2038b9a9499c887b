//! The texts of subscriptions: cut into what a frame holds, and put together again.

use std::{collections::BTreeMap, time::Duration};

use idem_model::limits;
use idem_wire::{Message, SubscriptionId};

use super::{Attachment, Lasting};
use crate::{
    event::{CloseReason, Event},
    failure::{Failure, cut},
    replica::Replica,
};

/// Bytes of a STATEMENT besides the text: number, name, flags, length.
const HEADER_BYTES: usize = 1 + 32 + 1 + 5;

/// Texts of which the rest has not come. Only of what was asked for, so they are as many as a remote may
/// have subscriptions: 16 MiB.
#[derive(Debug, Default)]
pub(super) struct Texts(BTreeMap<SubscriptionId, String>);

impl Attachment {
    /// The remote does not know a subscription.
    pub(super) fn tell_statement(
        &mut self,
        subscription: SubscriptionId,
        lasting: &Lasting<'_>,
    ) -> Result<(), Failure> {
        // It may have been given back meanwhile.
        let Some(mut rest) = lasting.wanted.statement(subscription) else {
            return Ok(());
        };
        let bytes_max = self.frame_bytes_max() - HEADER_BYTES;
        loop {
            let (text, left) = rest.split_at(rest.floor_char_boundary(bytes_max));
            rest = left;
            let more = !rest.is_empty();
            let statement = Message::Statement {
                subscription,
                more,
                text,
            };
            self.queue(statement.to_bytes())?;
            if !more {
                return Ok(());
            }
        }
    }

    /// The remote tells what a subscription says, or a part of it.
    pub(super) fn statement<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &mut Lasting<'_>,
        subscription: SubscriptionId,
        (text, more): (&str, bool),
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let mut whole = self.texts.0.remove(&subscription).unwrap_or_default();
        // It may have been given back between our question and this answer.
        if !peer.source.is_waiting_for(subscription) {
            return Ok(());
        }
        if whole.len() + text.len() > limits::SUBSCRIPTION_STATEMENT_BYTES_MAX {
            let detail = "statement over the limit";
            return Err(Failure::new(CloseReason::Limit, detail));
        }
        whole.push_str(text);
        if more {
            self.texts.0.insert(subscription, whole);
            return Ok(());
        }
        let ours = lasting.wanted.selector(subscription);
        match lasting.statements.learn(subscription, &whole, ours) {
            Ok(selector) => {
                lasting.events.push(Event::RemoteSubscribed {
                    subscription,
                    statement: whole,
                });
                peer.source.statement(subscription, &selector);
            }
            // A remote with a later language may ask for what cannot be read here.
            Err(detail) => {
                lasting.events.push(Event::RemoteRefused {
                    subscription,
                    detail: detail.clone(),
                });
                for alias in peer.source.refuse(subscription) {
                    let refusal = Message::Refuse {
                        alias,
                        is_closed: false,
                        detail: cut(&detail),
                    };
                    self.queue(refusal.to_bytes())?;
                }
            }
        }
        self.start_pending(now, replica, lasting)
    }
}

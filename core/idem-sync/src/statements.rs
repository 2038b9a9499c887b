//! The statements that the remote's subscriptions stand for. They outlive links, so that a reconnect
//! sends no text.

use std::collections::BTreeMap;

use idem_model::{Object, limits};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use crate::{projection::is_projection, wanted::subscription_id};

/// The statements that the remote's subscriptions stand for.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    selectors: BTreeMap<SubscriptionId, Selector>,
}

impl Statements {
    pub(crate) fn selector(&self, id: SubscriptionId) -> Option<Selector> {
        self.selectors.get(&id).cloned()
    }

    /// Reads a statement. The error is for people at the remote.
    pub(crate) fn learn(&mut self, id: SubscriptionId, text: &str) -> Result<Selector, String> {
        let selector = idem_query::parse(text)
            .and_then(|statement| statement.subscription(&Object::new()))
            .map_err(|error| error.to_string())?;
        if subscription_id(&selector.canonical()) != id {
            return Err("the statement is not the one that was named".to_owned());
        }
        if is_projection(selector.collection()) {
            return Err("a projection is asked for by its fields".to_owned());
        }
        // Twice the subscriptions that can be held at a time; what is forgotten is asked for again.
        if self.selectors.len() >= 2 * limits::SUBSCRIPTIONS_PER_SESSION_MAX {
            self.selectors.pop_first();
        }
        self.selectors.insert(id, selector.clone());
        Ok(selector)
    }
}

//! The statements that the remote's subscriptions stand for. They outlive links, so that a reconnect
//! sends no text.

use idem_model::{Object, limits};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use crate::{few::Few, projection::is_projection, wanted::subscription_id};

/// The statements that the remote's subscriptions stand for.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    selectors: Few<SubscriptionId, Selector>,
}

impl Statements {
    pub(crate) fn selector(&self, id: SubscriptionId) -> Option<Selector> {
        self.selectors.get(&id).cloned()
    }

    /// Reads a statement. The error is for people at the remote. `ours` is what this side asks for by the same
    /// name: most peers that meet want the same, and one selector serves both.
    pub(crate) fn learn(
        &mut self,
        id: SubscriptionId,
        text: &str,
        ours: Option<&Selector>,
    ) -> Result<Selector, String> {
        let selector = match ours.filter(|ours| ours.canonical_text() == text) {
            Some(ours) => ours.clone(),
            None => idem_query::parse(text)
                .and_then(|statement| statement.subscription(&Object::new()))
                .map_err(|error| error.to_string())?,
        };
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

//! What the sessions are asked to want.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::{CollectionName, PeerId};
use idem_query::Selector;
use idem_sync::{OnLeave, Priority, SubscribeError, SubscriptionId, SubscriptionTerms};

use super::{PeerState, declarations, unix_ms};
use crate::{
    board::Board,
    conditions::Conditions,
    transport::{ConditionKind, TransportCondition},
};

/// What a session was asked to want.
#[derive(Debug)]
pub(super) struct Want {
    id: SubscriptionId,
    on_leave: OnLeave,
    collection: CollectionName,
    /// The statement that it is for: of a window not what the peer is asked for.
    shown: String,
}

/// Makes the session want what every peer wants: which kinds collections declare. First, so that it
/// comes before the documents that are typed by it.
pub(super) fn subscribe_declarations(
    remote: PeerId,
    peer: &mut PeerState,
    conditions: &Conditions,
) {
    if peer.declarations.is_some() {
        return;
    }
    match peer.session.subscribe(&declarations(), Priority::High) {
        Ok(id) => peer.declarations = Some(id),
        Err(error) => refused(remote, &error, conditions),
    }
}

/// The statement and the collection of a subscription.
pub(super) fn name_of(
    peer: &PeerState,
    subscription: SubscriptionId,
) -> Option<(String, CollectionName)> {
    let mut wants = peer.wants.values();
    let want = wants.find(|want| want.id == subscription)?;
    Some((want.shown.clone(), want.collection.clone()))
}

fn refused(remote: PeerId, error: &SubscribeError, conditions: &Conditions) {
    conditions.push(
        TransportCondition::new(ConditionKind::SubscriptionRefused, error.to_string()).with(remote),
    );
}

/// Makes the session want what the app wants, no more and no less.
pub(super) fn reconcile(
    remote: PeerId,
    peer: &mut PeerState,
    selectors: &BTreeMap<String, (Selector, OnLeave)>,
    board: &Board,
    conditions: &Conditions,
) {
    // By what the session is asked for, with what it is for.
    let mut wished: BTreeMap<String, (String, &Selector, OnLeave)> = BTreeMap::new();
    for (text, (selector, on_leave)) in selectors {
        wished.insert(text.clone(), (text.clone(), selector, *on_leave));
    }
    for (text, followed) in &peer.windows {
        if let Some(asked) = followed.asked() {
            let entry = wished.entry(asked.selector.canonical());
            entry.or_insert_with(|| (text.clone(), &asked.selector, OnLeave::Keep));
        }
    }
    // What takes the place of something else of a window is asked for before that ends, so that what is
    // under way is taken in.
    let is_replaced = |want: &Want| peer.windows.contains_key(&want.shown);
    let is_wished = |text: &str, want: &Want| {
        let wish = wished.get(text);
        wish.is_some_and(|(.., on_leave)| *on_leave == want.on_leave)
    };
    let gone = peer.wants.iter().filter(|(text, it)| !is_wished(text, it));
    let (replaced, gone): (Vec<_>, Vec<_>) = gone.partition(|(_, want)| is_replaced(want));
    let [replaced, gone]: [Vec<String>; 2] =
        [replaced, gone].map(|wants| wants.into_iter().map(|(text, _)| text.clone()).collect());
    if !gone.is_empty() {
        let wanted: BTreeSet<_> = wished.values().map(|(_, it, _)| it.collection()).collect();
        let declarations = declarations();
        let is_over = |collection: &CollectionName| {
            !wanted.contains(collection) && collection != declarations.collection()
        };
        board.degradations().end_untaken(remote, is_over);
    }
    let mut subscribed = Vec::new();
    let mut not_subscribed = BTreeSet::new();
    end(remote, &mut peer.wants, &mut peer.session, gone, board);
    for (text, (shown, selector, on_leave)) in wished {
        if peer.wants.contains_key(&text) {
            continue;
        }
        let terms = SubscriptionTerms {
            priority: Priority::Normal,
            on_leave,
        };
        let collection = selector.collection().clone();
        match peer.session.subscribe(selector, terms) {
            Ok(id) => subscribed.push((
                text,
                Box::new(Want {
                    id,
                    on_leave,
                    collection,
                    shown,
                }),
            )),
            Err(error) => {
                let id = idem_sync::subscription_id_of(selector);
                not_subscribed.insert(id);
                let because = format!("{shown} cannot be asked for: {error}");
                board
                    .degradations()
                    .not_subscribed(remote, id, collection, because, unix_ms());
                refused(remote, &error, conditions);
            }
        }
    }
    peer.wants.extend(subscribed);
    end(remote, &mut peer.wants, &mut peer.session, replaced, board);
    board
        .degradations()
        .only_not_subscribed(remote, &not_subscribed);
    peer.is_stirred = true;
}

/// Ends subscriptions.
fn end(
    remote: PeerId,
    wants: &mut BTreeMap<String, Box<Want>>,
    session: &mut idem_sync::Session,
    texts: Vec<String>,
    board: &Board,
) {
    for text in texts {
        if let Some(want) = wants.remove(&text) {
            session.unsubscribe(want.id);
            board.degradations().unsubscribed(remote, want.id);
        }
    }
}

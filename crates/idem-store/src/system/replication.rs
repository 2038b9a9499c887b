//! What replication tells of itself, and what the store knows of that.

use std::ops::ControlFlow;

use idem_kv::Snapshot;
use idem_model::{CollectionName, Object, Value};

use super::{int, provided, row};
use crate::{
    error::StoreError,
    tables::{self, BY_SEQ},
    work::Work,
};

/// Changes that a row of `system:data_sync_info` counts at most: reading that many keys takes some
/// milliseconds.
const BEHIND_MAX: u64 = 10_000;

/// How far a peer is, as replication tells it to
/// [`Store::provide_data_sync_info`](crate::Store::provide_data_sync_info).
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSync {
    /// The row; the store adds `documents.documents_behind`.
    pub row: Object,
    /// The local commit up to which the peer holds what it asks for, if that is known.
    pub confirmed: Option<u64>,
    /// The collections of which it asks for documents.
    pub collections: Vec<CollectionName>,
}

pub(super) fn data_sync_info(work: &Work) -> Result<Vec<Object>, StoreError> {
    let mut rows = Vec::new();
    for mut peer in provided(&work.core.data_sync_info) {
        let behind = match peer.confirmed {
            Some(confirmed) => int(behind(work, &peer.collections, confirmed)?),
            None => Value::Null,
        };
        if let Some(Value::Object(documents)) = peer.row.get_mut("documents") {
            documents.insert("documents_behind".to_owned(), behind);
        }
        rows.push(peer.row);
    }
    Ok(rows)
}

/// Documents of these collections that changed last after commit `after`, up to [`BEHIND_MAX`].
fn behind(work: &Work, collections: &[CollectionName], after: u64) -> Result<u64, StoreError> {
    let mut count = 0;
    for name in collections {
        let Some(ordinal) = work.catalog().ordinal(name) else {
            continue;
        };
        let from = tables::by_seq(ordinal, after.saturating_add(1), &[]);
        let to = tables::by_seq(ordinal + 1, 0, &[]);
        let snapshot = &work.view.snapshot;
        snapshot.scan(BY_SEQ, &from, Some(&to), false, &mut |_, _| {
            count += 1;
            match count < BEHIND_MAX {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        if count >= BEHIND_MAX {
            break;
        }
    }
    Ok(count)
}

/// A row about a collection, if that has another name here than the one under which documents travel.
fn under_its_name(work: &Work, mut row: Object) -> Object {
    if let Some(Value::String(name)) = row.get("collection")
        && let Ok(travelling) = CollectionName::new(name)
        && let Some(ordinal) = work.catalog().ordinal(&travelling)
        && let Some(name) = work.catalog().name(ordinal)
    {
        row.insert("collection".to_owned(), name.as_str().into());
    }
    row
}

/// What the store itself keeps from travelling, then what replication tells.
pub(super) fn sync_degradations(work: &Work) -> Result<Vec<Object>, StoreError> {
    let scopes = work.catalog().sync_scopes().iter();
    // Every peer is a small one so far.
    let closed = scopes.filter(|(_, scope)| !scope.includes(false));
    let mut rows: Vec<Object> = closed
        .map(|(name, scope)| {
            row([
                ("peer", Value::Null),
                ("collection", name.as_str().into()),
                ("id", Value::Null),
                ("direction", "both".into()),
                ("reason", "sync_scope".into()),
                (
                    "because",
                    format!("the sync scope of the collection is {scope}").into(),
                ),
                ("since", Value::Null),
            ])
        })
        .collect();
    for quarantined in work.quarantine_rows()? {
        let of = |name: &str| quarantined.get(name).cloned().unwrap_or(Value::Null);
        rows.push(row([
            ("peer", Value::Null),
            ("collection", of("collection")),
            ("id", of("id")),
            ("direction", "outgoing".into()),
            ("reason", "quarantine".into()),
            (
                "because",
                "it is in quarantine, see system:quarantine".into(),
            ),
            ("since", of("since")),
        ]));
    }
    rows.extend(
        provided(&work.core.sync_degradations)
            .into_iter()
            .map(|row| under_its_name(work, row)),
    );
    Ok(rows)
}

/// What replication tells of the ways to other peers.
pub(super) fn transports_info(work: &Work) -> Vec<Object> {
    provided(&work.core.transports_info)
}

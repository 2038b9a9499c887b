//! The list of all fuzz targets.

mod batch_decode;
mod ble_receive;
mod blob_message_decode;
mod certificate_decode;
mod delta_decode;
mod doc_id_decode;
mod document_decode;
mod document_merge;
mod function_call;
mod gossip_decode;
mod json_parse;
mod key_compare;
mod key_decode;
mod link_read;
mod log_open;
mod message_decode;
mod path_decode;
mod revocations_decode;
mod samples;
mod session_handle;
mod session_meet;
mod signed_commit_decode;
mod sketch_decode;
mod statement_compare;
mod statement_parse;
mod statement_run;
mod store_compare;
mod transfer_read;
mod trust_receive;
mod value_decode;
mod version_decode;

use crate::{
    statements::{compare_on_double, compare_on_store},
    target::Target,
};

/// Every target, by name.
pub const TARGETS: &[Target] = &[
    batch_decode::TARGET,
    ble_receive::TARGET,
    blob_message_decode::TARGET,
    certificate_decode::TARGET,
    delta_decode::TARGET,
    doc_id_decode::TARGET,
    document_decode::TARGET,
    document_merge::TARGET,
    function_call::TARGET,
    gossip_decode::TARGET,
    json_parse::TARGET,
    key_compare::TARGET,
    key_decode::TARGET,
    link_read::TARGET,
    log_open::TARGET,
    message_decode::TARGET,
    path_decode::TARGET,
    revocations_decode::TARGET,
    session_handle::TARGET,
    session_meet::TARGET,
    signed_commit_decode::TARGET,
    sketch_decode::TARGET,
    statement_compare::TARGET,
    statement_parse::TARGET,
    statement_run::TARGET,
    store_compare::TARGET,
    transfer_read::TARGET,
    trust_receive::TARGET,
    value_decode::TARGET,
    version_decode::TARGET,
];

/// What the random statements of a target were so far, in this process.
pub fn tallies(target: &str) -> Option<String> {
    match target {
        "statement_compare" => Some(statement_compare::TALLIES.to_string()),
        "store_compare" => Some(store_compare::TALLIES.to_string()),
        _ => None,
    }
}

/// Operators of plans that the random statements of a target should have had, and had not so far.
pub fn never_planned(target: &str) -> Vec<&'static str> {
    match target {
        "statement_compare" => statement_compare::TALLIES.never_planned(),
        "store_compare" => store_compare::TALLIES.never_planned(),
        _ => Vec::new(),
    }
}

/// A smaller input on which a target fails too, where the target knows better than to drop bytes.
pub(crate) fn smaller(target: &str, input: &[u8]) -> Option<Vec<u8>> {
    match target {
        "statement_compare" => Some(statement_compare::smaller(input, compare_on_double)),
        "store_compare" => Some(statement_compare::smaller(input, compare_on_store)),
        _ => None,
    }
}

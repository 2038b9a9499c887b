//! The list of all fuzz targets.

mod batch_decode;
mod delta_decode;
mod doc_id_decode;
mod document_decode;
mod document_merge;
mod json_parse;
mod key_compare;
mod key_decode;
mod link_read;
mod log_open;
mod message_decode;
mod path_decode;
mod samples;
mod session_handle;
mod statement_parse;
mod statement_run;
mod transfer_read;
mod value_decode;
mod version_decode;

use crate::target::Target;

/// Every target, by name.
pub const TARGETS: &[Target] = &[
    batch_decode::TARGET,
    delta_decode::TARGET,
    doc_id_decode::TARGET,
    document_decode::TARGET,
    document_merge::TARGET,
    json_parse::TARGET,
    key_compare::TARGET,
    key_decode::TARGET,
    link_read::TARGET,
    log_open::TARGET,
    message_decode::TARGET,
    path_decode::TARGET,
    session_handle::TARGET,
    statement_parse::TARGET,
    statement_run::TARGET,
    transfer_read::TARGET,
    value_decode::TARGET,
    version_decode::TARGET,
];

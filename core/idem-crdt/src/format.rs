//! The binary form of documents and deltas (docs/format/disk.md, "Documents" and "Deltas").

use idem_model::{Stamp, Value};

use crate::state::{Map, Node};

mod decode;
mod edited;
mod encode;
mod survey;

pub(crate) use decode::{
    decode_delta, decode_document, decode_version, decode_visible_fields,
    decode_visible_fields_into, decode_visible_fields_of, is_plain, is_visible_text, version_bytes,
};
pub(crate) use edited::{encode_inserted, encode_with};
pub(crate) use encode::{encode_delta, encode_document};
pub(crate) use survey::decode_has_several_kinds;

/// The version byte of documents.
const DOCUMENT_VERSION: u8 = 1;
/// The version byte of deltas.
const DELTA_VERSION: u8 = 1;

/// The metadata of a document with one life, one actor and one stamp.
const FORM_PLAIN: u8 = 1;
/// Any other metadata.
const FORM_GENERAL: u8 = 0;

/// A listed entry that is not just a register; a greater code is the place of its stamp plus one.
const CODE_GENERAL: u64 = 0;

const HAS_REGISTER: u8 = 1;
const HAS_MAP: u8 = 1 << 1;
const HAS_COUNTER: u8 = 1 << 2;
const SHOWN_SHIFT: u8 = 3;
const SHOWN_NONE: u8 = 0;
const SHOWN_REGISTER: u8 = 1;
const SHOWN_MAP: u8 = 2;
const SHOWN_COUNTER: u8 = 3;

/// Whether a map needs no metadata: all of it was written with `stamp`, as INSERT does.
fn is_default_map(map: &Map, stamp: Stamp) -> bool {
    let mut nodes = map.entries.iter();
    map.removals.is_empty() && nodes.all(|(_, node)| is_default_node(node, stamp))
}

fn is_default_node(node: &Node, stamp: Stamp) -> bool {
    match (&node.register[..], node.map.as_deref(), &node.counter) {
        // A visible object is a map unless the metadata says that it is one value.
        ([version], None, None) => {
            version.stamp == stamp && !matches!(version.value, Value::Object(_))
        }
        ([], Some(part), None) => part.stamps == [stamp] && is_default_map(&part.map, stamp),
        _ => false,
    }
}

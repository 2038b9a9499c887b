//! The rows of the catalog about indexes (docs/format/disk.md, "Store tables").

use idem_model::{
    DecodeError, FieldPath,
    codec::{Reader, put_bytes, put_varint},
    limits,
};
use idem_query::{IndexExpression, IndexField, IndexKey, IndexSpec};

use super::{Build, Purge, Tally};

/// Longest key of an index entry that is read back: well above those that are written.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// What a field of an index holds.
const KEY_PATH: u8 = 0;
const KEY_EXPRESSION: u8 = 1;
const KEY_ELEMENTS: u8 = 2;

/// The version of the text of an expression. Another meaning of the same text needs another one.
const EXPRESSION_VERSION: u8 = 1;

/// The row that defines an index.
pub(crate) fn encode_index(collection: u32, spec: &IndexSpec) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, collection.into());
    put_bytes(&mut out, spec.name.as_bytes());
    put_varint(&mut out, spec.fields.len() as u64);
    for field in &spec.fields {
        match &field.key {
            IndexKey::Path(path) => {
                out.push(KEY_PATH);
                path.encode(&mut out);
            }
            IndexKey::Expression(expression) => {
                put_expression(&mut out, KEY_EXPRESSION, expression);
            }
            IndexKey::Elements(expression) => put_expression(&mut out, KEY_ELEMENTS, expression),
            other => unreachable!("a kind of index key without a form: {other:?}"),
        }
        out.push(field.descending.into());
    }
    out
}

fn put_expression(out: &mut Vec<u8>, kind: u8, expression: &IndexExpression) {
    out.extend_from_slice(&[kind, EXPRESSION_VERSION]);
    put_bytes(out, expression.text().as_bytes());
}

pub(super) fn decode_index(bytes: &[u8]) -> Result<(u32, String, Vec<IndexField>), DecodeError> {
    let mut reader = Reader::new(bytes);
    let collection = ordinal(&mut reader)?;
    let name = index_name(&mut reader)?;
    let count = reader.count("index fields", limits::NESTING_LEVELS_MAX, 2)?;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let key = decode_key(&mut reader)?;
        let descending = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(invalid("index direction")),
        };
        fields.push(IndexField { key, descending });
    }
    reader.finish()?;
    Ok((collection, name, fields))
}

fn decode_key(reader: &mut Reader<'_>) -> Result<IndexKey, DecodeError> {
    match reader.byte()? {
        KEY_PATH => Ok(IndexKey::Path(FieldPath::decode(reader)?)),
        KEY_EXPRESSION => Ok(IndexKey::Expression(decode_expression(reader)?)),
        KEY_ELEMENTS => Ok(IndexKey::Elements(decode_expression(reader)?)),
        _ => Err(invalid("kind of index key")),
    }
}

fn decode_expression(reader: &mut Reader<'_>) -> Result<IndexExpression, DecodeError> {
    if reader.byte()? != EXPRESSION_VERSION {
        return Err(invalid("version of an index expression"));
    }
    let text = reader.text("index expression", limits::STATEMENT_BYTES_MAX)?;
    IndexExpression::parse(text).map_err(|_not_parsed| invalid("index expression"))
}

impl Build {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, &self.after);
        put_bytes(&mut out, &self.end);
        put_varint(&mut out, self.done);
        put_varint(&mut out, self.total);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let build = Self {
            after: reader.bytes("id key", KEY_BYTES_MAX)?.to_vec(),
            end: reader.bytes("id key", KEY_BYTES_MAX)?.to_vec(),
            done: reader.varint()?,
            total: reader.varint()?,
        };
        reader.finish()?;
        Ok(build)
    }
}

impl Purge {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.collection.into());
        put_bytes(&mut out, self.name.as_bytes());
        put_bytes(&mut out, &self.after);
        put_varint(&mut out, self.done);
        put_varint(&mut out, self.total);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let purge = Self {
            collection: ordinal(&mut reader)?,
            name: index_name(&mut reader)?,
            after: reader.bytes("index key", KEY_BYTES_MAX)?.to_vec(),
            done: reader.varint()?,
            total: reader.varint()?,
        };
        reader.finish()?;
        Ok(purge)
    }
}

impl Tally {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.documents);
        put_varint(&mut out, self.entries);
        put_varint(&mut out, self.distinct.len() as u64);
        for &distinct in &self.distinct {
            put_varint(&mut out, distinct);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let documents = reader.varint()?;
        let entries = reader.varint()?;
        let count = reader.count("index fields", limits::NESTING_LEVELS_MAX, 1)?;
        let distinct: Result<_, _> = (0..count).map(|_| reader.varint()).collect();
        let distinct = distinct?;
        reader.finish()?;
        Ok(Self {
            documents,
            entries,
            distinct,
        })
    }
}

fn ordinal(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(reader.varint()?).map_err(|_| invalid("collection"))
}

fn index_name(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let name = reader.text("index name", limits::STATEMENT_BYTES_MAX)?;
    Ok(name.to_owned())
}

fn invalid(what: &'static str) -> DecodeError {
    DecodeError::Invalid { what, at: 0 }
}

#[cfg(test)]
mod tests {
    use idem_model::CollectionName;

    use super::*;

    #[test]
    fn the_definition_of_an_index_reads_back() {
        let expression = |text| IndexExpression::parse(text).unwrap();
        let keys = [
            IndexKey::Path(FieldPath::new(vec!["a".to_owned(), "b".to_owned()]).unwrap()),
            IndexKey::Expression(expression("lower(name)")),
            IndexKey::Elements(expression("ARRAY i.sku FOR i IN items END")),
        ];
        let fields = keys.into_iter().zip([false, true, true]);
        let spec = IndexSpec {
            name: "ix".to_owned(),
            collection: CollectionName::new("t").unwrap(),
            fields: fields
                .map(|(key, descending)| IndexField { key, descending })
                .collect(),
        };
        let bytes = encode_index(7, &spec);
        let read = decode_index(&bytes).unwrap();
        assert_eq!(read, (7, spec.name, spec.fields));
        for end in 0..bytes.len() {
            assert!(decode_index(&bytes[..end]).is_err());
        }
        // The text of an expression of a later version may mean something else.
        let at = bytes
            .windows(3)
            .position(|window| window[..2] == [1, 1])
            .unwrap();
        let mut later = bytes;
        later[at + 1] = 2;
        assert!(decode_index(&later).is_err());
    }

    /// A kind of row, what it says, and its bytes in hexadecimal, on a line each.
    fn golden_rows() -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../vectors/disk/index-rows.txt");
        std::fs::read_to_string(path).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_rows_of_version_1_are_written_and_read() {
        let expression = |text| IndexExpression::parse(text).unwrap();
        let path = |text: &str| {
            let segments = text.split('.').map(str::to_owned).collect();
            IndexKey::Path(FieldPath::new(segments).unwrap())
        };
        let index = |name: &str, keys: Vec<(IndexKey, bool)>| {
            let fields = keys.into_iter();
            let spec = IndexSpec {
                name: name.to_owned(),
                collection: CollectionName::new("t").unwrap(),
                fields: fields
                    .map(|(key, descending)| IndexField { key, descending })
                    .collect(),
            };
            let bytes = encode_index(300, &spec);
            assert_eq!(decode_index(&bytes), Ok((300, spec.name, spec.fields)));
            hex(&bytes)
        };
        let elements = || IndexKey::Elements(expression("ARRAY i.sku FOR i IN items END"));
        let build = Build {
            after: vec![0x40, 1],
            end: vec![0x40, 9],
            done: 7,
            total: 1000,
        };
        assert_eq!(Build::decode(&build.encode()), Ok(build.clone()));
        let purge = Purge {
            collection: 300,
            name: "ix".to_owned(),
            after: vec![0x20],
            done: 1,
            total: 2,
        };
        assert_eq!(Purge::decode(&purge.encode()), Ok(purge.clone()));
        let tally = Tally {
            documents: 5,
            entries: 300,
            distinct: vec![2, 4],
        };
        assert_eq!(Tally::decode(&tally.encode()), Ok(tally.clone()));
        let rows = [
            ("i path", index("ix", vec![(path("a"), false)])),
            (
                "i paths",
                index("by_city", vec![(path("a.city"), true), (path("b"), false)]),
            ),
            (
                "i expression",
                index(
                    "ix",
                    vec![(IndexKey::Expression(expression("lower(name)")), true)],
                ),
            ),
            ("i elements", index("ix", vec![(elements(), false)])),
            (
                "i all",
                index("ix", vec![(elements(), true), (path("n"), false)]),
            ),
            ("b", hex(&build.encode())),
            ("d", hex(&purge.encode())),
            ("t", hex(&tally.encode())),
        ];
        let written: String = rows
            .iter()
            .map(|(name, hex)| format!("{name}: {hex}\n"))
            .collect();
        assert_eq!(golden_rows(), written, "this build writes\n{written}");
    }

    #[test]
    fn what_is_noted_of_an_index_reads_back() {
        let build = Build {
            after: vec![0x40, 1],
            end: vec![0xff; 300],
            done: 7,
            total: u64::MAX,
        };
        assert_eq!(Build::decode(&build.encode()).unwrap(), build);
        let purge = Purge {
            collection: u32::MAX,
            name: "by_a".to_owned(),
            after: Vec::new(),
            done: 1,
            total: 2,
        };
        assert_eq!(Purge::decode(&purge.encode()).unwrap(), purge);
        let tally = Tally {
            documents: 3,
            entries: 9,
            distinct: vec![1, 300],
        };
        assert_eq!(Tally::decode(&tally.encode()).unwrap(), tally);
        for bytes in [build.encode(), purge.encode(), tally.encode()] {
            for end in 0..bytes.len() {
                assert!(Build::decode(&bytes[..end]).is_err() || bytes != build.encode());
                assert!(Purge::decode(&bytes[..end]).is_err() || bytes != purge.encode());
                assert!(Tally::decode(&bytes[..end]).is_err() || bytes != tally.encode());
            }
        }
    }
}

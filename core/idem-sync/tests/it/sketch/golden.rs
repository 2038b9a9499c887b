//! The sketch that a second implementation must make of the same documents.

use std::{fmt::Write, fs, path::PathBuf};

use idem_model::{ActorId, CollectionName, DocId, Dot, VersionVector, codec::Reader};
use idem_sync::sketch::{Item, Salt, Sketch, SketchBlock, SketchSummary};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Indices below 64 of an item, as its own sketch shows them.
fn indices(salt: Salt, item: Item) -> Vec<u32> {
    let symbols = Sketch::of(salt, [item], 64).block(1, 63).symbols;
    let taken = (1..).zip(symbols).filter(|(_, symbol)| symbol.count == 1);
    std::iter::once(0).chain(taken.map(|(at, _)| at)).collect()
}

fn text() -> String {
    let salt = Salt(std::array::from_fn(|at| at as u8));
    let collection = CollectionName::new("airports").expect("a valid name");
    let mut text = format!("salt {}\n", hex(&salt.0));
    let mut sketch = Sketch::new(salt, 33);
    for number in 1..=300 {
        let id = DocId::from(format!("A{number:03}").as_str());
        let dot = |actor: u8, n| Dot {
            actor: ActorId([actor; 16]),
            n,
        };
        let version = VersionVector::from_iter([dot(1, number), dot(2, 1 << 40)]);
        let item = Item::of(&salt, &collection, &id, &version);
        sketch.insert(item);
        if number <= 5 {
            let mut bytes = Vec::new();
            version.encode(&mut bytes);
            let hash = Sketch::of(salt, [item], 1).summary().check;
            let (key, version) = (hex(&id.to_key()), hex(&bytes));
            writeln!(text, "document airports {key} {version}").expect("a string");
            writeln!(text, "item {} hash {}", hex(&item.to_bytes()), hex(&hash)).expect("a string");
            writeln!(text, "indices {:?}", indices(salt, item)).expect("a string");
        }
    }
    let (mut summary, mut block) = (Vec::new(), Vec::new());
    sketch.summary().encode(&mut summary);
    sketch.block(1, 32).encode(&mut block);
    writeln!(text, "summary of 300 {}", hex(&summary)).expect("a string");
    writeln!(text, "block of 300 {}", hex(&block)).expect("a string");
    let read = SketchSummary::decode(&mut Reader::new(&summary));
    assert_eq!(read, Ok(sketch.summary()));
    let read = SketchBlock::decode(&mut Reader::new(&block));
    assert_eq!(read, Ok(sketch.block(1, 32)));
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may be asked to write")]
fn a_sketch_is_made_as_it_was() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/wire/sketch.txt");
    let text = text();
    if std::env::var("IDEM_VECTORS").is_ok_and(|it| it == "write") && !path.exists() {
        fs::write(&path, &text).expect("the vectors are writable");
    }
    let golden = fs::read_to_string(&path).expect("the vector is checked in");
    assert_eq!(text, golden);
}

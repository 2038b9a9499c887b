//! Any part of a sketch there and back, and any bytes.

use idem_model::{codec::Reader, limits};
use idem_wire::{SketchBlock, SketchSummary, SketchSymbol};
use proptest::prelude::*;

pub(crate) fn block() -> impl Strategy<Value = SketchBlock> {
    let symbol = any::<([u8; 12], [u8; 4], u8)>().prop_map(|(xor, check, count)| SketchSymbol {
        xor,
        check,
        count,
    });
    let last = limits::SKETCH_SYMBOLS_MAX - 50;
    (1..last, prop::collection::vec(symbol, 1..50))
        .prop_map(|(first, symbols)| SketchBlock { first, symbols })
}

fn encoded(block: &SketchBlock) -> Vec<u8> {
    let mut bytes = Vec::new();
    block.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn reading_a_block_undoes_writing(block in block()) {
        let bytes = encoded(&block);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(SketchBlock::decode(&mut reader), Ok(block));
        prop_assert!(reader.is_empty());
        for len in 0..bytes.len() {
            let cut = SketchBlock::decode(&mut Reader::new(&bytes[..len]));
            prop_assert!(cut.is_err(), "{} bytes of {}", len, bytes.len());
        }
    }

    #[test]
    fn reading_a_summary_undoes_writing(
        (items, xor, check) in any::<(u64, [u8; 12], [u8; 8])>(),
    ) {
        let summary = SketchSummary { items, xor, check };
        let mut bytes = Vec::new();
        summary.encode(&mut bytes);
        prop_assert!((21..=30).contains(&bytes.len()));
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(SketchSummary::decode(&mut reader), Ok(summary));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn any_bytes_are_refused_or_have_one_form(
        start in prop::collection::vec(0u8..4, 0..4),
        rest in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let bytes = [start, rest].concat();
        let mut reader = Reader::new(&bytes);
        if let Ok(block) = SketchBlock::decode(&mut reader) {
            prop_assert_eq!(encoded(&block), &bytes[..reader.position()]);
        }
    }
}

#[test]
fn blocks_stay_within_a_sketch() {
    let read = |first: u64, count: u64| {
        let mut bytes = Vec::new();
        idem_model::codec::put_varint(&mut bytes, first);
        idem_model::codec::put_varint(&mut bytes, count);
        bytes.resize(bytes.len() + 3 * SketchSymbol::BYTES, 7);
        SketchBlock::decode(&mut Reader::new(&bytes)).map(|block| block.symbols.len())
    };
    let max = u64::from(limits::SKETCH_SYMBOLS_MAX);
    assert_eq!(read(1, 3), Ok(3));
    assert_eq!(read(max - 3, 3), Ok(3));
    for (first, count) in [
        (0, 3),
        (1, 0),
        (1, 4),
        (max - 2, 3),
        (max, 1),
        (1 << 40, 1),
        (1, 1 << 60),
    ] {
        assert!(
            read(first, count).is_err(),
            "{count} symbols from {first} on"
        );
    }
}

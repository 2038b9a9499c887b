//! The table against an ordered map, with room for all and without, and what it keeps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, usize),
    Remove(u8),
    Get(u8),
}

/// Few hashes, so that most keys share theirs and searches go past the end of the array.
fn hash(key: u8) -> u32 {
    match key % 5 {
        0 => u32::MAX,
        1 => 14,
        2 => 0,
        _ => u32::from(key),
    }
}

fn row(key: u8, since: u64, value_bytes: usize) -> Row {
    let mut joined = vec![key];
    joined.extend(std::iter::repeat_n(key ^ since as u8, value_bytes));
    Row::new(since, 1, &joined)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0_u8..60;
    let step = prop_oneof![
        3 => (key.clone(), 0_usize..300).prop_map(|(key, bytes)| Step::Insert(key, bytes)),
        1 => key.clone().prop_map(Step::Remove),
        3 => key.prop_map(Step::Get),
    ];
    prop::collection::vec(step, 1..200)
}

/// Compares with an ordered map; returns how many rows the map had that the table had not.
fn follow(steps: &[Step], bytes_max: usize) -> usize {
    let mut table = RowTable::default();
    let mut twin: BTreeMap<u8, (u64, Vec<u8>)> = BTreeMap::new();
    let mut dropped = 0;
    for (since, step) in (0..).zip(steps) {
        match *step {
            Step::Insert(key, bytes) => {
                let row = row(key, since, bytes);
                twin.insert(key, (since, row.value().to_vec()));
                table.insert(hash(key), row, bytes_max);
            }
            Step::Remove(key) => {
                let was_there = table.remove(hash(key), &[key]).is_some();
                let twin_had = twin.remove(&key).is_some();
                assert!(!was_there || twin_had);
            }
            Step::Get(key) => match (table.get(hash(key), &[key]), twin.get(&key)) {
                (Some(row), Some((since, value))) => {
                    assert_eq!((row.since, row.value()), (*since, value.as_slice()));
                }
                (Some(row), None) => panic!("{key} was removed: {row:?}"),
                (None, Some(_)) => dropped += 1,
                (None, None) => {}
            },
        }
        assert!(table.bytes() <= bytes_max);
        let slots = table.slots.iter().flatten();
        assert_eq!(slots.clone().count(), table.len);
        assert_eq!(slots.map(Slot::memory).sum::<usize>(), table.row_bytes);
    }
    dropped
}

proptest! {
    #[test]
    fn with_room_for_all_it_is_a_map(steps in steps()) {
        prop_assert_eq!(follow(&steps, usize::MAX), 0);
    }

    #[test]
    fn in_a_budget_it_forgets_but_never_lies(steps in steps(), bytes_max in 0_usize..6000) {
        follow(&steps, bytes_max);
    }
}

#[test]
fn what_is_read_again_and_again_outlives_what_is_read_once() {
    const BYTES_MAX: usize = 64 * 1024;
    let mut table = RowTable::default();
    let name = |number: u32| number.to_be_bytes();
    let spread = |number: u32| number.wrapping_mul(0x9E37_79B9);
    let row = |number: u32| Row::new(0, 4, &[&name(number)[..], &[0; 100]].concat());
    let favourites = 0..100;
    for number in favourites.clone() {
        table.insert(spread(number), row(number), BYTES_MAX);
    }
    // As many as fit, forty times over, each read once; the favourites every hundred rows.
    for number in 1000..15_000 {
        if number % 100 == 0 {
            for favourite in favourites.clone() {
                let found = table.get(spread(favourite), &name(favourite));
                assert!(found.is_some(), "{favourite} is gone at {number}");
            }
        }
        table.insert(spread(number), row(number), BYTES_MAX);
    }
    // Room was not left empty for them.
    assert!(table.bytes() > BYTES_MAX * 3 / 4, "{}", table.bytes());
}

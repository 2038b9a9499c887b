//! Which snapshots see which rows, and how much memory they take.

use super::*;

const ROWS: Table = Table(2);
const BYTES: usize = 1024 * 1024;

fn value_at(cache: &RowCache, generation: u64, key: &[u8]) -> Option<Vec<u8>> {
    cache.read(generation, key, <[u8]>::to_vec)
}

fn batch(operations: &[(&[u8], Option<&[u8]>)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in operations {
        match value {
            Some(value) => batch.put(ROWS, key, value),
            None => batch.delete(ROWS, key),
        }
    }
    batch
}

#[test]
fn a_row_serves_every_snapshot_that_is_not_older_until_it_changes() {
    let cache = RowCache::new(ROWS, BYTES);
    cache.keep(0, b"key", b"first");
    cache.advance(&batch(&[(b"other", Some(b"value"))]), true);
    cache.keep(1, b"late", b"of 1");
    assert_eq!(value_at(&cache, 0, b"key").as_deref(), Some(&b"first"[..]));
    assert_eq!(value_at(&cache, 1, b"key").as_deref(), Some(&b"first"[..]));
    // What was seen in a later state may have been otherwise before.
    assert_eq!(value_at(&cache, 0, b"late"), None);
    assert_eq!(value_at(&cache, 0, b"other"), None);
    assert_eq!(
        value_at(&cache, 1, b"other").as_deref(),
        Some(&b"value"[..])
    );
    cache.advance(&batch(&[(b"key", None), (b"late", Some(b"of 2"))]), true);
    assert_eq!(value_at(&cache, 2, b"key"), None);
    assert_eq!(value_at(&cache, 1, b"key"), None);
    assert_eq!(value_at(&cache, 1, b"late"), None);
    assert_eq!(value_at(&cache, 2, b"late").as_deref(), Some(&b"of 2"[..]));
}

#[test]
fn a_snapshot_of_the_past_adds_nothing() {
    let cache = RowCache::new(ROWS, BYTES);
    cache.advance(&batch(&[(b"key", None)]), true);
    cache.keep(0, b"key", b"deleted since");
    assert_eq!(value_at(&cache, 0, b"key"), None);
    assert_eq!(value_at(&cache, 1, b"key"), None);
}

#[test]
fn of_a_commit_that_failed_nothing_is_kept() {
    let cache = RowCache::new(ROWS, BYTES);
    cache.keep(0, b"key", b"before");
    cache.advance(&batch(&[(b"key", Some(b"after"))]), false);
    assert_eq!(cache.generation(), 1);
    for generation in [0, 1] {
        assert_eq!(value_at(&cache, generation, b"key"), None);
    }
}

#[test]
fn other_tables_and_large_rows_stay_out() {
    let cache = RowCache::new(ROWS, BYTES);
    let mut other = Batch::new();
    other.put(Table(1), b"key", b"value");
    cache.advance(&other, true);
    assert_eq!(value_at(&cache, 1, b"key"), None);

    let largest = vec![7; ROW_CACHE_ROW_BYTES_MAX - 3];
    cache.keep(1, b"key", &largest);
    assert_eq!(value_at(&cache, 1, b"key"), Some(largest));
    let too_large = vec![8; ROW_CACHE_ROW_BYTES_MAX - 2];
    cache.advance(&batch(&[(b"key", Some(&too_large))]), true);
    assert_eq!(value_at(&cache, 2, b"key"), None);
}

#[test]
fn it_stays_inside_its_budget_and_uses_it() {
    for (bytes, value_bytes) in [
        (0, 10),
        (1000, 10),
        (256 * 1024, 3),
        (BYTES, 250),
        (BYTES, 4000),
    ] {
        let cache = RowCache::new(ROWS, bytes);
        let value = vec![1; value_bytes];
        let rows = 3 * bytes / (value_bytes + 50);
        for number in 0..rows as u64 {
            cache.keep(0, &number.to_be_bytes(), &value);
            assert!(cache.bytes() <= bytes);
        }
        let is_roomy = bytes >= 256 * 1024;
        assert!(
            !is_roomy || cache.bytes() > bytes * 3 / 4,
            "{value_bytes}: {} of {bytes}",
            cache.bytes()
        );
    }
}

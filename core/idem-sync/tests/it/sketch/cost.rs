//! What finding a difference costs in symbols, bytes and rounds. The seeds are fixed.

use idem_sync::sketch::{Item, Sketch};

use super::{item, run, sketch};

struct Cost {
    symbols: Vec<u32>,
    bytes: Vec<usize>,
    blocks: Vec<u32>,
}

/// `changed` of `documents` documents have another version at the remote, and `extra` exist only
/// there.
fn cost(documents: u64, changed: u64, extra: u64, symbols: u32, seeds: u64) -> Cost {
    let mut cost = Cost {
        symbols: Vec::new(),
        bytes: Vec::new(),
        blocks: Vec::new(),
    };
    for seed in 0..seeds {
        let number = |document| seed << 32 | document;
        let mut local: Vec<Item> = (0..documents).map(|at| item(number(at), 0)).collect();
        let ours = sketch(&local, symbols);
        let mut theirs: Sketch = ours.clone();
        for at in 0..changed {
            theirs.remove(local[at as usize]);
            theirs.insert(item(number(at), 1));
        }
        for at in 0..extra {
            theirs.insert(item(number(documents + at), 0));
        }
        let run = run(&ours, &theirs);
        let difference = run.outcome.as_ref().expect("a small difference is found");
        local.truncate(changed as usize);
        local.sort();
        assert_eq!(difference.local_only, local);
        assert_eq!(difference.remote_only.len() as u64, changed + extra);
        cost.symbols.push(run.symbols);
        cost.bytes.push(run.bytes(&theirs));
        cost.blocks.push(run.blocks);
    }
    cost.symbols.sort_unstable();
    cost.bytes.sort_unstable();
    cost.blocks.sort_unstable();
    cost
}

#[test]
fn differences_cost_what_they_should() {
    // Documents, changed, only at the remote, symbols kept, seeds; then what the median and the
    // largest may be in bytes, and the most blocks. The size of the sets does not matter.
    let cases = [
        (100_000, 0, 0, 64, 1, 23, 23, 0),
        (100_000, 10, 0, 512, 5, 640, 710, 8),
        (1_000, 1, 0, 64, 20, 91, 160, 3),
        (1_000, 0, 10, 256, 20, 320, 480, 6),
        (1_000, 10, 0, 512, 60, 660, 1200, 11),
        (5_000, 100, 0, 1024, 20, 5600, 7000, 9),
        (5_000, 500, 0, 4096, 5, 26500, 30000, 7),
        (10_000, 1_000, 0, 4096, 4, 49000, 54000, 8),
        (5_000, 200, 400, 4096, 5, 22500, 25000, 8),
        (5_000, 1_300, 0, 4096, 4, 65000, 69700, 8),
    ];
    for (documents, changed, extra, symbols, seeds, median_max, bytes_max, blocks_max) in cases {
        let cost = cost(documents, changed, extra, symbols, seeds);
        let middle = cost.bytes.len() / 2;
        let last = cost.bytes.len() - 1;
        println!(
            "{documents:>7} documents, {changed:>5} changed, {extra:>4} extra: \
             symbols {:>4} (at most {:>4}), bytes {:>5} (at most {:>5}), blocks {:>2} (at most {:>2})",
            cost.symbols[middle],
            cost.symbols[last],
            cost.bytes[middle],
            cost.bytes[last],
            cost.blocks[middle],
            cost.blocks[last],
        );
        assert!(
            cost.bytes[middle] <= median_max,
            "median of {changed} changed"
        );
        assert!(
            cost.bytes[last] <= bytes_max,
            "largest of {changed} changed"
        );
        assert!(
            cost.blocks[last] <= blocks_max,
            "blocks of {changed} changed"
        );
    }
}

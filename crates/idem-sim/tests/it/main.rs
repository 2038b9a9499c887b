//! Seeds, the bugs that they must find, and exact counts of what two peers say.

mod apps;
mod ceilings;
mod field;
mod heap;
#[path = "../../../../fuzz/memory.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use it from outside")]
mod memory;
mod mesh;
mod relays;

use idem_model::{
    ActorId, CollectionName, DocId, DocumentKey, DocumentOp, FieldOp, FieldPath, InsertConflict,
    Object, Value,
};
use idem_sim::{Canary, Options, Scenario, Violation, run, run_with};
use idem_sync::{Incoming, IncomingState, MemoryReplica, Replica};

/// Chosen so that the suite stays under 30 s in a debug build on one core. The gate runs more of them,
/// in release.
const SEEDS: u64 = 60;

#[test]
fn seeds() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let seed = seed.parse().expect("SIM_SEED is a number");
        println!("{:#?}", Options::from_seed(seed));
        match run(seed) {
            Ok(report) => println!("{report:#?}"),
            Err(failure) => panic!("{failure}: {}", failure.violation),
        }
        return;
    }
    let count = std::env::var("SIM_SEEDS")
        .map_or(SEEDS, |count| count.parse().expect("SIM_SEEDS is a number"));
    let mut failures = Vec::new();
    let (mut acknowledged, mut faults, mut frames) = (0, 0, 0);
    for seed in 0..count {
        match run(seed) {
            Ok(report) => {
                acknowledged += report.acknowledged;
                faults += report.faults;
                frames += report.frames;
            }
            Err(failure) => failures.push(format!("{failure}: {}", failure.violation)),
        }
    }
    println!("{count} seeds: {acknowledged} transactions, {faults} faults, {frames} frames");
    let failed = failures.len();
    failures.truncate(5);
    assert!(failed == 0, "{failed} seeds fail\n{}", failures.join("\n"));
    assert!(
        faults > count && acknowledged > 10 * count,
        "the runs do something"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 17, 40, 111] {
        let [first, second] = [run(seed), run(seed)].map(|report| report.expect("it passes"));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
    }
}

/// The gate runs many seeds of each; this holds that they run at all, alike every time, and that what
/// they are about happens.
#[test]
fn every_scenario_is_the_same_run_twice() {
    for name in Scenario::ready_names() {
        let scenario = Scenario::ready(name).expect("it comes along");
        // Meshes take minutes of simulated time to agree on who is there.
        let is_field = scenario.options(None, 3).field.is_some();
        let options = scenario.options(is_field.then_some(8), 3);
        let [first, second] = [(); 2].map(|()| {
            let report = run_with(&options, None);
            report.unwrap_or_else(|it| panic!("{name}: {it}: {}", it.violation))
        });
        assert_eq!(first.trace, second.trace, "{name}");
        assert_eq!(
            first.pairs.0, first.pairs.1,
            "{name}: everything was delivered"
        );
        // The plain mesh is measured, and nothing goes wrong in it.
        let has_faults = first.faults > 0 || name == "mesh";
        assert!(first.pairs.0 > 0 && has_faults, "{name}");
        let last = first.curve.last().expect("there is a curve");
        assert_eq!(last.delivered, 1000, "{name}: the curve ends at the top");
        let rises = first
            .curve
            .is_sorted_by_key(|point| (point.at_us, point.delivered));
        assert!(rises, "{name}: a curve never falls");
    }
}

/// A disk may keep a write whose fsync had not returned when the power failed, and then all peers get
/// it. Slow fsyncs and many crashes make that common, which it is not among [`seeds`].
#[test]
fn what_a_disk_keeps_unacknowledged_is_not_a_loss() {
    for seed in 0..10 {
        let mut options = Options::from_seed(seed);
        options.has_engine = true;
        options.fsync_us_max = 500_000;
        options.write_pause_us_max = 100_000;
        options.faults.crashes = 4;
        if let Err(failure) = run_with(&options, None) {
            panic!("{failure}: {}", failure.violation);
        }
    }
}

/// Runs a planted bug over seeds until it is found, and gives what was found.
fn found(canary: Canary, is_expected: fn(&Violation) -> bool) {
    found_in(canary, is_expected, |_| {});
}

/// The same where the faults that show it are made frequent.
fn found_in(canary: Canary, is_expected: fn(&Violation) -> bool, change: fn(&mut Options)) {
    let mut others = Vec::new();
    for seed in 0..200 {
        let mut options = Options::from_seed(seed);
        options.has_engine = false;
        change(&mut options);
        // A bug may trip an assertion of the store before a checker sees what it does.
        match std::panic::catch_unwind(|| run_with(&options, Some(canary))) {
            Ok(Err(failure)) if is_expected(&failure.violation) => return,
            Ok(Err(failure)) => others.push(failure.violation.to_string()),
            Err(_) => others.push("a panic".to_owned()),
            Ok(Ok(_)) => {}
        }
    }
    panic!("{canary:?} was not found; found instead: {others:?}");
}

#[test]
fn a_dropped_document_is_found() {
    found(Canary::DropDocument, |it| {
        matches!(it, Violation::Diverged { .. })
    });
}

#[test]
fn an_early_acknowledgement_is_found() {
    let is_expected =
        |it: &Violation| matches!(it, Violation::Lost { .. } | Violation::Miscounted { .. });
    found_in(Canary::AcknowledgeTooEarly, is_expected, |options| {
        options.fsync_us_max = 200_000;
        options.faults.crashes = 6;
        options.faults.restores = 0;
        options.faults.copies = 0;
    });
}

#[test]
fn an_early_confirmation_is_found() {
    let is_expected = |it: &Violation| matches!(it, Violation::NotHeld { .. });
    found_in(Canary::AcknowledgeTooEarly, is_expected, |options| {
        options.fsync_us_max = 200_000;
        options.faults.crashes = 6;
    });
}

/// A document that is there, and is not what was confirmed.
#[test]
fn a_confirmed_state_that_is_not_the_one_held_is_found() {
    let is_expected = |it: &Violation| matches!(it, Violation::NotHeld { .. });
    found_in(Canary::KeepFirstState, is_expected, |options| {
        options.faults.crashes = 6;
    });
    found_in_absence(Canary::KeepFirstState, is_expected);
}

#[test]
fn a_broken_transaction_is_found() {
    found(Canary::BreakGroups, |it| {
        matches!(it, Violation::Torn { .. })
    });
}

#[test]
fn a_writer_that_goes_on_after_a_restore_is_found() {
    let is_expected = |it: &Violation| {
        use Violation::{Diverged, Lost, Miscounted};
        matches!(it, Diverged { .. } | Lost { .. } | Miscounted { .. })
    };
    found_in(Canary::KeepActor, is_expected, |options| {
        options.faults.restores = 6;
    });
}

#[test]
fn memory_that_only_grows_is_found() {
    found(Canary::HoardFrames, |it| {
        matches!(it, Violation::Unbounded { .. })
    });
}

#[test]
fn a_pair_without_a_link_is_found() {
    found(Canary::Isolate, |it| {
        matches!(it, Violation::Diverged { .. })
    });
}

#[test]
fn a_store_that_takes_nothing_in_is_found() {
    found(Canary::NeverApply, |it| {
        matches!(it, Violation::GaveUp { .. })
    });
}

#[test]
fn an_endless_conversation_is_found() {
    found(Canary::ReactToChanges, |it| {
        matches!(it, Violation::Unrest { .. })
    });
}

#[test]
fn a_deletion_that_is_ignored_is_found() {
    found(Canary::IgnoreDeletion, |it| {
        matches!(it, Violation::Revived { .. })
    });
}

/// Runs a planted bug over seeds of peers that are away for weeks until it is found.
fn found_in_absence(canary: Canary, is_expected: fn(&Violation) -> bool) {
    found_in_scenario("absence", canary, is_expected);
}

/// Runs a planted bug over seeds of a scenario until it is found.
fn found_in_scenario(name: &str, canary: Canary, is_expected: fn(&Violation) -> bool) {
    let scenario = Scenario::ready(name).expect("it comes along");
    let mut others = Vec::new();
    for seed in 0..200 {
        match run_with(&scenario.options(None, seed), Some(canary)) {
            Err(failure) if is_expected(&failure.violation) => return,
            Err(failure) => others.push(failure.violation.to_string()),
            Ok(_) => {}
        }
    }
    panic!("{canary:?} was not found; found instead: {others:?}");
}

#[test]
fn a_hidden_floor_is_found() {
    found_in_absence(Canary::HideFloor, |it| {
        matches!(it, Violation::Revived { .. })
    });
}

#[test]
fn an_eviction_that_counts_as_a_deletion_is_found() {
    found_in_absence(Canary::ForgetEvictions, |it| {
        matches!(it, Violation::Vanished { .. })
    });
}

/// A peer that does not heed its own scopes gives what it may not, and takes what it may not.
#[test]
fn a_sync_scope_that_is_ignored_is_found() {
    found_in_scenario("scopes", Canary::IgnoreScopes, |it| {
        matches!(it, Violation::Leaked { from: 0, .. })
    });
    found_in_scenario("scopes", Canary::IgnoreScopes, |it| {
        matches!(it, Violation::TookIn { peer: 0, .. })
    });
}

/// The real store remembers its scopes itself.
#[test]
fn sync_scopes_hold_on_the_real_store() {
    let scenario = Scenario::ready("scopes").expect("it comes along");
    for seed in 0..3 {
        let mut options = scenario.options(Some(3), seed);
        options.has_engine = true;
        options.writes = 40;
        if let Err(failure) = run_with(&options, None) {
            panic!("{failure}: {}", failure.violation);
        }
    }
}

#[test]
fn a_window_that_stays_as_it_was_is_found() {
    found_in_scenario("windows", Canary::StayInReach, |it| {
        matches!(it, Violation::WrongWindow { .. })
    });
}

#[test]
fn a_peer_that_passes_on_what_it_did_not_check_is_found() {
    found_in_scenario("attachments", Canary::SpoilPieces, |it| {
        matches!(it, Violation::Attachment { .. })
    });
}

#[test]
fn a_fetch_that_waits_for_ever_is_found() {
    found_in_scenario("attachments", Canary::IgnoreTime, |it| {
        matches!(it, Violation::Attachment { .. } | Violation::Unrest { .. })
    });
}

/// The real store sorts by its own means and remembers what it evicts.
#[test]
fn windows_hold_on_the_real_store() {
    let scenario = Scenario::ready("windows").expect("it comes along");
    for seed in 0..3 {
        let mut options = scenario.options(Some(2), seed);
        options.has_engine = true;
        options.writes = 60;
        if let Err(failure) = run_with(&options, None) {
            panic!("{failure}: {}", failure.violation);
        }
    }
}

/// Two peers insert a document each for itself, count in it, and go on counting after the merge.
///
/// The document has then two lives, and the first peer has counted in both.
#[test]
fn counters_of_concurrent_inserts() {
    let key = DocumentKey {
        collection: CollectionName::new("tallies").expect("a valid name"),
        id: DocId::from("t"),
    };
    let count = |replica: &mut MemoryReplica, by| {
        let insert = DocumentOp::Insert {
            fields: Object::new(),
            kinds: Vec::new(),
            conflict: InsertConflict::DoUpdate,
        };
        let add = DocumentOp::Update(vec![FieldOp::Increment {
            path: FieldPath::field("sum"),
            by,
        }]);
        let operations = [(key.clone(), insert), (key.clone(), add)];
        replica.commit(&operations).expect("a valid transaction");
    };
    let mut replicas = [1, 2].map(|n| MemoryReplica::new(ActorId([n; 16]), u64::from(n) * 1000));
    count(&mut replicas[0], 3);
    count(&mut replicas[1], 5);
    let state = replicas[1].state(&key);
    let incoming = Incoming {
        key: key.clone(),
        group: 0,
        state: IncomingState::Whole(state.expect("it was just inserted")),
    };
    let Ok(report) = replicas[0].apply(vec![incoming], &[]);
    assert!(report.is_applied());
    count(&mut replicas[0], 6);
    let state = replicas[0].state(&key);
    let fields = idem_crdt::visible_fields(&state.expect("it is there"));
    let sum = fields
        .expect("written by ourselves")
        .expect("it is present")["sum"]
        .clone();
    assert_eq!(sum, Value::from(3 + 5 + 6));
}

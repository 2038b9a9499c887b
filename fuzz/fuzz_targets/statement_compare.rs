//! Every query gives what a naive evaluation gives, whatever plan it has.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    mutator::Random,
    statements::{Check, OPERATORS, Script, Tallies, compare_on_double},
    target::{Target, Verdict},
};

pub(super) const TARGET: Target = Target {
    name: "statement_compare",
    run: |data| run(data, &TALLIES, compare_on_double),
    seeds,
};

pub(super) static TALLIES: Tallies = Tallies::new(OPERATORS);

/// Inputs of random bytes: any bytes make a script.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random::new(0);
    (0..40)
        .map(|_| {
            let len = 300 + random.below(1500);
            (0..len).map(|_| random.bits().to_le_bytes()[0]).collect()
        })
        .collect()
}

/// The lines of random scripts, for targets that take text.
pub(super) fn scripts() -> Vec<Vec<u8>> {
    let scripts = seeds().into_iter().map(|seed| Script::of(&seed));
    scripts
        .map(|script| script.lines.join("\n").into_bytes())
        .collect()
}

/// How the results of a script are compared.
pub(super) type Compare = fn(&Script, &Tallies) -> Result<Check, String>;

/// Runs a script and panics where results differ.
pub(super) fn run(data: &[u8], tallies: &Tallies, compare: Compare) -> Verdict {
    let script = Script::of(data);
    match compare(&script, tallies) {
        Ok(_) => Verdict::Accepted,
        Err(reason) => panic!("{reason}\n{}", script.to_text()),
    }
}

/// A small script that fails as the one of `data` does, as text.
pub(super) fn smaller(data: &[u8], compare: Compare) -> Vec<u8> {
    let unseen = Tallies::new(&[]);
    let script = Script::of(data);
    // What kind of statement fails; `None` is a panic.
    let failing = |script: &Script| {
        let run = AssertUnwindSafe(|| compare(script, &unseen).err());
        catch_unwind(run).map_or(Some(None), |reason| {
            reason.map(|reason| reason.split(' ').next().map(str::to_owned))
        })
    };
    let wanted = failing(&script);
    let fails = |script: &Script| wanted.is_some() && failing(script) == wanted;
    script.shrunk(fails).to_text().into_bytes()
}

//! The rules of the house that no compiler lint can hold.
//!
//! A rule is a function from the [`Tree`] to its findings. Each one has a test that shows it fire.

mod citations;
mod layers;
mod lengths;
mod licences;
mod manifests;
mod names;
mod readme;
mod repository;
mod rust_files;
mod text;
mod tree;

use std::{fmt, path::Path};

use crate::{
    metadata::Graph,
    step::{Outcome, judge},
};
use tree::Tree;

/// One place that breaks a rule.
#[derive(Debug)]
struct Finding {
    /// The rule's name, as in [`RULES`].
    rule: &'static str,
    /// File, with a line where there is one.
    place: String,
    /// What is wrong there and what to do.
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.place, self.message, self.rule)
    }
}

/// A rule's name and its body.
type Rule = (&'static str, fn(&Tree) -> Vec<Finding>);

/// Every rule, in the order in which findings are printed.
const RULES: &[Rule] = &[
    (layers::RULE, layers::check),
    (layers::PURE, layers::check_pure),
    (lengths::RULE, lengths::check),
    (names::RULE, names::check),
    (rust_files::MODULE_FILE, rust_files::check_module_files),
    (rust_files::HEADING, rust_files::check_headings),
    (rust_files::LIBRARY, rust_files::check_libraries),
    (rust_files::TESTS, rust_files::check_integration_tests),
    (text::ASCII, text::check_ascii),
    (text::PLACES, text::check_places),
    (text::CONDITION, text::check_conditions),
    (manifests::RULE, manifests::check),
    (licences::RULE, licences::check),
    (repository::SIZE, repository::check_sizes),
    (repository::REQUIRED, repository::check_required),
    (readme::RULE, readme::check),
    (citations::RULE, citations::check),
];

/// Runs every rule over the workspace and prints the findings.
pub(crate) fn run(root: &Path) -> Outcome {
    let graph = match Graph::load(root) {
        Ok(graph) => graph,
        Err(error) => {
            println!("{error}");
            return Outcome::Failed;
        }
    };
    let tree = match Tree::load(root, graph) {
        Ok(tree) => tree,
        Err(error) => {
            println!("the files of the workspace cannot be read: {error}");
            return Outcome::Failed;
        }
    };
    let mut count = 0;
    for (_, check) in RULES {
        for finding in check(&tree) {
            println!("{finding}");
            count += 1;
        }
    }
    println!("longest files, without their tests:");
    for (path, lines) in lengths::longest(&tree, 5) {
        println!("  {lines:>5} {path}");
    }
    println!(
        "{} rules over {} files: {count} findings",
        RULES.len(),
        tree.files.len()
    );
    judge(count == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rules_share_a_name() {
        let mut names: Vec<_> = RULES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

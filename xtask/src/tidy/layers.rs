//! Who may import whom, and that `core/` stays pure.

use super::{Finding, tree::Tree};
use crate::metadata::Package;

pub(super) const RULE: &str = "layers";
pub(super) const PURE: &str = "pure-core";

/// What a crate may import of the workspace.
#[derive(Debug, Clone, Copy)]
enum May {
    /// These and nothing else.
    Import(&'static [&'static str]),
    /// Whatever it likes; in return nothing may import it.
    ImportAnything,
}
use May::{Import, ImportAnything};

/// The table of layers. A new edge is a design change: say why in the commit.
const LAYERS: &[(&str, May)] = &[
    ("idem-model", Import(&[])),
    ("idem-vault", Import(&[])),
    ("idem-log", Import(&["idem-vault"])),
    ("idem-kv", Import(&["idem-vault"])),
    ("xtask", Import(&[])),
    ("idem-blob", Import(&["idem-model", "idem-vault"])),
    ("idem-crdt", Import(&["idem-model"])),
    ("idem-wire", Import(&["idem-model"])),
    ("idem-query", Import(&["idem-model"])),
    ("idem-transport", Import(&["idem-model"])),
    ("idem-blob-sync", Import(&["idem-model", "idem-wire"])),
    ("idem-auth", Import(&["idem-model", "idem-query"])),
    (
        "idem-sync",
        Import(&[
            "idem-model",
            "idem-crdt",
            "idem-wire",
            "idem-query",
            "idem-auth",
        ]),
    ),
    (
        "idem-mesh",
        Import(&["idem-model", "idem-wire", "idem-auth"]),
    ),
    (
        "idem-cluster",
        Import(&["idem-model", "idem-crdt", "idem-wire"]),
    ),
    (
        "idem-store",
        Import(&[
            "idem-model",
            "idem-crdt",
            "idem-query",
            "idem-kv",
            "idem-log",
            "idem-vault",
        ]),
    ),
    (
        "idem",
        Import(&[
            "idem-model",
            "idem-crdt",
            "idem-query",
            "idem-wire",
            "idem-auth",
            "idem-sync",
            "idem-mesh",
            "idem-log",
            "idem-kv",
            "idem-blob",
            "idem-blob-sync",
            "idem-store",
            "idem-transport",
            "idem-vault",
        ]),
    ),
    ("idem-http-api", Import(&[])),
    (
        "idem-cli",
        // `idem sim` runs the simulator, which is no part of a peer.
        Import(&["idem", "idem-server", "idem-http-api", "idem-sim"]),
    ),
    ("idem-sim", ImportAnything),
    ("idem-bench", ImportAnything),
    ("idem-bench-compare", ImportAnything),
    ("idem-fuzz", ImportAnything),
];

/// Crates that would bring a clock, threads or entropy into `core/`.
const IMPURE: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "rand",
    "getrandom",
    "fastrand",
];

/// Holds every edge between our crates, normal, build and test, against [`LAYERS`].
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.graph.ours() {
        let Some((_, may)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            findings.push(finding(RULE, package, "has no row in the table of layers"));
            continue;
        };
        for edge in &package.edges {
            let Some(target) = tree.graph.packages.get(&edge.to).filter(|to| to.is_ours) else {
                continue;
            };
            let allowed = match may {
                // A crate imports itself to turn on features for its own tests.
                Import(names) => {
                    target.name == package.name || names.contains(&target.name.as_str())
                }
                ImportAnything => true,
            };
            if !allowed {
                let message = format!("may not import {}", target.name);
                findings.push(finding(RULE, package, &message));
            }
        }
    }
    findings
}

/// No crate below `core/` ships with a clock, threads or entropy, not even through another crate.
pub(super) fn check_pure(tree: &Tree) -> Vec<Finding> {
    let core = tree.graph.ours().into_iter();
    core.filter(|package| package.folder.starts_with("core/"))
        .flat_map(|package| {
            let reached = tree.graph.shipped_with(package).into_iter();
            reached
                .filter(|name| IMPURE.contains(name))
                .map(|name| format!("ships with {name}; take time and entropy as arguments"))
                .map(|message| finding(PURE, package, &message))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn finding(rule: &'static str, package: &Package, message: &str) -> Finding {
    Finding {
        rule,
        place: format!("{}/Cargo.toml", package.folder),
        message: format!("{} {message}", package.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Edge, Graph};

    /// Packages `(name, folder, names depended on)`; those outside `core/` and `crates/` are foreign.
    fn tree(packages: &[(&str, &str, &[&str])]) -> Tree {
        let package = |(name, folder, edges): &(&str, &str, &[&str])| Package {
            name: (*name).to_owned(),
            folder: (*folder).to_owned(),
            is_ours: !folder.is_empty(),
            edges: edges
                .iter()
                .map(|to| Edge {
                    to: (*to).to_owned(),
                    is_normal: true,
                })
                .collect(),
            ..Package::default()
        };
        Tree {
            files: Vec::new(),
            graph: Graph {
                packages: packages
                    .iter()
                    .map(|one| (one.0.to_owned(), package(one)))
                    .collect(),
            },
        }
    }

    fn messages(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|one| one.message).collect()
    }

    #[test]
    fn the_declared_direction_passes_and_the_reverse_does_not() {
        let crdt = "core/idem-crdt";
        let model = "core/idem-model";
        let good = [
            ("idem-model", model, &[][..]),
            ("idem-crdt", crdt, &["idem-model"]),
        ];
        assert!(check(&tree(&good)).is_empty());
        let bad = [
            ("idem-model", model, &["idem-crdt"][..]),
            ("idem-crdt", crdt, &[]),
        ];
        assert_eq!(
            messages(check(&tree(&bad))),
            ["idem-model may not import idem-crdt"]
        );
    }

    #[test]
    fn nothing_imports_the_simulator() {
        let bad = [
            ("idem-sim", "crates/idem-sim", &["idem-store"][..]),
            ("idem-store", "crates/idem-store", &["idem-sim"]),
        ];
        assert_eq!(
            messages(check(&tree(&bad))),
            ["idem-store may not import idem-sim"]
        );
    }

    #[test]
    fn an_unknown_crate_needs_a_row() {
        let bad = [("idem-extra", "crates/idem-extra", &[][..])];
        assert_eq!(check(&tree(&bad)).len(), 1);
    }

    #[test]
    fn entropy_is_found_behind_another_crate() {
        let bad = [
            ("idem-model", "core/idem-model", &["ahash"][..]),
            ("ahash", "", &["getrandom"]),
            ("getrandom", "", &[]),
        ];
        assert_eq!(check_pure(&tree(&bad)).len(), 1);
        let outside = [
            ("idem-kv", "crates/idem-kv", &["getrandom"][..]),
            ("getrandom", "", &[]),
        ];
        assert!(check_pure(&tree(&outside)).is_empty());
    }
}

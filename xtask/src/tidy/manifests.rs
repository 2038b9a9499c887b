//! Every crate takes the workspace's lints and licence.

use super::{Finding, tree::Tree};

pub(super) const RULE: &str = "manifest";

/// Lines that every manifest of ours holds, and why.
const REQUIRED: &[(&str, &str)] = &[
    (
        "[lints]\nworkspace = true",
        "takes the lints of the workspace",
    ),
    (
        "license.workspace = true",
        "takes the licence of the workspace",
    ),
    (
        "edition.workspace = true",
        "takes the edition of the workspace",
    ),
    (
        "rust-version.workspace = true",
        "takes the toolchain of the workspace",
    ),
    ("description = ", "says in a line what it is"),
];

/// Manifests below the root that lack a required line.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let manifests = tree.with_extension(&["toml"]);
    manifests
        .filter(|(path, _)| path.ends_with("/Cargo.toml"))
        .flat_map(|(path, text)| {
            REQUIRED
                .iter()
                .filter(|(line, _)| !text.contains(line))
                .map(|(line, why)| Finding {
                    rule: RULE,
                    place: path.to_owned(),
                    message: format!("a crate {why}: {}", line.replace('\n', " ")),
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::sample;

    #[test]
    fn a_missing_line_is_found() {
        let lines: Vec<_> = REQUIRED.iter().map(|(line, _)| *line).collect();
        let whole = lines.join("\n");
        assert!(check(&sample(&[("core/a/Cargo.toml", &whole)])).is_empty());
        for line in lines {
            let without = whole.replace(line, "");
            let findings = check(&sample(&[("core/a/Cargo.toml", &without)]));
            assert_eq!(findings.len(), 1, "{line}");
        }
    }
}

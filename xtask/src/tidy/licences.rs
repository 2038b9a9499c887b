//! Under which terms everything that we depend on may be passed on.

use super::{Finding, tree::Tree};

pub(super) const RULE: &str = "licence";

/// Licences that ask for no more than to be named and passed on.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    // Of data, not of code: the certificates of authorities that browsers trust. It asks for its text to be passed on
    // with them.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages of the whole graph, tests and other platforms included, that cannot be had under
/// [`ALLOWED`] licences alone.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let packages = tree.graph.packages.values();
    packages
        .filter(|package| !package.license.as_deref().is_some_and(is_allowed))
        .map(|package| Finding {
            rule: RULE,
            place: format!("{} {}", package.name, package.version),
            message: match &package.license {
                Some(license) => format!("{license} is not on the list of allowed licences"),
                None => "states no licence".to_owned(),
            },
        })
        .collect()
}

/// Whether an SPDX expression can be met with allowed licences.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) && rest.is_empty()
}

/// `a OR b`, which binds weaker than AND.
fn either(words: &mut &[&str]) -> bool {
    let mut good = both(words);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        // Both sides are read whatever the first said: the words have to be consumed.
        good |= both(words);
    }
    good
}

fn both(words: &mut &[&str]) -> bool {
    let mut good = one(words);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        good &= one(words);
    }
    good
}

/// A licence, perhaps with an exception, which only grants more; or parentheses.
fn one(words: &mut &[&str]) -> bool {
    let (good, rest) = match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let good = either(words);
            match *words {
                [")", rest @ ..] => (good, rest),
                _ => (false, &[][..]),
            }
        }
        [name, "WITH", _, rest @ ..] | [name, rest @ ..] => (ALLOWED.contains(name), rest),
        [] => (false, &[][..]),
    };
    *words = rest;
    good
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    #[track_caller]
    fn allowed(expression: &str, expected: bool) {
        assert_eq!(is_allowed(expression), expected, "{expression}");
    }

    #[test]
    fn expressions_are_judged_by_their_meaning() {
        allowed("MIT", true);
        allowed("MIT/Apache-2.0", true);
        allowed("GPL-3.0 OR MIT", true);
        allowed("GPL-3.0", false);
        allowed("MIT AND GPL-3.0", false);
        allowed("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        allowed("(MIT OR Apache-2.0) AND NCSA", false);
        allowed("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true);
        allowed("MIT OR GPL-3.0 AND ISC", true);
        allowed("(MIT", false);
        allowed("MIT)", false);
        allowed("", false);
    }

    #[test]
    fn a_package_without_a_good_licence_is_found() {
        let mut tree = Tree::default();
        for (name, license) in [("a", Some("MIT")), ("b", Some("AGPL-3.0")), ("c", None)] {
            let package = Package {
                name: name.to_owned(),
                license: license.map(str::to_owned),
                ..Package::default()
            };
            tree.graph.packages.insert(name.to_owned(), package);
        }
        let places: Vec<_> = check(&tree).into_iter().map(|one| one.place).collect();
        assert_eq!(places, ["b ", "c "]);
    }
}

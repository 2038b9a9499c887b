//! The program in the README is the first example of the crate `idem`, which a doc test runs.

use super::{Finding, tree::Tree};

pub(super) const RULE: &str = "readme-program";

const README: &str = "README.md";
const LIBRARY: &str = "crates/idem/src/lib.rs";

/// Compares the two programs. Lines that the documentation hides (`# `) are not in the README.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let text = |path| tree.file(path).and_then(|file| file.text.as_deref());
    let (Some(readme), Some(library)) = (text(README), text(LIBRARY)) else {
        return Vec::new();
    };
    let documentation: Vec<&str> = library
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let written = program(readme.lines());
    let tested = program(documentation.into_iter());
    let message = match (written, tested) {
        (written, tested) if written == tested => return Vec::new(),
        (_, None) => format!("{LIBRARY} has no example that could stand here"),
        (None, Some(_)) => "has no Rust program".to_owned(),
        (Some(_), Some(_)) => format!("its program is not the first example of {LIBRARY}"),
    };
    vec![Finding {
        rule: RULE,
        place: README.to_owned(),
        message,
    }]
}

/// The visible lines of the first Rust code block.
fn program<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    let mut lines = lines.skip_while(|line| !opens_rust(line));
    lines.next()?;
    let block = lines.take_while(|line| line.trim_end() != "```");
    let visible = block.filter(|line| *line != "#" && !line.starts_with("# "));
    Some(visible.map(str::trim_end).collect())
}

/// In documentation a block without a language is Rust too; in a README it is not.
fn opens_rust(line: &str) -> bool {
    let language = line.strip_prefix("```");
    language.is_some_and(|language| {
        language == "rust" || language.starts_with("rust,") || language.starts_with("no_run")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::sample;

    fn found(readme: &str, library: &str) -> Vec<String> {
        let tree = sample(&[(README, readme), (LIBRARY, library)]);
        check(&tree).into_iter().map(|one| one.message).collect()
    }

    #[test]
    fn equal_programs_pass_and_hidden_lines_do_not_count() {
        let readme = "# Idem\n\n```rust\nlet a = 1;\n\nuse_it(a);\n```\n";
        let library = "//! Idem.\n//!\n//! ```rust\n//! # fn main() {\n//! let a = 1;\n//!\n//! \
                       use_it(a);\n//! # }\n//! ```\n";
        assert!(found(readme, library).is_empty());
    }

    #[test]
    fn differing_and_missing_programs_are_found() {
        let readme = "```rust\nlet a = 1;\n```\n";
        let library = "//! ```rust\n//! let a = 2;\n//! ```\n";
        assert!(found(readme, library)[0].contains("not the first example"));
        assert!(found("# Idem", library)[0].contains("no Rust program"));
        assert!(found(readme, "//! Idem.")[0].contains("no example"));
        assert!(found("# Idem", "//! Idem.").is_empty());
    }
}

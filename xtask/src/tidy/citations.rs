//! What the code says is described elsewhere is described there.

use super::{Finding, tree::Tree};

pub(super) const RULE: &str = "citation";

/// The gate's own tests name documents that are not there.
const EXEMPT: &str = "xtask/";

/// Every `docs/FILE.md` that a Rust file names exists, and so does the section named behind it on the
/// same line: `docs/format/disk.md, "Keys"`.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .rust_files()
        .filter(|(path, _)| !path.starts_with(EXEMPT))
    {
        for (number, line) in text.lines().enumerate() {
            let line = line.replace('\\', "");
            let Some((document, sections)) = cited(&line) else {
                continue;
            };
            let mut find = |message| {
                findings.push(Finding {
                    rule: RULE,
                    place: format!("{path}:{}", number + 1),
                    message,
                });
            };
            match tree.file(document).and_then(|file| file.text.as_deref()) {
                None => find(format!("{document} is not there")),
                Some(content) => sections
                    .iter()
                    .filter(|section| !has_heading(content, section))
                    .for_each(|section| find(format!("{document} has no section \"{section}\""))),
            }
        }
    }
    findings
}

/// The document that a line names, and the sections in quotes right behind it.
fn cited(line: &str) -> Option<(&str, Vec<&str>)> {
    let start = line.find("docs/")?;
    let is_inside_path = line[..start].ends_with(['/', '.', '_', '-']);
    let end = start + line[start..].find(".md")? + ".md".len();
    let document = &line[start..end];
    let is_path = !document.contains(|c: char| c.is_whitespace() || "{}*<>".contains(c));
    if is_inside_path || !is_path {
        return None;
    }
    let mut sections = Vec::new();
    let mut rest = line[end..].trim_start_matches('`');
    while let Some(after) = [", section \"", ", \"", " and \""]
        .iter()
        .find_map(|joint| rest.strip_prefix(joint))
    {
        let Some((section, behind)) = after.split_once('"') else {
            break;
        };
        sections.push(section);
        rest = behind;
    }
    Some((document, sections))
}

fn has_heading(content: &str, section: &str) -> bool {
    content
        .lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| line.trim_start_matches('#').trim() == section)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::sample;

    #[track_caller]
    fn finds(line: &str, count: usize) {
        let line = format!("//! {line}\n");
        let tree = sample(&[
            ("core/a/src/a.rs", &line),
            ("docs/format/disk.md", "# Bytes\n\n## Keys\n\n## Log\n"),
        ]);
        let findings = check(&tree);
        assert_eq!(findings.len(), count, "{findings:?}");
    }

    #[test]
    fn what_is_there_may_be_cited() {
        finds("see docs/format/disk.md", 0);
        finds("(docs/format/disk.md, \"Keys\" and \"Log\")", 0);
        finds("`docs/format/disk.md`, section \"Keys\", says", 0);
        finds("an array \\\"docs/format/disk.md\\\"", 0);
    }

    #[test]
    fn a_missing_document_or_section_is_found() {
        finds("see docs/format/wire.md", 1);
        finds("(docs/format/disk.md, \"Keys\" and \"Tables\")", 1);
        finds("(docs/format/disk.md, \"Values\")", 1);
    }
}

//! The files of the workspace, read once for all rules.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::metadata::Graph;

/// What the rules look at.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Every file that is, or could be, checked in.
    pub(super) files: Vec<File>,
    /// Our crates and their dependencies.
    pub(super) graph: Graph,
}

/// One file.
#[derive(Debug)]
pub(super) struct File {
    /// Path from the workspace's folder, with `/` everywhere.
    pub(super) path: String,
    /// Size.
    pub(super) bytes: u64,
    /// Content, if it is UTF-8.
    pub(super) text: Option<String>,
}

impl Tree {
    pub(super) fn load(root: &Path, graph: Graph) -> io::Result<Self> {
        let mut paths = match listed_by_git(root) {
            Some(paths) => paths,
            None => walked(root, root)?,
        };
        paths.sort();
        let files = paths
            .into_iter()
            .filter(|path| root.join(path).is_file())
            .map(|path| read(root, path))
            .collect::<io::Result<_>>()?;
        Ok(Self { files, graph })
    }

    /// The file at this path.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust files with their text.
    pub(super) fn rust_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension(&["rs"])
    }

    /// All files with one of these extensions, with their text.
    pub(super) fn with_extension<'a>(
        &'a self,
        extensions: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files.iter().filter_map(move |file| {
            let extension = file.path.rsplit_once('.')?.1;
            let text = file.text.as_deref()?;
            extensions
                .contains(&extension)
                .then_some((file.path.as_str(), text))
        })
    }
}

/// Tracked files, and untracked ones that nobody ignores; `None` outside a git work tree.
fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths = text.split_terminator('\0').map(str::to_owned).collect();
    output.status.success().then_some(paths)
}

/// Every file below `folder` but build output and hidden state: for a source archive without git.
fn walked(root: &Path, folder: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with(".git") {
                paths.extend(walked(root, &path)?);
            }
        } else {
            let inside = path.strip_prefix(root).expect("found below the root");
            paths.push(inside.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(paths)
}

fn read(root: &Path, path: String) -> io::Result<File> {
    let content = std::fs::read(root.join(&path))?;
    Ok(File {
        path,
        bytes: content.len() as u64,
        text: String::from_utf8(content).ok(),
    })
}

/// A tree of these files and no crates, for the tests of the rules.
#[cfg(test)]
pub(super) fn sample(files: &[(&str, &str)]) -> Tree {
    let file = |(path, text): &(&str, &str)| File {
        path: (*path).to_owned(),
        bytes: text.len() as u64,
        text: Some((*text).to_owned()),
    };
    Tree {
        files: files.iter().map(file).collect(),
        graph: Graph::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_and_the_walk_find_this_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let wanted = "xtask/src/tidy/tree.rs".to_owned();
        assert!(walked(root, root).unwrap().contains(&wanted));
        if let Some(paths) = listed_by_git(root) {
            assert!(paths.contains(&wanted));
        }
    }
}

//! What `cargo metadata` knows about our crates and their dependencies.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

/// The packages of the dependency graph.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// Every package, by its id.
    pub(crate) packages: BTreeMap<String, Package>,
}

/// One package.
#[derive(Debug, Default, Clone)]
pub(crate) struct Package {
    /// Name in the manifest.
    pub(crate) name: String,
    /// Version, for messages.
    pub(crate) version: String,
    /// SPDX expression of the manifest, if it has one.
    pub(crate) license: Option<String>,
    /// Folder of the manifest, relative to the workspace; empty for foreign packages.
    pub(crate) folder: String,
    /// Whether it belongs to this workspace.
    pub(crate) is_ours: bool,
    /// Names of its features.
    pub(crate) features: BTreeSet<String>,
    /// Whom it depends on.
    pub(crate) edges: Vec<Edge>,
    /// Names of what ships with it when it is built alone, where that was asked.
    pub(crate) alone: Option<BTreeSet<String>>,
}

/// One dependency.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    /// Id of the package depended on.
    pub(crate) to: String,
    /// Whether the code that ships needs it, not only tests or the build.
    pub(crate) is_normal: bool,
}

impl Graph {
    /// Asks cargo. The error is a sentence for the user.
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        // What only a feature brings is built and passed on by somebody too.
        let words = [
            "metadata",
            "--format-version=1",
            "--locked",
            "--all-features",
        ];
        let output = crate::step::cargo(root, &words)
            .output()
            .map_err(|error| format!("cargo metadata cannot be started: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        let value: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata printed no JSON: {error}"))?;
        let mut graph = Self::from_json(&value, root);
        for package in graph.packages.values_mut() {
            if package.is_ours && package.folder.starts_with("core/") {
                package.alone = Some(alone(root, &package.name)?);
            }
        }
        Ok(graph)
    }

    fn from_json(value: &Value, root: &Path) -> Self {
        let ours: BTreeSet<String> = strings(&value["workspace_members"]).collect();
        let mut packages = BTreeMap::new();
        for package in list(&value["packages"]) {
            let id = text(&package["id"]);
            let is_ours = ours.contains(&id);
            let read = Package {
                name: text(&package["name"]),
                version: text(&package["version"]),
                license: package["license"].as_str().map(str::to_owned),
                folder: folder(&text(&package["manifest_path"]), root),
                is_ours,
                features: package["features"]
                    .as_object()
                    .map(|features| features.keys().cloned().collect())
                    .unwrap_or_default(),
                edges: Vec::new(),
                alone: None,
            };
            packages.insert(id, read);
        }
        for node in list(&value["resolve"]["nodes"]) {
            let edges = list(&node["deps"])
                .map(|dependency| Edge {
                    to: text(&dependency["pkg"]),
                    is_normal: list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null()),
                })
                .collect();
            if let Some(package) = packages.get_mut(&text(&node["id"])) {
                package.edges = edges;
            }
        }
        Self { packages }
    }

    /// Our own packages, in the order of their folders.
    pub(crate) fn ours(&self) -> Vec<&Package> {
        let mut found: Vec<_> = self.packages.values().filter(|one| one.is_ours).collect();
        found.sort_by(|a, b| a.folder.cmp(&b.folder));
        found
    }

    /// Every package that the shipped code of `start` reaches, by name.
    pub(crate) fn shipped_with(&self, start: &Package) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&Package> = vec![start];
        while let Some(package) = waiting.pop() {
            for edge in package.edges.iter().filter(|edge| edge.is_normal) {
                let Some(next) = self.packages.get(&edge.to) else {
                    continue;
                };
                if seen.insert(&edge.to) {
                    names.insert(next.name.as_str());
                    waiting.push(next);
                }
            }
        }
        if let Some(alone) = &start.alone {
            names.retain(|name| alone.contains(*name));
        }
        names
    }
}

/// What ships with a package that is built alone. The graph of the workspace has all features that any package, or any
/// test, turns on of what it shares with others: it holds too much.
fn alone(root: &Path, name: &str) -> Result<BTreeSet<String>, String> {
    let output = crate::step::cargo(
        root,
        &[
            "tree",
            "--locked",
            "--package",
            name,
            "--edges=normal",
            "--target=all",
            "--prefix=none",
            "--format={p}",
        ],
    )
    .output()
    .map_err(|error| format!("cargo tree cannot be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo tree of {name} failed: {said}"));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    Ok(names.map(str::to_owned).collect())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = String> {
    list(value).map(text)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn folder(manifest_path: &str, root: &Path) -> String {
    let inside = Path::new(manifest_path).strip_prefix(root).ok();
    let parent = inside.and_then(Path::parent).unwrap_or(Path::new(""));
    parent.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_code_is_followed_through_others_but_not_through_tests() {
        let graph = Graph::from_json(
            &serde_json::json!({
                "workspace_members": ["a"],
                "packages": [
                    {"id": "a", "name": "a", "manifest_path": "/w/core/a/Cargo.toml"},
                    {"id": "b", "name": "b", "manifest_path": "/r/b/Cargo.toml"},
                    {"id": "c", "name": "c", "manifest_path": "/r/c/Cargo.toml"},
                    {"id": "d", "name": "d", "manifest_path": "/r/d/Cargo.toml"},
                ],
                "resolve": {"nodes": [
                    {"id": "a", "deps": [
                        {"pkg": "b", "dep_kinds": [{"kind": null}]},
                        {"pkg": "d", "dep_kinds": [{"kind": "dev"}]},
                    ]},
                    {"id": "b", "deps": [{"pkg": "c", "dep_kinds": [{"kind": null}]}]},
                ]},
            }),
            Path::new("/w"),
        );
        let ours = graph.ours();
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0].folder, "core/a");
        let names: Vec<_> = graph.shipped_with(ours[0]).into_iter().collect();
        assert_eq!(names, ["b", "c"]);
        // c is there for a feature of b that another package turns on.
        let mut alone = ours[0].clone();
        alone.alone = Some(["a", "b"].map(str::to_owned).into());
        let names: Vec<_> = graph.shipped_with(&alone).into_iter().collect();
        assert_eq!(names, ["b"]);
    }
}

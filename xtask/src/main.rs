//! The gate. `cargo xtask ci` runs everything that must hold before a change lands.
//!
//! | command | does |
//! |---|---|
//! | `cargo xtask ci` | the whole gate, step by step, and a summary |
//! | `cargo xtask tidy` | only the rules of the house that no compiler lint can hold |
//! | `cargo xtask STEP..` | only the named steps of the gate |
//!
//! It needs nothing but the toolchain. What a machine lacks is skipped and said so, loudly; with
//! `CI=true` a lacking tool is a failure.

mod gate;
mod metadata;
mod step;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let root = workspace_root();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match names.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            println!("{}", gate::usage());
            ExitCode::SUCCESS
        }
        ["ci"] => gate::run(&root, &gate::all_names()),
        named => {
            if let Some(unknown) = named.iter().find(|name| !gate::all_names().contains(name)) {
                eprintln!("xtask: no step is called {unknown}\n\n{}", gate::usage());
                return ExitCode::from(2);
            }
            gate::run(&root, named)
        }
    }
}

/// The folder of the workspace, wherever the command was given.
///
/// cargo says it when it runs us. What it said when it built us may be another checkout that shares
/// the target folder.
fn workspace_root() -> PathBuf {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR");
    let manifest_dir = manifest_dir.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(manifest_dir)
        .parent()
        .expect("xtask lies in the workspace's folder")
        .to_path_buf()
}

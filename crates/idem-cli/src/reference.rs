//! The reference of the command line as text, from the same declaration that parses it.

use std::fmt::Write as _;

use clap::CommandFactory;

use crate::args::Cli;

/// Width of the help in the reference, whatever the terminal.
const WIDTH_CHARS: usize = 100;

/// The help of the command and of each of its commands, as Markdown.
///
/// `docs/cli.md` holds this text, and a test compares the two.
pub fn command_reference() -> String {
    let command = Cli::command()
        .term_width(WIDTH_CHARS)
        .mut_args(|arg| arg.hide_env_values(true));
    let names: Vec<_> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let mut out = String::new();
    section(&mut out, "idem", command.clone());
    for name in names {
        let sub = command
            .find_subcommand(&name)
            .expect("its name was listed")
            .clone()
            .term_width(WIDTH_CHARS)
            .mut_args(|arg| arg.hide_env_values(true));
        section(
            &mut out,
            &format!("idem {name}"),
            sub.bin_name(format!("idem {name}")),
        );
    }
    out
}

fn section(out: &mut String, title: &str, mut command: clap::Command) {
    let help = command.render_long_help().to_string();
    write!(out, "### {title}\n\n```text\n").expect("writing to a string does not fail");
    for line in help.lines() {
        writeln!(out, "{}", line.trim_end()).expect("writing to a string does not fail");
    }
    out.push_str("```\n\n");
}

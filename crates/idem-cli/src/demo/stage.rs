//! How the demo tells its story: on stderr, with colour and bars only on a terminal.

use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};

/// Width of tables where no terminal has one.
const TABLE_CHARS: u16 = 160;

/// The story and what of it did not hold.
pub(super) struct Stage {
    quiet: bool,
    colour: bool,
    acts: Mutex<u32>,
    broken: Mutex<Vec<String>>,
}

impl Stage {
    pub(super) fn new(quiet: bool) -> Self {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            quiet,
            colour,
            acts: Mutex::new(0),
            broken: Mutex::default(),
        }
    }

    /// The heading of the next part.
    pub(super) fn act(&self, title: &str) {
        let mut acts = self.acts.lock().expect("no holder of the lock panics");
        *acts += 1;
        self.write(&format!(
            "\n{}",
            self.styled("1", &format!("{acts}. {title}"))
        ));
    }

    /// A line of the story.
    pub(super) fn say(&self, text: &str) {
        self.write(&format!("   {text}"));
    }

    /// Says whether a claim holds, and remembers if not.
    pub(super) fn check(&self, holds: bool, claim: &str) {
        if holds {
            self.write(&format!("   {} {claim}", self.styled("32", "ok")));
        } else {
            self.write(&format!(
                "   {} {claim}",
                self.styled("31;1", "DOES NOT HOLD:")
            ));
            let mut broken = self.broken.lock().expect("no holder of the lock panics");
            broken.push(claim.to_owned());
        }
    }

    /// A table inside the story.
    pub(super) fn table(&self, mut table: Table) {
        table.use_stderr();
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if !io::stderr().is_terminal() {
            table.set_width(TABLE_CHARS);
        }
        self.write(&table.to_string());
    }

    /// A bar from 0 to `count`; nothing without a terminal.
    pub(super) fn bar(&self, what: &'static str, count: u64) -> ProgressBar {
        if self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("   {msg:<18} {bar:40} {pos:>6}/{len}  {per_sec}")
            .expect("a valid template");
        ProgressBar::new(count).with_style(style).with_message(what)
    }

    /// The claims that did not hold.
    pub(super) fn broken(&self) -> Vec<String> {
        self.broken
            .lock()
            .expect("no holder of the lock panics")
            .clone()
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn write(&self, text: &str) {
        if !self.quiet {
            // The story is for whoever watches; nobody watching is no failure.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

//! The prompt: editing, history, completion, several lines until a semicolon.

use std::{borrow::Cow, fs, path::PathBuf};

use reedline::{
    ColumnarMenu, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    ValidationResult, Validator, default_emacs_keybindings,
};

use super::{Shell, complete::Words, dot};
use crate::{
    args::StoreArgs,
    exit::{CliError, ExitStatus},
    signals::StopRequests,
    statements::{is_blank, split},
};

/// Lines of history that are kept.
const HISTORY_LINES_MAX: usize = 10_000;
const MENU: &str = "words";

/// Reads and runs until the user leaves. A failed statement is printed and the prompt goes on.
pub(super) fn run(shell: &mut Shell, store: &StoreArgs) -> Result<(), CliError> {
    let stop = StopRequests::listen()
        .map_err(|source| CliError::failed("cannot listen for signals").because(source))?;
    let mut editor = editor(shell);
    let prompt = Label::new(store);
    shell.talk.note(&format!(
        "idem {}. Statements end with ; and .help lists the rest.",
        idem::Idem::version()
    ));
    loop {
        let line = editor
            .read_line(&prompt)
            .map_err(|source| CliError::failed("cannot read from the terminal").because(source))?;
        match line {
            Signal::Success(text) if handle(shell, &text, &stop) => return Ok(()),
            Signal::CtrlD => return Ok(()),
            // Ctrl-C drops what was typed.
            _ => {}
        }
    }
}

/// Runs what was entered; true if the shell ends.
fn handle(shell: &mut Shell, text: &str, stop: &StopRequests) -> bool {
    let trimmed = text.trim();
    if trimmed.starts_with('.') {
        return match dot::run(shell, trimmed) {
            Ok(ends) => ends,
            Err(error) => {
                report(&error);
                false
            }
        };
    }
    let (complete, rest) = split(text);
    let rest = Some(rest.trim()).filter(|rest| !is_blank(rest));
    for statement in complete.into_iter().chain(rest) {
        if let Err(error) = shell.execute_interruptible(statement, stop) {
            report(&error);
            return error.status() == ExitStatus::Locked;
        }
    }
    false
}

fn report(error: &CliError) {
    // Even with --quiet: an error is the answer to what was typed.
    eprintln!("{}", error.render());
}

fn editor(shell: &Shell) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![
            ReedlineEvent::Menu(MENU.to_owned()),
            ReedlineEvent::MenuNext,
        ]),
    );
    let menu = ColumnarMenu::default().with_name(MENU);
    let editor = Reedline::create()
        .with_validator(Box::new(UntilSemicolon))
        .with_completer(Box::new(Words::new(shell.idem.clone())))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        // A line that starts with a space is not kept, as in other shells.
        .with_history_exclusion_prefix(Some(" ".to_owned()));
    match history() {
        Some(history) => editor.with_history(Box::new(history)),
        None => editor,
    }
}

/// The history of all prompts of this user, readable by nobody else; none if it cannot be kept.
fn history() -> Option<FileBackedHistory> {
    let directory = state_directory()?;
    fs::create_dir_all(&directory).ok()?;
    let path = directory.join("shell_history");
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .ok()?;
    restrict(&file)?;
    FileBackedHistory::with_file(HISTORY_LINES_MAX, path).ok()
}

#[cfg(unix)]
fn restrict(file: &fs::File) -> Option<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o600)).ok()
}

#[cfg(not(unix))]
fn restrict(_file: &fs::File) -> Option<()> {
    Some(())
}

fn state_directory() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("idem"))
}

/// Enter goes on with the statement until a semicolon ends it.
struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, text: &str) -> ValidationResult {
        let trimmed = text.trim();
        if trimmed.starts_with('.') || is_blank(split(text).1) {
            ValidationResult::Complete
        } else {
            ValidationResult::Incomplete
        }
    }
}

/// The text in front of the cursor: the name of the store.
struct Label {
    name: String,
}

impl Label {
    fn new(store: &StoreArgs) -> Self {
        let name = store.store.file_name().map(|name| name.to_string_lossy());
        let name = if store.memory {
            "memory".to_owned()
        } else {
            name.map_or_else(|| "idem".to_owned(), Cow::into_owned)
        };
        Self { name }
    }
}

impl Prompt for Label {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("... ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(history: {}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_waits_for_the_semicolon() {
        let complete = |text| matches!(UntilSemicolon.validate(text), ValidationResult::Complete);
        assert!(complete("SELECT 1;"));
        assert!(complete(".help"));
        assert!(complete(""));
        assert!(!complete("SELECT ';'"));
        assert!(!complete("SELECT 1; SELECT"));
        assert!(complete("SELECT 1; -- done"));
    }
}

//! `idem peer --tui`: what the peer is linked with, the mesh and what happens, in the terminal.
//!
//! Once a second a [`Snapshot`] is taken, and the screen is a pure function of that and of what the user
//! pressed ([`view`]). The terminal is as it was before when this ends, by a panic too.

mod mesh;
mod snapshot;
mod view;

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use idem::Idem;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

pub(crate) use snapshot::Journal;

use self::{
    snapshot::Observer,
    view::{View, draw},
};
use crate::{
    exit::{CliError, ExitStatus},
    signals::StopRequests,
};

/// How often the figures are taken.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a key or a signal to stop may wait.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Refuses to begin where there is nothing to draw on.
pub(crate) fn check_terminal() -> Result<(), CliError> {
    if io::stdout().is_terminal() {
        return Ok(());
    }
    let error = CliError::new(ExitStatus::Environment, "--tui needs a terminal on stdout");
    Err(error.hint("leave --tui out for events as JSON lines"))
}

/// Shows the peer until the user quits or `stop` is asked for.
pub(crate) fn run(
    idem: &Idem,
    journal: &Arc<Mutex<Journal>>,
    stop: &StopRequests,
) -> Result<(), CliError> {
    let failed = |source| CliError::failed("cannot draw on the terminal").because(source);
    // It also has a panic restore the terminal before it is reported.
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _restore = Restore;
    let mut observer = Observer::new(idem);
    let mut view = View::default();
    let mut looked_at: Option<Instant> = None;
    while !stop.wait(Duration::ZERO) {
        if looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL) {
            looked_at = Some(Instant::now());
            observer.look(idem)?;
        }
        let journal = journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let snapshot = observer.snapshot(journal);
        let drawn = terminal.draw(|frame| draw(&snapshot, &view, frame.area(), frame.buffer_mut()));
        drawn.map_err(failed)?;
        if event::poll(KEY_WAIT).map_err(failed)?
            && let Event::Key(key) = event::read().map_err(failed)?
            && key.kind != KeyEventKind::Release
            && !press(&mut view, key)
        {
            break;
        }
    }
    Ok(())
}

/// Does what a key says. Gives false if that is to quit.
fn press(view: &mut View, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Esc if view.is_help => view.is_help = false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('h' | '?') => view.is_help = !view.is_help,
        KeyCode::Char('s') => view.sort = view.sort.next(),
        KeyCode::Down | KeyCode::Char('j') => view.first = view.first.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => view.first = view.first.saturating_sub(1),
        _ => {}
    }
    true
}

/// Leaves the terminal as it was.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::view::Sort;

    #[test]
    fn keys_do_what_the_last_line_says() {
        let mut view = View::default();
        let mut type_in = |code| press(&mut view, KeyEvent::new(code, KeyModifiers::NONE));
        assert!(type_in(KeyCode::Char('s')) && type_in(KeyCode::Down) && type_in(KeyCode::Down));
        assert!(type_in(KeyCode::Up) && type_in(KeyCode::Char('h')));
        assert!(type_in(KeyCode::Esc), "the first one ends the help");
        assert!(!type_in(KeyCode::Esc) && !type_in(KeyCode::Char('q')));
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!press(&mut view, ctrl_c));
        assert!(view.sort == Sort::Peer.next() && view.first == 1 && !view.is_help);
    }
}

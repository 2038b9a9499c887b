//! `idem demo`: two peers in two processes sync, disagree offline, agree again, and survive a kill.
//!
//! Everything that is shown is real: the peers are processes of this program on stores on disk, the
//! wire between them is TCP, and every claim is checked. The driver uses nothing but JSON lines.

mod driven;
mod figures;
mod offline;
mod stage;
mod story;
mod wire;

use std::{io, path::PathBuf, thread, time::Duration};

use crate::{
    args::DemoArgs, exit::CliError, output::plain_table, program::Talk, query::stdout_error,
    signals::StopRequests,
};

use figures::Figures;
use stage::Stage;

/// How often the clean-up looks whether it is asked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) fn run(args: &DemoArgs, talk: Talk) -> Result<(), CliError> {
    let directory = tempfile::Builder::new()
        .prefix("idem-demo-")
        .tempdir()
        .map_err(|source| CliError::failed("cannot make a temporary directory").because(source))?;
    if !args.keep {
        clean_up_when_stopped(directory.path().to_owned());
    }
    let stage = Stage::new(talk.quiet);
    let told = story::tell(directory.path(), &stage);
    if args.keep {
        let kept = directory.keep();
        talk.note(&format!("\nthe stores are in {}", kept.display()));
    }
    let figures = told?;
    print(&figures, args.json).map_err(stdout_error)?;
    let broken = stage.broken();
    if broken.is_empty() {
        Ok(())
    } else {
        Err(CliError::failed(format!(
            "did not hold: {}",
            broken.join("; ")
        )))
    }
}

fn print(figures: &Figures, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, figures)?;
        return io::Write::write_all(&mut out, b"\n");
    }
    let mut table = plain_table();
    table.add_rows(figures.rows());
    io::Write::write_fmt(&mut out, format_args!("\n{table}\n"))
}

/// Removes the stores if the user stops the demo. The peers end by themselves with their stdin.
fn clean_up_when_stopped(directory: PathBuf) {
    let Ok(stop) = StopRequests::listen() else {
        return;
    };
    let waiting = thread::Builder::new()
        .name("demo-clean-up".to_owned())
        .spawn(move || {
            while !stop.wait(LOOK_INTERVAL) {}
            // A peer may still write; what it leaves is the temporary directory's to lose.
            let _ = std::fs::remove_dir_all(&directory);
            std::process::exit(1);
        });
    // Without the thread a stopped demo leaves its directory behind, and nothing worse.
    drop(waiting);
}

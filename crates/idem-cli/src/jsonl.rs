//! `idem shell --jsonl`: a peer that any language can drive over stdin and stdout.
//!
//! One JSON request a line in, one JSON answer a line out, in the same order; `docs/cli.md` lists the
//! requests. Requests run one after the other. Observed results come between the answers, each as one
//! line with `event`. The end of stdin ends the peer: an open transaction is rolled back, observers
//! get what is still due to them, and the store is closed.

mod answer;
mod observing;
mod request;
mod session;
mod spelling;

use std::io::{self, BufRead, Read};

use crate::{args::ShellArgs, exit::CliError, opening::open};

use answer::{Answers, Failure};
use session::Session;

/// Bytes of one request. An INSERT of ten thousand documents of 1 KiB fits six times over; the store
/// takes at most 256 MiB in one transaction.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Runs the command until stdin ends or stdout is closed.
pub(crate) fn run(args: &ShellArgs) -> Result<(), CliError> {
    let idem = open(&args.store, &args.database, args.durability)?;
    let answers = Answers::stdout();
    let mut session = Session::new(idem, answers.clone());
    let served = serve(&mut io::stdin().lock(), &mut session, &answers);
    let closed = session.close();
    served.map_err(|source| CliError::failed("cannot read the requests").because(source))?;
    closed
}

fn serve(input: &mut dyn BufRead, session: &mut Session, answers: &Answers) -> io::Result<()> {
    let mut line = Vec::new();
    while !answers.are_unread() {
        line.clear();
        let count = input
            .take(REQUEST_BYTES_MAX + 1)
            .read_until(b'\n', &mut line)?;
        if count == 0 {
            break;
        }
        if !line.ends_with(b"\n") && line.len() as u64 > REQUEST_BYTES_MAX {
            skip_line(input)?;
            answers.fail(None, &Failure::request_too_long(REQUEST_BYTES_MAX));
            continue;
        }
        let request = line.trim_ascii();
        if !request.is_empty() {
            session.handle(request);
        }
    }
    Ok(())
}

fn skip_line(input: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let newline = chunk.iter().position(|&byte| byte == b'\n');
        let count = newline.map_or(chunk.len(), |at| at + 1);
        input.consume(count);
        if newline.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;

//! `idem demo`.
use crate::{args::DemoArgs, exit::CliError, program::Talk};

pub(crate) fn run(_args: &DemoArgs, _talk: Talk) -> Result<(), CliError> {
    Err(CliError::failed("not yet"))
}

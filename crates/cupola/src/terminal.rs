//! Output to standard output and standard error, for commands and for a process that outlives its terminal.

use anyhow::{Context as _, Result};
use std::io::{ErrorKind, Write as _};

/// The error of an output that its reader has closed (`| head`).
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(crate) struct OutputClosed;

/// Writes a command's result. It is an error if the result cannot be written.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        written => written.context("write to standard output"),
    }
}

/// Writes a line for a person who may be absent: a closed terminal is no error.
pub(crate) fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes such a line to standard error.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Starts logging to standard error at this level. `CUPOLA_LOG` overrides it (`debug`, `router=debug,info`).
pub(crate) fn start_logging(level: &str) {
    kit::logging::init("CUPOLA_LOG", level);
}

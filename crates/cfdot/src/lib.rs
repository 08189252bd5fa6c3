//! cfdot: the operator's view of Diego. Each command makes one call of the BBS (locket for `locks` and `presences`, the
//! rep for `cell-state`) and prints JSON, one object a line, with the original's field names and order ([`json`]).
//!
//! Called as `cupola cfdot …`. It changes nothing but by the commands that say so.

mod args;
mod commands;
pub mod json;

use kit::tls::Identity;
use std::io::Write;
use std::process::ExitCode;

/// Where to ask and as whom, when neither flags nor the environment say so.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `https://127.0.0.1:8889`
    pub bbs_url: Option<String>,
    /// `https://127.0.0.1:8891`
    pub locket_url: Option<String>,
    pub identity: Option<Identity>,
}

/// Runs one command (`args`: what follows `cfdot`) and prints to stdout and stderr.
///
/// Exit codes: 0, 3 for a mistake in the command line, 4 for an error that the BBS, locket or a rep answered, 5 for others.
pub async fn run(args: Vec<String>, options: Options) -> ExitCode {
    ExitCode::from(
        run_to(
            args,
            options,
            &mut std::io::stdout(),
            &mut std::io::stderr(),
        )
        .await,
    )
}

/// The same with given streams and the exit code as a number.
pub async fn run_to(
    args: Vec<String>,
    options: Options,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> u8 {
    let command = match args::parse(args) {
        Ok(command) => command,
        Err(args::Stop::Help(text)) => {
            let _ = write!(out, "{text}");
            return 0;
        }
        Err(args::Stop::Mistake(text)) => {
            let _ = writeln!(err, "{text}");
            return 3;
        }
    };
    match commands::run(command, options, out).await {
        Ok(()) => 0,
        Err(failure) => {
            let _ = writeln!(err, "{failure}");
            failure.exit_code()
        }
    }
}

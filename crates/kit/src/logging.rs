//! Logs a process's events through `tracing`, as text to stderr.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. Call it once, at the start of a process. The environment variable of this name overrides the default
/// level; its value is a level, or a filter such as `some_crate=debug,info`.
pub fn init(variable: &str, default: &str) {
    let filter = EnvFilter::try_from_env(variable).unwrap_or_else(|_| EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours())
        .with_target(true)
        // Otherwise a line that cannot be written would be reported by another that cannot be written either, and that panics.
        .log_internal_errors(false)
        .try_init();
}

/// Returns whether standard error shows colours.
fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    std::io::stderr().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|terminal| terminal != "dumb")
}

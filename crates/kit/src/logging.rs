//! Logs a process's events through `tracing`. The level can change while the process runs.
//!
//! [`init`] is for components of a foundation: it writes text to stderr and takes the level from `CUPOLA_LOG` (`info` when unset;
//! `debug`, `router=debug` …). [`init_gorouter`] is for a router that replaces a gorouter: it writes gorouter's JSON lines to
//! stdout.

mod gorouter;
pub mod page;

pub use gorouter::Timestamp;

use anyhow::{Context as _, Result};
use std::io::IsTerminal as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// A handle that changes the level of a running process.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Sets the level: `debug`, `info`, `warn` or `error`, or a filter such as `router=debug,info`.
    pub fn set(&self, level: &str) -> Result<()> {
        let filter =
            EnvFilter::try_new(level).with_context(|| format!("{level:?} is not a log level"))?;
        self.0.reload(filter).context("change the log level")
    }
}

/// Starts logging to stderr. Call it once, at the start of a process.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_env("CUPOLA_LOG").unwrap_or_else(|_| EnvFilter::new(default));
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

/// Starts logging for a router that replaces a gorouter, whose log is parsed by the tools of its operators.
pub fn init_gorouter(level: &str, timestamp: Timestamp) -> Level {
    let filter = EnvFilter::try_from_env("CUPOLA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let (filter, handle) = reload::Layer::new(filter);
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(gorouter::Lines::new(timestamp))
        .try_init();
    Level(handle)
}

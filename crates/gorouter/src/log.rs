//! The component log, whose lines the tools of gorouter's operators parse. Its level can change while the process runs.

mod lines;
pub(crate) mod page;

pub use lines::TimestampFormat;

use anyhow::{Context as _, Result};
use lines::Lines;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// A handle that changes the level of a running process.
#[derive(Clone, Debug)]
pub(crate) struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Sets the level: `debug`, `info`, `warn` or `error`, or a filter such as `router=debug,info`.
    pub(crate) fn set(&self, level: &str) -> Result<()> {
        let filter =
            EnvFilter::try_new(level).with_context(|| format!("{level:?} is not a log level"))?;
        self.0.reload(filter).context("change the log level")
    }
}

/// Starts logging to stdout. Call it once, at the start of a process.
pub(crate) fn init(level: &str, timestamp: TimestampFormat) -> Level {
    let filter = EnvFilter::try_from_env("CUPOLA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let (filter, handle) = reload::Layer::new(filter);
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(Lines::new(timestamp))
        .try_init();
    Level(handle)
}

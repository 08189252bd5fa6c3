//! Logging of a process: `tracing` to stderr, level from `CUPOLA_LOG` (`info` when unset; `debug`, `router=debug` …).

use tracing_subscriber::EnvFilter;

/// Call once, at the start of a process.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_env("CUPOLA_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true)
        .try_init();
}

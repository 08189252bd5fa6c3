//! Threads with a single-threaded runtime each: those that serve, and the one of the message bus.

use anyhow::{Context as _, Result};
use std::time::Duration;
use tokio::sync::oneshot;

/// Starts one thread. The returned future is ready when the thread has ended, and yields its result.
pub(crate) fn spawn<F>(
    name: String,
    run: impl FnOnce() -> F + Send + 'static,
) -> Result<impl Future<Output = Result<()>> + Send + 'static>
where
    F: Future<Output = Result<()>>,
{
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let _ = done.send(block_on(run));
        })
        .with_context(|| format!("start the thread {name}"))?;
    Ok(async move {
        ended
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread {name} panicked")))
    })
}

fn block_on<F: Future<Output = Result<()>>>(run: impl FnOnce() -> F) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("build a thread's runtime")?;
    let result = runtime.block_on(async { run().await });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

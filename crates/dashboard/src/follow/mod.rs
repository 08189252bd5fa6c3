//! The tasks that follow the components. Each passes what it reads to the picture, and tries again for ever when its component is away.

mod bbs;
mod bus;
mod routers;

pub(crate) use bbs::bbs;
pub(crate) use bus::bus;
pub(crate) use routers::router;

use crate::live::Live;
use kit::CancellationToken;
use kit::readiness::Need;
use std::time::Duration;

/// The pause before a component that failed is followed again.
const PAUSE: Duration = Duration::from_secs(1);

/// Records why a component is not followed any more, and waits before it is tried again. It returns `false` at shutdown.
async fn wait_after(
    name: &str,
    error: &anyhow::Error,
    live: &Live,
    need: Option<&Need>,
    shutdown: &CancellationToken,
) -> bool {
    let reason = format!("{error:#}");
    tracing::debug!(component = name, error = reason, "not-followed");
    if let Some(need) = need {
        need.unmet(reason.clone());
    }
    live.source(name, Some(reason));
    tokio::select! {
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(PAUSE) => true,
    }
}

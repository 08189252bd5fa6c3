//! The periodic reading of counters, every few seconds: for their rates and for metron.

use super::envelopes::numbers::Numbers;
use super::metrics::TICK;
use crate::worker::Shared;
use anyhow::Result;
use kit::CancellationToken;
use std::sync::Arc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Reads the counters until `end`; then it sends the last numbers.
pub(crate) async fn pulse(shared: Arc<Shared>, end: CancellationToken) -> Result<()> {
    let envelopes = shared.envelopes.clone();
    let mut numbers = envelopes.filter(|e| e.wanted().metrics).map(Numbers::new);
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    // Rates assume that the ticks are this far apart.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let over = tokio::select! {
            () = end.cancelled() => true,
            _ = ticks.tick() => false,
        };
        if let Some(numbers) = &mut numbers {
            numbers.send(&shared);
        }
        if over {
            return Ok(());
        }
        shared.metrics.tick();
    }
}

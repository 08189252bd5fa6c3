//! Follows the table of one router by its pages: the whole table once, and then its changes.

use super::wait_after;
use crate::live::{Live, now};
use crate::pages::{Pages, is_missing};
use anyhow::Result;
use kit::CancellationToken;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use why::changes::Change;

/// The pause between two looks at the page: while a page follows the picture, and otherwise. The router writes the time of a change,
/// so the pause costs no precision.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// The pause between two looks at the whole table of an original gorouter, which has no page of changes.
const TABLE: Duration = Duration::from_secs(5);
/// The pause between two looks at the requests that failed.
const FAILURES: Duration = Duration::from_millis(500);

pub(crate) async fn router(pages: Pages, live: Live, shutdown: CancellationToken) {
    let name = format!("router {}", pages.name());
    loop {
        let error = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = follow(&pages, &name, &live) => match ended {
                Ok(never) => match never {},
                Err(error) => error,
            },
        };
        if !wait_after(&name, &error, &live, None, &shutdown).await {
            return;
        }
    }
}

/// Follows until a page cannot be read.
async fn follow(pages: &Pages, source: &str, live: &Live) -> Result<Infallible> {
    let mut known: Option<(String, u64)> = None;
    let (mut last_failure, mut looked) = (None, None::<Instant>);
    loop {
        if looked.is_none_or(|at| at.elapsed() > FAILURES) {
            looked = Some(Instant::now());
            failures(pages, live, &mut last_failure).await?;
        }
        let after = known.as_ref().map_or(0, |(_, last)| *last);
        let page = match pages.changes(after).await {
            Err(error) if is_missing(&error) => {
                let table = pages.table(None).await?;
                live.change(|picture| picture.table(pages.name(), "", "", &table));
                live.source(source, None);
                tokio::time::sleep(TABLE).await;
                continue;
            }
            page => page?,
        };
        let is_continued = known
            .as_ref()
            .is_some_and(|(id, _)| *id == page.router && page.missed == 0);
        if is_continued {
            live.change(|picture| {
                for change in &page.changes {
                    picture.change(pages.name(), change, time_of(change));
                }
            });
        } else {
            // Changes that the table already has are applied once more, which changes nothing.
            let table = pages.table(None).await?;
            let since = page.since.clone().unwrap_or_default();
            live.change(|picture| picture.table(pages.name(), &page.router, &since, &table));
            live.source(source, None);
        }
        known = Some((page.router, page.last));
        let pause = match live.watchers() {
            0 => PAUSES.1,
            _ => PAUSES.0,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Reads the requests that failed since the last look. The first look only learns where they end.
async fn failures(pages: &Pages, live: &Live, last: &mut Option<u64>) -> Result<()> {
    let Some(page) = pages.failures(last.unwrap_or(0)).await? else {
        return Ok(());
    };
    if last.is_some() {
        live.change(|picture| picture.failures(pages.name(), &page.failures, now()));
    }
    *last = Some(page.last);
    Ok(())
}

/// The greatest difference of two clocks with which the router's time is believed, in microseconds.
const SKEW: u64 = 60_000_000;

/// Returns the time of a change by the router's clock, or the present time if that is far from it.
fn time_of(change: &Change) -> u64 {
    let present = now();
    let time = OffsetDateTime::parse(&change.time, &Rfc3339).ok();
    let micros = time.and_then(|time| u64::try_from(time.unix_timestamp_nanos() / 1000).ok());
    let near = micros.filter(|micros| micros.abs_diff(present) < SKEW);
    near.unwrap_or(present)
}

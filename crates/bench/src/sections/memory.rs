//! router-memory: the memory of 100,000 routes of one endpoint each.

use super::{Saturation, progress};
use crate::messages;
use crate::peers::Cupola;
use crate::process::Memory;
use crate::rig::Rig;
use crate::table::{Table, verdict};
use anyhow::Result;
use std::time::Duration;

const ROUTES: usize = 100_000;
/// The time after which the allocator has returned what it held only briefly.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let empty = measure(rig, "empty", |_| None)?;
    let small = measure(rig, "one tag each", |n| {
        Some(messages::text(&messages::small(&messages::host(n), 61001)))
    })?;
    let full = measure(rig, "a Cloud Controller's twelve tags", |n| {
        Some(messages::text(&messages::full(n, 61001)))
    })?;
    let mut table = Table::new(&[
        "Table",
        "RSS MB",
        "anonymous MB",
        "PSS MB",
        "above empty (anonymous) MB",
        "bytes per route",
        "Must",
    ]);
    for (name, memory, limit) in [
        ("empty", empty, None),
        ("100,000 routes, one tag each", small, Some(60.0)),
        (
            "100,000 routes, a Cloud Controller's twelve tags",
            full,
            Some(100.0),
        ),
    ] {
        let above = (memory.anonymous - empty.anonymous).max(memory.pss - empty.pss);
        table.row(&[
            name.to_owned(),
            format!("{:.1}", memory.rss / 1e6),
            format!("{:.1}", memory.anonymous / 1e6),
            format!("{:.1}", memory.pss / 1e6),
            limit.map_or("–".into(), |_| format!("{:.1}", above / 1e6)),
            limit.map_or("–".into(), |_| format!("{:.0}", above / ROUTES as f64)),
            limit.map_or("–".into(), |limit: f64| {
                verdict(
                    above <= limit * 1e6,
                    &format!("{:.1} MB, ≤ {limit:.0} MB", above / 1e6),
                )
            }),
        ]);
    }
    Ok(format!(
        "{table}\n\nAbove empty: the greater of the differences in anonymous memory and in PSS."
    ))
}

/// Measures the memory of a fresh router with these messages.
fn measure(rig: &Rig, what: &str, message: impl Fn(usize) -> Option<Vec<u8>>) -> Result<Memory> {
    let router = Cupola::free().start(rig)?;
    let count = router.load((0..ROUTES).map_while(message))?;
    std::thread::sleep(SETTLE);
    let memory = router.process.memory()?;
    progress(&format!(
        "   {what}: {count} routes, {:.1} MB RSS",
        memory.rss / 1e6
    ));
    Ok(memory)
}

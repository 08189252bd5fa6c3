//! `cf logs`: recent lines or a tail.

use crate::api::logs::Line;
use crate::args::{Parsed, Spec, switch};
use crate::session::Session;
use anyhow::Result;
use std::time::Duration;

/// The interval at which a tail reads new lines. The next constant is the number of failures in a row that end it.
const PERIOD: Duration = Duration::from_millis(250);
const FAILURES: u32 = 5;

pub(super) const SPECS: &[Spec] = &[Spec {
    name: "logs",
    alias: "",
    group: "Logs and events",
    about: "Tail or show recent logs for an app",
    args: &["APP_NAME"],
    flags: &[switch(
        None,
        "recent",
        "Print the recent logs instead of tailing",
    )],
    examples: &["cf logs my-app", "cf logs my-app --recent"],
}];

pub(super) async fn logs(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    s.ui.flavor(
        "Retrieving logs for app {} in org {} / space {} as {}...",
        &[p.arg(0), &target.org.name, &target.space.name, &target.user],
    );
    s.ui.blank();
    let app = s.app(p.arg(0), &target).await?;
    if p.has("recent") {
        print(s, &s.recent_logs(&app.guid).await?);
        return Ok(());
    }
    let mut tail = s.tail(&app.guid).await?;
    let mut failures = 0;
    while !s.ui.is_broken() {
        match s.follow(&mut tail).await {
            Ok(lines) => {
                failures = 0;
                print(s, &lines);
            }
            Err(error) => {
                failures += 1;
                if failures >= FAILURES {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}

fn print(s: &Session, lines: &[Line]) {
    for line in lines {
        let text = line.render(true);
        s.ui.line(if line.is_error { s.ui.red(&text) } else { text });
    }
}

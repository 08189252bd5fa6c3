//! `cf events` shows the events of an app.

use crate::api::types::{Event, Page};
use crate::api::with_query;
use crate::args::{Parsed, Spec};
use crate::session::Session;
use crate::units;
use anyhow::Result;
use serde_json::Value;

pub(super) const SPECS: &[Spec] = &[Spec {
    name: "events",
    alias: "",
    group: "Logs and events",
    about: "Show recent app events",
    args: &["APP_NAME"],
    flags: &[],
    examples: &["cf events my-app"],
}];

/// The values that an event's description shows, in this order.
const KEYS: [&str; 15] = [
    "index",
    "reason",
    "cell_id",
    "instance",
    "exit_description",
    "exit_status",
    "recursive",
    "disk_quota",
    "disk_in_mb",
    "instances",
    "memory",
    "memory_in_mb",
    "name",
    "state",
    "command",
];

pub(super) async fn events(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    s.ui.flavor(
        "Getting events for app {} in org {} / space {} as {}...",
        &[p.arg(0), &target.org.name, &target.space.name, &target.user],
    );
    s.ui.blank();
    let app = s.app(p.arg(0), &target).await?;
    let url = with_query(
        "/v3/audit_events",
        &[
            ("target_guids", &app.guid),
            ("order_by", "-created_at"),
            ("page", "1"),
        ],
    );
    let page: Page<Event> = s.get(&url).await?;
    if page.resources.is_empty() {
        s.ui.line("No events found.");
        return Ok(());
    }
    let row = |e: Event| {
        vec![
            units::stamp(&e.created_at),
            e.kind,
            e.actor.name,
            description(&e.data),
        ]
    };
    s.ui.table(
        "",
        &["time", "event", "actor", "description"],
        page.resources.into_iter().map(row).collect(),
    );
    Ok(())
}

fn description(data: &Value) -> String {
    let found = |key: &str| {
        data.get(key)
            .or_else(|| data.get("request").and_then(|r| r.get(key)))
            .filter(|v| !v.is_null())
    };
    let show = |key: &&str| {
        let text = match found(key)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(format!("{key}: {text}"))
    };
    KEYS.iter().filter_map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn descriptions_name_the_known_keys_in_order() {
        let data = json!({"reason": "CRASHED", "index": 0, "exit_description": "out of memory", "other": 1, "request": {"instances": 2, "memory": null}});
        assert_eq!(
            description(&data),
            "index: 0, reason: CRASHED, exit_description: out of memory, instances: 2"
        );
        assert_eq!(description(&Value::Null), "");
    }
}

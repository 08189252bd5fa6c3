//! Subscribes to the events of the BBS. Crashes and changes of readiness become audit events, and every change of an instance
//! wakes the deployments.

use crate::actions::audit;
use crate::controller::Cc;
use crate::db::app::App;
use crate::db::process::Process;
use crate::db::space::Space;
use crate::db::{self, Connection};
use anyhow::Result;
use cc_rules::recipe::{APPS_DOMAIN, process_guid_of};
use kit::CancellationToken;
use kit::backoff::Backoff;
use serde_json::json;
use std::time::Duration;
use wire::bbs::{
    ActualLrpCrashedEvent, ActualLrpInfo, ActualLrpInstanceChangedEvent, ActualLrpKey, Event, state,
};

/// Reads events until shutdown, and subscribes again whenever the stream ends: after the last event, so that no crash is lost
/// while the connection is.
pub(crate) async fn watch(cc: &Cc, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut last = String::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            result = follow(cc, &mut backoff, &mut last) => {
                if let Err(error) = result {
                    tracing::debug!(error = format!("{error:#}"), "bbs-events-ended");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

/// Reads one stream to its end. `last` is the id of the last event that was recorded.
async fn follow(cc: &Cc, backoff: &mut Backoff, last: &mut String) -> Result<()> {
    let mut events = cc.bbs.instance_events_after("", last).await?;
    if !last.is_empty() && !events.is_continued() {
        tracing::warn!(
            after = last.as_str(),
            "bbs-events-missed: crashes since then have no audit event"
        );
    }
    backoff.reset();
    loop {
        events.last_id().clone_into(last);
        let event = events.next().await?;
        let recorded = match &event {
            Event::ActualLrpCrashed(crash) => record_crash(cc, crash).await,
            Event::ActualLrpInstanceChanged(change) => record_readiness(cc, change).await,
            Event::ActualLrpInstanceCreated(_) | Event::ActualLrpInstanceRemoved(_) => Ok(()),
            _ => continue,
        };
        if let Err(error) = recorded {
            tracing::warn!(error = format!("{error:#}"), "instance-event-not-recorded");
        }
        cc.driver.rollout_nudge().nudge();
    }
}

/// Returns the process of an LRP's event, its app and its space. `None`: the LRP belongs to no app, or one of them was removed.
async fn owner(conn: &mut Connection, key: &ActualLrpKey) -> Result<Option<(Process, App, Space)>> {
    if key.domain != APPS_DOMAIN {
        return Ok(None);
    }
    let guid = process_guid_of(&key.process_guid);
    let Some(process) = db::by_guid::<Process>(conn, guid).await? else {
        return Ok(None);
    };
    let Some(app) = db::by_guid::<App>(conn, &process.app_guid).await? else {
        return Ok(None);
    };
    let space = db::by_guid::<Space>(conn, &app.space_guid).await?;
    Ok(space.map(|space| (process, app, space)))
}

/// Records a crash as an event of the process, and also as one of the app, which older clients look for.
async fn record_crash(cc: &Cc, crash: &ActualLrpCrashedEvent) -> Result<()> {
    let key = crash.key.clone().unwrap_or_default();
    let instance = crash.instance_key.clone().unwrap_or_default();
    let mut tx = cc.change().await?;
    let Some((process, app, space)) = owner(&mut tx, &key).await? else {
        return Ok(());
    };
    let of_app = json!({
        "instance": instance.instance_guid,
        "index": key.index,
        "cell_id": instance.cell_id,
        "exit_description": crash.crash_reason,
        "reason": "CRASHED",
    });
    let mut data = of_app.clone();
    data["crash_count"] = json!(crash.crash_count);
    data["crash_timestamp"] = json!(crash.since);
    data["version"] = json!(process.version);
    let target = (app.guid.as_str(), "app", app.name.as_str());
    let by_process = (process.guid.as_str(), "process", process.r#type.as_str());
    audit::also(audit::record_of(&mut tx, target, "app.crash", target, &space, of_app).await?);
    let kind = "audit.app.process.crash";
    let trail = audit::record_of(&mut tx, by_process, kind, target, &space, data.clone()).await?;
    tx.log_to_app(
        &app.guid,
        format!("App instance exited with guid {} payload: {data}", app.guid),
    );
    tx.commit(trail).await?;
    Ok(())
}

/// Records that a running instance became ready or is no longer ready.
async fn record_readiness(cc: &Cc, change: &ActualLrpInstanceChangedEvent) -> Result<()> {
    let Some(ready) = new_readiness(change) else {
        return Ok(());
    };
    let key = change.key.clone().unwrap_or_default();
    let instance = change.instance_key.clone().unwrap_or_default();
    let mut tx = cc.change().await?;
    let Some((process, app, space)) = owner(&mut tx, &key).await? else {
        return Ok(());
    };
    let data = json!({
        "instance": instance.instance_guid,
        "index": key.index,
        "cell_id": instance.cell_id,
        "ready": ready,
        "version": process.version,
    });
    let (kind, became) = if ready {
        ("audit.app.process.ready", "ready")
    } else {
        ("audit.app.process.not-ready", "not ready")
    };
    let trail = audit::record_of(
        &mut tx,
        (&process.guid, "process", &process.r#type),
        kind,
        (&app.guid, "app", &app.name),
        &space,
        data.clone(),
    )
    .await?;
    tx.log_to_app(
        &app.guid,
        format!(
            "Process became {became} with guid {} payload: {data}",
            process.guid
        ),
    );
    tx.commit(trail).await?;
    Ok(())
}

/// Returns the new readiness. `None`: the instance was not running before and after, or nothing changed.
fn new_readiness(change: &ActualLrpInstanceChangedEvent) -> Option<bool> {
    let of = |info: &Option<ActualLrpInfo>| {
        info.as_ref()
            .filter(|info| info.state == state::RUNNING)
            .and_then(|info| info.routable)
    };
    let (before, after) = (of(&change.before)?, of(&change.after)?);
    (before != after).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_changes_while_an_instance_runs() {
        let info = |state: &str, routable| {
            Some(ActualLrpInfo {
                state: state.into(),
                routable: Some(routable),
                ..ActualLrpInfo::default()
            })
        };
        let changed = |before, after| {
            new_readiness(&ActualLrpInstanceChangedEvent {
                before,
                after,
                ..ActualLrpInstanceChangedEvent::default()
            })
        };
        assert_eq!(
            changed(info("RUNNING", false), info("RUNNING", true)),
            Some(true)
        );
        assert_eq!(
            changed(info("RUNNING", true), info("RUNNING", false)),
            Some(false)
        );
        assert_eq!(changed(info("RUNNING", true), info("RUNNING", true)), None);
        assert_eq!(changed(info("CLAIMED", false), info("RUNNING", true)), None);
        assert_eq!(changed(None, info("RUNNING", true)), None);
    }
}

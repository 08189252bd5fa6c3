//! Listens to the BBS: a crash becomes an audit event, and every change of an instance wakes the deployments.

use super::recipe::{APPS_DOMAIN, process_guid_of};
use crate::actions::audit;
use crate::controller::Cc;
use crate::db;
use crate::db::app::App;
use crate::db::process::Process;
use crate::db::space::Space;
use anyhow::Result;
use kit::CancellationToken;
use kit::backoff::Backoff;
use serde_json::json;
use std::time::Duration;
use wire::bbs::{ActualLrpCrashedEvent, Event};

/// Until shutdown; subscribes again whenever the stream ends.
pub(crate) async fn watch(cc: &Cc, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            result = follow(cc, &mut backoff) => {
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

async fn follow(cc: &Cc, backoff: &mut Backoff) -> Result<()> {
    let mut events = cc.bbs.instance_events("").await?;
    backoff.reset();
    loop {
        match events.next().await? {
            Event::ActualLrpCrashed(crash) => {
                if let Err(error) = record(cc, &crash).await {
                    tracing::warn!(error = %error, "crash-not-recorded");
                }
                cc.driver.rollout_nudge().nudge();
            }
            Event::ActualLrpInstanceChanged(_)
            | Event::ActualLrpInstanceCreated(_)
            | Event::ActualLrpInstanceRemoved(_) => cc.driver.rollout_nudge().nudge(),
            _ => {}
        }
    }
}

async fn record(cc: &Cc, crash: &ActualLrpCrashedEvent) -> Result<()> {
    let key = crash.key.clone().unwrap_or_default();
    if key.domain != APPS_DOMAIN {
        return Ok(());
    }
    let instance = crash.instance_key.clone().unwrap_or_default();
    let mut tx = cc.db.write().await?;
    let Some(process): Option<Process> =
        db::by_guid(&mut tx, process_guid_of(&key.process_guid)).await?
    else {
        return Ok(());
    };
    let Some(app): Option<App> = db::by_guid(&mut tx, &process.app_guid).await? else {
        return Ok(());
    };
    let space: Option<Space> = db::by_guid(&mut tx, &app.space_guid).await?;
    let data = json!({
        "instance": instance.instance_guid,
        "index": key.index,
        "cell_id": instance.cell_id,
        "reason": "CRASHED",
        "exit_description": crash.crash_reason,
        "crash_count": crash.crash_count,
        "crash_timestamp": crash.since,
    });
    let (actor, target) = (
        (process.guid.as_str(), "process", process.r#type.as_str()),
        (app.guid.as_str(), "app", app.name.as_str()),
    );
    audit::record_of_process(
        &mut tx,
        actor,
        "audit.app.process.crash",
        target,
        space.as_ref(),
        data.clone(),
    )
    .await?;
    tx.commit().await?;
    cc.log_to_app(
        &app.guid,
        format!("App instance exited with guid {} payload: {data}", app.guid),
    );
    Ok(())
}

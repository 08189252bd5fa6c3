//! The repair: compares what users want with what the BBS has, and lets the driver bring each difference into step.
//! Only a run without errors makes the domains fresh; without that, cells leave unknown work alone.

use super::recipe::{APPS_DOMAIN, DOMAIN_TTL_SECONDS, STAGING_DOMAIN, TASKS_DOMAIN};
use super::{staging, task};
use crate::clock;
use crate::controller::Cc;
use crate::db::process;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use wire::bbs::{DesiredLrpsRequest, TasksRequest};

pub(crate) async fn run(cc: &Cc) -> Result<()> {
    lrps(cc).await.context("sync LRPs")?;
    tasks(cc).await.context("sync tasks")?;
    cc.bbs
        .upsert_domain(APPS_DOMAIN, DOMAIN_TTL_SECONDS)
        .await?;
    cc.bbs
        .upsert_domain(TASKS_DOMAIN, DOMAIN_TTL_SECONDS)
        .await?;
    Ok(())
}

async fn lrps(cc: &Cc) -> Result<()> {
    let infos = cc
        .bbs
        .scheduling_infos(&DesiredLrpsRequest {
            domain: APPS_DOMAIN.to_owned(),
            ..DesiredLrpsRequest::default()
        })
        .await?;
    let has = infos
        .into_iter()
        .map(|info| (info.key.unwrap_or_default().process_guid, info.annotation))
        .collect();
    let (wanted, stale) = {
        let mut conn = cc.db.read_own().await?;
        let processes = process::started(&mut conn).await?;
        let wanted: Vec<Wanted> = processes
            .into_iter()
            .map(|process| Wanted {
                lrp: process.lrp_guid(),
                annotation: clock::annotation(process.updated_at),
                process: process.guid,
            })
            .collect();
        (wanted, process::processes_with_stale_lrps(&mut conn).await?)
    };
    let plan = plan(&wanted, &has, stale);
    let mut failures = 0;
    for process in &plan.converge {
        failures += usize::from(report(process, cc.driver.converge(process).await));
    }
    for lrp in &plan.remove {
        failures += usize::from(report(lrp, cc.driver.remove_surplus(lrp).await));
    }
    anyhow::ensure!(
        failures == 0,
        "{failures} of {} differences could not be repaired",
        plan.converge.len() + plan.remove.len()
    );
    Ok(())
}

/// Whether it failed.
fn report(what: &str, result: Result<()>) -> bool {
    result
        .inspect_err(|error| {
            tracing::warn!(what, error = format!("{error:#}"), "diego-repair-failed")
        })
        .is_err()
}

#[derive(Debug)]
struct Wanted {
    process: String,
    lrp: String,
    annotation: String,
}

#[derive(Debug, PartialEq)]
struct Plan {
    converge: BTreeSet<String>,
    remove: BTreeSet<String>,
}

/// `has`: annotation by LRP guid.
fn plan(wanted: &[Wanted], has: &BTreeMap<String, String>, stale: Vec<String>) -> Plan {
    let differs = wanted
        .iter()
        .filter(|wanted| has.get(&wanted.lrp) != Some(&wanted.annotation))
        .map(|wanted| wanted.process.clone());
    let known: HashSet<&String> = wanted.iter().map(|wanted| &wanted.lrp).collect();
    Plan {
        converge: differs.chain(stale).collect(),
        remove: has
            .keys()
            .filter(|lrp| !known.contains(lrp))
            .cloned()
            .collect(),
    }
}

async fn tasks(cc: &Cc) -> Result<()> {
    let (builds, apps) = (
        task_guids(cc, STAGING_DOMAIN).await?,
        task_guids(cc, TASKS_DOMAIN).await?,
    );
    staging::repair(cc, &builds).await?;
    task::repair(cc, &apps).await
}

async fn task_guids(cc: &Cc, domain: &str) -> Result<HashSet<String>> {
    let tasks = cc
        .bbs
        .tasks(&TasksRequest {
            domain: domain.to_owned(),
            cell_id: String::new(),
        })
        .await?;
    Ok(tasks.into_iter().map(|task| task.task_guid).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_the_difference() {
        let wanted = |process: &str, version: &str, annotation: &str| Wanted {
            process: process.into(),
            lrp: format!("{process}-{version}"),
            annotation: annotation.into(),
        };
        let has = BTreeMap::from([
            ("a-1".into(), "x".into()),
            ("b-1".into(), "old".into()),
            ("c-1".into(), "x".into()),
            ("gone-1".into(), "x".into()),
        ]);
        let plan = plan(
            &[
                wanted("a", "1", "x"),
                wanted("b", "1", "new"),
                wanted("c", "2", "x"),
                wanted("d", "1", "x"),
            ],
            &has,
            vec!["e".into()],
        );
        assert_eq!(plan.converge, ["b", "c", "d", "e"].map(String::from).into());
        assert_eq!(plan.remove, ["c-1", "gone-1"].map(String::from).into());
    }
}

//! The sync: it compares what users want with what the BBS has, and lets the driver reconcile each difference.
//!
//! A row that is wrong is skipped and reported, and the pass continues. A pass that fails because of the BBS or the database
//! marks no domain fresh; the instances of a domain that is not fresh are not retired as unknown. [`super::freshness`] decides
//! about passes that skipped something.

use super::egress::Known;
use super::fault;
use super::freshness::{Freshness, Missing};
use super::troubles::Skipped;
use super::{staging, task};
use crate::clock;
use crate::controller::Cc;
use crate::db::process::Process;
use crate::db::{Broken, Readable, process};
use anyhow::{Context as _, Result};
use cc_rules::recipe::{
    APPS_DOMAIN, DOMAIN_TTL_SECONDS, STAGING_DOMAIN, TASKS_DOMAIN, process_guid_of,
};
use kit::reconcile::Changed;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;
use wire::bbs::{ActualLrpsRequest, DesiredLrpsRequest, Task, TasksRequest};

/// The state that the sync keeps between its passes.
#[derive(Debug)]
pub(super) struct Sync {
    /// The time at which this Cloud Controller started, in microseconds since the epoch.
    began: i64,
    freshness: Freshness,
    /// The changes of the current pass.
    changed: Changed,
}

impl Sync {
    pub(super) fn new() -> Self {
        Self {
            began: clock::now(),
            freshness: Freshness::default(),
            changed: Changed::new(),
        }
    }

    /// Returns what the last pass changed.
    pub(super) fn changed(&self) -> Changed {
        self.changed.clone()
    }

    /// Runs one pass. A failure with LRPs does not stop the tasks, and vice versa.
    pub(super) async fn run(&mut self, cc: &Cc) -> Result<()> {
        self.changed.clear();
        let lrps = self.apps(cc).await.context("sync LRPs");
        let tasks = tasks(cc).await.context("sync tasks");
        lrps.and(tasks)
    }

    async fn apps(&mut self, cc: &Cc) -> Result<()> {
        let has = desired(cc).await?;
        let (found, stale) = {
            let mut conn = cc.db.read_own().await?;
            let wrong = super::spec::broken_groups(&mut conn).await?;
            cc.troubles.report("security_groups", wrong, &cc.emitter);
            (
                process::started(&mut conn).await?,
                process::processes_with_stale_lrps(&mut conn).await?,
            )
        };
        let wanted: Vec<Wanted> = found.rows.iter().map(Wanted::from).collect();
        let lrps = wanted.iter().map(|wanted| wanted.lrp.clone()).collect();
        self.freshness.record_desired(has.keys(), &lrps);
        let plan = plan(&wanted, &found.broken, &has, stale);
        let done = carry_out(cc, &plan, &found).await;
        self.changed = done.counted(&plan);
        let missing = missing(&wanted, &found.broken, &has, &done.skipped, self.began);
        report(cc, &found.rows, done.skipped);
        anyhow::ensure!(
            done.failures == 0,
            "{} of {} differences could not be repaired",
            done.failures,
            plan.converge.len() + plan.remove.len()
        );
        if self.may_be_fresh(cc, &missing, &found.broken).await? {
            cc.bbs
                .upsert_domain(APPS_DOMAIN, DOMAIN_TTL_SECONDS)
                .await?;
        }
        Ok(())
    }

    /// Decides whether the domain may be marked fresh. It requests the instances from the BBS only when something is missing.
    async fn may_be_fresh(
        &mut self,
        cc: &Cc,
        missing: &[Missing],
        broken: &[Broken],
    ) -> Result<bool> {
        let nameless = broken.iter().any(|broken| broken.guid.is_none());
        let running = if missing.is_empty() {
            Vec::new()
        } else {
            let request = ActualLrpsRequest {
                domain: APPS_DOMAIN.to_owned(),
                ..ActualLrpsRequest::default()
            };
            cc.bbs.actual_lrps(&request).await?
        };
        let lrps: BTreeSet<String> = running
            .into_iter()
            .map(|lrp| lrp.key.unwrap_or_default().process_guid)
            .collect();
        let runs = |guid: &str| lrps.contains(guid) || has_lrp_of(lrps.iter(), guid);
        let held = self
            .freshness
            .possibly_running(missing, runs, Instant::now());
        if nameless || !held.is_empty() {
            tracing::warn!(
                ?held,
                unreadable_without_guid = nameless,
                "domain-not-marked-fresh: instances of these may be running"
            );
        }
        Ok(!nameless && held.is_empty())
    }
}

/// Fetches the annotation of each LRP that the BBS has, by LRP guid.
async fn desired(cc: &Cc) -> Result<BTreeMap<String, String>> {
    let request = DesiredLrpsRequest {
        domain: APPS_DOMAIN.to_owned(),
        ..DesiredLrpsRequest::default()
    };
    let infos = cc.bbs.scheduling_infos(&request).await?;
    Ok(infos
        .into_iter()
        .map(|info| (info.key.unwrap_or_default().process_guid, info.annotation))
        .collect())
}

/// The result of a plan: the rows that are wrong, by process guid, and the number of steps that failed for another reason.
#[derive(Debug, Default)]
struct Done {
    skipped: Skipped,
    failures: usize,
}

async fn carry_out(cc: &Cc, plan: &Plan, found: &Readable<Process>) -> Done {
    let mut done = Done::default();
    for broken in &found.broken {
        let guid = broken.guid.clone().unwrap_or_else(|| "?".to_owned());
        done.skipped.insert(guid, broken.problem.clone());
    }
    for process in &plan.converge {
        done.note(process, cc.driver.converge(process).await);
    }
    for lrp in &plan.remove {
        done.note(process_guid_of(lrp), cc.driver.remove_surplus(lrp).await);
    }
    done
}

impl Done {
    /// Returns the number of steps by kind. Those that failed count as well.
    fn counted(&self, plan: &Plan) -> Changed {
        let skipped = self.skipped.len() as u64;
        Changed::from([
            ("converged", plan.converge.len() as u64),
            ("removed", plan.remove.len() as u64),
            ("skipped", skipped),
            ("failed", self.failures as u64),
        ])
    }

    fn note(&mut self, process: &str, result: Result<()>) {
        match result {
            Ok(()) => {}
            Err(error) if fault::is_row_wrong(&error) => {
                self.skipped
                    .insert(process.to_owned(), format!("{error:#}"));
            }
            Err(error) => {
                tracing::warn!(process, error = format!("{error:#}"), "diego-repair-failed");
                self.failures += 1;
            }
        }
    }
}

/// Reports what was skipped: once to the log, and once to the app's own log.
fn report(cc: &Cc, processes: &[Process], skipped: Skipped) {
    let new = cc
        .troubles
        .report("processes", skipped.clone(), &cc.emitter);
    for process in processes
        .iter()
        .filter(|process| new.contains(&process.guid))
    {
        cc.log_to_app(
            &process.app_guid,
            format!(
                "Process \"{}\" cannot be desired in Diego: {}",
                process.r#type, skipped[&process.guid]
            ),
        );
    }
}

#[derive(Debug)]
struct Wanted {
    process: String,
    lrp: String,
    annotation: String,
    updated_at: i64,
}

impl From<&Process> for Wanted {
    fn from(process: &Process) -> Self {
        Self {
            process: process.guid.clone(),
            lrp: process.lrp_guid(),
            annotation: clock::annotation(process.updated_at),
            updated_at: process.updated_at,
        }
    }
}

#[derive(Debug, PartialEq)]
struct Plan {
    converge: BTreeSet<String>,
    remove: BTreeSet<String>,
}

/// Computes the differences. `has` contains the annotations by LRP guid. LRPs of a process whose row cannot be read stay.
fn plan(
    wanted: &[Wanted],
    broken: &[Broken],
    has: &BTreeMap<String, String>,
    stale: Vec<String>,
) -> Plan {
    let differs = wanted
        .iter()
        .filter(|wanted| has.get(&wanted.lrp) != Some(&wanted.annotation))
        .map(|wanted| wanted.process.clone());
    let known: HashSet<&String> = wanted.iter().map(|wanted| &wanted.lrp).collect();
    let unreadable = |lrp: &str| {
        broken.iter().any(|broken| {
            broken
                .guid
                .as_deref()
                .is_none_or(|guid| process_guid_of(lrp) == guid)
        })
    };
    Plan {
        converge: differs.chain(stale).collect(),
        remove: has
            .keys()
            .filter(|lrp| !known.contains(lrp) && !unreadable(lrp))
            .cloned()
            .collect(),
    }
}

/// Returns what should run, was skipped, and is not at the BBS.
fn missing(
    wanted: &[Wanted],
    broken: &[Broken],
    has: &BTreeMap<String, String>,
    skipped: &Skipped,
    began: i64,
) -> Vec<Missing> {
    let uncomputed = wanted
        .iter()
        .filter(|wanted| skipped.contains_key(&wanted.process) && !has.contains_key(&wanted.lrp))
        .map(|wanted| Missing {
            guid: wanted.lrp.clone(),
            young: wanted.updated_at >= began,
        });
    let unreadable = broken
        .iter()
        .filter_map(|broken| broken.guid.clone())
        .filter(|guid| !has_lrp_of(has.keys(), guid))
        .map(|guid| Missing { guid, young: false });
    uncomputed.chain(unreadable).collect()
}

fn has_lrp_of<'a>(mut lrps: impl Iterator<Item = &'a String>, process: &str) -> bool {
    lrps.any(|lrp| process_guid_of(lrp) == process)
}

/// Reconciles tasks and builds. Nothing in the task domains is retired for being unknown, so a row that is wrong never prevents
/// their freshness.
async fn tasks(cc: &Cc) -> Result<()> {
    let listed = clock::now();
    let (builds, apps) = (
        tasks_of(cc, STAGING_DOMAIN).await?,
        tasks_of(cc, TASKS_DOMAIN).await?,
    );
    let staged = staging::repair(cc, &builds).await.context("repair builds");
    let ran = task::repair(cc, &apps, listed)
        .await
        .context("repair tasks");
    staged.and(ran)?;
    cc.bbs
        .upsert_domain(TASKS_DOMAIN, DOMAIN_TTL_SECONDS)
        .await?;
    Ok(())
}

async fn tasks_of(cc: &Cc, domain: &str) -> Result<Known> {
    let tasks = cc
        .bbs
        .tasks(&TasksRequest {
            domain: domain.to_owned(),
            cell_id: String::new(),
        })
        .await?;
    let rules = |task: Task| {
        (
            task.task_guid,
            task.task_definition.unwrap_or_default().egress_rules,
        )
    };
    Ok(tasks.into_iter().map(rules).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(process: &str, version: &str, annotation: &str) -> Wanted {
        Wanted {
            process: process.into(),
            lrp: format!("{process}-{version}"),
            annotation: annotation.into(),
            updated_at: 10,
        }
    }

    #[test]
    fn a_pass_counts_its_steps() {
        let plan = Plan {
            converge: ["a".to_owned(), "b".to_owned(), "c".to_owned()].into(),
            remove: BTreeSet::new(),
        };
        let mut done = Done::default();
        done.note("a", Ok(()));
        done.note("b", Err(sqlx::Error::PoolTimedOut.into()));
        done.note("c", Err(anyhow::anyhow!("the row has no command")));
        let wanted = [
            ("converged", 3),
            ("removed", 0),
            ("skipped", 1),
            ("failed", 1),
        ];
        assert_eq!(done.counted(&plan), Changed::from(wanted));
    }

    #[test]
    fn the_plan_is_the_difference() {
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
            &[],
            &has,
            vec!["e".into()],
        );
        assert_eq!(plan.converge, ["b", "c", "d", "e"].map(String::from).into());
        assert_eq!(plan.remove, ["c-1", "gone-1"].map(String::from).into());
    }

    #[test]
    fn lrps_of_an_unreadable_process_stay() {
        let has = BTreeMap::from([("a-1".into(), "x".into()), ("b-1".into(), "x".into())]);
        let broken = |guid: Option<&str>| {
            vec![Broken {
                guid: guid.map(str::to_owned),
                problem: "flipped".into(),
            }]
        };
        let removed = |broken: &[Broken]| plan(&[], broken, &has, Vec::new()).remove;
        assert_eq!(removed(&broken(Some("a"))), ["b-1".to_owned()].into());
        assert!(
            removed(&broken(None)).is_empty(),
            "whose they are is unknown"
        );
    }

    #[test]
    fn missing_is_what_was_skipped_and_is_not_there() {
        let has = BTreeMap::from([("a-1".into(), "old".into())]);
        let skipped = ["a", "b", "c"].map(|guid| (guid.to_owned(), "wrong".to_owned()));
        let broken = [Broken {
            guid: Some("c".into()),
            problem: "flipped".into(),
        }];
        let all = [wanted("a", "1", "new"), wanted("b", "1", "new")];
        let found = missing(&all, &broken, &has, &skipped.into(), 5);
        let of = |guid: &str, young| Missing {
            guid: guid.into(),
            young,
        };
        assert_eq!(found, [of("b-1", true), of("c", false)]);
    }
}

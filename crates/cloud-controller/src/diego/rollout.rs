//! Rolling deployments: a new web process grows while the old ones shrink. Never more instances are starting than allowed.

use super::instances;
use super::pass::Pass;
use crate::actions;
use crate::controller::Cc;
use crate::db::deployment::{self, Deployment, DeploymentReason, DeploymentState};
use crate::db::process::Process;
use crate::db::{self, Select};
use anyhow::Result;

/// Advances every active deployment by one step, unless another Cloud Controller does so at this moment.
pub(crate) async fn run(cc: &Cc) -> Result<()> {
    let active = {
        let mut conn = cc.db.read_own().await?;
        deployment::active(&mut conn).await?
    };
    let mut pass = Pass::new(&active.broken);
    if !active.rows.is_empty() {
        let Some(turn) = cc.db.turn("deployments").await? else {
            return Ok(());
        };
        for deployment in &active.rows {
            pass.note(&deployment.guid, advance(cc, deployment).await);
        }
        turn.end().await;
    }
    pass.end(cc, "deployments")
}

async fn advance(cc: &Cc, deployment: &Deployment) -> Result<()> {
    let (new, old) = {
        let mut conn = cc.db.read_own().await?;
        webs(&mut conn, deployment).await?
    };
    let Some(new) = new else {
        return end_without_process(cc, deployment).await;
    };
    let lrps = instances::of_processes(cc, std::slice::from_ref(&new)).await?;
    let present = instances::by_index(&new, lrps.get(&new.lrp_guid()).map_or(&[], Vec::as_slice));
    let routable = present
        .iter()
        .filter(|(_, lrp)| lrp.as_ref().is_some_and(instances::is_routable))
        .count();
    let unhealthy = present
        .iter()
        .filter(|(_, lrp)| matches!(instances::state_of(lrp.as_ref()), "CRASHED"))
        .count();
    let facts = Facts {
        canceling: deployment.reason == DeploymentReason::Canceling,
        target: deployment.instances,
        max_in_flight: deployment.max_in_flight,
        new: new.instances,
        routable: i64::try_from(routable)?,
        unhealthy: unhealthy > 0,
        old: old.iter().map(|process| process.instances).sum(),
    };
    let step = step(&facts);
    if step == Step::Wait {
        return Ok(());
    }
    let mut tx = cc.change().await?;
    let Some(mut deployment) = db::by_guid::<Deployment>(&mut tx, &deployment.guid)
        .await?
        .filter(|deployment| deployment.state == DeploymentState::Active)
    else {
        return Ok(());
    };
    if !actions::deployment::apply(&mut tx, &mut deployment, new, old, step).await? {
        return Ok(());
    }
    tx.commit(db::Unrecorded::Consequence).await?;
    Ok(())
}

/// Ends a deployment whose new process was removed. It can neither continue nor be cancelled; the app stays as it runs.
async fn end_without_process(cc: &Cc, deployment: &Deployment) -> Result<()> {
    let mut tx = cc.change().await?;
    let Some(mut deployment) = db::by_guid::<Deployment>(&mut tx, &deployment.guid)
        .await?
        .filter(|deployment| deployment.state == DeploymentState::Active)
    else {
        return Ok(());
    };
    deployment.error = Some("the deploying process does not exist any more".to_owned());
    actions::deployment::finalize(&mut tx, &mut deployment, DeploymentReason::Canceled).await?;
    tx.commit(db::Unrecorded::Consequence).await?;
    Ok(())
}

/// Returns the deploying web process, and the others (the oldest first).
async fn webs(
    conn: &mut db::Connection,
    deployment: &Deployment,
) -> Result<(Option<Process>, Vec<Process>)> {
    let webs: Vec<Process> = Select::new()
        .is("app_guid", &deployment.app_guid)
        .is("type", "web")
        .all(conn)
        .await?;
    let (new, old): (Vec<Process>, Vec<Process>) = webs
        .into_iter()
        .partition(|process| Some(&process.guid) == deployment.deploying_process_guid.as_ref());
    Ok((new.into_iter().next(), old))
}

#[derive(Clone, Debug)]
struct Facts {
    canceling: bool,
    target: i64,
    max_in_flight: i64,
    new: i64,
    routable: i64,
    unhealthy: bool,
    old: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    /// The new number of instances of the new process, and of all old ones together.
    Scale {
        new: i64,
        old: i64,
    },
    Finish,
    Cancel,
}

fn step(facts: &Facts) -> Step {
    if facts.canceling {
        return Step::Cancel;
    }
    if facts.new >= facts.target && facts.routable >= facts.target {
        return Step::Finish;
    }
    let new = if facts.unhealthy {
        facts.new
    } else {
        (facts.routable + facts.max_in_flight)
            .min(facts.target)
            .max(facts.new)
    };
    let old = facts.old.min((facts.target - facts.routable).max(0));
    if new == facts.new && old == facts.old {
        Step::Wait
    } else {
        Step::Scale { new, old }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routable_instances_never_drop_below_the_target() {
        let mut facts = Facts {
            canceling: false,
            target: 4,
            max_in_flight: 1,
            new: 1,
            routable: 0,
            unhealthy: false,
            old: 4,
        };
        for _ in 0..20 {
            match step(&facts) {
                Step::Wait => facts.routable = facts.new,
                Step::Scale { new, old } => {
                    assert!(new - facts.routable <= 1, "one in flight");
                    (facts.new, facts.old) = (new, old);
                }
                Step::Finish => return assert_eq!((facts.new, facts.routable), (4, 4)),
                Step::Cancel => panic!("the deployment was not cancelled"),
            }
            assert!(facts.routable + facts.old >= 4);
        }
        panic!("the deployment did not end: {facts:?}");
    }

    #[test]
    fn a_crashing_instance_stops_the_growth() {
        let facts = Facts {
            canceling: false,
            target: 4,
            max_in_flight: 2,
            new: 2,
            routable: 1,
            unhealthy: true,
            old: 3,
        };
        assert_eq!(step(&facts), Step::Wait);
        assert_eq!(
            step(&Facts {
                canceling: true,
                ..facts
            }),
            Step::Cancel
        );
    }
}

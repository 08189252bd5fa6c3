//! Updates the egress rules of running tasks when the security groups or the app's service bindings change. It is part of the sync,
//! which such a change wakes.

use super::spec;
use crate::controller::Cc;
use crate::db::security_group::Phase;
use crate::db::{self, app::App};
use anyhow::Result;
use cc_rules::recipe;
use std::collections::BTreeMap;
use wire::bbs::ErrorType::{InvalidStateTransition, ResourceNotFound};
use wire::bbs::SecurityGroupRule;

/// The tasks of the BBS: the rules of each task by its guid.
pub(super) type Known = BTreeMap<String, Vec<SecurityGroupRule>>;

/// Updates a task whose rules differ from those that apply to the app in this phase.
pub(super) async fn follow(
    cc: &Cc,
    task: &str,
    app: &str,
    phase: Phase,
    has: &[SecurityGroupRule],
) -> Result<()> {
    let wanted = {
        let mut conn = cc.db.read_own().await?;
        let Some(app) = db::by_guid::<App>(&mut conn, app).await? else {
            return Ok(());
        };
        let by_binding = cc.driver.bound_egress();
        recipe::egress::rules(&spec::egress(&mut conn, &app, phase, by_binding).await?)?
    };
    if wanted == has {
        return Ok(());
    }
    match cc.bbs.update_task_egress(task, wanted).await {
        // The task has ended in the meantime.
        Err(error)
            if matches!(
                error.kind(),
                Some(InvalidStateTransition | ResourceNotFound)
            ) =>
        {
            Ok(())
        }
        // An original BBS does not know this request; its tasks keep the rules with which they began.
        Err(error) if error.is_unknown_path() => Ok(()),
        result => Ok(result?),
    }
}

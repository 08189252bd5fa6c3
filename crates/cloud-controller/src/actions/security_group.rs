//! Effects of changed security groups and service bindings on running instances. Their cells apply the rules that are valid now.

use crate::change::Change;
use crate::clock;
use crate::db::Connection;
use crate::db::process;
use crate::db::security_group::{self, Phase, SecurityGroup};
use crate::error::ApiResult;

/// The places in which rules apply to running instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Everywhere,
    Spaces(Vec<String>),
}

impl Scope {
    /// Returns the scope of a group as it is stored.
    pub(crate) async fn of(conn: &mut Connection, group: &SecurityGroup) -> ApiResult<Self> {
        Ok(match group.running {
            true => Self::Everywhere,
            false => Self::Spaces(security_group::spaces(conn, &group.guid, Phase::Running).await?),
        })
    }

    /// Returns the scope of a binding in a phase. It is empty for staging, which ends before its rules change.
    pub(crate) fn bound(phase: Phase, spaces: &[String]) -> Self {
        match phase {
            Phase::Running => Self::Spaces(spaces.to_vec()),
            Phase::Staging => Self::Spaces(Vec::new()),
        }
    }

    /// Returns a scope that contains both.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Spaces(mut spaces), Self::Spaces(others)) => {
                spaces.extend(others);
                Self::Spaces(spaces)
            }
            _ => Self::Everywhere,
        }
    }
}

/// Marks the processes that run in a scope, and the sync, which updates the tasks. Each row is touched as well, so that the sync
/// sees a change even if the driver fails.
pub(crate) async fn apply_to_running(tx: &mut Change, scope: Scope) -> ApiResult<()> {
    let processes = match scope {
        Scope::Everywhere => process::running(tx).await?,
        Scope::Spaces(spaces) => process::running_in(tx, spaces).await?,
    };
    apply_to(tx, processes).await
}

/// Does the same for one app, whose service bindings changed. No binding opens anything unless the operator has named its broker.
pub(crate) async fn apply_to_app(tx: &mut Change, app: &str) -> ApiResult<()> {
    if !tx.has_bound_egress() {
        return Ok(());
    }
    let processes = process::running_of(tx, app).await?;
    apply_to(tx, processes).await
}

async fn apply_to(tx: &mut Change, processes: Vec<String>) -> ApiResult<()> {
    process::touch_all(tx, &processes, clock::now()).await?;
    for process in processes {
        tx.reconcile(process);
    }
    tx.sync();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_add_up() {
        let spaces =
            |names: &[&str]| Scope::Spaces(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(spaces(&["a"]).and(spaces(&["b"])), spaces(&["a", "b"]));
        assert_eq!(spaces(&["a"]).and(Scope::Everywhere), Scope::Everywhere);
        assert_eq!(Scope::bound(Phase::Staging, &["a".to_owned()]), spaces(&[]));
    }
}

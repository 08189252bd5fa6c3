//! The use of the resources that quotas limit, and the numbers that operators see. This is the only place that computes them, for
//! the foundation, an organization or a space. Very large numbers, which an older version may have stored, do not overflow.

use super::Connection;
use kit::db::{AssertSqlSafe, Row, query};

/// The place in which use is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    Foundation,
    Organization(&'a str),
    Space(&'a str),
}

/// The use by started apps and open tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppUsage {
    pub instances: i64,
    /// The memory of started instances, and of pending and running tasks.
    pub memory_in_mb: i64,
    /// The log rate of what is limited, in bytes per second.
    pub log_rate: i64,
    /// The number of processes and tasks whose logs are not limited.
    pub unlimited_logs: i64,
    /// The number of pending and running tasks.
    pub tasks: i64,
    /// The memory of builds that are being staged. It is not part of `memory_in_mb`.
    pub staging_in_mb: i64,
}

/// The use by routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteUsage {
    pub routes: i64,
    pub reserved_ports: i64,
}

/// The numbers of things in the whole database, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    pub users: i64,
    pub running_tasks: i64,
    pub running_tasks_in_mb: i64,
    pub active_deployments: i64,
    pub failed_jobs: i64,
}

pub(crate) async fn census(conn: &mut Connection) -> sqlx::Result<Census> {
    let row = query(
        "SELECT (SELECT COUNT(*) FROM users), (SELECT COUNT(*) FROM tasks WHERE state = 'RUNNING'),
            (SELECT COALESCE(SUM(CAST(memory_in_mb AS DOUBLE PRECISION)), 0.0) FROM tasks WHERE state = 'RUNNING'),
            (SELECT COUNT(*) FROM deployments WHERE state = 'ACTIVE'), (SELECT COUNT(*) FROM jobs WHERE state = 'FAILED')",
    )
    .fetch_one(conn)
    .await?;
    Ok(Census {
        users: row.try_get(0)?,
        running_tasks: row.try_get(1)?,
        running_tasks_in_mb: total(row.try_get(2)?),
        active_deployments: row.try_get(3)?,
        failed_jobs: row.try_get(4)?,
    })
}

impl Scope<'_> {
    /// Returns a condition on `spaces`, and the value of its `$1`.
    fn spaces(&self) -> (&'static str, &str) {
        match self {
            Self::Foundation => ("$1 = ''", ""),
            Self::Organization(guid) => ("organization_guid = $1", guid),
            Self::Space(guid) => ("guid = $1", guid),
        }
    }

    async fn row(&self, conn: &mut Connection, sql: &str) -> sqlx::Result<Row> {
        let (condition, guid) = self.spaces();
        query(AssertSqlSafe(sql.replace("(here)", condition)))
            .bind(guid)
            .fetch_one(conn)
            .await
    }
}

pub(crate) async fn of_apps(conn: &mut Connection, scope: Scope<'_>) -> sqlx::Result<AppUsage> {
    let sql = "WITH a AS (SELECT guid, state FROM apps WHERE space_guid IN (SELECT guid FROM spaces WHERE (here))),
        p AS (SELECT instances, memory_in_mb, log_rate_limit FROM processes WHERE app_guid IN (SELECT guid FROM a WHERE state = 'STARTED')),
        t AS (SELECT memory_in_mb, log_rate_limit FROM tasks WHERE state IN ('PENDING', 'RUNNING') AND app_guid IN (SELECT guid FROM a))
        SELECT (SELECT COALESCE(SUM(CAST(instances AS DOUBLE PRECISION)), 0.0) FROM p),
            (SELECT COALESCE(SUM(CAST(instances AS DOUBLE PRECISION) * memory_in_mb), 0.0) FROM p),
            (SELECT COALESCE(SUM(CAST(memory_in_mb AS DOUBLE PRECISION)), 0.0) FROM t),
            (SELECT COALESCE(SUM(CAST(instances AS DOUBLE PRECISION) * log_rate_limit), 0.0) FROM p WHERE log_rate_limit > 0),
            (SELECT COALESCE(SUM(CAST(log_rate_limit AS DOUBLE PRECISION)), 0.0) FROM t WHERE log_rate_limit > 0),
            (SELECT COUNT(*) FROM p WHERE log_rate_limit < 0 AND instances > 0) + (SELECT COUNT(*) FROM t WHERE log_rate_limit < 0),
            (SELECT COUNT(*) FROM t),
            (SELECT COALESCE(SUM(CAST(memory_in_mb AS DOUBLE PRECISION)), 0.0) FROM builds WHERE state = 'STAGING' AND app_guid IN (SELECT guid FROM a))";
    let row = scope.row(conn, sql).await?;
    Ok(AppUsage {
        instances: total(row.try_get(0)?),
        memory_in_mb: total(row.try_get::<f64, _>(1)? + row.try_get::<f64, _>(2)?),
        log_rate: total(row.try_get::<f64, _>(3)? + row.try_get::<f64, _>(4)?),
        unlimited_logs: row.try_get(5)?,
        tasks: row.try_get(6)?,
        staging_in_mb: total(row.try_get(7)?),
    })
}

/// Returns a sum, which the database computes as a floating-point number because one of integers could overflow.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a larger sum becomes the largest number"
)]
fn total(sum: f64) -> i64 {
    sum as i64
}

pub(crate) async fn of_routes(conn: &mut Connection, scope: Scope<'_>) -> sqlx::Result<RouteUsage> {
    let sql = "SELECT COUNT(*), COUNT(*) FILTER (WHERE port > 0) FROM routes WHERE space_guid IN (SELECT guid FROM spaces WHERE (here))";
    let row = scope.row(conn, sql).await?;
    Ok(RouteUsage {
        routes: row.try_get(0)?,
        reserved_ports: row.try_get(1)?,
    })
}

/// The use by services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceUsage {
    /// The number of managed instances.
    pub instances: i64,
    pub keys: i64,
}

pub(crate) async fn of_services(
    conn: &mut Connection,
    scope: Scope<'_>,
) -> sqlx::Result<ServiceUsage> {
    let sql = "WITH i AS (SELECT guid, type FROM service_instances WHERE space_guid IN (SELECT guid FROM spaces WHERE (here)))
        SELECT (SELECT COUNT(*) FROM i WHERE type = 'managed'),
            (SELECT COUNT(*) FROM service_credential_bindings WHERE type = 'key' AND service_instance_guid IN (SELECT guid FROM i))";
    let row = scope.row(conn, sql).await?;
    Ok(ServiceUsage {
        instances: row.try_get(0)?,
        keys: row.try_get(1)?,
    })
}

/// Returns the number of private domains. For a space it is the number of its organization.
pub(crate) async fn private_domains(conn: &mut Connection, scope: Scope<'_>) -> sqlx::Result<i64> {
    let sql = match scope {
        Scope::Foundation => {
            "SELECT COUNT(*) FROM domains WHERE organization_guid IS NOT NULL AND (here)"
        }
        Scope::Organization(_) => "SELECT COUNT(*) FROM domains WHERE (here)",
        Scope::Space(_) => {
            "SELECT COUNT(*) FROM domains WHERE organization_guid = (SELECT organization_guid FROM spaces WHERE (here))"
        }
    };
    scope.row(conn, sql).await?.try_get(0)
}

//! Watches the sizes of databases. One that is larger than its plan permits accepts no writes until it is smaller again, so that no
//! instance fills the disk of all.
//!
//! It is a guard against accidents: sessions begin with transactions that only read. A user who wants to delete data writes
//! `SET TRANSACTION READ WRITE` first.

use crate::broker::{Broker, Fault};
use crate::db::{self, Database};
use crate::instance::Instance;
use kit::CancellationToken;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(60);

/// Returns whether a database must begin or cease to accept no writes; `None` if it stays as it is.
fn change(database: &Database, storage_mb: u64) -> Option<bool> {
    let bytes = database.bytes.unsigned_abs();
    let most = storage_mb.saturating_mul(1 << 20);
    match database.is_read_only {
        false => (bytes > most).then_some(true),
        // It becomes writable well below the limit, so that it does not alternate.
        true => (bytes < most / 20 * 19).then_some(false),
    }
}

/// Looks at all databases once.
pub(crate) async fn pass(broker: &Broker) -> Result<(), Fault> {
    let mut session = broker.session().await?;
    let conn = &mut session.conn;
    let databases = db::databases(conn).await?;
    let (mut instances, mut read_only) = (0_u32, 0_u32);
    for database in databases {
        let instance = database.description.as_deref().and_then(Instance::parse);
        let Some(instance) = instance else { continue };
        instances += 1;
        let change = change(&database, instance.plan.storage_mb);
        read_only += u32::from(change.unwrap_or(database.is_read_only));
        let Some(is_on) = change else { continue };
        db::set_read_only(conn, database.guid, is_on).await?;
        // The setting holds for new sessions.
        db::end_sessions(conn, &database.guid.database()).await?;
        let (guid, mb) = (database.guid, database.bytes >> 20);
        match is_on {
            true => {
                tracing::warn!(instance = %guid, mb, plan = instance.plan.name, "instance-read-only: it is larger than its plan permits");
            }
            false => tracing::info!(instance = %guid, mb, "instance-writable"),
        }
    }
    let metrics = broker.metrics();
    metrics.instances.set(f64::from(instances));
    metrics.read_only.set(f64::from(read_only));
    Ok(())
}

/// Looks at all databases again and again, until shutdown.
pub(crate) async fn run(broker: &Broker, shutdown: &CancellationToken) {
    loop {
        if let Some(Err(error)) = shutdown.run_until_cancelled(pass(broker)).await {
            tracing::warn!(%error, "sizes-not-known");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Guid;
    use crate::testing::World;

    #[test]
    fn a_database_that_is_too_large_accepts_no_writes_until_it_is_smaller() {
        let check = |mb: i64, is_read_only| {
            let database = Database {
                guid: Guid::random(),
                description: None,
                bytes: mb << 20,
                is_read_only,
            };
            change(&database, 100)
        };
        assert_eq!(check(100, false), None);
        assert_eq!(check(101, false), Some(true));
        assert_eq!(check(101, true), None);
        assert_eq!(check(97, true), None);
        assert_eq!(check(94, true), Some(false));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sessions_of_a_database_that_is_too_large_only_read() {
        let world = World::start();
        let guid = world.instance().await;
        // An empty database has some MiB.
        for (storage_mb, number, setting) in [(1, 1.0, "on"), (1024, 0.0, "off")] {
            world.set_storage(guid, storage_mb).await;
            // The second look changes nothing.
            for _ in 0..2 {
                pass(&world.broker).await.unwrap();
                assert_eq!(world.broker.metrics().read_only.value(), Some(number));
            }
            let admin = world.broker.admin();
            let mut inside = admin.connect(&guid.database()).await.unwrap();
            let shown: String = sqlx::query_scalar("SHOW default_transaction_read_only")
                .fetch_one(&mut inside)
                .await
                .unwrap();
            assert_eq!(shown, setting);
        }
        assert_eq!(world.broker.metrics().instances.value(), Some(1.0));
    }
}

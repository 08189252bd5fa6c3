//! Rows with secrets, and the labels of the keys that sealed them.

use super::app::App;
use super::job::Job;
use super::service_broker::ServiceBroker;
use super::service_credential_binding::ServiceCredentialBinding;
use super::service_instance::ServiceInstance;
use super::{Arg, Connection, Row, Select, execute, readable_rows};
use crate::sealing::Sealed;
use kit::db::query;

/// A row with a secret.
pub(crate) trait Secret: Row {
    /// The column of the secret.
    const COLUMN: &'static str;
    fn secret(&mut self) -> Option<&mut Sealed>;
    /// Returns the row for which the secret is sealed.
    fn sealed_for(&self) -> &str {
        self.guid()
    }
}

impl Secret for App {
    const COLUMN: &'static str = "environment";
    fn secret(&mut self) -> Option<&mut Sealed> {
        (!self.environment.is_nothing()).then_some(&mut self.environment)
    }
}

impl Secret for Job {
    const COLUMN: &'static str = "input";
    fn secret(&mut self) -> Option<&mut Sealed> {
        self.input.as_mut()
    }
    fn sealed_for(&self) -> &str {
        &self.resource_guid
    }
}

impl Secret for ServiceBroker {
    const COLUMN: &'static str = "password";
    fn secret(&mut self) -> Option<&mut Sealed> {
        Some(&mut self.password)
    }
}

impl Secret for ServiceInstance {
    const COLUMN: &'static str = "credentials";
    fn secret(&mut self) -> Option<&mut Sealed> {
        self.credentials.as_mut()
    }
}

impl Secret for ServiceCredentialBinding {
    const COLUMN: &'static str = "credentials";
    fn secret(&mut self) -> Option<&mut Sealed> {
        self.credentials.as_mut()
    }
}

/// Returns some of the rows whose secret was not sealed with a key. Rows that cannot be read are left out.
pub(crate) async fn of_other_keys<R: Secret>(
    conn: &mut Connection,
    label: &str,
    most: i64,
) -> sqlx::Result<Vec<R>> {
    let pattern = format!("v1.{label}.%");
    let column = R::COLUMN;
    let condition = format!("{column} LIKE 'v1.%.%' AND {column} NOT LIKE ?");
    let others = Select::new().and(&condition, [pattern.into()]);
    let portion = others.portion::<R>(conn, Some(most), 0, usize::MAX).await?;
    Ok(portion.rows.into_iter().flatten().collect())
}

/// A column whose values older versions stored in clear.
#[derive(Debug)]
pub(crate) struct Clear {
    /// Selects the id of each such row, the row for which its value is sealed ([`Secret::sealed_for`]), and the value.
    select: &'static str,
    update: &'static str,
}

pub(crate) const CLEAR: &[Clear] = &[
    Clear {
        select: "SELECT id, guid, environment FROM apps WHERE environment NOT LIKE 'v1.%' ORDER BY id",
        update: "UPDATE apps SET environment = $1 WHERE id = $2",
    },
    Clear {
        select: "SELECT id, resource_guid, input FROM jobs WHERE input NOT LIKE 'v1.%' ORDER BY id",
        update: "UPDATE jobs SET input = $1 WHERE id = $2",
    },
];

impl Clear {
    /// Returns the values in clear, as (id, row, JSON). Those that cannot be read are left out.
    pub(crate) async fn rows(
        &self,
        conn: &mut Connection,
    ) -> sqlx::Result<Vec<(i64, String, String)>> {
        let rows = query(self.select).fetch_all(conn).await?;
        Ok(readable_rows(&rows, |row| {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        }))
    }

    /// Replaces a value. The time of the row's last change stays.
    pub(crate) async fn seal(
        &self,
        conn: &mut Connection,
        id: i64,
        sealed: &Sealed,
    ) -> sqlx::Result<()> {
        let args: [Arg; 2] = [sealed.stored().into(), id.into()];
        execute(conn, self.update, &args).await.map(drop)
    }
}

/// Returns the labels of the keys that are in use. A damaged one is left out.
pub(crate) async fn labels(conn: &mut Connection) -> sqlx::Result<Vec<String>> {
    let rows = query("SELECT label FROM sealing_keys ORDER BY label")
        .fetch_all(conn)
        .await?;
    Ok(readable_rows(&rows, |row| row.try_get("label")))
}

/// Notes that secrets are sealed with a key from now on.
pub(crate) async fn add_label(conn: &mut Connection, label: &str) -> sqlx::Result<()> {
    let sql = "INSERT INTO sealing_keys (label) VALUES ($1) ON CONFLICT DO NOTHING";
    execute(conn, sql, &[label.into()]).await.map(drop)
}

/// Notes that no secret is sealed with another key any more.
pub(crate) async fn keep_label(conn: &mut Connection, label: &str) -> sqlx::Result<()> {
    let sql = "DELETE FROM sealing_keys WHERE label <> $1";
    execute(conn, sql, &[label.into()]).await.map(drop)
}

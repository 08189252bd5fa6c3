//! Rows with secrets, and the labels of the keys that sealed them.

use super::app::App;
use super::service_credential_binding::ServiceCredentialBinding;
use super::service_instance::ServiceInstance;
use super::{Connection, Row, Select, execute, readable_rows};
use crate::sealing::Sealed;
use kit::db::query;

/// A row with a secret.
pub(crate) trait Secret: Row {
    /// The column of the secret.
    const COLUMN: &'static str;
    fn secret(&mut self) -> Option<&mut Sealed>;
}

impl Secret for App {
    const COLUMN: &'static str = "environment";
    fn secret(&mut self) -> Option<&mut Sealed> {
        (!self.environment.is_nothing()).then_some(&mut self.environment)
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

//! The storage of failed logins. A name is stored as a digest, because users sometimes enter their password as the name.

use super::{Db, digest};
use crate::throttle::{FORGET_AFTER, Failures, MAX_NAMES};
use anyhow::{Context as _, Result};
use kit::db::{query, query_as};

impl Db {
    /// Returns the failures of a name since its last success.
    pub(crate) async fn failed_logins(&self, name: &str) -> Result<Option<Failures>> {
        let found: Option<(u32, i64)> =
            query_as("SELECT failures, last_at FROM failed_logins WHERE name = $1")
                .bind(digest(name))
                .fetch_optional(&mut *self.read().await?)
                .await
                .context("read failed logins")?;
        Ok(found.map(|(count, last)| Failures { count, last }))
    }

    /// Counts a failure at the time `now`, in Unix milliseconds.
    pub(crate) async fn login_failed(&self, name: &str, now: i64) -> Result<()> {
        let mut tx = self.database.begin().await.context("begin a transaction")?;
        query("DELETE FROM failed_logins WHERE last_at <= $1")
            .bind(now - FORGET_AFTER)
            .execute(&mut tx)
            .await
            .context("forget old failures")?;
        query(
            "INSERT INTO failed_logins (name, failures, last_at) VALUES ($1, 1, $2)
             ON CONFLICT (name) DO UPDATE SET failures = failed_logins.failures + 1, last_at = excluded.last_at",
        )
        .bind(digest(name))
        .bind(now)
        .execute(&mut tx)
        .await
        .context("count a failure")?;
        // Another process may have counted in the meantime, so more than one name may be too many.
        query("DELETE FROM failed_logins WHERE name IN (SELECT name FROM failed_logins ORDER BY last_at DESC LIMIT 1000 OFFSET $1)")
            .bind(i64::try_from(MAX_NAMES).unwrap_or(i64::MAX))
            .execute(&mut tx)
            .await
            .context("forget the oldest failures")?;
        tx.commit().await.context("commit a failure")
    }

    /// Forgets the failures of a name.
    pub(crate) async fn login_succeeded(&self, name: &str) -> Result<()> {
        self.database
            .execute(query("DELETE FROM failed_logins WHERE name = $1").bind(digest(name)))
            .await
            .context("forget failures")?;
        Ok(())
    }
}

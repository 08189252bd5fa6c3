//! The storage of the key that signs tokens, for several UAAs on one database.

use super::Db;
use anyhow::{Context as _, Result};
use kit::db::{query, query_scalar};

impl Db {
    /// Returns whether other UAAs can use the database at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    /// Returns the stored key. If there is none yet, it stores `new` and returns that.
    pub(crate) async fn signing_key(&self, new: impl FnOnce() -> Result<String>) -> Result<String> {
        let mut tx = self.database.begin().await.context("begin a transaction")?;
        let known: Option<String> =
            query_scalar("SELECT pem FROM signing_keys WHERE name = 'tokens'")
                .fetch_optional(&mut tx)
                .await
                .context("read the signing key")?;
        if let Some(pem) = known {
            return Ok(pem);
        }
        let pem = new()?;
        query("INSERT INTO signing_keys (name, pem) VALUES ('tokens', $1)")
            .bind(&pem)
            .execute(&mut tx)
            .await
            .context("store the signing key")?;
        tx.commit().await.context("commit the signing key")?;
        Ok(pem)
    }
}

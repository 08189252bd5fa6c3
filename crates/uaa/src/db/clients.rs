//! The storage of clients: those of the configuration, and those that were created over the API.

use super::{Db, column, now, readable};
use crate::{Client, password};
use anyhow::{Context as _, Result};
use kit::db::{AssertSqlSafe, Error, Query, Row, query};
use std::collections::HashMap;

#[derive(Clone, Default)]
pub(crate) struct StoredClient {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) secret_hash: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) authorities: Vec<String>,
    pub(crate) grant_types: Vec<String>,
    pub(crate) redirect_uris: Vec<String>,
    /// The validity of access tokens in seconds; `None` means the server's default. The next field has that of refresh tokens.
    pub(crate) access_validity: Option<u32>,
    pub(crate) refresh_validity: Option<u32>,
    /// Whether the client is in the configuration, which alone can change it.
    pub(crate) configured: bool,
    /// A counter that is increased to revoke all tokens of the client.
    pub(crate) tokens_epoch: i64,
    /// The time of the last update in Unix seconds.
    pub(crate) updated_at: i64,
}

impl std::fmt::Debug for StoredClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredClient")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The error that a client id is taken.
#[derive(Debug, thiserror::Error)]
#[error("client id already in use: {0}")]
pub(crate) struct ClientTaken(pub(crate) String);

impl Db {
    /// Replaces the configured clients. A secret that has not changed keeps its hash, so that its tokens stay valid.
    pub(crate) async fn replace_configured_clients(&self, clients: &[Client]) -> Result<()> {
        let mut known: HashMap<_, _> = self
            .clients()
            .await?
            .into_iter()
            .map(|client| (client.id.clone(), client))
            .collect();
        let as_wanted = |client: &Client| known.get(&client.id).is_some_and(|k| k.is(client));
        let configured = known.values().filter(|client| client.configured).count();
        if configured == clients.len() && clients.iter().all(as_wanted) {
            // Nothing is written, so that the server also starts on a full disk.
            return Ok(());
        }
        let mut tx = self.database.begin().await.context("begin a transaction")?;
        for client in clients {
            let kept = known
                .remove(&client.id)
                .map(|old| old.secret_hash)
                .filter(|hash| password::matches(hash, &client.secret));
            let hash = kept.unwrap_or_else(|| password::hash(&client.secret, password::CLIENT));
            query(
                "INSERT INTO clients (id, secret_hash, scopes, authorities, grant_types, redirect_uri, configured, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, 1, $7)
                 ON CONFLICT (id) DO UPDATE SET secret_hash = $2, scopes = $3, authorities = $4, grant_types = $5,
                 redirect_uri = $6, configured = 1, access_validity = NULL, refresh_validity = NULL",
            )
            .bind(&client.id)
            .bind(hash)
            .bind(client.scopes.join(" "))
            .bind(client.authorities.join(" "))
            .bind(client.grant_types.join(" "))
            .bind(&client.redirect_uri)
            .bind(now())
            .execute(&mut tx)
            .await
            .with_context(|| format!("store client {:?}", client.id))?;
        }
        for gone in known.values().filter(|client| client.configured) {
            query("DELETE FROM clients WHERE id = $1")
                .bind(&gone.id)
                .execute(&mut tx)
                .await
                .context("delete client")?;
        }
        tx.commit().await.context("commit clients")
    }

    /// Returns all clients, by id.
    pub(crate) async fn clients(&self) -> Result<Vec<StoredClient>> {
        Ok(clients("ORDER BY id")
            .fetch_all(&mut *self.read().await?)
            .await
            .context("read clients")?
            .iter()
            .filter_map(|row| readable(client(row)))
            .collect())
    }

    pub(crate) async fn client(&self, id: &str) -> Result<Option<StoredClient>> {
        let row = clients("WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *self.read().await?)
            .await
            .context("read client")?;
        row.as_ref().map(client).transpose()
    }

    /// Creates a client. The error is a [`ClientTaken`] if the id is taken.
    pub(crate) async fn create_client(&self, new: &StoredClient) -> Result<()> {
        let inserted = self.database.execute(query(
            "INSERT INTO clients (id, name, secret_hash, scopes, authorities, grant_types, redirect_uri, access_validity,
             refresh_validity, configured, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10)",
        )
        .bind(&new.id)
        .bind(&new.name)
        .bind(&new.secret_hash)
        .bind(new.scopes.join(" "))
        .bind(new.authorities.join(" "))
        .bind(new.grant_types.join(" "))
        .bind(new.redirect_uris.join(" "))
        .bind(new.access_validity)
        .bind(new.refresh_validity)
        .bind(now()))
        .await;
        match inserted {
            Err(Error::Database(error)) if error.is_unique_violation() => {
                Err(ClientTaken(new.id.clone()).into())
            }
            inserted => inserted.map(drop).context("store client"),
        }
    }

    /// Stores everything but the secret.
    pub(crate) async fn update_client(&self, new: &StoredClient) -> Result<()> {
        self.database.execute(query(
            "UPDATE clients SET name = $2, scopes = $3, authorities = $4, grant_types = $5, redirect_uri = $6,
             access_validity = $7, refresh_validity = $8, updated_at = $9 WHERE id = $1 AND configured = 0",
        )
        .bind(&new.id)
        .bind(&new.name)
        .bind(new.scopes.join(" "))
        .bind(new.authorities.join(" "))
        .bind(new.grant_types.join(" "))
        .bind(new.redirect_uris.join(" "))
        .bind(new.access_validity)
        .bind(new.refresh_validity)
        .bind(now()))
        .await
        .context("update client")?;
        Ok(())
    }

    pub(crate) async fn set_client_secret(&self, id: &str, hash: &str) -> Result<()> {
        self.database.execute(query(
            "UPDATE clients SET secret_hash = $2, updated_at = $3 WHERE id = $1 AND configured = 0",
        )
        .bind(id)
        .bind(hash)
        .bind(now()))
        .await
        .context("store client secret")?;
        Ok(())
    }

    pub(crate) async fn delete_client(&self, id: &str) -> Result<()> {
        self.database
            .execute(query("DELETE FROM clients WHERE id = $1 AND configured = 0").bind(id))
            .await
            .context("delete client")?;
        Ok(())
    }

    /// Revokes all tokens that were issued through a client.
    pub(crate) async fn end_tokens_of_client(&self, id: &str) -> Result<()> {
        self.database
            .execute(
                query("UPDATE clients SET tokens_epoch = tokens_epoch + 1 WHERE id = $1").bind(id),
            )
            .await
            .context("end a client's tokens")?;
        Ok(())
    }
}

const CLIENT: &str = "id, name, secret_hash, scopes, authorities, grant_types, redirect_uri, access_validity, refresh_validity, configured, tokens_epoch, updated_at";

/// Begins a statement that reads clients.
fn clients(condition: &str) -> Query {
    query(AssertSqlSafe(format!(
        "SELECT {CLIENT} FROM clients {condition}"
    )))
}

fn client(row: &Row) -> Result<StoredClient> {
    let words = |name: &str| -> Result<Vec<String>> {
        let text: String = column(row, "clients", name)?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    };
    Ok(StoredClient {
        id: column(row, "clients", "id")?,
        name: column(row, "clients", "name")?,
        secret_hash: column(row, "clients", "secret_hash")?,
        scopes: words("scopes")?,
        authorities: words("authorities")?,
        grant_types: words("grant_types")?,
        redirect_uris: words("redirect_uri")?,
        access_validity: column(row, "clients", "access_validity")?,
        refresh_validity: column(row, "clients", "refresh_validity")?,
        configured: column(row, "clients", "configured")?,
        tokens_epoch: column(row, "clients", "tokens_epoch")?,
        updated_at: column(row, "clients", "updated_at")?,
    })
}

impl StoredClient {
    /// Returns whether the client is stored as the configuration defines it.
    fn is(&self, wanted: &Client) -> bool {
        self.configured
            && self.access_validity.is_none()
            && self.refresh_validity.is_none()
            && self.scopes == wanted.scopes
            && self.authorities == wanted.authorities
            && self.grant_types == wanted.grant_types
            && self.redirect_uris.join(" ") == wanted.redirect_uri
            && password::matches(&self.secret_hash, &wanted.secret)
    }
}

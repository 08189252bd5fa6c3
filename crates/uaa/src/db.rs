//! Users and clients at rest, in SQLite. All SQL of this component stands here.

use crate::{Client, password};
use anyhow::{Context as _, Result};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, Sqlite, Transaction};
use std::collections::HashMap;
use std::path::Path;

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS users (
        id TEXT PRIMARY KEY, user_name TEXT NOT NULL, name_key TEXT NOT NULL, origin TEXT NOT NULL,
        given_name TEXT NOT NULL, family_name TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, password_changed_at INTEGER NOT NULL,
        version INTEGER NOT NULL DEFAULT 0, tokens_epoch INTEGER NOT NULL DEFAULT 0, UNIQUE (name_key, origin))",
    "CREATE TABLE IF NOT EXISTS user_groups (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, name TEXT NOT NULL, PRIMARY KEY (user_id, name))",
    "CREATE TABLE IF NOT EXISTS clients (
        id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, scopes TEXT NOT NULL, authorities TEXT NOT NULL,
        grant_types TEXT NOT NULL, redirect_uri TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS revoked_tokens (jti TEXT PRIMARY KEY, expires_at INTEGER NOT NULL)",
];

#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: SqlitePool,
}

#[derive(Clone, Default)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) user_name: String,
    /// Who knows the password: `uaa` is us.
    pub(crate) origin: String,
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) email: String,
    /// `None`: cannot log in here.
    pub(crate) password_hash: Option<String>,
    /// Unix seconds, as the two below.
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) password_changed_at: i64,
    pub(crate) version: i64,
    /// Counted up to end all refresh tokens.
    pub(crate) tokens_epoch: i64,
    pub(crate) groups: Vec<String>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

pub(crate) struct NewUser {
    pub(crate) user_name: String,
    pub(crate) origin: String,
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) email: String,
    pub(crate) password_hash: Option<String>,
    pub(crate) groups: Vec<String>,
}

#[derive(Clone, Default)]
pub(crate) struct StoredClient {
    pub(crate) id: String,
    pub(crate) secret_hash: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) authorities: Vec<String>,
    pub(crate) grant_types: Vec<String>,
    pub(crate) redirect_uri: String,
}

impl std::fmt::Debug for StoredClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredClient")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A user name is taken.
#[derive(Debug, thiserror::Error)]
#[error("username already in use: {0}")]
pub(crate) struct NameTaken(pub(crate) String);

impl Db {
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            pool: kit::db::open(path, SCHEMA).await?,
        })
    }

    /// Makes the table hold exactly `clients`. A secret that did not change keeps its hash, so that tokens stay valid.
    pub(crate) async fn replace_clients(&self, clients: &[Client]) -> Result<()> {
        let mut known: HashMap<_, _> = self
            .clients()
            .await?
            .into_iter()
            .map(|client| (client.id.clone(), client))
            .collect();
        let mut tx = self.pool.begin().await.context("begin")?;
        for client in clients {
            let kept = known
                .remove(&client.id)
                .map(|old| old.secret_hash)
                .filter(|hash| password::matches(hash, &client.secret));
            let hash = kept.unwrap_or_else(|| password::hash(&client.secret, password::CLIENT));
            sqlx::query("INSERT OR REPLACE INTO clients (id, secret_hash, scopes, authorities, grant_types, redirect_uri) VALUES ($1, $2, $3, $4, $5, $6)")
                .bind(&client.id)
                .bind(hash)
                .bind(client.scopes.join(" "))
                .bind(client.authorities.join(" "))
                .bind(client.grant_types.join(" "))
                .bind(&client.redirect_uri)
                .execute(&mut *tx)
                .await
                .with_context(|| format!("store client {:?}", client.id))?;
        }
        for id in known.keys() {
            sqlx::query("DELETE FROM clients WHERE id = $1")
                .bind(id)
                .execute(&mut *tx)
                .await
                .context("delete client")?;
        }
        tx.commit().await.context("commit clients")
    }

    async fn clients(&self) -> Result<Vec<StoredClient>> {
        Ok(sqlx::query("SELECT * FROM clients")
            .fetch_all(&self.pool)
            .await
            .context("read clients")?
            .iter()
            .map(client)
            .collect())
    }

    pub(crate) async fn client(&self, id: &str) -> Result<Option<StoredClient>> {
        let row = sqlx::query("SELECT * FROM clients WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .context("read client")?;
        Ok(row.as_ref().map(client))
    }

    /// Without regard to case.
    pub(crate) async fn user_by_name(&self, user_name: &str, origin: &str) -> Result<Option<User>> {
        let row = sqlx::query("SELECT * FROM users WHERE name_key = $1 AND origin = $2")
            .bind(user_name.to_lowercase())
            .bind(origin)
            .fetch_optional(&self.pool)
            .await
            .context("read user")?;
        self.with_groups(row).await
    }

    pub(crate) async fn user(&self, id: &str) -> Result<Option<User>> {
        let row = sqlx::query("SELECT * FROM users WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .context("read user")?;
        self.with_groups(row).await
    }

    async fn with_groups(&self, row: Option<SqliteRow>) -> Result<Option<User>> {
        let Some(row) = row else { return Ok(None) };
        let mut user = user(&row);
        let groups = sqlx::query("SELECT name FROM user_groups WHERE user_id = $1 ORDER BY name")
            .bind(&user.id)
            .fetch_all(&self.pool)
            .await
            .context("read groups")?;
        user.groups = groups.iter().map(|row| row.get("name")).collect();
        Ok(Some(user))
    }

    /// All of them, oldest first.
    pub(crate) async fn users(&self) -> Result<Vec<User>> {
        let mut groups: HashMap<String, Vec<String>> = HashMap::new();
        for row in sqlx::query("SELECT user_id, name FROM user_groups ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .context("read groups")?
        {
            groups
                .entry(row.get("user_id"))
                .or_default()
                .push(row.get("name"));
        }
        let rows = sqlx::query("SELECT * FROM users ORDER BY created_at, id")
            .fetch_all(&self.pool)
            .await
            .context("read users")?;
        Ok(rows
            .iter()
            .map(user)
            .map(|user| User {
                groups: groups.remove(&user.id).unwrap_or_default(),
                ..user
            })
            .collect())
    }

    /// An error that is a [`NameTaken`] when the name is taken in that origin.
    pub(crate) async fn create_user(&self, new: NewUser) -> Result<User> {
        let (id, now) = (uuid::Uuid::new_v4().to_string(), now());
        let mut tx = self.pool.begin().await.context("begin")?;
        let inserted = sqlx::query(
            "INSERT INTO users (id, user_name, name_key, origin, given_name, family_name, email, password_hash, created_at, updated_at, password_changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9)",
        )
        .bind(&id)
        .bind(&new.user_name)
        .bind(new.user_name.to_lowercase())
        .bind(&new.origin)
        .bind(&new.given_name)
        .bind(&new.family_name)
        .bind(&new.email)
        .bind(&new.password_hash)
        .bind(now)
        .execute(&mut *tx)
        .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(NameTaken(new.user_name).into());
            }
            inserted => inserted.context("store user")?,
        };
        insert_groups(&mut tx, &id, &new.groups).await?;
        tx.commit().await.context("commit user")?;
        self.user(&id)
            .await?
            .context("the user just created is gone")
    }

    pub(crate) async fn add_groups(&self, id: &str, groups: &[String]) -> Result<()> {
        let mut tx = self.pool.begin().await.context("begin")?;
        insert_groups(&mut tx, id, groups).await?;
        tx.commit().await.context("commit groups")
    }

    pub(crate) async fn set_password(&self, id: &str, hash: &str) -> Result<()> {
        sqlx::query("UPDATE users SET password_hash = $1, password_changed_at = $2, updated_at = $2, version = version + 1 WHERE id = $3")
            .bind(hash)
            .bind(now())
            .bind(id)
            .execute(&self.pool)
            .await
            .context("store password")?;
        Ok(())
    }

    /// Name, mail address; not the password.
    pub(crate) async fn update_user(&self, user: &User) -> Result<()> {
        let updated = sqlx::query("UPDATE users SET user_name = $1, name_key = $2, given_name = $3, family_name = $4, email = $5, updated_at = $6, version = version + 1 WHERE id = $7")
            .bind(&user.user_name)
            .bind(user.user_name.to_lowercase())
            .bind(&user.given_name)
            .bind(&user.family_name)
            .bind(&user.email)
            .bind(now())
            .bind(&user.id)
            .execute(&self.pool)
            .await;
        match updated {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(NameTaken(user.user_name.clone()).into())
            }
            updated => updated.map(drop).context("update user"),
        }
    }

    pub(crate) async fn delete_user(&self, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM users WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await
            .context("delete user")?;
        Ok(())
    }

    /// Ends all refresh tokens of a user.
    pub(crate) async fn end_tokens(&self, user_id: &str) -> Result<()> {
        sqlx::query("UPDATE users SET tokens_epoch = tokens_epoch + 1 WHERE id = $1")
            .bind(user_id)
            .execute(&self.pool)
            .await
            .context("end tokens")?;
        Ok(())
    }

    pub(crate) async fn revoke(&self, jti: &str, expires_at: i64) -> Result<()> {
        let mut tx = self.pool.begin().await.context("begin")?;
        sqlx::query("DELETE FROM revoked_tokens WHERE expires_at < $1")
            .bind(now())
            .execute(&mut *tx)
            .await
            .context("forget revoked tokens")?;
        sqlx::query("INSERT OR REPLACE INTO revoked_tokens (jti, expires_at) VALUES ($1, $2)")
            .bind(jti)
            .bind(expires_at)
            .execute(&mut *tx)
            .await
            .context("revoke token")?;
        tx.commit().await.context("commit revocation")
    }

    pub(crate) async fn is_revoked(&self, jti: &str) -> Result<bool> {
        Ok(sqlx::query("SELECT 1 FROM revoked_tokens WHERE jti = $1")
            .bind(jti)
            .fetch_optional(&self.pool)
            .await
            .context("read revoked tokens")?
            .is_some())
    }
}

async fn insert_groups(
    tx: &mut Transaction<'_, Sqlite>,
    id: &str,
    groups: &[String],
) -> Result<()> {
    for group in groups {
        sqlx::query("INSERT OR IGNORE INTO user_groups (user_id, name) VALUES ($1, $2)")
            .bind(id)
            .bind(group)
            .execute(&mut **tx)
            .await
            .context("store group")?;
    }
    Ok(())
}

fn user(row: &SqliteRow) -> User {
    User {
        id: row.get("id"),
        user_name: row.get("user_name"),
        origin: row.get("origin"),
        given_name: row.get("given_name"),
        family_name: row.get("family_name"),
        email: row.get("email"),
        password_hash: row.get("password_hash"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        password_changed_at: row.get("password_changed_at"),
        version: row.get("version"),
        tokens_epoch: row.get("tokens_epoch"),
        groups: Vec::new(),
    }
}

fn client(row: &SqliteRow) -> StoredClient {
    let words = |column: &str| {
        row.get::<String, _>(column)
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    StoredClient {
        id: row.get("id"),
        secret_hash: row.get("secret_hash"),
        scopes: words("scopes"),
        authorities: words("authorities"),
        grant_types: words("grant_types"),
        redirect_uri: row.get("redirect_uri"),
    }
}

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

//! The storage of users and clients, and of what several UAAs on one database share. All SQL of this component is here and in the
//! modules below.

mod clients;
mod codes;
mod failed_logins;
mod schema;
mod signing_keys;

pub(crate) use clients::{ClientTaken, StoredClient};
pub(crate) use codes::Code;

use anyhow::{Context as _, Result};
use kit::db::{
    AssertSqlSafe, Connection, Database, Error, FromCell, Location, Query, Reader, Row, query,
    query_scalar,
};
use std::collections::HashMap;

const USER: &str = "id, user_name, origin, given_name, family_name, email, password_hash, created_at, updated_at, password_changed_at, version, tokens_epoch, active";

#[derive(Clone, Debug)]
pub(crate) struct Db {
    database: Database,
}

#[derive(Clone, Default)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) user_name: String,
    /// The identity provider that knows the password; `uaa` means this server.
    pub(crate) origin: String,
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) email: String,
    /// The hash of the password. If it is `None`, the user cannot log in here.
    pub(crate) password_hash: Option<String>,
    /// The time of creation in Unix seconds. The next two fields are also in Unix seconds.
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) password_changed_at: i64,
    pub(crate) version: i64,
    /// A counter that is increased to revoke all tokens of the user.
    pub(crate) tokens_epoch: i64,
    /// Whether the user is active. A user who is not active cannot log in and has no valid token.
    pub(crate) active: bool,
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
    pub(crate) active: bool,
    pub(crate) groups: Vec<String>,
}

/// The error that a user name is taken.
#[derive(Debug, thiserror::Error)]
#[error("username already in use: {0}")]
pub(crate) struct NameTaken(pub(crate) String);

impl Db {
    pub(crate) async fn open(location: &Location) -> Result<Self> {
        Ok(Self {
            database: Database::open(location, &schema::SCHEMA).await?,
        })
    }

    async fn read(&self) -> Result<Reader> {
        self.database.read().await.context("read the database")
    }

    /// Returns the reason why no change can be written at present, if there is one.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.database.trouble()
    }

    /// Waits until every connection is returned, and closes them.
    pub(crate) async fn close(&self) {
        self.database.close().await;
    }

    /// Finds a user by name, without regard to case.
    pub(crate) async fn user_by_name(&self, user_name: &str, origin: &str) -> Result<Option<User>> {
        let query = users("WHERE name_key = $1 AND origin = $2");
        self.find(query.bind(user_name.to_lowercase()).bind(origin))
            .await
    }

    pub(crate) async fn user(&self, id: &str) -> Result<Option<User>> {
        self.find(users("WHERE id = $1").bind(id)).await
    }

    async fn find(&self, query: Query) -> Result<Option<User>> {
        let mut reader = self.read().await?;
        let row = query.fetch_optional(&mut reader).await;
        let Some(row) = row.context("read user")? else {
            return Ok(None);
        };
        let mut user = user(&row)?;
        let groups =
            kit::db::query("SELECT name FROM user_groups WHERE user_id = $1 ORDER BY name")
                .bind(&user.id)
                .fetch_all(&mut reader)
                .await
                .context("read groups")?;
        user.groups = groups
            .iter()
            .filter_map(|row| readable(column(row, "user_groups", "name")))
            .collect();
        Ok(Some(user))
    }

    /// Returns all users, oldest first.
    pub(crate) async fn users(&self) -> Result<Vec<User>> {
        let mut reader = self.read().await?;
        let mut groups: HashMap<String, Vec<String>> = HashMap::new();
        for row in query("SELECT user_id, name FROM user_groups ORDER BY name")
            .fetch_all(&mut reader)
            .await
            .context("read groups")?
        {
            let group = column(&row, "user_groups", "user_id")
                .and_then(|user: String| Ok((user, column(&row, "user_groups", "name")?)));
            if let Some((user, name)) = readable(group) {
                groups.entry(user).or_default().push(name);
            }
        }
        let rows = users("ORDER BY created_at, id")
            .fetch_all(&mut reader)
            .await
            .context("read users")?;
        Ok(rows
            .iter()
            .filter_map(|row| readable(user(row)))
            .map(|user| User {
                groups: groups.remove(&user.id).unwrap_or_default(),
                ..user
            })
            .collect())
    }

    /// Creates a user. The error is a [`NameTaken`] if the name is taken in that origin.
    pub(crate) async fn create_user(&self, new: NewUser) -> Result<User> {
        let (id, now) = (uuid::Uuid::new_v4().to_string(), now());
        let mut tx = self.database.begin().await.context("begin a transaction")?;
        let inserted = query(
            "INSERT INTO users (id, user_name, name_key, origin, given_name, family_name, email, password_hash, active, created_at, updated_at, password_changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $10)",
        )
        .bind(&id)
        .bind(&new.user_name)
        .bind(new.user_name.to_lowercase())
        .bind(&new.origin)
        .bind(&new.given_name)
        .bind(&new.family_name)
        .bind(&new.email)
        .bind(&new.password_hash)
        .bind(new.active)
        .bind(now)
        .execute(&mut tx)
        .await;
        match inserted {
            Err(Error::Database(error)) if error.is_unique_violation() => {
                return Err(NameTaken(new.user_name).into());
            }
            inserted => inserted.context("store user")?,
        };
        insert_groups(&mut tx, &id, &new.groups).await?;
        tx.commit().await.context("commit user")?;
        self.user(&id)
            .await?
            .context("the user that was just created does not exist")
    }

    pub(crate) async fn add_groups(&self, id: &str, groups: &[String]) -> Result<()> {
        let mut tx = self.database.begin().await.context("begin a transaction")?;
        insert_groups(&mut tx, id, groups).await?;
        tx.commit().await.context("commit groups")
    }

    pub(crate) async fn set_password(&self, id: &str, hash: &str) -> Result<()> {
        self.database.execute(query("UPDATE users SET password_hash = $1, password_changed_at = $2, updated_at = $2, version = version + 1 WHERE id = $3")
            .bind(hash)
            .bind(now())
            .bind(id))
            .await
            .context("store password")?;
        Ok(())
    }

    /// Stores name, mail address and activity of a user, but not the password.
    pub(crate) async fn update_user(&self, user: &User) -> Result<()> {
        let updated = self.database.execute(query("UPDATE users SET user_name = $1, name_key = $2, given_name = $3, family_name = $4, email = $5, active = $6, updated_at = $7, version = version + 1 WHERE id = $8")
            .bind(&user.user_name)
            .bind(user.user_name.to_lowercase())
            .bind(&user.given_name)
            .bind(&user.family_name)
            .bind(&user.email)
            .bind(user.active)
            .bind(now())
            .bind(&user.id))
            .await;
        match updated {
            Err(Error::Database(error)) if error.is_unique_violation() => {
                Err(NameTaken(user.user_name.clone()).into())
            }
            updated => updated.map(drop).context("update user"),
        }
    }

    pub(crate) async fn delete_user(&self, id: &str) -> Result<()> {
        self.database
            .execute(query("DELETE FROM users WHERE id = $1").bind(id))
            .await
            .context("delete user")?;
        Ok(())
    }

    /// Revokes all tokens of a user.
    pub(crate) async fn end_tokens_of_user(&self, user_id: &str) -> Result<()> {
        self.database
            .execute(
                query("UPDATE users SET tokens_epoch = tokens_epoch + 1 WHERE id = $1")
                    .bind(user_id),
            )
            .await
            .context("end a user's tokens")?;
        Ok(())
    }

    /// Revokes the tokens that a user got through one client.
    pub(crate) async fn end_tokens_of_pair(&self, user_id: &str, client_id: &str) -> Result<()> {
        self.database
            .execute(
                query(
                    "INSERT INTO token_epochs (user_id, client_id, epoch) VALUES ($1, $2, 1)
             ON CONFLICT (user_id, client_id) DO UPDATE SET epoch = token_epochs.epoch + 1",
                )
                .bind(user_id)
                .bind(client_id),
            )
            .await
            .context("end a user's tokens of one client")?;
        Ok(())
    }

    /// Returns how often the tokens that a user got through a client were revoked.
    pub(crate) async fn epoch_of_pair(&self, user_id: &str, client_id: &str) -> Result<i64> {
        let row = query("SELECT epoch FROM token_epochs WHERE user_id = $1 AND client_id = $2")
            .bind(user_id)
            .bind(client_id)
            .fetch_optional(&mut *self.read().await?)
            .await
            .context("read token epoch")?;
        row.map_or(Ok(0), |row| column(&row, "token_epochs", "epoch"))
    }

    /// Returns whether users of this origin exist or may exist.
    pub(crate) async fn knows_origin(&self, origin: &str) -> Result<bool> {
        if origin == "uaa" {
            return Ok(true);
        }
        let found: Option<i64> = query_scalar("SELECT 1 FROM users WHERE origin = $1 LIMIT 1")
            .bind(origin)
            .fetch_optional(&mut *self.read().await?)
            .await
            .context("read origins")?;
        Ok(found.is_some())
    }

    pub(crate) async fn revoke(&self, jti: &str, expires_at: i64) -> Result<()> {
        let mut tx = self.database.begin().await.context("begin a transaction")?;
        query("DELETE FROM revoked_tokens WHERE expires_at < $1")
            .bind(now())
            .execute(&mut tx)
            .await
            .context("delete expired revocations")?;
        query("INSERT INTO revoked_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT (jti) DO UPDATE SET expires_at = excluded.expires_at")
            .bind(jti)
            .bind(expires_at)
            .execute(&mut tx)
            .await
            .context("revoke token")?;
        tx.commit().await.context("commit revocation")
    }

    /// Returns whether one of the two was revoked.
    pub(crate) async fn is_revoked(&self, jti: &str, session: &str) -> Result<bool> {
        let found: Option<i64> = query_scalar("SELECT 1 FROM revoked_tokens WHERE jti IN ($1, $2)")
            .bind(jti)
            .bind(session)
            .fetch_optional(&mut *self.read().await?)
            .await
            .context("read revoked tokens")?;
        Ok(found.is_some())
    }
}

async fn insert_groups(tx: &mut Connection, id: &str, groups: &[String]) -> Result<()> {
    for group in groups {
        query("INSERT INTO user_groups (user_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(id)
            .bind(group)
            .execute(tx)
            .await
            .context("store group")?;
    }
    Ok(())
}

/// Begins a statement that reads users.
fn users(condition: &str) -> Query {
    query(AssertSqlSafe(format!(
        "SELECT {USER} FROM users {condition}"
    )))
}

fn user(row: &Row) -> Result<User> {
    Ok(User {
        id: column(row, "users", "id")?,
        user_name: column(row, "users", "user_name")?,
        origin: column(row, "users", "origin")?,
        given_name: column(row, "users", "given_name")?,
        family_name: column(row, "users", "family_name")?,
        email: column(row, "users", "email")?,
        password_hash: column(row, "users", "password_hash")?,
        created_at: column(row, "users", "created_at")?,
        updated_at: column(row, "users", "updated_at")?,
        password_changed_at: column(row, "users", "password_changed_at")?,
        version: column(row, "users", "version")?,
        tokens_epoch: column(row, "users", "tokens_epoch")?,
        active: column(row, "users", "active")?,
        groups: Vec::new(),
    })
}

/// Returns one value. The error names the row by its first column.
fn column<'r, T>(row: &'r Row, table: &str, name: &str) -> Result<T>
where
    T: FromCell<'r>,
{
    row.try_get(name).with_context(|| {
        let key: String = row.try_get(0).unwrap_or_default();
        format!(
            "column {name} of the row {key:?} in the table {table} of the UAA's database is damaged"
        )
    })
}

/// Logs a damaged row and drops it, so that the other rows are served.
fn readable<T>(row: Result<T>) -> Option<T> {
    row.inspect_err(|error| tracing::error!(error = format!("{error:#}"), "row-damaged"))
        .ok()
}

/// Returns the time in Unix seconds.
pub(crate) fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

/// Returns the SHA-256 digest of a text, for what must be found again but not read.
fn digest(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        text.as_bytes(),
    ))
}

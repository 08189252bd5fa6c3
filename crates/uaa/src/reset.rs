//! Sets a user's password on the machine itself, for an operator who has lost the password of the last administrator.
//!
//! `cupola reset-password` calls it, even while the UAA runs: both use the same database, and the UAA reads it again for every
//! request. It requires nothing but access to the database's file, or to the configuration with the URL of the database server.

use crate::{db, password};
use anyhow::{Context as _, Result, bail};
use kit::db::{Location, Server};
use std::path::Path;

/// The maximum number of names that an error lists.
const LISTED: usize = 20;

/// The result of a reset.
#[derive(Debug)]
pub struct Reset {
    /// The user's name in the spelling of the database.
    pub user_name: String,
    /// Whether the user could not log in before, because somebody had deactivated it.
    pub was_inactive: bool,
}

/// Sets the password of `user_name` in the UAA of `data_dir` ([`crate::Config::data_dir`]), or of the database server if one is
/// configured. All tokens of the user are revoked, and a user that was deactivated can log in again.
pub async fn reset_password(
    data_dir: &Path,
    database: Option<&Server>,
    user_name: &str,
    new: &str,
) -> Result<Reset> {
    if new.is_empty() || new.len() > crate::api::MAX_PASSWORD || new.chars().any(char::is_control) {
        bail!(
            "the new password must have 1 to {} bytes and no control characters",
            crate::api::MAX_PASSWORD
        );
    }
    let location = crate::location(database, data_dir);
    if let Location::File(path) = &location {
        check_file(path, data_dir)?;
    }
    let db = db::Db::open(&location).await?;
    let Some(mut user) = db.user_by_name(user_name, "uaa").await? else {
        let users = db.users().await?;
        let mut names: Vec<_> = users
            .iter()
            .filter(|user| user.origin == "uaa")
            .map(|user| user.user_name.as_str())
            .collect();
        names.sort_unstable();
        names.truncate(LISTED);
        bail!(
            "user {user_name:?} does not exist in this UAA: name one of {}",
            names.join(", ")
        );
    };
    let text = new.to_owned();
    let hash = tokio::task::spawn_blocking(move || password::hash(&text, password::USER))
        .await
        .context("hash password")?;
    let was_inactive = !user.active;
    if was_inactive {
        user.active = true;
        db.update_user(&user).await?;
    }
    db.set_password(&user.id, &hash).await?;
    db.end_tokens_of_user(&user.id).await?;
    Ok(Reset {
        user_name: user.user_name,
        was_inactive,
    })
}

/// Checks that the file of a UAA exists, so that no empty one is created.
fn check_file(path: &Path, data_dir: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "there is no UAA in {}: name the foundation's data directory with --data, or start the foundation once",
            data_dir.display()
        ),
        Err(error) => Err(error).with_context(|| {
            format!(
                "read {}: run this as the user that runs the foundation (root)",
                path.display()
            )
        }),
    }
}

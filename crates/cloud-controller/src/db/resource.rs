//! The files that were uploaded to each space, by the SHA-1 and size under which clients name them.

use super::{Arg, Connection, execute, readable_rows};
use crate::bits::resources::{Kept, Resource};
use kit::db::query;
use std::collections::HashMap;

/// Returns the contents (SHA-256), by SHA-1 and size, that were uploaded to a space in which this user develops. `None` means
/// any space.
pub(crate) async fn known(
    conn: &mut Connection,
    developer: Option<&str>,
    resources: &[Resource],
) -> sqlx::Result<HashMap<(String, i64), String>> {
    let wanted = Arg::texts(resources.iter().map(|resource| resource.sha1.as_str()));
    let rows = query(
        "SELECT sha1, size, sha256 FROM resources WHERE sha1 IN LIST($1)
         AND ($2 = 1 OR space_guid IN (SELECT space_guid FROM roles WHERE user_guid = $3 AND type = 'space_developer')) ORDER BY used_at",
    )
    .bind(wanted)
    .bind(developer.is_none())
    .bind(developer.unwrap_or_default())
    .fetch_all(conn)
    .await?;
    let known = readable_rows(&rows, |row| {
        Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))
    });
    Ok(known.into_iter().collect())
}

pub(crate) async fn keep(conn: &mut Connection, space: &str, kept: &[Kept]) -> sqlx::Result<()> {
    let now = crate::clock::now();
    for file in kept {
        let args: [Arg; 5] = [
            space.into(),
            file.sha1.as_str().into(),
            file.size.into(),
            file.sha256.as_str().into(),
            now.into(),
        ];
        execute(
            conn,
            "INSERT INTO resources (space_guid, sha1, size, sha256, used_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (space_guid, sha1, size) DO UPDATE SET sha256 = $4, used_at = $5",
            &args,
        )
        .await?;
    }
    Ok(())
}

/// Removes the entries that were not used for the longest time, until the rest has at most `most` bytes. Returns the removed
/// contents.
pub(crate) async fn remove_surplus(conn: &mut Connection, most: u64) -> sqlx::Result<Vec<String>> {
    let rows =
        query("SELECT sha256, MAX(size) FROM resources GROUP BY sha256 ORDER BY MAX(used_at) DESC")
            .fetch_all(&mut *conn)
            .await?;
    let (mut total, mut forgotten) = (0_u64, Vec::new());
    let known: Vec<(String, i64)> =
        readable_rows(&rows, |row| Ok((row.try_get(0)?, row.try_get(1)?)));
    for (sha256, size) in known {
        total = total.saturating_add(u64::try_from(size).unwrap_or_default());
        if total > most {
            execute(
                conn,
                "DELETE FROM resources WHERE sha256 = $1",
                &[sha256.as_str().into()],
            )
            .await?;
            forgotten.push(sha256);
        }
    }
    Ok(forgotten)
}

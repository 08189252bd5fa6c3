//! The storage of one-time codes. A code is stored as a digest.

use super::{Db, column, digest, now};
use anyhow::{Context as _, Result};
use kit::db::{query, query_scalar};

/// The maximum number of codes that wait to be used.
const MAX_CODES: i64 = 10_000;

#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) client_id: String,
    pub(crate) user_id: String,
    /// The signature of the tokens of user and client when the code was issued. Whatever revokes these tokens also revokes the
    /// code.
    pub(crate) rev_sig: String,
    /// The redirect URI that the request for the code named; empty if it named none. The request for the token must name it again.
    pub(crate) redirect_uri: String,
    /// The SHA-256 of the secret that the request for the token must have (PKCE), in base64url; empty if there is none.
    pub(crate) challenge: String,
    /// The time in Unix seconds from which the code is not accepted.
    pub(crate) expires_at: i64,
}

impl Db {
    /// Stores a code. Returns `false` if too many codes are stored already.
    pub(crate) async fn store_code(&self, text: &str, code: &Code) -> Result<bool> {
        let mut tx = self.database.begin().await.context("begin a transaction")?;
        query("DELETE FROM one_time_codes WHERE expires_at <= $1")
            .bind(now())
            .execute(&mut tx)
            .await
            .context("delete expired codes")?;
        let waiting: i64 = query_scalar("SELECT COUNT(*) FROM one_time_codes")
            .fetch_one(&mut tx)
            .await
            .context("count the codes")?;
        if waiting >= MAX_CODES {
            return Ok(false);
        }
        query(
            "INSERT INTO one_time_codes (code, client_id, user_id, rev_sig, expires_at, redirect_uri, code_challenge)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(digest(text))
        .bind(&code.client_id)
        .bind(&code.user_id)
        .bind(&code.rev_sig)
        .bind(code.expires_at)
        .bind(&code.redirect_uri)
        .bind(&code.challenge)
        .execute(&mut tx)
        .await
        .context("store code")?;
        tx.commit().await.context("commit code")?;
        Ok(true)
    }

    /// Removes a code and returns it. A code works once, even if the wrong client presents it.
    pub(crate) async fn take_code(&self, text: &str) -> Result<Option<Code>> {
        let mut tx = self.database.begin().await.context("begin a transaction")?;
        let row = query(
            "DELETE FROM one_time_codes WHERE code = $1
             RETURNING client_id, user_id, rev_sig, expires_at, redirect_uri, code_challenge",
        )
        .bind(digest(text))
        .fetch_optional(&mut tx)
        .await
        .context("take code")?;
        tx.commit().await.context("commit the use of a code")?;
        let Some(row) = row else { return Ok(None) };
        let column = |name| column(&row, "one_time_codes", name);
        let code = Code {
            client_id: column("client_id")?,
            user_id: column("user_id")?,
            rev_sig: column("rev_sig")?,
            redirect_uri: column("redirect_uri")?,
            challenge: column("code_challenge")?,
            expires_at: row.try_get("expires_at")?,
        };
        Ok((now() < code.expires_at).then_some(code))
    }
}

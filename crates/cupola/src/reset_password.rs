//! `cupola reset-password USER` sets a new password for a user of the foundation's UAA, even if nobody can log in any more.
//!
//! It works on the UAA's database, which is in the data directory unless the configuration file names a database server, whether
//! or not the foundation runs. The password is read from standard
//! input (`--stdin`) or generated and printed. It is not an argument, because arguments are visible to everybody on the machine.

use crate::config::Config;
use crate::plan::random_hex;
use crate::terminal::print;
use anyhow::{Context as _, Result, ensure};
use std::io::Read as _;

/// The maximum number of bytes that are read.
const LONGEST: u64 = 4096;

pub(crate) async fn run(config: &Config, user: &str, from_stdin: bool) -> Result<()> {
    let (password, made) = if from_stdin {
        (read()?, false)
    } else {
        (random_hex(10), true)
    };
    let data = config.data.join("uaa");
    let reset = uaa::reset_password(&data, config.database.as_ref(), user, &password)
        .await
        .with_context(|| format!("reset the password of {user:?}"))?;
    let mut lines = vec![format!("User:     {}", reset.user_name)];
    if made {
        lines.push(format!("Password: {password}   (shown only now)"));
    }
    if reset.was_inactive {
        lines.push("The user was not active, and can log in again now.".into());
    }
    lines.push("All tokens of this user that were issued before are refused from now on.\n".into());
    print(&lines.join("\n"))
}

/// Reads the first line of standard input.
fn read() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(LONGEST)
        .read_to_string(&mut text)
        .context("read the new password from standard input")?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    ensure!(
        !line.is_empty(),
        "standard input has no password: write it on one line, or leave --stdin out to get one made"
    );
    Ok(line)
}

//! The programs of PostgreSQL as Debian installs them, and the user that they run as.

use anyhow::{Context as _, Result};
use nix::unistd::{Uid, User};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The folder with a folder for each installed version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The programs of one version.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    /// The number of the version: 15.
    pub(crate) version: u32,
    /// The user as which they run, if this process is root's. The server refuses to run as root.
    pub(crate) user: Option<User>,
}

impl Programs {
    /// Finds the newest version, or the one that made a server's data.
    pub(crate) fn find(of_data: Option<u32>) -> Result<Self> {
        Self::find_in(Path::new(VERSIONS), of_data)
    }

    fn find_in(folder: &Path, of_data: Option<u32>) -> Result<Self> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let installed: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|version: &u32| {
                let programs = folder.join(version.to_string()).join("bin");
                programs.join("postgres").is_file() && programs.join("pg_dump").is_file()
            })
            .collect();
        let version = match of_data {
            Some(version) => installed.into_iter().find(|other| *other == version).with_context(|| {
                format!(
                    "the data was made by PostgreSQL {version}, which is not installed: install it with `apt-get install postgresql-{version}`, or upgrade the data with pg_upgrade"
                )
            })?,
            None => installed.into_iter().max().context(
                "no PostgreSQL is installed: install it with `apt-get install postgresql`, or name a server with postgres.url",
            )?,
        };
        Ok(Self {
            folder: folder.join(version.to_string()).join("bin"),
            version,
            user: user()?,
        })
    }

    /// Returns the programs as they run for this process's own user. The clients need no other.
    pub(crate) fn for_this_user(self) -> Self {
        Self { user: None, ..self }
    }

    /// Returns the path of a program.
    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// Returns a command that runs a program as the user, without the variables of this process.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command.current_dir("/").env_clear();
        command
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8");
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.kill_on_drop(true);
        command
    }
}

/// Returns the user of the programs; `None` if this process has no choice because it is not root's.
fn user() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let user = |name| User::from_name(name).ok().flatten();
    let found = user("postgres").or_else(|| user("nobody"));
    found
        .map(Some)
        .context("the machine has no user postgres: install Debian's package postgresql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_data_is_found_or_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15", "17"] {
            let programs = folder.path().join(version).join("bin");
            std::fs::create_dir_all(&programs).unwrap();
            for program in ["postgres", "pg_dump"] {
                std::fs::write(programs.join(program), "").unwrap();
            }
        }
        // A version of which only the clients are installed.
        std::fs::create_dir_all(folder.path().join("18/bin")).unwrap();
        let find = |of_data| Programs::find_in(folder.path(), of_data);
        if user().is_err() {
            return;
        }
        assert_eq!(find(None).unwrap().version, 17);
        assert_eq!(find(Some(15)).unwrap().version, 15);
        let error = find(Some(16)).unwrap_err().to_string();
        assert!(error.contains("postgresql-16"), "{error}");
        let error = Programs::find_in(Path::new("/nowhere"), None).unwrap_err();
        assert!(error.to_string().contains("apt-get install postgresql"));
    }
}

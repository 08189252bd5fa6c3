//! The files of the server: its folder, its data, its certificate, and who may connect.

use crate::config::OwnServer;
use crate::db;
use crate::programs::Programs;
use crate::scram;
use crate::secrets::salt;
use crate::server::ADMIN;
use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use kit::private_file;
use nix::unistd::{User, chown};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;

/// The file with the digest of the administrator's password that the data has.
const ADMINISTRATOR: &str = "administrator";

/// The clients that may connect, with TLS and a password: the administrator from this machine, and all others from everywhere.
fn clients() -> String {
    let mut text = String::new();
    for own in ["127.0.0.0/8", "::1/128"] {
        text.push_str(&format!("hostssl all {ADMIN} {own} scram-sha-256\n"));
    }
    text.push_str(&format!("hostssl all {ADMIN} all reject\n"));
    text.push_str("hostssl all all all scram-sha-256\n");
    text
}

/// The folder of a server. It belongs to this process's user, so that the server cannot lead us to other files by links: only `data`
/// and `log` belong to the server.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Creates the folder.
    pub(super) fn open(path: &Path, user: Option<&User>) -> Result<Self> {
        std::fs::create_dir_all(path.join("log"))
            .with_context(|| format!("create {}", path.display()))?;
        let folder = Self(path.to_owned());
        folder.give(path, None, 0o711)?;
        folder.give(&path.join("log"), user, 0o700)?;
        if let Some(user) = user {
            check_passable(path, user)?;
        }
        Ok(folder)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn give(&self, path: &Path, user: Option<&User>, mode: u32) -> Result<()> {
        if let Some(user) = user {
            chown(path, Some(user.uid), Some(user.gid))
                .with_context(|| format!("give {} to the user {}", path.display(), user.name))?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .with_context(|| format!("change the mode of {}", path.display()))
    }

    /// Writes a file that only the server's user may read.
    fn write(&self, name: &str, text: &str, user: Option<&User>) -> Result<()> {
        let path = self.path(name);
        match user {
            Some(user) => private_file::replace_for(&path, text, user),
            None => private_file::replace(&path, text),
        }
    }

    /// Writes the certificate, its authority, and who may connect.
    pub(super) fn write_settings(&self, own: &OwnServer, user: Option<&User>) -> Result<()> {
        self.write("server.crt", &own.identity.cert_pem, user)?;
        self.write("server.key", &own.identity.key_pem, user)?;
        self.write("ca.crt", &own.identity.ca_pem, user)?;
        self.write("pg_hba.conf", &clients(), user)
    }

    /// Returns the version of PostgreSQL that made the data; `None` if there is none.
    pub(super) fn version(&self) -> Result<Option<u32>> {
        let file = self.data().join("PG_VERSION");
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                let number = text.trim().parse();
                number
                    .map(Some)
                    .with_context(|| format!("read the version in {}", file.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }

    /// Makes the data, if there is none.
    pub(super) async fn initialise(&self, programs: &Programs, password: &str) -> Result<()> {
        if self.version()?.is_some() {
            return Ok(());
        }
        let user = programs.user.as_ref();
        let (data, new) = (self.data(), self.path("data.new"));
        ensure!(
            !data.exists(),
            "{} exists and has no data of PostgreSQL: move it away, or choose another folder with postgres.server.folder",
            data.display()
        );
        // An attempt that broke off left it.
        if new.exists() {
            std::fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))?;
        }
        std::fs::create_dir(&new).with_context(|| format!("create {}", new.display()))?;
        self.give(&new, user, 0o700)?;
        self.write("password", password, user)?;
        let made = programs
            .command("initdb")
            .arg(format!("--pgdata={}", new.display()))
            .arg(format!("--username={ADMIN}"))
            .arg(format!("--pwfile={}", self.path("password").display()))
            .args(["--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--data-checksums"])
            .stdin(Stdio::null())
            .output()
            .await;
        let _ = std::fs::remove_file(self.path("password"));
        let made = made.context("start initdb")?;
        if !made.status.success() {
            bail!(
                "initdb made no data in {}: {}",
                new.display(),
                String::from_utf8_lossy(&made.stderr).trim()
            );
        }
        std::fs::rename(&new, &data).with_context(|| format!("create {}", data.display()))?;
        self.note(password)
    }

    /// Returns whether the data has this password of the administrator.
    pub(super) fn has_password(&self, password: &str) -> bool {
        let noted = std::fs::read_to_string(self.path(ADMINISTRATOR));
        noted.is_ok_and(|noted| noted == digest_of(password))
    }

    fn note(&self, password: &str) -> Result<()> {
        self.write(ADMINISTRATOR, &digest_of(password), None)
    }

    /// Sets the administrator's password. The server must not run: PostgreSQL runs for this one statement.
    pub(super) async fn set_password(&self, programs: &Programs, password: &str) -> Result<()> {
        let verifier = scram::verifier(password, salt());
        let statement = db::password_of_administrator(ADMIN, &verifier);
        let mut command = programs.command("postgres");
        command
            .args(["--single", "-D"])
            .arg(self.data())
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("start PostgreSQL")?;
        if let Some(mut input) = child.stdin.take() {
            // A process that does not read has ended, and prints why.
            let _ = input.write_all(statement.as_bytes()).await;
        }
        let output = child.wait_with_output().await.context("run PostgreSQL")?;
        let printed = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && !printed.contains("ERROR:"),
            "the administrator's password was not set ({}): {}",
            output.status,
            printed.trim()
        );
        self.note(password)
    }

    /// Returns the end of what the server printed at its start.
    pub(super) fn printed(&self) -> String {
        let text = std::fs::read(self.path("startup.log")).unwrap_or_default();
        let from = text.len().saturating_sub(500);
        String::from_utf8_lossy(&text[from..]).trim().to_owned()
    }
}

fn digest_of(password: &str) -> String {
    hex::encode(digest(&SHA256, password.as_bytes()))
}

/// Checks that the user passes every folder above the server's.
fn check_passable(path: &Path, user: &User) -> Result<()> {
    for folder in path.ancestors().skip(1) {
        let about =
            std::fs::metadata(folder).with_context(|| format!("examine {}", folder.display()))?;
        let is_passable = match about.uid() == user.uid.as_raw() {
            true => about.mode() & 0o100 != 0,
            false => about.mode() & 0o001 != 0,
        };
        ensure!(
            is_passable,
            "the user {} cannot pass {}, in which the server's folder {} is: `chmod o+x {}`, or choose another folder with postgres.server.folder",
            user.name,
            folder.display(),
            path.display(),
            folder.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_has_no_version_at_first() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("postgres");
        let folder = Folder::open(&path, None).unwrap();
        assert_eq!(folder.version().unwrap(), None);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("log"))), (0o711, 0o700));
        folder.write("server.key", "key", None).unwrap();
        assert_eq!(mode(&folder.path("server.key")), 0o600);
        std::fs::create_dir(folder.data()).unwrap();
        std::fs::write(folder.data().join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(folder.version().unwrap(), Some(15));
        std::fs::write(folder.path("startup.log"), "x".repeat(600) + "end\n").unwrap();
        assert!(folder.printed().ends_with("xend") && folder.printed().len() < 500);
        assert!(!folder.has_password("sesame"));
        folder.note("sesame").unwrap();
        assert!(folder.has_password("sesame") && !folder.has_password("other"));
    }

    #[test]
    fn a_folder_that_the_user_cannot_pass_is_named() {
        let place = tempfile::tempdir().unwrap();
        let closed = place.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        let Some(nobody) = User::from_name("nobody").ok().flatten() else {
            return;
        };
        let error = check_passable(&closed.join("postgres"), &nobody).unwrap_err();
        assert!(error.to_string().contains("chmod o+x"), "{error}");
    }
}

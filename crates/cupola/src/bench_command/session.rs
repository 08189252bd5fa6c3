//! A user at the API, with the built-in cf client: the login of the user's own cf CLI, or one with a password in a folder of its own,
//! which leaves that of the cf CLI alone.

use anyhow::{Context as _, Result, ensure};
use cf_cli::{Environment, Saved};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

#[derive(Debug)]
pub(super) struct Session {
    vars: BTreeMap<String, String>,
    /// The folder of the login with a password.
    _home: Option<TempDir>,
}

impl Session {
    /// Uses the login of the user's cf CLI, if there is one.
    pub(super) fn of_cf() -> Self {
        let mut vars = Environment::of_process().vars;
        // These would add to what a command prints.
        for name in ["CF_TRACE", "CF_COLOR", "CF_USERNAME", "CF_PASSWORD"] {
            vars.remove(name);
        }
        Self { vars, _home: None }
    }

    /// Logs a user in.
    pub(super) async fn log_in(
        api: &str,
        skip_ssl_validation: bool,
        user: &str,
        password: &str,
    ) -> Result<Self> {
        let home = tempfile::tempdir().context("make a folder for the login")?;
        let mut vars = Self::of_cf().vars;
        let path = home.path().to_string_lossy().into_owned();
        vars.insert("CF_HOME".to_owned(), path);
        let mut session = Self {
            vars,
            _home: Some(home),
        };
        let skip = skip_ssl_validation.then_some("--skip-ssl-validation");
        let arguments: Vec<&str> = ["api", api].into_iter().chain(skip).collect();
        session.cf(None, &arguments).await?;
        for (name, value) in [("CF_USERNAME", user), ("CF_PASSWORD", password)] {
            session.vars.insert(name.to_owned(), value.to_owned());
        }
        let authenticated = session.cf(None, &["auth"]).await;
        session.vars.remove("CF_PASSWORD");
        authenticated.with_context(|| format!("log in to {api} as {user}"))?;
        Ok(session)
    }

    fn environment(&self, folder: Option<&Path>, output: &Arc<Mutex<Vec<u8>>>) -> Environment {
        let here = || std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Environment {
            vars: self.vars.clone(),
            cwd: folder.map_or_else(here, Path::to_owned),
            stdin: Box::new(std::io::empty()),
            stdout: output.clone(),
            stderr: output.clone(),
            stdin_is_terminal: false,
            stdout_is_terminal: false,
            hosts_file: PathBuf::from("/etc/hosts"),
        }
    }

    /// Runs `cf …` in a folder, and returns what it printed.
    pub(super) async fn cf(&self, folder: Option<&Path>, arguments: &[&str]) -> Result<String> {
        let output = Arc::default();
        let environment = self.environment(folder, &output);
        let words = arguments.iter().map(ToString::to_string).collect();
        let code = cf_cli::run_in(words, environment).await;
        let bytes = output.lock().unwrap_or_else(PoisonError::into_inner);
        let printed = String::from_utf8_lossy(&bytes).trim().to_owned();
        ensure!(
            code == 0,
            "cf {} ended with {code}: {printed}",
            arguments.first().unwrap_or(&"")
        );
        Ok(printed)
    }

    /// Returns the API and the target; `None` if nobody is logged in.
    pub(super) fn saved(&self) -> Result<Option<Saved>> {
        cf_cli::saved(&self.environment(None, &Arc::default()))
    }

    /// Returns the value of the header `Authorization`. It is valid for a minute at least.
    pub(super) async fn token(&self) -> Result<String> {
        let printed = self.cf(None, &["oauth-token"]).await?;
        let mut lines = printed.lines().map(str::trim);
        let token = lines.find(|line| line.to_ascii_lowercase().starts_with("bearer "));
        let token = token.context("cf oauth-token printed no token: log in again")?;
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_fails_shows_what_it_printed() {
        let home = tempfile::tempdir().unwrap();
        let mut session = Session::of_cf();
        let path = home.path().to_string_lossy().into_owned();
        session.vars.insert("CF_HOME".into(), path);
        assert_eq!(session.saved().unwrap(), None);
        let error = session.token().await.unwrap_err().to_string();
        assert!(error.contains("cf oauth-token ended with 1: "), "{error}");
    }
}

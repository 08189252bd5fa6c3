//! A person at a terminal.

use crate::platform::{self, Platform};
use cf_cli::Environment;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A person with a home directory, a folder with an app, and a platform.
pub(crate) struct Person {
    pub(crate) home: tempfile::TempDir,
    pub(crate) app: PathBuf,
    pub(crate) platform: Platform,
}

pub(crate) type Output = Arc<Mutex<Vec<u8>>>;

pub(crate) struct Seen {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Person {
    pub(crate) async fn new() -> Self {
        Self::of(platform::start(None).await)
    }

    pub(crate) fn of(platform: Platform) -> Self {
        let home = tempfile::tempdir().unwrap();
        let app = home.path().join("app");
        std::fs::create_dir(&app).unwrap();
        std::fs::write(app.join("server"), vec![b'x'; 70_000]).unwrap();
        std::fs::set_permissions(app.join("server"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        std::fs::write(app.join("debug.log"), "no").unwrap();
        std::fs::write(app.join(".cfignore"), "*.log\n").unwrap();
        std::fs::write(app.join("index.html"), "<p>").unwrap();
        Self {
            home,
            app,
            platform,
        }
    }

    pub(crate) async fn types(&self, line: &str) -> Seen {
        self.answers(line, "").await
    }

    /// Returns an environment without input: no variables but HOME, and no terminal.
    fn environment(&self) -> (Environment, Output, Output) {
        let (out, err) = (Output::default(), Output::default());
        let environment = Environment {
            vars: BTreeMap::from([("HOME".to_owned(), self.home.path().display().to_string())]),
            cwd: self.app.clone(),
            stdin: Box::new(&b""[..]),
            stdout: out.clone(),
            stderr: err.clone(),
            stdin_is_terminal: false,
            stdout_is_terminal: false,
            hosts_file: self.home.path().join("hosts"),
        };
        (environment, out, err)
    }

    pub(crate) async fn answers(&self, line: &str, input: &'static str) -> Seen {
        let args = line.split_whitespace().collect::<Vec<_>>();
        self.runs(&args, |e| e.stdin = Box::new(input.as_bytes()))
            .await
    }

    pub(crate) async fn runs(&self, args: &[&str], change: impl FnOnce(&mut Environment)) -> Seen {
        let (mut environment, out, err) = self.environment();
        change(&mut environment);
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let code = cf_cli::run_in(args, environment).await;
        let text =
            |bytes: &Arc<Mutex<Vec<u8>>>| String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
        Seen {
            code,
            out: text(&out),
            err: text(&err),
        }
    }

    pub(crate) async fn logs_in(&self) {
        let url = self.platform.lock().unwrap().url.clone();
        let seen = self
            .types(&format!("login -a {url} -u admin -p secret"))
            .await;
        assert_eq!(seen.code, 0, "{}{}", seen.out, seen.err);
    }

    pub(crate) fn config(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.home.path().join(".cf/config.json")).unwrap())
            .unwrap()
    }

    pub(crate) fn requests(&self, path: &str) -> usize {
        self.platform
            .lock()
            .unwrap()
            .requests
            .iter()
            .filter(|r| r.ends_with(path))
            .count()
    }
}

impl Person {
    pub(crate) async fn logs_in_but_expired(&self) {
        self.platform.lock().unwrap().token_seconds = 600;
        self.logs_in().await;
        let path = self.home.path().join(".cf/config.json");
        let mut config = self.config();
        config["AccessToken"] = "bearer e30.eyJ1c2VyX25hbWUiOiJhZG1pbiIsImV4cCI6MX0.x".into();
        config["RefreshToken"] = "gone".into();
        std::fs::write(path, config.to_string()).unwrap();
    }
}

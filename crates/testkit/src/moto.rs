//! A real server of S3: moto of PyPI, which `scripts/setup-tests` installs.

use crate::http;
use crate::net::free_port;
use crate::wait::wait_for;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A server of S3 on 127.0.0.1. It accepts every access key. It is killed when it is dropped.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    /// Starts a server, and waits until it answers. Returns `None` if it is not installed, unless all tests must run
    /// (`CUPOLA_ROOT_TESTS=1`).
    pub async fn start() -> Option<Self> {
        let cache = std::env::var_os("CUPOLA_CACHE").unwrap_or_else(|| "/var/cache/cupola".into());
        let program = PathBuf::from(cache).join("suites-venv/bin/moto_server");
        if !program.exists() {
            let must_run = std::env::var("CUPOLA_ROOT_TESTS").as_deref() == Ok("1");
            assert!(
                !must_run,
                "{} does not exist: install it with scripts/setup-tests",
                program.display()
            );
            return None;
        }
        let port = free_port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start moto_server");
        let moto = Self { child, port };
        let client = http::client();
        wait_for("moto to answer", async || {
            client.get(moto.endpoint()).send().await.map(drop)
        })
        .await;
        Some(moto)
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Creates a bucket.
    pub async fn create(&self, bucket: &str) {
        let url = format!("{}/{bucket}", self.endpoint());
        let created = http::client().put(url).send().await;
        let status = created.expect("moto answers").status();
        assert!(status.is_success(), "moto creates a bucket: {status}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

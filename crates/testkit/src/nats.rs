//! A real nats-server. It runs beside the test and is killed with it.

use crate::wait::wait_for;
use clients::nats::Config;
use kit::tls::Identity;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The user and the password of [`NatsServer::start`].
const USER: (&str, &str) = ("nats", "secret");

/// A nats-server on 127.0.0.1. It is killed when it is dropped.
///
/// It may not listen yet when a constructor returns. `clients::nats::connect` retries, so most tests need not wait;
/// [`NatsServer::ready`] waits.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    port: u16,
    /// The folder of its configuration and its certificates.
    _folder: TempDir,
}

impl NatsServer {
    /// Starts a server whose clients present the credentials of [`NatsServer::config`].
    pub fn start(port: u16) -> Self {
        Self::with(port, &[])
    }

    /// Starts a server that accepts every client.
    pub fn open(port: u16) -> Self {
        Self::spawn(port, None, &[], folder())
    }

    /// Starts a server with further arguments. Its clients present the credentials of [`NatsServer::config`].
    pub fn with(port: u16, arguments: &[&str]) -> Self {
        Self::spawn(port, Some(USER), arguments, folder())
    }

    /// Starts a server with a configuration file, which also names its users.
    pub fn configured(port: u16, text: &str) -> Self {
        let folder = folder();
        let file = write(&folder, "nats.conf", text);
        Self::spawn(port, None, &["-c", &file], folder)
    }

    /// Starts a server whose clients must present a certificate of the identity's authority.
    pub fn with_tls(port: u16, user: (&str, &str), identity: &Identity) -> Self {
        let folder = folder();
        let (cert, key, ca) = (
            write(&folder, "cert", &identity.cert_pem),
            write(&folder, "key", &identity.key_pem),
            write(&folder, "ca", &identity.ca_pem),
        );
        let tls = ["--tlscert", &cert, "--tlskey", &key, "--tlscacert", &ca];
        let arguments = [["--tls", "--tlsverify"].as_slice(), &tls].concat();
        Self::spawn(port, Some(user), &arguments, folder)
    }

    fn spawn(port: u16, user: Option<(&str, &str)>, arguments: &[&str], folder: TempDir) -> Self {
        let user = user.map(|(user, password)| ["--user", user, "--pass", password]);
        let child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .args(user.iter().flatten())
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start nats-server: install it with `apt-get install nats-server`");
        Self {
            child,
            port,
            _folder: folder,
        }
    }

    /// Returns what a client of a server on this port is configured with.
    pub fn config(port: u16) -> Config {
        Config {
            servers: vec![address(port)],
            user: USER.0.into(),
            password: USER.1.into(),
            ..Config::default()
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its `host:port`.
    pub fn address(&self) -> String {
        address(self.port)
    }

    /// Waits until it listens.
    pub async fn ready(&self) {
        wait_for("nats-server to listen", async || {
            TcpStream::connect(self.address()).await.map(drop)
        })
        .await;
    }

    /// Kills the server, as a crash does.
    pub fn kill(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("the folder of temporary files can be written")
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a temporary file can be written");
    path.to_str().expect("the path is text").to_owned()
}

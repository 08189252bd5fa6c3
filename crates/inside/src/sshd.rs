//! `diego-sshd -address=… -hostKey=… -authorizedKey=… -inheritDaemonEnv` is the sshd of an app's instance (as diego-ssh's `sshd`).
//!
//! The ssh-proxy logs in with the key of the LRP, through the instance's Envoy. A session has the environment, the user and the
//! directory of the app. An sshd that ends would end the instance, so this one never does: it waits for its port, and what goes
//! wrong costs one connection.
//!
//! | Module | Owns |
//! |---|---|
//! | [`connection`] | one connection: who may log in, channels, requests |
//! | [`session`] | one shell or command: its process, its streams, its end |
//! | [`pty`] | a terminal and its settings |
//! | [`leader`] | the small program that makes a process the leader of a session |
//! | [`forward`] | a forwarded connection |
//! | [`signals`] | the names of signals |
//! | [`settings`] | what all connections know |

mod connection;
mod forward;
pub(crate) mod leader;
mod pty;
mod session;
mod settings;
mod signals;

use crate::flags::Flags;
use connection::Connection;
use russh::keys::{PrivateKey, PublicKey, decode_secret_key};
use russh::server::{Config, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use settings::{HOST_KEY, Settings};
use ssh_sides::{Gate, socket};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The number of connections at once. The proxy opens one for each of its own.
const CONNECTIONS: usize = 256;
/// The time for a connection to log in.
const LOGIN: Duration = Duration::from_secs(30);
/// The pause before the port is tried again.
const RETRY: Duration = Duration::from_secs(2);

pub(crate) fn main(args: &[String]) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("diego-sshd: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Serves without end. It returns if it cannot begin.
fn start(args: &[String]) -> Result<(), String> {
    // The original logs at a level; this sshd prints only why it cannot listen.
    let known = ["address", "hostKey", "authorizedKey", "logLevel"];
    let flags = Flags::parse(args, &known, &["inheritDaemonEnv"])?;
    let program = std::env::current_exe().map_err(|error| format!("find the program: {error}"))?;
    if !flags.text("hostKey", "").is_empty() {
        return Err(hide_host_key(&program, args, flags.text("hostKey", "")));
    }
    // The other processes of the app have the same user. They must not read the key from this one.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let host_key = host_key(std::env::var(HOST_KEY).ok().as_deref())?;
    let authorized = PublicKey::from_openssh(flags.text("authorizedKey", "").trim())
        .map_err(|error| format!("-authorizedKey: {error}; it is needed, as \"ssh-ed25519 …\""))?;
    let home = std::env::current_dir().map_err(|error| format!("find the directory: {error}"))?;
    let app = Some(home.join("app")).filter(|app| app.is_dir());
    let settings = Settings {
        authorized,
        inherits_environment: flags.switch("inheritDaemonEnv")?,
        program,
        app: app.unwrap_or(home),
    };
    let address = flags.text("address", "127.0.0.1:2222").to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start: {error}"))?;
    runtime.block_on(serve(&address, config(host_key), Arc::new(settings)));
    Ok(())
}

/// Starts this program again, with the host key in its environment instead of its arguments. Returns only if that fails.
fn hide_host_key(program: &Path, args: &[String], key: &str) -> String {
    let mut rest = args.iter();
    let mut kept = Vec::new();
    while let Some(arg) = rest.next() {
        match arg.trim_start_matches('-') {
            "hostKey" => {
                rest.next();
            }
            flag if flag.starts_with("hostKey=") => {}
            _ => kept.push(arg),
        }
    }
    let mut command = Command::new(program);
    let error = command
        .arg0("diego-sshd")
        .args(kept)
        .env(HOST_KEY, key)
        .exec();
    format!("start again without the key in the arguments: {error}")
}

/// Reads the host key, or creates one for this process.
fn host_key(pem: Option<&str>) -> Result<PrivateKey, String> {
    match pem {
        Some(pem) => decode_secret_key(pem, None).map_err(|error| format!("-hostKey: {error}")),
        None => PrivateKey::random(
            &mut russh::keys::key::safe_rng(),
            russh::keys::Algorithm::Ed25519,
        )
        .map_err(|error| format!("create a host key: {error}")),
    }
}

fn config(host_key: PrivateKey) -> Arc<Config> {
    Arc::new(Config {
        server_id: SshId::Standard("SSH-2.0-diego-sshd".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(300),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        max_auth_attempts: 6,
        // The kernel notices a peer that is gone, and the ssh-proxy ends idle sessions.
        inactivity_timeout: None,
        keepalive_interval: None,
        ..Config::default()
    })
}

async fn serve(address: &str, config: Arc<Config>, settings: Arc<Settings>) {
    let listener = bind(address).await;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let (config, settings) = (config.clone(), settings.clone());
                tokio::spawn(async move {
                    converse(stream, config, settings).await;
                    drop(slot);
                });
            }
            // No descriptor is free, or the peer is gone already.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Binds the port. An app that uses it itself keeps it; nobody can log in to its instances then.
async fn bind(address: &str) -> TcpListener {
    let mut complained = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                if !complained {
                    eprintln!(
                        "diego-sshd cannot listen on {address}: {error}. Nobody can use SSH until the port is free."
                    );
                    complained = true;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, config: Arc<Config>, settings: Arc<Settings>) {
    socket::prepare(&stream);
    let gate = Gate::default();
    let (connection, mut logged_in) = Connection::new(settings, gate.clone());
    let begun = tokio::time::timeout(LOGIN, run_stream(config, gate.of(stream), connection));
    let Ok(Ok(running)) = begun.await else {
        return;
    };
    let handle = running.handle();
    tokio::pin!(running);
    let in_time = async {
        let login = logged_in.wait_for(|is| *is);
        tokio::time::timeout(LOGIN, login).await.is_ok()
    };
    tokio::select! {
        _ = running.as_mut() => return,
        in_time = in_time => {
            if !in_time {
                let why = "the time to log in is over".to_owned();
                let _ = handle.disconnect(Disconnect::ByApplication, why, String::new()).await;
                gate.shut();
            }
        }
    }
    let _ = running.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keys_are_read_or_created() {
        let created = host_key(None).unwrap();
        let pem = created.to_openssh(Default::default()).unwrap();
        let read = host_key(Some(pem.as_str())).unwrap();
        assert_eq!(
            read.public_key().key_data(),
            created.public_key().key_data()
        );
        assert!(host_key(Some("x")).unwrap_err().starts_with("-hostKey: "));
    }
}

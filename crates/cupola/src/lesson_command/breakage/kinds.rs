//! The breakages of the exercises: how each is made, and what undoes it.

use super::rules;
use super::undo::{Undo, publish, start_time};
use crate::certs::Certificates;
use crate::lesson_command::observe::{self, Instance};
use crate::plan::{Plan, random_hex};
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use wire::router::{RegistryMessage, subject};

/// The app whose route the exercises break, and the app that a wrong rule leads to.
const APP: &str = "appA";
const OTHER_APP: &str = "appB";
/// The port of the cell at which nobody is, for an endpoint that does not exist.
const DEAD_PORT: u16 = 60_999;
/// The time in which an Envoy must present a certificate that was replaced.
const PRESENTED: Duration = Duration::from_secs(20);
/// The name of the program that runs beside the app.
const ENVOY: &str = "envoy";

/// A breakage that can be made.
pub(super) enum Breakage {
    /// The cell's port leads to the container of another app.
    WrongContainer { of: Instance, to: Instance },
    /// The router has an endpoint that does not exist, as after a lost `router.unregister`.
    LostUnregister { message: Box<RegistryMessage> },
    /// The cell refuses connections to the instance.
    ClosedPort { of: Instance },
    /// The certificate of the instance has expired.
    ExpiredCertificate {
        of: Instance,
        file: PathBuf,
        kept: PathBuf,
    },
    /// The Envoy of the instance does not run, although its process exists.
    FrozenEnvoy { pid: i32, started: String },
}

impl Breakage {
    /// Finds everything that the breakage of an exercise needs. It changes nothing.
    pub(super) async fn prepare(data: &Path, plan: &Plan, exercise: u8) -> Result<Self> {
        if !(1..=5).contains(&exercise) {
            bail!("there is no exercise {exercise}: `cupola lesson list` lists all pages");
        }
        let of = observe::instance(data, plan, APP).await?;
        Ok(match exercise {
            1 => Self::WrongContainer {
                of,
                to: observe::instance(data, plan, OTHER_APP).await?,
            },
            2 => Self::LostUnregister {
                message: Box::new(ghost(plan, &of)),
            },
            3 => Self::ClosedPort { of },
            4 => {
                let folder = data.join("rep/containers").join(&of.guid).join("envoy");
                Self::ExpiredCertificate {
                    of,
                    file: folder.join("sds-id-cert-and-key.yaml"),
                    // It has a key, so it stays where the instance's secrets are.
                    kept: folder.join("lesson-kept.yaml"),
                }
            }
            _ => {
                let pid = envoy(&of.guid)?;
                let started = start_time(pid).context("the Envoy has ended")?;
                Self::FrozenEnvoy { pid, started }
            }
        })
    }

    /// Returns what undoes the breakage.
    pub(super) fn undo(&self) -> Vec<Undo> {
        match self {
            Self::WrongContainer { .. } | Self::ClosedPort { .. } => Vec::new(),
            Self::LostUnregister { message } => vec![Undo::Unregister {
                message: message.clone(),
            }],
            Self::ExpiredCertificate { file, kept, .. } => vec![Undo::PutBack {
                file: file.clone(),
                kept: kept.clone(),
            }],
            Self::FrozenEnvoy { pid, started } => vec![Undo::Continue {
                pid: *pid,
                started: started.clone(),
            }],
        }
    }

    /// Makes the breakage.
    pub(super) async fn make(&self, data: &Path, plan: &Plan) -> Result<()> {
        match self {
            Self::WrongContainer { of, to } => {
                let conditions = format!(
                    "-d {}/32 -p tcp -m tcp --dport {}",
                    of.cell, of.host_tls_port
                );
                let target = format!("-j DNAT --to-destination {}:{}", to.overlay, to.envoy_port);
                rules::insert(&plan.tag, "nat", "OUTPUT", &conditions, &target).await?;
                cut_connections(plan, of).await
            }
            Self::LostUnregister { message } => {
                publish(data, plan, subject::REGISTER, message).await
            }
            Self::ClosedPort { of } => refuse_connections(plan, of).await,
            Self::ExpiredCertificate { of, file, kept } => {
                replace_certificate(data, of, file, kept)?;
                wait_until_expired(of).await?;
                cut_connections(plan, of).await
            }
            Self::FrozenEnvoy { pid, .. } => {
                kill(Pid::from_raw(*pid), Signal::SIGSTOP).context("stop the Envoy")
            }
        }
    }
}

/// Returns the message about an endpoint of the app's route that does not exist.
fn ghost(plan: &Plan, of: &Instance) -> RegistryMessage {
    let guid = format!("{}-gone", random_hex(8));
    RegistryMessage {
        host: of.cell.to_string(),
        port: DEAD_PORT,
        tls_port: Some(DEAD_PORT),
        uris: vec![host(plan)],
        app: Some(of.app_guid.clone()),
        private_instance_id: Some(guid.clone()),
        private_instance_index: Some("1".to_owned()),
        server_cert_domain_san: Some(guid),
        ..RegistryMessage::default()
    }
}

fn host(plan: &Plan) -> String {
    format!("{}.{}", APP.to_lowercase(), plan.domain)
}

async fn refuse_connections(plan: &Plan, of: &Instance) -> Result<()> {
    let conditions = format!(
        "-d {}/32 -p tcp -m tcp --dport {}",
        of.overlay, of.envoy_port
    );
    let target = "-j REJECT --reject-with tcp-reset";
    rules::insert(&plan.tag, "filter", "OUTPUT", &conditions, target).await
}

/// Ends the router's connections to the instance. A connection keeps the destination and the certificate that it began with, so
/// the breakage shows on new ones only.
async fn cut_connections(plan: &Plan, of: &Instance) -> Result<()> {
    refuse_connections(plan, of).await?;
    let requested = request(plan).await;
    rules::remove_from(&plan.tag, "filter").await?;
    requested
}

/// Sends some requests, so that the router uses its connections. They fail.
async fn request(plan: &Plan) -> Result<()> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()?;
    for _ in 0..8 {
        let request = client
            .get(format!("http://127.0.0.1:{}/", plan.http_port))
            .header("host", host(plan));
        // The connections are reset on purpose.
        let _ = request.send().await;
    }
    Ok(())
}

/// Gives the instance's Envoy a certificate that has expired, and keeps the right one.
fn replace_certificate(data: &Path, of: &Instance, file: &Path, kept: &Path) -> Result<()> {
    let certificates = Certificates::open(&data.join("certs"))?;
    let expired = certificates.expired_instance(&of.guid, IpAddr::V4(of.overlay))?;
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("read the certificate of the Envoy, {}", file.display()))?;
    let mut secret: serde_json::Value = serde_json::from_str(&text)?;
    let chain = expired.cert_pem + certificates.instances_ca();
    let tls = secret
        .pointer_mut("/resources/0/tls_certificate")
        .with_context(|| format!("{} has no certificate", file.display()))?;
    tls["certificate_chain"]["inline_string"] = chain.into();
    tls["private_key"]["inline_string"] = expired.key_pem.into();
    std::fs::copy(file, kept).with_context(|| format!("keep {}", file.display()))?;
    // The Envoy reads the file again when it is replaced by rename.
    let new = file.with_extension("lesson");
    std::fs::copy(file, &new).with_context(|| format!("copy {}", file.display()))?;
    std::fs::write(&new, secret.to_string())
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("replace {}", file.display()))
}

/// Waits until the Envoy presents the expired certificate. A connection that begins earlier keeps the old one.
async fn wait_until_expired(of: &Instance) -> Result<()> {
    let presented = format!(
        "openssl s_client -connect {}:{} </dev/null 2>/dev/null | openssl x509 -noout -checkend 0",
        of.cell, of.host_tls_port
    );
    let waiting = async {
        loop {
            let output = Command::new("bash").args(["-c", &presented]).output();
            let output = output.await.context("start openssl")?;
            if String::from_utf8_lossy(&output.stdout).contains("will expire") {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PRESENTED, waiting)
        .await
        .context("the Envoy did not read its new certificate within 20 s")?
}

/// Returns the number of the instance's Envoy. Its cgroup has the instance's guid in its name.
fn envoy(guid: &str) -> Result<i32> {
    let processes = kit::processes::ids().context("list the processes")?;
    let read = |pid: i32, file: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
    };
    let mut envoys = processes.filter(|pid| read(*pid, "comm").trim() == ENVOY);
    let of_instance = |pid: &i32| read(*pid, "cgroup").contains(guid);
    envoys.find(of_instance).with_context(|| {
        format!("the instance {guid} has no Envoy on this machine: run this on its cell")
    })
}

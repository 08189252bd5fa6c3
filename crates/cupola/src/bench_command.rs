//! `cupola bench propagation`: measures at any Cloud Foundry how long a changed route takes until clients see it.
//!
//! [`route_timing`] measures. This module reads the choices of the user, finds what they leave out ([`target`]), passes Ctrl-C on so that
//! all routes are removed, and writes the result.

mod session;
mod target;

use crate::signals::{Hangup, Signals};
use crate::terminal::{print, print_error};
use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use kit::CancellationToken;
use route_timing::{Ended, Report, Size};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use target::Target;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure how long a changed route takes until it is served, and until it is gone
    ///
    /// Routes are made by the API, mapped to a running app (--api, --user, --app), or by the bus alone, where this command serves
    /// simulated apps itself (--nats, --router). Without either, the foundation in the data directory is measured: by the API if the
    /// cf CLI is logged in there and targets a space with one app, and by the bus otherwise. All routes are removed at the end, also
    /// after Ctrl-C. The exit code is 0 if every route came and went in time without a wrong answer.
    #[command(after_help = "Examples:
  cupola bench propagation                                    the foundation in the data directory
  cupola bench propagation --app proxy --svg map-route.svg    its API, with the cf CLI's login
  cupola bench propagation --apps 1000 --routes-per-app 100 --churn 1000   its bus, beside 100,000 routes
  CF_PASSWORD=… cupola bench propagation --api https://api.example.com --user me --org o --space s --app proxy
  cupola bench propagation --nats 10.0.0.7:4222 --nats-user nats --nats-password-file password --router 10.0.0.8:80")]
    Propagation(Box<Propagation>),
}

/// The arguments of `cupola bench propagation`.
#[derive(Debug, Args)]
pub(crate) struct Propagation {
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    bus: BusArguments,
    /// A router, or the load balancer before the routers: host:port, http://… or https://…; it may be repeated, and a change counts
    /// when all show it [default: the data directory's, or where the API is]
    #[arg(long, value_name = "ADDRESS")]
    router: Vec<String>,
    /// The path of the requests for routes
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// Accept any certificate of the API and of routers
    #[arg(long)]
    skip_ssl_validation: bool,
    #[command(flatten)]
    size: SizeArguments,
    /// The longest wait for one change in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    patience: u64,
    /// The time in seconds after which no further route is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    limit: u64,
    /// Write the result with all times as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the distributions as an image
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The arguments that choose the API.
#[derive(Debug, Args)]
#[group(id = "by-api", multiple = true)]
struct ApiArguments {
    /// The URL of the API [default: the cf CLI's target, or the data directory's]
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// The user, whose password is in CF_PASSWORD or in a file [default: the cf CLI's login]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The file whose first line is the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// The organization of the space
    #[arg(long, value_name = "NAME", requires = "space")]
    org: Option<String>,
    /// The space of the app [default: the cf CLI's target]
    #[arg(long, value_name = "NAME", requires = "org")]
    space: Option<String>,
    /// The running app to which routes are mapped, by name or guid [default: the only app of the space]
    #[arg(long, value_name = "NAME|GUID")]
    app: Option<String>,
    /// Push the app in this folder, with its manifest.yml, and delete it at the end
    #[arg(long, value_name = "FOLDER", conflicts_with = "app")]
    push: Option<PathBuf>,
    /// The domain of the routes [default: the organization's]
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// A text that every answer of the app contains; an answer without it counts as another app's
    #[arg(long, value_name = "TEXT")]
    expect: Option<String>,
}

/// The arguments that choose the bus.
#[derive(Debug, Args)]
#[group(id = "by-bus", multiple = true, conflicts_with = "by-api")]
struct BusArguments {
    /// A server of the message bus; it may be repeated [default: the data directory's]
    #[arg(long, value_name = "HOST:PORT", requires = "router")]
    nats: Vec<String>,
    /// The user at the bus, whose password is in NATS_PASSWORD or in a file
    #[arg(long, value_name = "NAME", requires = "nats")]
    nats_user: Option<String>,
    /// The file whose first line is the password at the bus
    #[arg(long, value_name = "FILE", requires = "nats_user")]
    nats_password_file: Option<PathBuf>,
    /// The client certificate for a bus with TLS
    #[arg(long, value_name = "FILE", requires_all = ["nats", "nats_key", "nats_ca"])]
    nats_cert: Option<PathBuf>,
    /// The key of the client certificate
    #[arg(long, value_name = "FILE", requires = "nats_cert")]
    nats_key: Option<PathBuf>,
    /// The authority of the bus's certificate
    #[arg(long, value_name = "FILE", requires = "nats_cert")]
    nats_ca: Option<PathBuf>,
    /// The address at which routers reach the simulated apps [default: the one from which this machine reaches the router]
    #[arg(long, value_name = "IP")]
    own_address: Option<IpAddr>,
}

/// The arguments about the size.
#[derive(Debug, Args)]
struct SizeArguments {
    /// The number of routes that are measured; with 0, by the bus, the others exist until the time limit or Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 100)]
    probes: usize,
    /// The number of apps whose routes exist meanwhile; simulated cells register them again
    #[arg(long, value_name = "N", default_value_t = 1)]
    apps: usize,
    /// The number of routes that each of these apps has
    #[arg(long, value_name = "N", default_value_t = 0)]
    routes_per_app: usize,
    /// The number of changes of other routes in each second
    #[arg(long, value_name = "N", default_value_t = 0)]
    churn: usize,
}

impl SizeArguments {
    fn size(&self) -> Size {
        Size {
            probes: self.probes,
            apps: self.apps,
            routes_per_app: self.routes_per_app,
            churn: self.churn,
        }
    }
}

impl ApiArguments {
    /// Returns whether one of them was given.
    fn are_given(&self) -> bool {
        let names = [
            &self.api,
            &self.user,
            &self.org,
            &self.space,
            &self.app,
            &self.domain,
            &self.expect,
        ];
        names.into_iter().any(Option::is_some) || self.push.is_some()
    }
}

impl BusArguments {
    /// Returns whether one of them was given.
    fn are_given(&self) -> bool {
        !self.nats.is_empty() || self.own_address.is_some()
    }
}

/// Runs `cupola bench …`.
pub(crate) async fn run(data: &Path, command: Command) -> Result<()> {
    let Command::Propagation(arguments) = command;
    // A wrong number is named before a foundation is looked for.
    arguments.size.size().check().map_err(anyhow::Error::msg)?;
    for file in [&arguments.json, &arguments.svg].into_iter().flatten() {
        check_writable(file)?;
    }
    // Signals are received from now on, so that none leaves a route behind.
    let mut signals = Signals::new(Hangup::Stops)?;
    let target = target::find(data, &arguments).await?;
    let measured = measure(&target, &arguments, &mut signals).await;
    let removed = target.remove_pushed().await;
    let report = match (measured, removed) {
        (Ok(report), Ok(())) => report,
        (Err(error), Ok(())) | (Ok(_), Err(error)) => return Err(error),
        (Err(error), Err(left)) => return Err(error.context(format!("{left:#}"))),
    };
    print(&report.to_string())?;
    if let Some(file) = &arguments.json {
        write(
            file,
            &format!("{}\n", serde_json::to_string_pretty(&report)?),
        )?;
    }
    if let Some(file) = &arguments.svg {
        write(file, &report.svg())?;
    }
    if let Some(fault) = report.fault() {
        bail!("{fault}");
    }
    ensure!(report.ended != Ended::Interrupted, "interrupted");
    Ok(())
}

/// Measures until everything is measured, and ends early after a signal.
async fn measure(
    target: &Target,
    arguments: &Propagation,
    signals: &mut Signals,
) -> Result<Report> {
    let settings = route_timing::Settings {
        by: target.by.clone(),
        fronts: target.fronts.clone(),
        size: arguments.size.size(),
        patience: Duration::from_secs(arguments.patience),
        limit: Duration::from_secs(arguments.limit),
    };
    let stop = CancellationToken::new();
    let interrupted = async {
        let name = signals.next().await;
        print_error(&format!(
            "bench: {name}: removes the routes; a second signal leaves them"
        ));
        stop.cancel();
        signals.next().await
    };
    let progress = |line: &str| print_error(&format!("bench: {line}"));
    tokio::select! {
        report = route_timing::run(&settings, &stop, progress) => report,
        name = interrupted => bail!(
            "a second signal ({name}) ended the clean-up: routes of the API stay until somebody deletes them, those of the bus for two minutes"
        ),
        never = target.renew_token() => never,
    }
}

/// Checks that a result can be written, before it takes minutes to get one.
fn check_writable(file: &Path) -> Result<()> {
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file);
    opened.map(drop).with_context(|| {
        format!(
            "{} cannot be written: name a file in a folder that exists",
            file.display()
        )
    })
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Returns the first line of a file with a password, or the variable's value.
fn password(file: Option<&Path>, variable: &str, of: &str, option: &str) -> Result<String> {
    let Some(file) = file else {
        return std::env::var(variable).ok().with_context(|| {
            format!("the password of {of} is missing: set {variable}, or name a file with {option}")
        });
    };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{option} {}: it cannot be read", file.display()))?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(
        !line.is_empty(),
        "{option} {}: its first line is empty, and must be the password of {of}",
        file.display()
    );
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "secret\nnot this\n").unwrap();
        let read = |file: &Path| password(Some(file), "X", "me", "--password-file");
        assert_eq!(read(&file).unwrap(), "secret");
        std::fs::write(&file, "\n").unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("must be the password of me"), "{error}");
        let missing = password(None, "CUPOLA_NO_SUCH_VARIABLE", "me", "--password-file");
        let error = missing.unwrap_err().to_string();
        assert!(error.contains("set CUPOLA_NO_SUCH_VARIABLE"), "{error}");
    }

    #[test]
    fn a_result_must_be_writable_before_the_measurement() {
        let folder = tempfile::tempdir().unwrap();
        check_writable(&folder.path().join("a.json")).unwrap();
        let error = check_writable(&folder.path().join("none/a.json")).unwrap_err();
        assert!(
            error.to_string().contains("a folder that exists"),
            "{error}"
        );
    }
}

//! Booting: `cupola up` (all roles, drained at the end) and `cupola serve` (some roles, whose containers outlive it).

use crate::bundle::Bundle;
use crate::certs::Certificates;
use crate::config::Config;
use crate::lesson_command;
use crate::plan::{FirstStart, Plan, PlanLock, RoleLocks, random_hex};
use crate::role::{self, Role};
use crate::roles;
use crate::signals::{Hangup, Signals};
use crate::terminal::print_line;
use anyhow::{Context as _, Result, bail, ensure};
use kit::CancellationToken;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The beginning of the line that reports that the API is reachable. Scripts wait for it.
pub(crate) const READY: &str = "API endpoint:";

/// Runs `cupola up`.
pub(crate) async fn up(config: Config) -> Result<()> {
    need_root("cupola up")?;
    ensure!(
        config.join.is_none(),
        "cupola up runs every role, and a machine that joins a foundation runs some: use `cupola serve --roles …`, or remove the key join"
    );
    let mut signals = Signals::new(Hangup::Stops)?;
    let chosen = Role::of_foundation(config.postgres.is_some());
    let _locks = RoleLocks::acquire(&config.data, &chosen)?;
    let (plan, certificates, first_start) = open(&config).await?;
    lesson_command::repair_left_over(&config.data).await;
    let password = AdminPassword::choose(&config);
    print_line(&format!(
        "Booting a foundation in {} (domain {}) …",
        config.data.display(),
        plan.domain
    ));
    let shutdown = CancellationToken::new();
    let built = roles::build(&config, plan, certificates, &chosen, &password.text).await;
    let foundation = built?;
    if signals.came() {
        foundation.undo().await;
        bail!("stopped before it was ready");
    }
    let plan = foundation.plan.clone();
    let mut running = foundation.run(shutdown.clone());
    drop(first_start);

    let ready = tokio::select! {
        ready = wait_until_ready(&config, &plan) => ready,
        failed = running.cannot_start() => Err(failed),
        _ = signals.next() => Err(anyhow::anyhow!("stopped before it was ready")),
    };
    // From here on a role that fails is started again, and only a signal ends the process.
    if ready.is_ok() {
        greet(&config, &plan, &password);
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        print_line("\nDraining: routes leave, then apps stop … (once more: stop at once)");
    }
    let drained = tokio::select! {
        drained = running.drain() => drained,
        _ = signals.next() => Err(anyhow::anyhow!("stopped at once; containers may be left: the next `cupola up` adopts them")),
    };
    shutdown.cancel();
    running.finish().await;
    lesson_command::repair_left_over(&config.data).await;
    ready.and(drained)?;
    print_line(&format!(
        "Stopped; nothing is left behind but {}.",
        config.data.display()
    ));
    Ok(())
}

/// Runs `cupola serve` until SIGTERM, or until an evacuated cell has ended and nothing else runs. When another process changes
/// the plan, the roles start again with the new one.
pub(crate) async fn serve(config: Config, chosen: &[Role]) -> Result<()> {
    if chosen.contains(&Role::Cell) {
        need_root("the cell role")?;
    }
    ensure!(
        config.postgres.is_some() || !chosen.contains(&Role::PostgresBroker),
        "the role postgres-broker needs the section postgres in the configuration: write postgres: {{}}"
    );
    let all = Role::ALL.iter().copied();
    let names = role::names(&all.filter(|r| chosen.contains(r)).collect::<Vec<_>>());
    let mut signals = Signals::new(Hangup::of_this_process())?;
    let _locks = RoleLocks::acquire(&config.data, chosen)?;
    let (mut plan, mut certificates, first_start) = open(&config).await?;
    let mut first_start = Some(first_start);
    if chosen.contains(&Role::Cell) {
        lesson_command::repair_left_over(&config.data).await;
    }
    let password = AdminPassword::choose(&config);
    if password.fresh && chosen.contains(&Role::Uaa) {
        print_line(&format!(
            "User {}, password {} (shown only now; CUPOLA_ADMIN_PASSWORD sets it at first start)",
            plan.admin_user, password.text
        ));
    }
    loop {
        let shutdown = CancellationToken::new();
        let foundation = roles::build(&config, plan, certificates, chosen, &password.text).await?;
        if signals.came() {
            foundation.undo().await;
            return Ok(());
        }
        let built = foundation.plan.clone();
        let mut running = foundation.run(shutdown.clone());
        drop(first_start.take());
        print_line(&format!("Running {names}; SIGTERM stops it."));
        let stops = tokio::select! {
            signal = signals.next() => {
                tracing::info!(signal, "stopping");
                true
            }
            () = running.finished() => true,
            _ = Plan::changed(&config.data, &built) => false,
        };
        shutdown.cancel();
        if stops {
            running.finish_unused().await;
            return Ok(());
        }
        tracing::info!(
            "plan-changed: another process of this foundation has changed its addresses; the roles are restarted"
        );
        running.finish().await;
        let _lock = PlanLock::acquire(&config.data).await?;
        plan = Plan::read(&config.data)?;
        certificates = open_certificates(&config, bundle(&config)?)?;
    }
}

/// Opens the foundation's plan and certificates. The process that comes first creates them at the foundation's first start.
async fn open(config: &Config) -> Result<(Plan, Certificates, Option<FirstStart>)> {
    let first_start = if Plan::exists(&config.data) {
        None
    } else {
        Some(FirstStart::acquire().await?)
    };
    let bundle = bundle(config)?;
    let _lock = PlanLock::acquire(&config.data).await?;
    let plan = Plan::open(config, bundle.as_ref())?;
    let certificates = open_certificates(config, bundle)?;
    Ok((plan, certificates, first_start))
}

fn bundle(config: &Config) -> Result<Option<Bundle>> {
    config.join.as_deref().map(Bundle::read).transpose()
}

/// Opens the CAs of a foundation, or takes the certificates of the bundle over. The caller must hold the plan's lock.
fn open_certificates(config: &Config, bundle: Option<Bundle>) -> Result<Certificates> {
    let folder = config.data.join("certs");
    match bundle {
        Some(bundle) => Certificates::joined(&folder, bundle),
        None => {
            let certificates = Certificates::open(&folder)?;
            certificates.write_operator_certificate()?;
            Ok(certificates)
        }
    }
}

fn need_root(what: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "{what} needs root (it creates containers, links and iptables rules): run it with sudo"
    );
    Ok(())
}

/// The admin's password. It comes from `CUPOLA_ADMIN_PASSWORD`, or is generated and printed once at the first start.
struct AdminPassword {
    text: String,
    /// Whether the password was generated by this process and not printed yet.
    fresh: bool,
}

impl AdminPassword {
    fn choose(config: &Config) -> Self {
        let first_start = !config.data.join("uaa/uaa.db").exists();
        match std::env::var("CUPOLA_ADMIN_PASSWORD") {
            Ok(text) if !text.is_empty() => Self { text, fresh: false },
            _ => Self {
                text: random_hex(10),
                fresh: first_start,
            },
        }
    }
}

fn greet(config: &Config, plan: &Plan, password: &AdminPassword) {
    let login = format!(
        "cupola cf login -a {} --skip-ssl-validation -u {} -o {} -s {}",
        plan.api_url(),
        plan.admin_user,
        config.first_org,
        config.first_space
    );
    let route = plan.route_url(&format!("proxy.{}", plan.domain));
    let data = if config.data == std::path::Path::new(crate::config::DEFAULT_DATA) {
        String::new()
    } else {
        format!(" --data {}", config.data.display())
    };
    print_line(&format!(
        "\nThe foundation is up.\n\n   {READY} {}\n   Picture:      {}\n   User:         {}",
        plan.api_url(),
        plan.url("dashboard"),
        plan.admin_user
    ));
    if password.fresh {
        print_line(&format!(
            "   Password:     {}   (shown only now; CUPOLA_ADMIN_PASSWORD sets it at first start)",
            password.text
        ));
    }
    print_line(&format!(
        "\nNext, in another terminal:\n\n   {login}\n   cupola cf push -f examples/proxy/manifest.yml\n   curl {route}/\n   cupola routes{data}\n\nTo validate certificates instead of skipping that, trust {}.\nThe cell is at {}. Ctrl-C drains and stops.",
        config.data.join("certs/edge_ca.crt").display(),
        plan.cell_ip
    ));
}

/// Waits until the API answers through the router and tokens are issued.
async fn wait_until_ready(config: &Config, plan: &Plan) -> Result<()> {
    let router = roles::public_addresses(config.http, plan.http_port, None);
    let router = router.first().map(|address| match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        _ => *address,
    });
    let router = router.context("the router has no address")?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    for (host, path) in [
        ("api", "/v3/info"),
        ("login", "/login"),
        ("log-cache", "/api/v1/info"),
        ("dashboard", "/healthz"),
    ] {
        loop {
            let request = client
                .get(format!("http://{router}{path}"))
                .header("host", format!("{host}.{}", plan.domain))
                .header("accept", "application/json");
            let seen = match request.send().await {
                Ok(response) if response.status().is_success() => break,
                Ok(response) => format!("{host} answers {}", response.status()),
                Err(error) => format!("{host}: {error}"),
            };
            if Instant::now() > deadline {
                bail!(
                    "the foundation was not ready within 60 s: {seen}; CUPOLA_LOG=info shows what its components log"
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

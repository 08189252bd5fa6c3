//! Booting: `cupola up` (all roles, drained at the end) and `cupola serve` (some roles, containers outlive it).

use crate::config::Config;
use crate::plan::{DataLock, Plan, random_hex};
use crate::roles::{self, Role};
use anyhow::{Context as _, Result, bail, ensure};
use kit::CancellationToken;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// The line that says the API answers; scripts wait for it.
pub(crate) const READY: &str = "API endpoint:";

/// `cupola up`.
pub(crate) async fn up(config: Config) -> Result<()> {
    need_root("cupola up")?;
    let _lock = DataLock::take(&config.data, "up")?;
    let plan = Plan::open(&config)?;
    let password = AdminPassword::choose(&config);
    println!(
        "Booting a foundation in {} (domain {}) …",
        config.data.display(),
        plan.domain
    );
    let shutdown = CancellationToken::new();
    let foundation = roles::build(&config, &plan, Role::ALL, &password.text).await?;
    let mut running = foundation.run(shutdown.clone());

    let ready = tokio::select! {
        ready = wait_until_ready(&plan) => ready,
        failed = running.first_failure() => Err(failed),
        () = asked_to_stop() => Err(anyhow::anyhow!("stopped before it was ready")),
    };
    let outcome = match ready {
        Err(error) => Err(error),
        Ok(()) => {
            greet(&config, &plan, &password);
            tokio::select! {
                () = asked_to_stop() => {
                    println!("\nDraining: routes leave, then apps stop … (once more: stop at once)");
                    Ok(())
                }
                failed = running.first_failure() => Err(failed),
            }
        }
    };
    let drained = tokio::select! {
        drained = running.drain() => drained,
        () = asked_to_stop() => Err(anyhow::anyhow!("stopped at once; containers may be left: the next `cupola up` takes them over")),
    };
    shutdown.cancel();
    running.finish().await;
    outcome.and(drained)?;
    println!(
        "Stopped; nothing is left behind but {}.",
        config.data.display()
    );
    Ok(())
}

/// `cupola serve`.
pub(crate) async fn serve(config: Config, chosen: &[Role]) -> Result<()> {
    if chosen.contains(&Role::Cell) {
        need_root("the cell role")?;
    }
    let mut names: Vec<&str> = chosen.iter().map(|r| r.name()).collect();
    names.sort_unstable();
    let _lock = DataLock::take(&config.data, &names.join("-"))?;
    let plan = {
        let _plan_lock = wait_for_lock(&config).await?;
        Plan::open(&config)?
    };
    let password = AdminPassword::choose(&config);
    let shutdown = CancellationToken::new();
    let foundation = roles::build(&config, &plan, chosen, &password.text).await?;
    let mut running = foundation.run(shutdown.clone());
    println!("Running {}; SIGTERM stops it.", names.join(", "));
    let outcome = tokio::select! {
        () = asked_to_stop() => Ok(()),
        failed = running.first_failure() => Err(failed),
    };
    shutdown.cancel();
    running.finish().await;
    outcome
}

fn need_root(what: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "{what} needs root (it makes containers, links and iptables rules): run it with sudo"
    );
    Ok(())
}

async fn wait_for_lock(config: &Config) -> Result<DataLock> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match DataLock::take(&config.data, "plan") {
            Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            taken => return taken,
        }
    }
}

/// The admin's password: from `CUPOLA_ADMIN_PASSWORD`, or made and printed once, at first start.
struct AdminPassword {
    text: String,
    /// It was made by us and nobody has seen it yet.
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
    println!(
        "\nThe foundation is up.\n\n   {READY} {}\n   User:         {}",
        plan.api_url(),
        plan.admin_user
    );
    if password.fresh {
        println!(
            "   Password:     {}   (shown only now; CUPOLA_ADMIN_PASSWORD sets it at first start)",
            password.text
        );
    }
    println!(
        "\nNext, in another terminal:\n\n   {login}\n   cupola cf push -f examples/proxy/manifest.yml\n   curl {route}/\n   cupola routes{data}\n\nTo validate certificates instead of skipping that, trust {}.\nThe cell is at {}. Ctrl-C drains and stops.",
        config.data.join("certs/edge_ca.crt").display(),
        plan.cell_ip
    );
}

/// The API answers through the router, and tokens can be had.
async fn wait_until_ready(plan: &Plan) -> Result<()> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    for (host, path) in [
        ("api", "/v3/info"),
        ("login", "/login"),
        ("log-cache", "/api/v1/info"),
    ] {
        loop {
            let request = client
                .get(format!("http://127.0.0.1:{}{path}", plan.http_port))
                .header("host", format!("{host}.{}", plan.domain))
                .header("accept", "application/json");
            let seen = match request.send().await {
                Ok(response) if response.status().is_success() => break,
                Ok(response) => format!("{host} answers {}", response.status()),
                Err(error) => format!("{host}: {error}"),
            };
            if Instant::now() > deadline {
                bail!(
                    "the foundation was not ready within 60 s: {seen}; CUPOLA_LOG=info shows what its components say"
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// SIGINT or SIGTERM.
async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Context for role failures.
pub(crate) fn role_failed(role: &str, result: Result<()>) -> Result<()> {
    result.with_context(|| format!("role {role} failed"))
}

//! `make demo`: a throw-away foundation, an app that is pushed with a route, and the path of that route through every component,
//! with the values that each component itself shows, as `cupola why` prints it. The demo fails if a hop is wrong.

mod client;

use crate::config::DEFAULT_DOMAIN;
use crate::explain;
use crate::plan::{Plan, random_hex};
use crate::signals::{Hangup, Signals};
use crate::terminal::{print_error, print_line};
use anyhow::{Context as _, Result, bail, ensure};
use client::{CfClient, step};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const APP: &str = "proxy";

pub(crate) async fn run() -> Result<()> {
    let name = random_hex(2);
    let data = std::env::temp_dir().join(format!("cupola-demo-{name}"));
    let result = in_foundation(&data, &format!("demo-{name}.cupola.test")).await;
    if result.is_ok() {
        std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
    } else {
        print_error(&format!(
            "cupola demo: the foundation's files are kept in {}",
            data.display()
        ));
    }
    result
}

async fn in_foundation(data: &Path, domain: &str) -> Result<()> {
    let example = example_folder()?;
    // The foundation is a process of its own, so that the demo can always shut it down in order.
    let mut signals = Signals::new(Hangup::Stops)?;
    let began = Instant::now();
    step(&format!(
        "cupola up --domain {domain}   (a throw-away foundation in {})",
        data.display()
    ));
    let password = random_hex(8);
    let mut foundation = Foundation::spawn(data, domain, &password)?;
    let ready = tokio::select! {
        ready = foundation.wait_until_ready() => ready,
        signal = signals.next() => Err(anyhow::anyhow!("stopped by {signal}")),
    };
    if let Err(error) = ready {
        // The foundation may have ended already.
        let _ = foundation.stop().await;
        return Err(error);
    }
    print_line(&format!("   up in {:.1} s", began.elapsed().as_secs_f64()));
    let shown = tokio::select! {
        shown = show(data, domain, &password, &example) => shown,
        signal = signals.next() => Err(anyhow::anyhow!("stopped by {signal}")),
    };
    step("Ctrl-C: drain and stop");
    let stopped = foundation.stop().await;
    shown?;
    stopped?;
    print_line(&format!(
        "   stopped cleanly; nothing is left behind\n\nDone in {:.0} s. Next: `make up`, then `bin/cupola cf login` as it prints.\nThe picture of what happens then: https://dashboard.{DEFAULT_DOMAIN}/ (user admin)",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

async fn show(data: &Path, domain: &str, password: &str, example: &Path) -> Result<()> {
    let plan = Plan::read(data)?;
    let client = CfClient {
        home: data.join("demo-home"),
    };
    std::fs::create_dir_all(&client.home)?;
    client
        .run(
            &[
                "login",
                "-a",
                &plan.api_url(),
                "--skip-ssl-validation",
                "-u",
                "admin",
                "-p",
                password,
                "-o",
                "demo",
                "-s",
                "dev",
            ],
            Some("cf login -u admin -o demo -s dev"),
        )
        .await?;
    let pushed = Instant::now();
    client
        .run(
            &[
                "push",
                APP,
                "-p",
                &example.to_string_lossy(),
                "-b",
                "binary_buildpack",
                "-c",
                "./proxy",
                "-m",
                "64M",
                "-k",
                "128M",
            ],
            None,
        )
        .await?;
    let route = format!("{APP}.{domain}");
    let answer = fetch(&plan, &route).await?;
    print_line(&format!(
        "   pushed and answered in {:.1} s",
        pushed.elapsed().as_secs_f64()
    ));
    step(&format!("curl {}/", plan.route_url(&route)));
    print_line(&format!("   {} {}", answer.0, answer.1.trim()));
    let explanation = explain::ask(data, &plan, &route, &[]).await?;
    step(&format!(
        "cupola why {route}   (every value is read from the component itself)"
    ));
    print_line(explain::text(&explanation).trim_end());
    ensure!(explanation.is_right, "a hop of the route {route} is wrong");
    receipts(&client).await
}

/// Prints when the route reached each hop, as the Cloud Controller knows it from the routers' receipts.
async fn receipts(client: &CfClient) -> Result<()> {
    let routes = client.get(&format!("/v3/routes?hosts={APP}")).await?;
    let guid = routes["resources"][0]["guid"].as_str();
    let path = format!(
        "/v3/routes/{}/propagation?wait=5s",
        guid.context("find the route")?
    );
    let propagation = client.get(&path).await?;
    step(&format!("cf curl {path}   (the routers' receipts)"));
    print_line(&format!("   {}", arrivals(&propagation)));
    Ok(())
}

/// Returns the hops of a change with their milliseconds, and its receipt.
fn arrivals(propagation: &Value) -> String {
    let hops = propagation["hops"].as_array().into_iter().flatten();
    let hops = hops.filter_map(|hop| {
        let after = hop["after_ms"].as_f64()?;
        Some(format!("{} +{after:.1} ms", hop["hop"].as_str()?))
    });
    let hops: Vec<String> = hops.collect();
    let summary = propagation["summary"].as_str().unwrap_or_default();
    match hops.is_empty() {
        true => summary.to_owned(),
        false => format!("{}: {summary}", hops.join(", ")),
    }
}

fn example_folder() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let folder = exe
        .parent()
        .and_then(Path::parent)
        .context("find the path of the binary")?
        .join("examples/proxy/bin");
    ensure!(
        folder.join("proxy").is_file(),
        "the example app {} is not built: run `make build`",
        folder.join("proxy").display()
    );
    Ok(folder)
}

/// A child process `cupola up`.
struct Foundation {
    child: Child,
}

impl Foundation {
    fn spawn(data: &Path, domain: &str, password: &str) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args([
                "up",
                "--http",
                "127.0.0.1:0",
                "--https",
                "127.0.0.1:0",
                "--domain",
                domain,
                "--data",
            ])
            .arg(data)
            .env("CUPOLA_ADMIN_PASSWORD", password)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("start cupola up")?;
        Ok(Self { child })
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let stdout = self
            .child
            .stdout
            .take()
            .context("the child has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(crate::up::READY) {
                    return Ok(());
                }
            }
            bail!("cupola up ended before it was ready; see its message above")
        };
        tokio::time::timeout(Duration::from_secs(120), ready)
            .await
            .context("cupola up was not ready within 120 s")??;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .context("cupola up had ended already")?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        )?;
        let status = tokio::time::timeout(Duration::from_secs(60), self.child.wait())
            .await
            .context("cupola up did not stop within 60 s")??;
        ensure!(status.success(), "cupola up ended with {status}");
        Ok(())
    }
}

async fn fetch(plan: &Plan, route: &str) -> Result<(u16, String)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let response = client
            .get(format!("http://127.0.0.1:{}/", plan.http_port))
            .header("host", route)
            .send()
            .await
            .context("curl the route")?;
        let (status, body) = (response.status().as_u16(), response.text().await?);
        if status == 200 || Instant::now() > deadline {
            ensure!(status == 200, "the route answered {status}: {body}");
            return Ok((status, body));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arrivals_have_their_milliseconds() {
        let propagation = json!({"summary": "live on 1/1 routers after 6.1 ms", "hops": [
            {"hop": "stored", "after_ms": 0.0}, {"hop": "emitted", "after_ms": null}, {"hop": "applied", "after_ms": 4.26},
        ]});
        assert_eq!(
            arrivals(&propagation),
            "stored +0.0 ms, applied +4.3 ms: live on 1/1 routers after 6.1 ms"
        );
        assert_eq!(arrivals(&json!({"summary": "unknown"})), "unknown");
    }
}

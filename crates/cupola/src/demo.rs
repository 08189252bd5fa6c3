//! `make demo`: a throw-away foundation, an app that is pushed with a route, and the path of that route through every component,
//! with the values that each component itself shows. Every hop is compared with the previous one; the demo fails if they differ.

use crate::plan::{Plan, random_hex};
use crate::routes;
use crate::signals::{Hangup, Signals};
use crate::terminal::{print_error, print_line};
use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
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
        "   stopped cleanly; nothing is left behind\n\nDone in {:.0} s. Next: `make up`, then `bin/cupola cf login` as it prints.",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

async fn show(data: &Path, domain: &str, password: &str, example: &Path) -> Result<()> {
    let plan = Plan::read(data)?;
    let messages = Registrations::listen(&plan).await?;
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
    let way = RoutePath::follow(data, &plan, &client, &messages, &route).await?;
    step(
        "the path of the route, from the user's request to the answer; every value is read from the component itself",
    );
    way.print(&answer);
    Ok(())
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

fn step(text: &str) {
    print_line(&format!("\n▶ {text}"));
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

/// A client that runs `cupola cf …` as a person would.
struct CfClient {
    home: PathBuf,
}

impl CfClient {
    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("cf")
            .args(args)
            .env("CF_HOME", &self.home)
            .stdin(Stdio::null());
        Ok(command)
    }

    async fn run(&self, args: &[&str], shown: Option<&str>) -> Result<()> {
        step(&shown.map_or_else(|| format!("cf {}", args.join(" ")), str::to_owned));
        let status = self.command(args)?.status().await?;
        ensure!(status.success(), "cf {} ended with {status}", args[0]);
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let output = self.command(&["curl", path])?.output().await?;
        ensure!(
            output.status.success(),
            "cf curl {path} ended with {}",
            output.status
        );
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "cf curl {path}: {}",
                String::from_utf8_lossy(&output.stdout)
            )
        })
    }
}

/// A NATS subscriber that keeps every `router.register` message.
struct Registrations {
    _client: async_nats::Client,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Registrations {
    async fn listen(plan: &Plan) -> Result<Self> {
        let client = clients::nats::connect(&plan.nats(), "demo", |_| async {}).await?;
        let mut messages = client.subscribe("router.register").await?;
        client.flush().await?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                if let Ok(value) = serde_json::from_slice(&message.payload) {
                    sink.lock().expect("no panic while held").push(value);
                }
            }
        });
        Ok(Self {
            _client: client,
            seen,
        })
    }

    fn of(&self, route: &str) -> Option<Value> {
        let seen = self.seen.lock().expect("no panic while held");
        seen.iter()
            .rev()
            .find(|m| {
                m["uris"]
                    .as_array()
                    .is_some_and(|u| u.iter().any(|u| u == route))
            })
            .cloned()
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

/// The values of one route in every component.
struct RoutePath {
    route: String,
    route_guid: String,
    app_guid: String,
    process_guid: String,
    instance_guid: String,
    cell_id: String,
    cell_ip: String,
    overlay_ip: String,
    host_tls_port: u64,
    envoy_listener: String,
    certificate_san: String,
    dnat_rule: String,
    nats: String,
    router_entry: String,
}

impl RoutePath {
    async fn follow(
        data: &Path,
        plan: &Plan,
        client: &CfClient,
        messages: &Registrations,
        route: &str,
    ) -> Result<Self> {
        let host = route.split('.').next().unwrap_or_default();
        let routes = client.get(&format!("/v3/routes?hosts={host}")).await?;
        let route_guid = text(&routes["resources"][0]["guid"], "route guid")?;
        let app_guid = text(
            &routes["resources"][0]["destinations"][0]["app"]["guid"],
            "app guid of the destination",
        )?;

        let bbs = crate::exec::bbs_client(data, plan)?;
        let actual = bbs
            .actual_lrps(&wire::bbs::ActualLrpsRequest::default())
            .await?;
        let lrp = actual
            .into_iter()
            .find(|l| {
                l.key
                    .as_ref()
                    .is_some_and(|k| k.process_guid.starts_with(&app_guid))
            })
            .with_context(|| format!("no actual LRP whose process guid begins with {app_guid}"))?;
        ensure!(
            lrp.state == wire::bbs::state::RUNNING,
            "the actual LRP is {}",
            lrp.state
        );
        let (key, instance, net) = (
            lrp.key.unwrap_or_default(),
            lrp.instance_key.unwrap_or_default(),
            lrp.net_info.unwrap_or_default(),
        );
        let mapping = net
            .ports
            .iter()
            .find(|p| p.container_tls_proxy_port == 61001)
            .context("no port mapping to 61001")?;

        let dump = inside(data, &["curl", "-s", "http://localhost:61003/config_dump"]).await?;
        let listener = format!("0.0.0.0:{}", mapping.container_tls_proxy_port);
        ensure!(
            dump.contains(&format!(
                "\"port_value\": {}",
                mapping.container_tls_proxy_port
            )),
            "Envoy has no listener on {listener}"
        );
        ensure!(
            dump.contains(&net.instance_address),
            "Envoy's cluster does not name {}",
            net.instance_address
        );
        let san = inside(
            data,
            &[
                "bash",
                "-c",
                "openssl x509 -in $CF_INSTANCE_CERT -noout -ext subjectAltName",
            ],
        )
        .await?;
        let san = san.lines().last().unwrap_or_default().trim().to_owned();
        ensure!(
            san.contains(&instance.instance_guid),
            "the certificate's names {san:?} lack the instance guid {}",
            instance.instance_guid
        );

        let rules = Command::new("iptables")
            .args(["-w", "-t", "nat", "-S"])
            .output()
            .await?;
        let destination = format!(
            "--dport {} -j DNAT --to-destination {}:{}",
            mapping.host_tls_proxy_port, net.instance_address, mapping.container_tls_proxy_port
        );
        let dnat_rule = String::from_utf8_lossy(&rules.stdout)
            .lines()
            .find(|l| l.contains(&destination))
            .map(str::to_owned)
            .with_context(|| format!("no DNAT rule {destination}"))?;

        let message = messages
            .of(route)
            .with_context(|| format!("no router.register with {route} was seen on NATS"))?;
        ensure!(
            message["tls_port"] == mapping.host_tls_proxy_port
                && message["host"] == net.address.as_str(),
            "the router.register message names {}:{}",
            message["host"],
            message["tls_port"]
        );
        ensure!(
            message["server_cert_domain_san"] == instance.instance_guid.as_str(),
            "the router.register message names the certificate {}",
            message["server_cert_domain_san"]
        );

        let table = routes::table(plan).await?;
        let address = format!("{}:{}", net.address, mapping.host_tls_proxy_port);
        let entry = table[route]
            .as_array()
            .and_then(|e| e.iter().find(|e| e["address"] == address.as_str()))
            .with_context(|| format!("the router's table has no {address} under {route}"))?;
        ensure!(entry["tls"] == true, "the router's endpoint is not TLS");
        ensure!(
            net.address.parse::<Ipv4Addr>().is_ok(),
            "{:?} is not the address of a cell",
            net.address
        );
        Ok(Self {
            route: route.to_owned(),
            route_guid,
            app_guid,
            process_guid: key.process_guid,
            instance_guid: instance.instance_guid,
            cell_id: instance.cell_id,
            cell_ip: net.address,
            overlay_ip: net.instance_address,
            host_tls_port: u64::from(mapping.host_tls_proxy_port),
            envoy_listener: listener,
            certificate_san: san,
            dnat_rule,
            nats: format!(
                "host {} tls_port {} uris {} server_cert_domain_san {}",
                message["host"],
                message["tls_port"],
                message["uris"],
                message["server_cert_domain_san"]
            ),
            router_entry: format!("{} → {address} tls=true", route),
        })
    }

    fn print(&self, answer: &(u16, String)) {
        let rows = [
            (
                "cloud-controller",
                "route",
                format!("{} ({})", self.route, self.route_guid),
            ),
            ("cloud-controller", "app", self.app_guid.clone()),
            ("bbs", "process guid", self.process_guid.clone()),
            ("bbs", "instance guid", self.instance_guid.clone()),
            (
                "rep",
                "cell",
                format!("{} at {}", self.cell_id, self.cell_ip),
            ),
            (
                "garden",
                "container",
                format!("overlay IP {}", self.overlay_ip),
            ),
            (
                "envoy",
                "listener",
                format!("{} → {}:8080", self.envoy_listener, self.overlay_ip),
            ),
            ("envoy", "certificate", self.certificate_san.clone()),
            ("iptables", "DNAT", self.dnat_rule.clone()),
            ("NATS", "router.register", self.nats.clone()),
            ("router", "table", self.router_entry.clone()),
            (
                "client",
                "answer",
                format!(
                    "{} through {}:{}",
                    answer.0, self.cell_ip, self.host_tls_port
                ),
            ),
        ];
        for (component, what, value) in rows {
            print_line(&format!("   ✓ {component:<17}{what:<17}{value}"));
        }
    }
}

/// Runs a command in the app's container with `cupola exec`.
async fn inside(data: &Path, command: &[&str]) -> Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .args(["exec", "--data"])
        .arg(data)
        .arg(format!("{APP}/0"))
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "cupola exec {} ended with {}: {}",
        command.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(value: &Value, what: &str) -> Result<String> {
    value
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("the Cloud Controller returned no {what}"))
}

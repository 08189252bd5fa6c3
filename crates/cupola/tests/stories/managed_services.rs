//! The story of two hundred service instances that are made, bound, unbound and deleted at once, while the foundation is killed again and
//! again: at the end the broker and the foundation have the same, and then nothing.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::broker::{Broker, Call, PASSWORD, USER};
use testkit::foundation::{Foundation, binary, wait_for};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub(crate) const STORIES: &[Story] = &[story(
    "managed_services_nothing_is_orphaned",
    nothing_is_orphaned,
)];

/// The number of instances.
const COUNT: usize = 200;

/// The number of apps to which they are bound. One app has at most 100 bindings.
const APPS: usize = 4;

/// Starts a broker at the address of the machine that the foundation permits. It works in the background.
fn start_broker(runtime: &Runtime) -> Result<Broker> {
    let listener = runtime.block_on(TcpListener::bind((crate::brokers::ADDRESS, 0)))?;
    let _inside = runtime.enter();
    let broker = Broker::start_on(listener, "db");
    broker.work_in_background(Some(0));
    Ok(broker)
}

/// Begins a command of the client for each number, twenty at a time. `$1` is the number.
fn begin(f: &Foundation, command: &str) -> Result<Child> {
    let cf = format!("{} cf", binary().display());
    let one = format!("{cf} {command} >/dev/null 2>&1 || true");
    let script = format!("seq {COUNT} | xargs -P 20 -n 1 sh -c '{one}' sh");
    let begun = Command::new("timeout")
        .args(["300", "sh", "-c", &script])
        .env("CF_HOME", f.folder().join("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    begun.context("begin the commands")
}

/// Runs a command for each number while the foundation is killed in the middle, and then once more for those that failed.
fn under_fire(f: &mut Foundation, command: &str) -> Result<()> {
    for pause in [300, 1200] {
        let mut running = begin(f, command)?;
        std::thread::sleep(Duration::from_millis(pause));
        f.kill()?;
        f.up()?;
        running.wait()?;
    }
    begin(f, command)?.wait()?;
    Ok(())
}

/// Returns the guids of a list, each of which must have ended its last operation well.
fn guids(f: &Foundation, path: &str) -> Result<BTreeSet<String>> {
    let list = f.cf_curl(&format!("{path}per_page=5000"))?;
    let rows = list["resources"].as_array().context("a list")?;
    let mut all = BTreeSet::new();
    for row in rows {
        let operation = &row["last_operation"];
        ensure!(operation["state"] == "succeeded", "{row}");
        all.insert(row["guid"].as_str().unwrap_or_default().to_owned());
    }
    Ok(all)
}

/// Waits until the foundation and the broker have the same instances and bindings, so many of each.
fn same(f: &Foundation, broker: &Broker, instances: usize, bindings: usize) -> Result<()> {
    wait_for("both sides to have the same", 180, || {
        let own = guids(f, "/v3/service_instances?type=managed&")?;
        let bound = guids(
            f,
            "/v3/service_credential_bindings?service_offering_names=db&",
        )?;
        let there: BTreeSet<String> = broker.instances().into_iter().collect();
        let bound_there: BTreeSet<String> = broker.bindings().into_iter().collect();
        ensure!(
            own.len() == instances && bound.len() == bindings,
            "{} instances, {} bindings",
            own.len(),
            bound.len()
        );
        ensure!(
            own == there && bound == bound_there,
            "the broker has {} instances and {} bindings",
            there.len(),
            bound_there.len()
        );
        Ok(Some(()))
    })
}

fn send(f: &Foundation, method: &str, path: &str, body: &Value) -> Result<()> {
    let body = body.to_string();
    f.cf_ok(&["curl", path, "-X", method, "-d", &body, "--fail"])?;
    Ok(())
}

fn nothing_is_orphaned(f: &mut Foundation) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let broker = start_broker(&runtime)?;
    f.cf_ok(&["create-service-broker", "many", USER, PASSWORD, &broker.url])?;
    f.cf_ok(&["enable-service-access", "db"])?;
    let quotas = f.cf_curl("/v3/organization_quotas?names=default")?;
    let quota = quotas["resources"][0]["guid"].as_str().context("a quota")?;
    let more = json!({ "services": { "total_service_instances": 1000 } });
    send(
        f,
        "PATCH",
        &format!("/v3/organization_quotas/{quota}"),
        &more,
    )?;
    let spaces = f.cf_curl("/v3/spaces?names=dev")?;
    let space = json!({ "data": { "guid": spaces["resources"][0]["guid"] } });
    for number in 0..APPS {
        let body = json!({ "name": format!("many-{number}"), "relationships": { "space": space } });
        send(f, "POST", "/v3/apps", &body)?;
    }

    under_fire(f, "create-service db small many-$1")?;
    same(f, &broker, COUNT, 0)?;
    let app = format!("many-$(($1 % {APPS}))");
    under_fire(f, &format!("bind-service {app} many-$1"))?;
    same(f, &broker, COUNT, COUNT)?;
    under_fire(f, &format!("unbind-service {app} many-$1"))?;
    same(f, &broker, COUNT, 0)?;
    // The instances are deleted together with bindings.
    under_fire(f, &format!("bind-service {app} many-$1"))?;
    same(f, &broker, COUNT, COUNT)?;
    under_fire(f, "delete-service many-$1 -f")?;
    same(f, &broker, 0, 0)?;
    ensure!(
        broker.calls(Call::Provision).len() >= COUNT,
        "the broker was asked"
    );
    for number in 0..APPS {
        f.cf_ok(&["delete", &format!("many-{number}"), "-f"])?;
    }
    // A broker without instances can be removed.
    f.cf_ok(&["delete-service-broker", "many", "-f"])?;
    let fewer = json!({ "services": { "total_service_instances": 100 } });
    send(
        f,
        "PATCH",
        &format!("/v3/organization_quotas/{quota}"),
        &fewer,
    )
}

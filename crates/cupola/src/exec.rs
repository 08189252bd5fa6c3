//! Operator commands on a running foundation: `cupola exec` and `cupola cfdot`. They use the operator's certificate.

use crate::addresses::Service;
use crate::plan::Plan;
use anyhow::{Context as _, Result, bail};
use clients::bbs::Client;
use kit::tls::Identity;
use std::path::Path;
use std::process::ExitCode;
use wire::bbs::{ActualLrp, ActualLrpsRequest, DesiredLrpsRequest, state};

/// Returns the operator's identity, which the last start of the foundation wrote.
pub(crate) fn operator(data: &Path) -> Result<Identity> {
    let read = |name: &str| {
        let path = data.join("certs").join(name);
        std::fs::read_to_string(&path).with_context(|| {
            format!(
                "read {}: run this as the user who started the foundation (root), on a machine that has its control plane or a cell",
                path.display()
            )
        })
    };
    Ok(Identity {
        cert_pem: read("operator.crt")?,
        key_pem: read("operator.key")?,
        ca_pem: read("components_ca.crt")?,
    })
}

pub(crate) fn bbs_url(plan: &Plan) -> String {
    format!("https://{}", plan.reach(Service::Bbs))
}

pub(crate) fn bbs_client(data: &Path, plan: &Plan) -> Result<Client> {
    Client::new(bbs_url(plan), &operator(data)?)
}

/// Runs `cupola cfdot …`.
pub(crate) async fn cfdot(data: &Path, args: Vec<String>) -> ExitCode {
    let options = (|| {
        let plan = Plan::read(data)?;
        Ok::<_, anyhow::Error>(cfdot::Options {
            bbs_url: Some(bbs_url(&plan)),
            locket_url: Some(format!("https://{}", plan.reach(Service::Locket))),
            identity: Some(operator(data)?),
        })
    })();
    match options {
        Ok(options) => cfdot::run(args, options).await,
        // Flags or the environment may name the servers of another foundation.
        Err(error) => {
            let code = cfdot::run(args.clone(), cfdot::Options::default()).await;
            if !names_servers(&args) && code == ExitCode::from(3) {
                crate::terminal::print_error(&format!(
                    "No foundation of this machine is known either: {error:#}"
                ));
            }
            code
        }
    }
}

fn names_servers(args: &[String]) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_flag = |name: &str| args.iter().any(|arg| arg.starts_with(name));
    [
        ("BBS_URL", "--bbsURL"),
        ("LOCKET_API_LOCATION", "--locketAPILocation"),
    ]
    .into_iter()
    .any(|(variable, flag)| is_set(variable) || has_flag(flag))
}

/// Runs `cupola exec APP[/INDEX] -- CMD`. Returns the command's exit code.
pub(crate) async fn exec(data: &Path, target: &str, command: Vec<String>) -> Result<ExitCode> {
    let plan = Plan::read(data)?;
    let bbs = bbs_client(data, &plan)?;
    let handle = find_instance(&bbs, target).await?;
    let command = if command.is_empty() {
        vec!["bash".to_owned()]
    } else {
        command
    };
    let (garden_dir, run_dir) = (data.join("garden"), crate::roles::garden_run_dir(&plan));
    let code = tokio::task::spawn_blocking(move || {
        garden::linux::exec_interactive(&garden_dir, &run_dir, &handle, &command)
    })
    .await??;
    Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
}

/// Runs `cupola evacuate [CELL]`: requests the cells to evacuate.
pub(crate) async fn evacuate(data: &Path, cell: Option<&str>) -> Result<()> {
    let plan = Plan::read(data)?;
    let cells = bbs_client(data, &plan)?
        .cells()
        .await
        .context("query the BBS: is the foundation running?")?;
    let known: Vec<&str> = cells.iter().map(|c| c.cell_id.as_str()).collect();
    let chosen = match (cell, cells.as_slice()) {
        (Some(wanted), _) => cells
            .iter()
            .find(|c| c.cell_id == wanted)
            .with_context(|| {
                format!(
                    "there is no cell {wanted:?}; the cells are: {}",
                    known.join(", ")
                )
            })?,
        (None, [only]) => only,
        (None, []) => bail!("no cell is running"),
        (None, _) => bail!(
            "there are several cells; name one of them: {}",
            known.join(", ")
        ),
    };
    let reps = clients::rep::Client::new(&operator(data)?)?;
    reps.evacuate(&chosen.rep_url).await?;
    crate::terminal::print(&format!(
        "Cell {} accepts no more work and evacuates its instances; its process ends when it is empty.\n",
        chosen.cell_id
    ))
}

/// Returns the instance guid for a `name`, a `name/index`, an app guid (with index) or an instance guid.
async fn find_instance(bbs: &Client, target: &str) -> Result<String> {
    let (name, index) = match target.rsplit_once('/') {
        Some((name, index)) => (
            name,
            index.parse::<i32>().with_context(|| {
                format!("index {index:?} in {target:?} is not a number: use e.g. proxy/0")
            })?,
        ),
        None => (target, 0),
    };
    let running: Vec<ActualLrp> = bbs
        .actual_lrps(&ActualLrpsRequest::default())
        .await
        .context("query the BBS: is the foundation running?")?
        .into_iter()
        .filter(|l| l.state == state::RUNNING)
        .collect();
    let desired = bbs.desired_lrps(&DesiredLrpsRequest::default()).await?;
    let named: Vec<&str> = desired
        .iter()
        .filter(|d| {
            d.log_guid == name
                || d.metric_tags
                    .get("app_name")
                    .is_some_and(|t| t.static_value == name)
        })
        .map(|d| d.process_guid.as_str())
        .collect();
    let mut found: Vec<(String, i64)> = running
        .into_iter()
        .filter_map(|lrp| {
            let (key, instance) = (lrp.key?, lrp.instance_key?);
            let matches = instance.instance_guid == name
                || (named.contains(&key.process_guid.as_str()) && key.index == index);
            matches.then_some((instance.instance_guid, lrp.since))
        })
        .collect();
    found.sort_by_key(|(_, since)| *since);
    match found.pop() {
        Some((guid, _)) => Ok(guid),
        None if named.is_empty() => bail!(
            "no app or instance {name:?} runs here: `cupola cfdot actual-lrps` lists what does"
        ),
        None => bail!(
            "app {name:?} has no running instance {index}: `cupola cfdot actual-lrps` lists what runs"
        ),
    }
}

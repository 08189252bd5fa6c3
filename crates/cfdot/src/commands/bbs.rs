//! Commands that make one call to the BBS.

use super::{
    Done, MISSING, NO_PROCESS_GUID, Streams, exactly, index, line, lines, not_doubled, one, spec,
};
use crate::failure::{Failure, of_bbs};
use crate::flags::Parsed;
use crate::json;
use crate::target::Target;
use crate::verbs::Call;
use clients::bbs::{BbsError, Client};
use std::io::Write;
use wire::bbs as m;

/// Returns a client of the target's BBS.
pub(super) fn client(target: &Target) -> Result<Client, Failure> {
    target
        .tls()
        .and_then(|tls| Client::with_tls(&target.bbs_url, tls, target.timeout))
        .map_err(|error| Failure::other(format!("{error:#}")))
}

/// A call whose arguments have been checked.
enum Checked {
    ActualLrpGroups(m::ActualLrpGroupsRequest),
    ActualLrpGroupsForGuid(String, Option<i32>),
    ActualLrps(m::ActualLrpsRequest),
    CancelTask(String),
    CreateDesiredLrp(Box<m::DesiredLrp>),
    CreateTask(Box<m::Task>),
    DeleteDesiredLrp(String),
    DeleteTask(String),
    DesiredLrp(String),
    DesiredLrpSchedulingInfos(m::DesiredLrpsRequest),
    DesiredLrps(m::DesiredLrpsRequest),
    Domains,
    RetireActualLrp(String, i32),
    SetDomain(String, u32),
    Task(String),
    Tasks(m::TasksRequest),
    UpdateDesiredLrp(String, Box<m::DesiredLrpUpdate>),
}

pub(super) async fn run(
    call: Call,
    parsed: &Parsed,
    target: &Target,
    streams: Streams<'_>,
) -> Done {
    let checked = check(call, parsed, streams.err)?;
    let bbs = client(target)?;
    match print(&bbs, checked, streams.out).await {
        Ok(done) => done,
        Err(error) => Err(of_bbs(&target.bbs_url, &error)),
    }
}

fn check(call: Call, parsed: &Parsed, err: &mut (dyn Write + Send)) -> Result<Checked, Failure> {
    let text = |name: &str| parsed.text(name).to_owned();
    let in_domain = || m::DesiredLrpsRequest {
        domain: text("domain"),
        ..m::DesiredLrpsRequest::default()
    };
    Ok(match call {
        Call::ActualLrpGroups => {
            exactly::<0>(parsed)?;
            Checked::ActualLrpGroups(m::ActualLrpGroupsRequest {
                domain: text("domain"),
                cell_id: text("cell-id"),
            })
        }
        Call::ActualLrpGroupsForGuid => {
            let guid = one(parsed, NO_PROCESS_GUID)?.to_owned();
            let wanted = match parsed.text("index") {
                "" => None,
                given => Some(index(given)?),
            };
            Checked::ActualLrpGroupsForGuid(guid, wanted)
        }
        Call::ActualLrps => {
            exactly::<0>(parsed)?;
            Checked::ActualLrps(m::ActualLrpsRequest {
                domain: text("domain"),
                cell_id: text("cell-id"),
                process_guid: text("process-guid"),
                index: parsed.integer("index").and_then(|i| i32::try_from(i).ok()),
            })
        }
        Call::CancelTask => Checked::CancelTask(task_guid(parsed)?),
        Call::Task => Checked::Task(task_guid(parsed)?),
        Call::CreateDesiredLrp => {
            let lrp = read(&only_spec(parsed)?, json::read_desired_lrp)?;
            Checked::CreateDesiredLrp(Box::new(lrp.ok_or_else(|| missing("desired_lrp"))?))
        }
        Call::CreateTask => {
            let task = read(&only_spec(parsed)?, json::read_task)?.unwrap_or_default();
            if task.task_definition.is_none() {
                return Err(missing("task_definition"));
            }
            Checked::CreateTask(Box::new(task))
        }
        Call::DeleteDesiredLrp => {
            Checked::DeleteDesiredLrp(one(parsed, NO_PROCESS_GUID)?.to_owned())
        }
        Call::DeleteTask => Checked::DeleteTask(one(parsed, NO_PROCESS_GUID)?.to_owned()),
        Call::DesiredLrp => Checked::DesiredLrp(one(parsed, NO_PROCESS_GUID)?.to_owned()),
        Call::DesiredLrpSchedulingInfos => {
            not_doubled(parsed, &[("-d", "--domain")])?;
            exactly::<0>(parsed)?;
            Checked::DesiredLrpSchedulingInfos(in_domain())
        }
        Call::DesiredLrps => {
            not_doubled(parsed, &[("-d", "--domain")])?;
            exactly::<0>(parsed)?;
            Checked::DesiredLrps(in_domain())
        }
        Call::RetireActualLrp => {
            let [guid, at] = exactly(parsed)?;
            if guid.is_empty() {
                return Err(Failure::invalid(NO_PROCESS_GUID));
            }
            Checked::RetireActualLrp(guid.to_owned(), index(at)?)
        }
        Call::SetDomain => set_domain(parsed)?,
        Call::Tasks => {
            not_doubled(parsed, &[("-d", "--domain"), ("-c", "--cell-id")])?;
            exactly::<0>(parsed)?;
            Checked::Tasks(m::TasksRequest {
                domain: text("domain"),
                cell_id: text("cell-id"),
            })
        }
        Call::UpdateDesiredLrp => update(parsed, err)?,
        _ => {
            exactly::<0>(parsed)?;
            Checked::Domains
        }
    })
}

/// Returns the task guid. An empty guid counts as missing here.
fn task_guid(parsed: &Parsed) -> Result<String, Failure> {
    match parsed.args.as_slice() {
        [] => Err(Failure::invalid(MISSING)),
        [first, ..] if first.is_empty() => Err(Failure::invalid(MISSING)),
        _ => Ok(one(parsed, MISSING)?.to_owned()),
    }
}

fn only_spec(parsed: &Parsed) -> Result<String, Failure> {
    match parsed.args.as_slice() {
        [only] => spec(only),
        _ => Err(Failure::invalid("missing spec argument")),
    }
}

/// Returns the BBS's error for a request that lacks its main part.
fn missing(field: &str) -> Failure {
    Failure::bbs(
        m::ErrorType::InvalidRequest,
        &format!("Invalid field: {field}"),
    )
}

fn read<T>(text: &str, read: fn(&str) -> Result<T, String>) -> Result<T, Failure> {
    read(text).map_err(|error| Failure::invalid(format!("Invalid JSON: {error}")))
}

fn set_domain(parsed: &Parsed) -> Result<Checked, Failure> {
    let domain = one(parsed, "No domain given")?.to_owned();
    let seconds = parsed.duration("ttl").div_euclid(1_000_000_000);
    let seconds = match u64::try_from(seconds) {
        Err(_) => return Err(Failure::invalid("ttl is negative")),
        // The BBS's protocol has 32 bits for the ttl.
        Ok(seconds) => u32::try_from(seconds).unwrap_or(u32::MAX),
    };
    Ok(Checked::SetDomain(domain, seconds))
}

fn update(parsed: &Parsed, err: &mut (dyn Write + Send)) -> Result<Checked, Failure> {
    let [guid, text] = parsed.args.as_slice() else {
        return Err(Failure::invalid(MISSING));
    };
    let text = spec(text).inspect_err(|failure| {
        // The original cfdot prints the error of a missing file twice.
        if failure.message.starts_with("stat ") {
            let _ = writeln!(err, "{}", failure.message);
        }
    })?;
    let update = read(&text, json::read_desired_lrp_update)?;
    let update = update.ok_or_else(|| missing("update"))?;
    Ok(Checked::UpdateDesiredLrp(guid.clone(), Box::new(update)))
}

async fn print(
    bbs: &Client,
    call: Checked,
    out: &mut (dyn Write + Send),
) -> Result<Done, BbsError> {
    match call {
        Checked::CancelTask(_)
        | Checked::CreateDesiredLrp(_)
        | Checked::CreateTask(_)
        | Checked::DeleteDesiredLrp(_)
        | Checked::DeleteTask(_)
        | Checked::RetireActualLrp(..)
        | Checked::SetDomain(..)
        | Checked::UpdateDesiredLrp(..) => change(bbs, call).await.map(Ok),
        call => show(bbs, call, out).await,
    }
}

async fn show(bbs: &Client, call: Checked, out: &mut (dyn Write + Send)) -> Result<Done, BbsError> {
    Ok(match call {
        Checked::ActualLrpGroups(request) => {
            let groups = bbs.actual_lrp_groups(&request).await?;
            lines(out, groups.iter().map(json::actual_lrp_group))
        }
        Checked::ActualLrpGroupsForGuid(guid, None) => {
            let groups = bbs.actual_lrp_groups_of(&guid).await?;
            lines(out, groups.iter().map(json::actual_lrp_group))
        }
        Checked::ActualLrpGroupsForGuid(guid, Some(index)) => {
            let group = bbs.actual_lrp_group(&guid, index).await?;
            line(out, &json::actual_lrp_group(&group))
        }
        Checked::ActualLrps(request) => {
            let all = bbs.actual_lrps(&request).await?;
            lines(out, all.iter().map(json::actual_lrp))
        }
        Checked::DesiredLrp(guid) => line(out, &json::desired_lrp(&bbs.desired_lrp(&guid).await?)),
        Checked::DesiredLrpSchedulingInfos(request) => {
            let infos = bbs.scheduling_infos(&request).await?;
            lines(out, infos.iter().map(json::scheduling_info))
        }
        Checked::DesiredLrps(request) => {
            let all = bbs.desired_lrps(&request).await?;
            lines(out, all.iter().map(json::desired_lrp))
        }
        Checked::Task(guid) => line(out, &json::task(&bbs.task(&guid).await?)),
        Checked::Tasks(request) => lines(out, bbs.tasks(&request).await?.iter().map(json::task)),
        _ => lines(out, bbs.domains().await?),
    })
}

async fn change(bbs: &Client, call: Checked) -> Result<(), BbsError> {
    match call {
        Checked::CancelTask(guid) => bbs.cancel_task(&guid).await,
        Checked::CreateDesiredLrp(lrp) => bbs.desire_lrp(*lrp).await,
        Checked::CreateTask(task) => {
            let definition = task.task_definition.unwrap_or_default();
            bbs.desire_task(&task.task_guid, &task.domain, definition)
                .await
        }
        Checked::DeleteDesiredLrp(guid) => bbs.remove_desired_lrp(&guid).await,
        Checked::DeleteTask(guid) => {
            bbs.resolve_task(&guid).await?;
            bbs.delete_task(&guid).await
        }
        Checked::RetireActualLrp(process_guid, index) => {
            let domain = bbs.desired_lrp(&process_guid).await?.domain;
            let key = m::ActualLrpKey {
                process_guid,
                index,
                domain,
            };
            bbs.retire(key).await
        }
        Checked::SetDomain(domain, ttl) => bbs.upsert_domain(&domain, ttl).await,
        Checked::UpdateDesiredLrp(guid, update) => bbs.update_desired_lrp(&guid, *update).await,
        _ => Ok(()),
    }
}

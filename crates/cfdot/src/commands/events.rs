//! Event streams, which are printed until the BBS or the reader ends them.

use super::{Done, Streams, exactly, line};
use crate::failure::{Failure, unreachable};
use crate::flags::Parsed;
use crate::json;
use crate::target::Target;
use crate::verbs::Call;
use clients::bbs::{Client, Events, GroupEvents};
use std::io::Write;
use wire::bbs::{ErrorType, path};

const DEPRECATED: &str = r#"Event types "actual_lrp_created", "actual_lrp_changed" and "actual_lrp_removed" are deprecated. Use "--exclude-actual-lrp-groups" flag to exclude them."#;

pub(super) async fn run(
    call: Call,
    parsed: &Parsed,
    target: &Target,
    streams: Streams<'_>,
) -> Done {
    exactly::<0>(parsed)?;
    if call == Call::TaskEvents {
        let bbs = super::bbs::client(target)?;
        let events = bbs.task_events().await;
        let events = events.map_err(|e| refused(target, "Post", path::TASK_EVENTS, &e))?;
        return print(events, streams.out).await;
    }
    let with_groups = !parsed.switch("exclude-actual-lrp-groups");
    if with_groups {
        let _ = writeln!(streams.err, "{DEPRECATED}");
    }
    let bbs = super::bbs::client(target)?;
    let cell_id = parsed.text("cell-id");
    let groups = if with_groups {
        let groups = bbs.group_events(cell_id).await;
        Some(groups.map_err(|e| refused(target, "Get", path::GROUP_EVENTS, &e))?)
    } else {
        None
    };
    let events = instances(&bbs, target, cell_id).await?;
    match groups {
        None => print(events, streams.out).await,
        Some(groups) => print_both(groups, events, streams.out).await,
    }
}

async fn instances(bbs: &Client, target: &Target, cell_id: &str) -> Result<Events, Failure> {
    let events = bbs.instance_events(cell_id).await;
    events.map_err(|error| refused(target, "Post", path::INSTANCE_EVENTS, &error))
}

/// Returns the error of a stream that does not open. The original cfdot reports it as an error of the BBS.
fn refused(target: &Target, method: &str, path: &str, error: &anyhow::Error) -> Failure {
    let url = format!("{}{path}", target.bbs_url);
    Failure::bbs(ErrorType::UnknownError, &unreachable(method, &url, error))
}

/// Prints the events of a stream. It is no failure if the BBS ends the stream.
async fn print(mut events: Events, out: &mut (dyn Write + Send)) -> Done {
    while let Some(event) = ended(events.next().await)? {
        line(out, &json::event(&event))?;
    }
    Ok(())
}

/// Prints the events of both streams in the order of their arrival, until both have ended.
async fn print_both(
    mut groups: GroupEvents,
    mut events: Events,
    out: &mut (dyn Write + Send),
) -> Done {
    let (mut groups_go_on, mut events_go_on) = (true, true);
    while groups_go_on || events_go_on {
        tokio::select! {
            event = groups.next(), if groups_go_on => match ended(event)? {
                Some(event) => line(out, &json::group_event(&event))?,
                None => groups_go_on = false,
            },
            event = events.next(), if events_go_on => match ended(event)? {
                Some(event) => line(out, &json::event(&event))?,
                None => events_go_on = false,
            },
        }
    }
    Ok(())
}

fn ended<T>(event: anyhow::Result<T>) -> Result<Option<T>, Failure> {
    match event {
        Ok(event) => Ok(Some(event)),
        Err(error) if error.is::<clients::bbs::StreamEnded>() => Ok(None),
        Err(error) => Err(Failure::other(error.root_cause().to_string())),
    }
}

//! Cells: their presences, from the BBS, and their states, from their reps.

use super::{Done, exactly, line, lines};
use crate::failure::{Failure, of_bbs, unreachable};
use crate::flags::Parsed;
use crate::json;
use crate::target::Target;
use crate::verbs::Call;
use clients::bbs::BbsError;
use std::io::Write;
use std::time::Duration;
use wire::bbs as m;

/// The time limit for a rep's response.
const REP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn run(
    call: Call,
    parsed: &Parsed,
    target: &Target,
    out: &mut (dyn Write + Send),
) -> Done {
    let wanted = match call {
        Call::Cell | Call::CellState => {
            let [id] = exactly(parsed)?;
            Some(id)
        }
        _ => {
            exactly::<0>(parsed)?;
            None
        }
    };
    let bbs = super::bbs::client(target)?;
    let cells = match bbs.cells().await {
        Ok(cells) => cells,
        Err(error) if call == Call::CellStates => return Err(no_registrations(target, &error)),
        Err(error) => return Err(of_bbs(&target.bbs_url, &error)),
    };
    let Some(id) = wanted else {
        return match call {
            Call::CellStates => states(target, &cells, out).await,
            _ => lines(out, cells.iter().map(json::cell_presence)),
        };
    };
    let cell = cells.iter().find(|cell| cell.cell_id == id);
    let cell = cell.ok_or_else(|| Failure::other("Cell not found"))?;
    if call == Call::Cell {
        return line(out, &json::cell_presence(cell));
    }
    state(target, cell, out)
        .await
        .map_err(|failure| Failure::component(failure.trim_end()))
}

fn no_registrations(target: &Target, error: &BbsError) -> Failure {
    let reason = match error {
        BbsError::Answer { message, .. } => message.clone(),
        BbsError::Unreachable { path, source } => {
            unreachable("Post", &format!("{}{path}", target.bbs_url), source)
        }
    };
    Failure::component(format!(
        "BBS error: Failed to get cell registrations from BBS: {reason}"
    ))
}

/// Prints the states of the cells that answer, and fails with the cells that do not.
async fn states(target: &Target, cells: &[m::CellPresence], out: &mut (dyn Write + Send)) -> Done {
    let mut failed = String::new();
    for cell in cells {
        if let Err(failure) = state(target, cell, out).await {
            failed.push_str(&failure);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::component(failed))
    }
}

async fn state(
    target: &Target,
    cell: &m::CellPresence,
    out: &mut (dyn Write + Send),
) -> Result<(), String> {
    let failed = |reason: String| {
        format!(
            "Rep error: Failed to get cell state for cell {}: {reason}\n",
            cell.cell_id
        )
    };
    let url = if cell.rep_url.is_empty() {
        &cell.rep_address
    } else {
        &cell.rep_url
    };
    let rep = target
        .tls()
        .and_then(|tls| clients::rep::Client::with_tls(tls, REP_TIMEOUT))
        .map_err(|error| failed(format!("{error:#}")))?;
    let state = rep
        .state(url)
        .await
        .map_err(|error| failed(unreachable("Get", &format!("{url}/state"), &error)))?;
    line(out, &state).map_err(|failure| failed(failure.message))
}

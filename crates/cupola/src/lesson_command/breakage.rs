//! Breaks something on purpose for an exercise, and repairs it in any case.
//!
//! The steps that undo a breakage are written to `lesson-breakage.json` in the data directory before the breakage is made. Whoever
//! comes first repairs:
//!
//! | Who | When |
//! |---|---|
//! | `cupola lesson repair` | a person has found the breakage |
//! | the guard, a process that `break` starts before it makes the breakage | `break` ends half way, half an hour has passed, or the foundation is gone |
//! | the next `cupola lesson break`, `cupola up` at its beginning and at its end, `cupola serve` of a cell | the guard was killed too |
//!
//! Rules of iptables carry a mark with the foundation's tag, so they are found and removed even without the file.

mod kinds;
mod rules;
mod undo;

use crate::addresses::Service;
use crate::plan::Plan;
use crate::terminal::{print_error, print_line};
use anyhow::{Context as _, Result, ensure};
use kinds::Breakage;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::{ChildStdin, Command};
use undo::Record;

/// The time after which the guard repairs.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// The line with which `break` reports to the guard that the breakage is made.
const MADE: &str = "made";
/// The number of failed connections to the BBS after which the guard considers the foundation as gone.
const GONE: u32 = 3;

/// Runs `cupola lesson break`.
pub(super) async fn break_on_purpose(data: &Path, exercise: u8) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "cupola lesson break needs root (it changes rules and processes of the cell): run it with sudo"
    );
    let plan = Plan::read(data)?;
    if let Some(record) = Record::read(data)? {
        repair(data).await?;
        print_line(&format!(
            "Exercise {} was still broken and has been repaired first.",
            record.exercise
        ));
    }
    let breakage = Breakage::prepare(data, &plan, exercise).await?;
    let record = Record {
        exercise,
        deadline: now() + LONGEST.as_secs(),
        undo: breakage.undo(),
    };
    record.write(data)?;
    let made = async {
        let mut guard = start_guard(data)?;
        breakage.make(data, &plan).await?;
        guard.write_all(format!("{MADE}\n").as_bytes()).await?;
        anyhow::Ok(())
    };
    if let Err(error) = made.await {
        repair(data).await?;
        return Err(error.context(format!(
            "break exercise {exercise}; everything was repaired"
        )));
    }
    print_line(&format!(
        "Something is broken now. `cupola lesson show e{exercise}` helps you to find it.\n`cupola lesson repair` repairs it; half an hour from now it is repaired in any case."
    ));
    Ok(())
}

/// Runs `cupola lesson repair`.
pub(super) async fn repair(data: &Path) -> Result<()> {
    let plan = Plan::read(data)?;
    let record = Record::read(data)?;
    let mut undone = rules::remove(&plan.tag).await;
    let Some(record) = record else {
        undone?;
        print_line("Nothing is broken.");
        return Ok(());
    };
    // A step that fails does not hold up the others. The record stays until all have succeeded.
    for undo in &record.undo {
        undone = undone.and(undo.run(data, &plan).await);
    }
    undone?;
    Record::remove(data)?;
    print_line(&format!("Exercise {} is repaired.", record.exercise));
    Ok(())
}

/// Repairs what an exercise has left. `cupola up` calls it at its beginning and at its end, a cell of its own at its beginning.
pub(crate) async fn repair_left_over(data: &Path) {
    let is_broken = matches!(Record::read(data), Ok(Some(_)) | Err(_));
    if !is_broken {
        return;
    }
    if let Err(error) = repair(data).await {
        print_error(&format!(
            "cupola: what an exercise of the lesson has broken cannot be repaired: {error:#}"
        ));
    }
}

/// Runs the guard. Its standard input is a pipe from `cupola lesson break`.
pub(super) async fn guard(data: &Path) -> Result<()> {
    let read = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    };
    let line = tokio::task::spawn_blocking(read).await?;
    if line.is_ok_and(|line| line.trim() == MADE) {
        wait_until_due(data).await?;
    }
    match Record::read(data)? {
        Some(_) => repair(data).await,
        None => Ok(()),
    }
}

/// Waits until somebody has repaired, the time is over, or the foundation is gone.
async fn wait_until_due(data: &Path) -> Result<()> {
    let bbs = Plan::read(data)?.reach(Service::Bbs);
    let mut failed = 0;
    while failed < GONE {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match Record::read(data)? {
            Some(record) if now() < record.deadline => {}
            Some(_) | None => return Ok(()),
        }
        match TcpStream::connect(&bbs).await {
            Ok(_) => failed = 0,
            Err(_) => failed += 1,
        }
    }
    Ok(())
}

/// Starts the guard in a process group of its own, so that Ctrl-C does not end it. The guard repairs when the returned pipe is closed
/// before it has received [`MADE`].
fn start_guard(data: &Path) -> Result<ChildStdin> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["lesson", "guard", "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start the guard of the exercise")?;
    child
        .stdin
        .take()
        .context("the guard has no standard input")
}

/// Returns the seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

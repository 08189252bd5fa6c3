//! One pass of a background loop over the rows of many tenants. A row that causes an error is skipped and reported, and the pass
//! continues.

use super::egress::Known;
use super::fault;
use super::troubles::Skipped;
use crate::controller::Cc;
use crate::db::Broken;
use anyhow::Result;
use std::collections::HashSet;

/// The rows that a pass skipped, and the number of failures that no row caused.
#[derive(Debug)]
pub(super) struct Pass {
    skipped: Skipped,
    nameless: bool,
    failures: usize,
}

impl Pass {
    /// Starts with the rows that could not be read.
    pub(super) fn new(broken: &[Broken]) -> Self {
        let skipped = broken
            .iter()
            .filter_map(|broken| Some((broken.guid.clone()?, broken.problem.clone())));
        Self {
            skipped: skipped.collect(),
            nameless: broken.iter().any(|broken| broken.guid.is_none()),
            failures: 0,
        }
    }

    pub(super) fn note(&mut self, guid: &str, result: Result<()>) {
        match result {
            Ok(()) => {}
            Err(error) if fault::is_row_wrong(&error) => {
                self.skipped.insert(guid.to_owned(), format!("{error:#}"));
            }
            Err(error) => {
                tracing::warn!(guid, error = format!("{error:#}"), "repair-failed");
                self.failures += 1;
            }
        }
    }

    /// Returns whether the guids of all rows are known. Only then does a task without a row belong to nobody.
    pub(super) fn knows_all_guids(&self) -> bool {
        !self.nameless
    }

    /// Cancels the tasks of the BBS that belong neither to an open row nor to one that cannot be read. The list of tasks was
    /// fetched before the rows were read, so a task that was desired in between has its row.
    pub(super) async fn cancel_unknown<'a>(
        &mut self,
        cc: &Cc,
        tasks: &Known,
        open: impl Iterator<Item = &'a str>,
    ) {
        let known: HashSet<&str> = open.collect();
        for task in tasks.keys() {
            if !known.contains(task.as_str()) && !self.skipped.contains_key(task) {
                tracing::info!(task, "unknown-task-cancelled");
                let result = cancel(cc, task).await;
                self.note(task, result);
            }
        }
    }

    /// Reports the skipped rows of a noun. It returns an error if the pass must be repeated soon.
    pub(super) fn end(self, cc: &Cc, noun: &'static str) -> Result<()> {
        let Self {
            mut skipped,
            nameless,
            failures,
        } = self;
        if nameless {
            skipped.insert("?".to_owned(), "a row's guid cannot be read".to_owned());
        }
        cc.troubles.report(noun, skipped, &cc.emitter);
        anyhow::ensure!(failures == 0, "{failures} {noun} could not be repaired");
        Ok(())
    }
}

/// Cancels a task. A task that was removed or has ended is no error.
pub(super) async fn cancel(cc: &Cc, task: &str) -> Result<()> {
    use wire::bbs::ErrorType::{InvalidStateTransition, ResourceNotFound};
    match cc.bbs.cancel_task(task).await {
        Err(error)
            if matches!(
                error.kind(),
                Some(InvalidStateTransition | ResourceNotFound)
            ) =>
        {
            Ok(())
        }
        result => Ok(result?),
    }
}

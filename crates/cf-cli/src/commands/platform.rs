//! Buildpacks and stacks of the platform.

use crate::api::types::{Buildpack, Stack};
use crate::args::Spec;
use crate::session::Session;
use anyhow::Result;

const GROUP: &str = "Buildpacks and stacks";

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "buildpacks",
        alias: "",
        group: GROUP,
        about: "List all buildpacks",
        args: &[],
        flags: &[],
        examples: &["cf buildpacks"],
    },
    Spec {
        name: "stacks",
        alias: "",
        group: GROUP,
        about: "List all stacks",
        args: &[],
        flags: &[],
        examples: &["cf stacks"],
    },
];

pub(super) async fn buildpacks(s: &Session) -> Result<()> {
    let user = s.require_login()?;
    s.ui.flavor("Getting buildpacks as {}...", &[&user]);
    s.ui.blank();
    let buildpacks: Vec<Buildpack> = s.list("/v3/buildpacks", &[]).await?;
    if buildpacks.is_empty() {
        s.ui.line("No buildpacks found");
        return Ok(());
    }
    let row = |b: Buildpack| {
        let (stack, filename, lifecycle) = (
            b.stack.unwrap_or_default(),
            b.filename.unwrap_or_default(),
            b.lifecycle.unwrap_or_default(),
        );
        vec![
            b.position.to_string(),
            b.name,
            stack,
            b.enabled.to_string(),
            b.locked.to_string(),
            b.state,
            filename,
            lifecycle,
        ]
    };
    s.ui.table(
        "",
        &[
            "position",
            "name",
            "stack",
            "enabled",
            "locked",
            "state",
            "filename",
            "lifecycle",
        ],
        buildpacks.into_iter().map(row).collect(),
    );
    Ok(())
}

pub(super) async fn stacks(s: &Session) -> Result<()> {
    let user = s.require_login()?;
    s.ui.flavor("Getting stacks as {}...", &[&user]);
    s.ui.blank();
    let mut stacks: Vec<Stack> = s.list("/v3/stacks", &[]).await?;
    if stacks.is_empty() {
        s.ui.line("No stacks found.");
        return Ok(());
    }
    stacks.sort_by(|a, b| a.name.cmp(&b.name));
    s.ui.table(
        "",
        &["name", "description", "state"],
        stacks
            .into_iter()
            .map(|t| {
                let (description, state) = (t.description, t.state);
                vec![
                    t.name,
                    description.unwrap_or_default(),
                    state.unwrap_or_default(),
                ]
            })
            .collect(),
    );
    Ok(())
}

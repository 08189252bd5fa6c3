//! The steps of the demo that a person would type.

use crate::terminal::print_line;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;

/// Prints the heading of a step.
pub(super) fn step(text: &str) {
    print_line(&format!("\n▶ {text}"));
}

/// A client that runs `cupola cf …` as a person would.
pub(super) struct CfClient {
    pub(super) home: PathBuf,
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

    /// Returns the answer of the API to a GET request.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        let output = self.command(&["curl", path])?.output().await?;
        ensure!(
            output.status.success(),
            "cf curl {path} ended with {}",
            output.status
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("read {path}"))
    }

    pub(super) async fn run(&self, args: &[&str], shown: Option<&str>) -> Result<()> {
        step(&shown.map_or_else(|| format!("cf {}", args.join(" ")), str::to_owned));
        let status = self.command(args)?.status().await?;
        ensure!(status.success(), "cf {} ended with {status}", args[0]);
        Ok(())
    }
}

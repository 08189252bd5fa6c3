//! Applies what [`super::firewall`] rendered: one `iptables-restore` per change, one change at a time.

use super::firewall;
use anyhow::{Context, Result, bail};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Mutex;

/// The machine's packet filter, as seen by this process.
#[derive(Debug, Default)]
pub(crate) struct Iptables {
    // Restores by several processes at once are kept apart by the lock of iptables itself (-w).
    turn: Mutex<()>,
}

impl Iptables {
    /// Applies a rendered change, whole or not at all per table.
    pub(crate) async fn restore(&self, text: &str) -> Result<()> {
        let _turn = self.turn.lock().await;
        restore(text).await
    }

    /// Removes a container's chains, whatever of them is there.
    pub(crate) async fn remove(&self, name: &str, veth: &str) -> Result<()> {
        let _turn = self.turn.lock().await;
        if restore(&firewall::remove(name, veth)).await.is_ok() {
            return Ok(());
        }
        remove_existing(&firewall::chains(name)).await
    }

    pub(crate) async fn remove_chains(&self, chains: &[String]) -> Result<()> {
        let _turn = self.turn.lock().await;
        remove_existing(chains).await
    }

    /// All rules, as `iptables-save` prints them.
    pub(crate) async fn save(&self) -> Result<String> {
        save().await
    }
}

async fn remove_existing(chains: &[String]) -> Result<()> {
    let text = firewall::remove_existing(&save().await?, chains);
    if text.is_empty() {
        Ok(())
    } else {
        restore(&text).await
    }
}

async fn save() -> Result<String> {
    let output = Command::new("iptables-save")
        .output()
        .await
        .context("run iptables-save (Debian package iptables)")?;
    if !output.status.success() {
        bail!(
            "iptables-save: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn restore(text: &str) -> Result<()> {
    let mut child = Command::new("iptables-restore")
        .args(["--noflush", "-w", "30"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run iptables-restore (Debian package iptables)")?;
    let mut stdin = child.stdin.take().context("stdin of iptables-restore")?;
    // A failed write shows in the exit status with a better reason.
    let _ = stdin.write_all(text.as_bytes()).await;
    drop(stdin);
    let output = child
        .wait_with_output()
        .await
        .context("wait for iptables-restore")?;
    if !output.status.success() {
        bail!(
            "iptables-restore: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

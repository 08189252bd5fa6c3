//! Applies the rules that [`super::firewall`] rendered: one `iptables-restore` per change, one change at a time. It remembers the
//! applied rules, and restores them when somebody else has removed or changed them.

use super::firewall;
use super::ruleset::{Piece, Ruleset};
use crate::api::FirewallRule;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Mutex;

/// The name of the piece that holds the cell's own rules.
pub(crate) const CELL: &str = "";
/// The maximum number of rounds of a repair: repairing the cell's jumps may put those of containers out of order.
const ROUNDS: usize = 3;

/// The rules that this process wants in the machine's packet filter.
#[derive(Debug, Default)]
pub(crate) struct Iptables {
    // The lock is held through every change and every comparison, so that a comparison never sees a half-made change. The lock of
    // iptables itself (-w) excludes other processes.
    pieces: Mutex<Pieces>,
}

#[derive(Debug, Default)]
struct Pieces {
    wanted: BTreeMap<String, Piece>,
    /// The number of packets that each container's limits had refused at the last comparison.
    refused: BTreeMap<String, u64>,
}

impl Iptables {
    /// Applies the rules of a container, or of the cell, and repairs them from then on.
    pub(crate) async fn add(&self, name: &str, text: &str) -> Result<()> {
        let mut pieces = self.pieces.lock().await;
        restore(text).await?;
        pieces.wanted.insert(name.to_owned(), Piece::parse(text));
        Ok(())
    }

    /// Applies a text that replaces some chains of a container.
    pub(crate) async fn change(&self, name: &str, text: &str) -> Result<()> {
        let mut pieces = self.pieces.lock().await;
        restore(text).await?;
        if let Some(piece) = pieces.wanted.get_mut(name) {
            piece.change(text);
        }
        Ok(())
    }

    /// Repairs rules from now on that an earlier run applied.
    pub(crate) async fn watch(&self, name: &str, text: &str) {
        let mut pieces = self.pieces.lock().await;
        pieces.wanted.insert(name.to_owned(), Piece::parse(text));
    }

    /// Applies a text that is not repaired later.
    pub(crate) async fn restore(&self, text: &str) -> Result<()> {
        let _turn = self.pieces.lock().await;
        restore(text).await
    }

    /// Removes a container's chains, whether all or only some of them exist.
    pub(crate) async fn remove(&self, name: &str, veth: &str, address: Ipv4Addr) -> Result<()> {
        let mut pieces = self.pieces.lock().await;
        pieces.wanted.remove(name);
        pieces.refused.remove(name);
        if restore(&firewall::remove(name, veth, address))
            .await
            .is_ok()
        {
            return Ok(());
        }
        remove_existing(&firewall::chains(name)).await
    }

    /// Removes chains and all jumps to them. The piece `name` is no longer repaired.
    pub(crate) async fn remove_chains(&self, name: &str, chains: &[String]) -> Result<()> {
        let mut pieces = self.pieces.lock().await;
        pieces.wanted.remove(name);
        remove_existing(chains).await
    }

    /// Returns all rules, as `iptables-save` prints them.
    pub(crate) async fn save(&self) -> Result<String> {
        let _turn = self.pieces.lock().await;
        save(&[]).await
    }

    /// Compares all rules with those of the machine, and restores what is missing or changed. Returns the names of what was
    /// repaired.
    pub(crate) async fn repair(&self) -> Result<Vec<String>> {
        let mut pieces = self.pieces.lock().await;
        let mut repaired = Vec::new();
        for _ in 0..ROUNDS {
            let present = Ruleset::parse(&save(&["-c"]).await?);
            let mut texts = Vec::new();
            for (name, piece) in &mut pieces.wanted {
                let broken = piece.broken(&present);
                texts.extend(broken.iter().map(|table| piece.repair(&present, table)));
                if !broken.is_empty() && !repaired.contains(name) {
                    repaired.push(name.clone());
                }
            }
            if texts.is_empty() {
                let names = pieces.wanted.keys().filter(|name| *name != CELL);
                let refused = names
                    .map(|name| (name.clone(), present.refused(&firewall::limits_chain(name))));
                pieces.refused = refused.collect();
                return Ok(repaired);
            }
            apply(&texts).await?;
        }
        bail!(
            "rules of {} are changed again and again by another program",
            repaired.join(", ")
        )
    }

    /// Returns the present rules that decide about packets to the mapped ports of a container.
    pub(crate) async fn towards(&self, name: &str) -> Result<Vec<FirewallRule>> {
        let _turn = self.pieces.lock().await;
        let present = Ruleset::parse(&save(&["-c"]).await?);
        Ok(present.towards(&format!("netin--{name}")))
    }

    /// Returns the number of packets that the container's limits had refused at the last comparison.
    pub(crate) async fn refused(&self, name: &str) -> u64 {
        let pieces = self.pieces.lock().await;
        pieces.refused.get(name).copied().unwrap_or(0)
    }
}

/// Applies all texts in one step if possible, else one by one: a text that fails must not hold up the others.
async fn apply(texts: &[String]) -> Result<()> {
    if restore(&texts.concat()).await.is_ok() {
        return Ok(());
    }
    let mut refused = None;
    for text in texts {
        if let Err(error) = restore(text).await {
            refused = Some(error);
        }
    }
    refused.map_or(Ok(()), |error| Err(error.context("restore the rules")))
}

async fn remove_existing(chains: &[String]) -> Result<()> {
    let text = firewall::remove_existing(&save(&[]).await?, chains);
    if text.is_empty() {
        Ok(())
    } else {
        restore(&text).await
    }
}

async fn save(options: &[&str]) -> Result<String> {
    let output = Command::new("iptables-save")
        .args(options)
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
    let mut stdin = child
        .stdin
        .take()
        .context("open the standard input of iptables-restore")?;
    // If the write fails, the exit status shows it with a better reason.
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

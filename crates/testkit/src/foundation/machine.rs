//! The machine below a foundation: what a foundation could leave on it, a disk of its own, and a shell.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The things that a foundation could leave behind on a machine.
#[derive(Debug)]
pub struct Machine {
    seen: BTreeMap<&'static str, Vec<String>>,
}

impl Machine {
    /// Lists what there is now.
    pub fn look() -> Self {
        let commands = [
            (
                "chains and rules",
                "for t in filter nat mangle; do iptables -w -t $t -S; done | grep -v '^-P' || true",
            ),
            (
                "links",
                "ip -o link | awk -F': ' '{print $2}' | cut -d@ -f1 | sort",
            ),
            ("addresses", "ip -o -4 addr | awk '{print $2, $4}' | sort"),
            ("routes", "ip route | sort"),
            ("mounts", "cut -d' ' -f5 /proc/self/mountinfo | sort"),
            ("loop devices", "losetup -a | sort"),
            ("network namespaces", "ls /run/netns 2>/dev/null || true"),
            (
                "cgroups",
                "find /sys/fs/cgroup -maxdepth 4 -type d -name '*cupola*' | sort",
            ),
            ("run files", "ls -d /run/cupola* 2>/dev/null || true"),
            ("hosts file", "cat /etc/hosts"),
        ];
        let seen = commands
            .into_iter()
            .map(|(what, command)| {
                (
                    what,
                    sh(command)
                        .unwrap_or_default()
                        .lines()
                        .map(str::to_owned)
                        .collect(),
                )
            })
            .collect();
        Self { seen }
    }

    /// Checks that nothing of the foundation in the data directory `data` has been added since.
    pub fn same_as_now(&self, data: &Path) -> Result<()> {
        let now = Self::look();
        let plan = std::fs::read_to_string(data.join("foundation.json")).unwrap_or_default();
        let plan: Value = serde_json::from_str(&plan).unwrap_or_default();
        let text = |name: &str| plan[name].as_str().unwrap_or("not planned").to_owned();
        let (tag, domain, ip) = (text("tag"), text("domain"), text("cell_ip"));
        let network = ip
            .rsplit_once('.')
            .map_or(ip.clone(), |(net, _)| format!("{net}."));
        let place = data.display().to_string();
        // Other foundations on this machine may start and stop meanwhile.
        let is_ours = |line: &str| {
            let line = line.replace(".0.0/16", "");
            [&tag, &domain, &network, &place]
                .iter()
                .any(|mark| line.contains(mark.as_str()))
        };
        let mut left = Vec::new();
        for (what, before) in &self.seen {
            let added: Vec<_> = now.seen[what]
                .iter()
                .filter(|l| !before.contains(l) && is_ours(l))
                .cloned()
                .collect();
            if !added.is_empty() {
                left.push(format!("{what}: {}", added.join(" | ")));
            }
        }
        let mine = sh(&format!("pgrep -af '{}' || true", data.display()))?;
        let processes: Vec<&str> = mine.lines().filter(|l| !l.contains("pgrep")).collect();
        if !processes.is_empty() {
            left.push(format!("processes: {}", processes.join(" | ")));
        }
        ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        Ok(())
    }
}

/// A small separate disk for the data directory: an ext4 file system in a file.
#[derive(Debug)]
pub(super) struct Disk(PathBuf);

impl Disk {
    pub(super) fn mount(image: &Path, folder: &Path, mb: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::File::create(image)?.set_len(mb << 20)?;
        let (image, place) = (image.display(), folder.display());
        sh(&format!(
            "mkfs.ext4 -q -m 0 {image} && mount -o loop {image} {place}"
        ))?;
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = sh(&format!("umount {}", self.0.display())) {
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "the stories' disk is left: {error:#}");
        }
    }
}

/// Returns what a command has written to stdout and stderr.
pub fn both(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs a shell command on the machine.
pub fn sh(command: &str) -> Result<String> {
    let output = Command::new("bash")
        .args(["-c", command])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()?;
    ensure!(output.status.success(), "{command}: {}", both(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

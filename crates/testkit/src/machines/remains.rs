//! Finds and removes what a machine's processes and containers leave outside its network namespace: processes, cgroups, mounts, loop devices, run files.

use crate::foundation::sh;
use anyhow::Result;
use serde_json::Value;
use std::path::Path;

/// Returns the tag of the foundation in a data directory; `None` if nothing was started there.
fn tag(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("foundation.json")).ok()?;
    let plan: Value = serde_json::from_str(&text).ok()?;
    Some(plan["tag"].as_str()?.to_owned())
}

/// Returns one line for each thing that is left.
pub(super) fn of(data: &Path) -> impl Iterator<Item = String> + use<> {
    let place = data.display();
    let tag = tag(data).unwrap_or_else(|| "no-tag".to_owned());
    let commands = [
        format!("pgrep -af '{place}' | grep -v pgrep || true"),
        format!("cut -d' ' -f5 /proc/self/mountinfo | grep -E 'cupola-{tag}|{place}' || true"),
        format!("losetup -a | grep '{place}' || true"),
        format!("find /sys/fs/cgroup -maxdepth 4 -type d -name 'cupola-{tag}' || true"),
        format!("ls -d /run/cupola-{tag} 2>/dev/null || true"),
    ];
    let text = commands.map(|command| sh(&command).unwrap_or_else(|error| format!("{error:#}")));
    let lines = text.join("\n");
    let lines: Vec<String> = lines
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    lines.into_iter()
}

/// Removes everything that is left, after the processes of cupola were killed. It does nothing where nothing is left.
pub(super) fn remove(data: &Path) -> Result<()> {
    let Some(tag) = tag(data) else { return Ok(()) };
    let place = data.display();
    sh(&format!(
        r"
        folders() {{ find /sys/fs/cgroup -maxdepth 4 -type d -name 'cupola-{tag}'; }}
        for attempt in 1 2 3 4 5 6 7 8 9 10; do
          for folder in $(folders); do
            find $folder -name cgroup.procs -exec cat {{}} + 2>/dev/null | xargs -r kill -9 2>/dev/null
          done
          pgrep -f '{place}' | grep -vx $$ | xargs -r kill -9 2>/dev/null
          for folder in $(folders); do find $folder -depth -type d -exec rmdir {{}} + 2>/dev/null; done
          [ -z $(folders | head -1) ] && break
          sleep 0.2
        done
        cut -d' ' -f5 /proc/self/mountinfo | grep -E 'cupola-{tag}|{place}' | sort -r | xargs -r -n1 umount -l
        losetup -a | grep '{place}' | cut -d: -f1 | xargs -r -n1 losetup -d
        rm -rf /run/cupola-{tag}
        true"
    ))
    .map(drop)
}

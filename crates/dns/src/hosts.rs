//! Maintains a marked block in the machine's hosts file, so that its own programs (cf, curl, Python, browsers) find the routes.
//!
//! ```text
//! # BEGIN cupola 4711:183420
//! 127.0.0.1 api.cupola.test
//! # END cupola 4711:183420
//! ```
//!
//! The tag names the process (id and start time) that maintains the block. The next process that changes the file removes the
//! block of a process that no longer runs. Lines outside of such blocks are never changed.

use crate::HostsConfig;
use crate::names::{Names, host};
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The pause in which further changes are collected, so that many routes that change at once are written together.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// The least time between two writes. Each of them is synced, and a disk that syncs delays the commits of all databases on it.
const INTERVAL: Duration = Duration::from_millis(250);
/// The highest number of names, because a hosts file is read from its beginning for every look-up.
const MAX_NAMES: usize = 5_000;
const BEGIN: &str = "# BEGIN cupola ";
const END: &str = "# END cupola ";

/// Returns the text of the file with `entries` in the block of `tag` (without entries: without the block), and without the blocks
/// of others whose process is not alive according to `is_alive`. Pure.
pub fn render(
    old: &str,
    tag: &str,
    entries: &[(IpAddr, String)],
    is_alive: impl Fn(&str) -> bool,
) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut rest = old.lines();
    while let Some(line) = rest.next() {
        let Some(owner) = line.strip_prefix(BEGIN).map(str::trim_end) else {
            lines.push(line);
            continue;
        };
        let end = format!("{END}{owner}");
        let is_end = |line: &str| line.trim_end() == end;
        match rest.clone().position(is_end) {
            // A block without an end loses only its first line, because the lines that follow may belong to another program.
            None => {}
            Some(length) => {
                let keep = owner != tag && is_alive(owner);
                let body: Vec<_> = rest.by_ref().take(length + 1).collect();
                if keep {
                    lines.push(line);
                    lines.extend(body);
                }
            }
        }
    }
    let mut text = lines.join("\n");
    if !text.is_empty() && (old.ends_with('\n') || !entries.is_empty()) {
        text.push('\n');
    }
    if !entries.is_empty() {
        text.push_str(&format!("{BEGIN}{tag}\n"));
        for (ip, name) in entries {
            text.push_str(&format!("{ip} {name}\n"));
        }
        text.push_str(&format!("{END}{tag}\n"));
    }
    text
}

/// Returns the tag of this process.
pub fn own_tag() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", start_time(pid).unwrap_or_default())
}

/// Returns whether the process that a tag names still runs.
pub fn is_alive(tag: &str) -> bool {
    let parsed = tag
        .split_once(':')
        .and_then(|(pid, start)| Some((pid.parse::<u32>().ok()?, start.parse::<u64>().ok()?)));
    // A tag of an unknown form may be that of a newer version.
    parsed.is_none_or(|(pid, start)| start_time(pid) == Some(start))
}

/// Returns the start time in clock ticks since boot, field 22 of /proc/PID/stat. The command's name before it may contain blanks.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// Removes blocks whose process is gone. It serves starts that need no block of their own.
pub fn remove_stale(path: &Path) -> Result<()> {
    rewrite(path, |old| render(old, "", &[], is_alive))
}

/// Reads, changes and replaces the file while no other process changes it. It writes nothing if nothing changed.
fn rewrite(path: &Path, change: impl FnOnce(&str) -> String) -> Result<()> {
    let (mut file, path) = (open_locked(path)?, path);
    let mut old = String::new();
    file.read_to_string(&mut old)
        .with_context(|| format!("read {}", path.display()))?;
    let new = change(&old);
    if new == old {
        return Ok(());
    }
    if replace(path, &file, &new).is_err() {
        // A bind mount (in containers) cannot be replaced, but it can be written to.
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(path)
            .with_context(|| format!("write {}", path.display()))?;
        file.write_all(new.as_bytes())
            .with_context(|| format!("write {}", path.display()))?;
        file.sync_all()
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Opens and locks the file. The lock is on the file itself; if the file was replaced during the wait, it tries again with the
/// new one.
fn open_locked(path: &Path) -> Result<File> {
    loop {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        file.lock()
            .with_context(|| format!("lock {}", path.display()))?;
        let there =
            std::fs::metadata(path).with_context(|| format!("examine {}", path.display()))?;
        let held = file
            .metadata()
            .with_context(|| format!("examine {}", path.display()))?;
        if (there.dev(), there.ino()) == (held.dev(), held.ino()) {
            return Ok(file);
        }
    }
}

fn replace(path: &Path, old: &File, text: &str) -> std::io::Result<()> {
    // A symbolic link stays one.
    let path = std::fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".cupola-{}", std::process::id()));
    let partial = path.with_file_name(name);
    let meta = old.metadata()?;
    let written = (|| {
        let mut file = File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(meta.permissions())?;
        std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
        file.sync_all()?;
        std::fs::rename(&partial, &path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Maintains the block until shutdown, then removes it.
pub(crate) async fn keep(
    config: HostsConfig,
    names: Arc<Mutex<Names>>,
    changed: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let tag = own_tag();
    let mut failing = false;
    loop {
        let learned = names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .exact_hosts();
        let next = Instant::now() + INTERVAL;
        let written = write(&config, &tag, entries(&config, learned)).await;
        match (&written, failing) {
            (Err(error), false) => tracing::warn!(
                error = format!("{error:#}"),
                "hosts-file-not-written: names of routes do not resolve on this machine"
            ),
            (Ok(()), true) => tracing::info!("hosts-file-written-again"),
            _ => {}
        }
        failing = written.is_err();
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = changed.notified() => {
                tokio::time::sleep_until(next.max(Instant::now() + DEBOUNCE)).await;
            }
        }
    }
    if let Err(error) = write(&config, &tag, Vec::new()).await {
        tracing::warn!(error = format!("{error:#}"), "hosts-block-not-removed");
    }
}

fn entries(config: &HostsConfig, learned: BTreeSet<String>) -> Vec<(IpAddr, String)> {
    let fixed = config
        .names
        .iter()
        .filter_map(|name| host(name))
        .filter(|name| !name.starts_with("*."));
    let mut names: Vec<_> = fixed.collect();
    names.extend(
        learned
            .into_iter()
            .filter(|name| !config.names.contains(name)),
    );
    names.truncate(MAX_NAMES);
    names.into_iter().map(|name| (config.ip, name)).collect()
}

async fn write(config: &HostsConfig, tag: &str, entries: Vec<(IpAddr, String)>) -> Result<()> {
    let (path, tag) = (config.path.clone(), tag.to_owned());
    tokio::task::spawn_blocking(move || rewrite(&path, |old| render(old, &tag, &entries, is_alive)))
        .await
        .context("write the hosts file")?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> Vec<(IpAddr, String)> {
        names
            .iter()
            .map(|name| ("127.0.0.1".parse().unwrap(), (*name).to_owned()))
            .collect()
    }

    #[test]
    fn a_block_is_added_changed_and_removed_and_the_rest_stays() {
        let original = "127.0.0.1 localhost\n\n# mine\n10.0.0.1 host\n";
        let with = render(original, "1:2", &entries(&["a.x", "b.x"]), |_| true);
        assert_eq!(
            with,
            format!(
                "{original}# BEGIN cupola 1:2\n127.0.0.1 a.x\n127.0.0.1 b.x\n# END cupola 1:2\n"
            )
        );
        let changed = render(&with, "1:2", &entries(&["c.x"]), |_| true);
        assert_eq!(
            changed,
            format!("{original}# BEGIN cupola 1:2\n127.0.0.1 c.x\n# END cupola 1:2\n")
        );
        assert_eq!(render(&changed, "1:2", &[], |_| true), original);
        assert_eq!(render("no newline", "1:2", &[], |_| true), "no newline");
        assert_eq!(render("", "1:2", &[], |_| true), "");
    }

    #[test]
    fn blocks_of_ended_processes_are_removed_and_others_stay() {
        let two = render(
            &render("x\n", "1:1", &entries(&["a.x"]), |_| true),
            "2:2",
            &entries(&["b.x"]),
            |_| true,
        );
        let third = render(&two, "3:3", &entries(&["c.x"]), |tag| tag == "2:2");
        assert!(!third.contains("a.x") && third.contains("b.x") && third.contains("c.x"));
        assert_eq!(
            render("x\n# BEGIN cupola 1:1\ny\n", "2:2", &[], |_| false),
            "x\ny\n",
            "half a block takes nothing with it"
        );
    }

    #[test]
    fn tags_name_living_processes() {
        assert!(
            is_alive(&own_tag())
                && !is_alive(&format!("{}:1", std::process::id()))
                && !is_alive("4294967295:1")
        );
        assert!(is_alive("something newer"));
    }

    #[test]
    fn the_file_keeps_its_mode_and_links_stay_links() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("hosts"));
        std::fs::write(&real, "x\n").unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        rewrite(&link, |old| format!("{old}y\n")).unwrap();
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "x\ny\n");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            std::fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            2,
            "nothing is left behind"
        );
    }

    #[test]
    fn processes_do_not_remove_each_others_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(&path, "x\n").unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    rewrite(path, |old| {
                        render(
                            old,
                            &format!("{n}:1"),
                            &entries(&[&format!("h{n}.x")]),
                            |_| true,
                        )
                    })
                    .unwrap()
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            (0..8).all(|n| text.contains(&format!("127.0.0.1 h{n}.x\n"))),
            "{text}"
        );
    }
}

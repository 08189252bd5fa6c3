//! Stacks: the root file systems that containers share as the read-only lower of their overlay.

use super::config::{BASE_ID, GardenConfig, ID_COUNT, Paths, digest};
use super::{idmap, passwd};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const PRELOADED: &str = "preloaded:";

/// The root file systems of containers. Each container has its own mount of one, with its ids.
#[derive(Clone, Debug)]
pub(crate) struct Stacks {
    /// The folders of the stacks, by name.
    folders: BTreeMap<String, PathBuf>,
    paths: Paths,
    inside: PathBuf,
}

impl Stacks {
    /// Unpacks stacks that are not unpacked yet, and tests that all can be mounted.
    pub(crate) fn open(config: &GardenConfig) -> Result<Self> {
        let paths = config.paths();
        let mut stacks = Self {
            folders: BTreeMap::new(),
            paths,
            inside: config.inside.clone(),
        };
        for (name, source) in &config.stacks {
            let folder = if source.is_dir() {
                source.clone()
            } else {
                stacks.unpacked(name, source)?
            };
            stacks
                .mounted(&folder, BASE_ID)
                .with_context(|| format!("mount stack {name}"))?;
            stacks.folders.insert(name.clone(), folder);
        }
        Ok(stacks)
    }

    /// Returns the folder of a root file system; `None` if it is not known.
    pub(crate) fn folder(&self, rootfs: &str) -> Option<PathBuf> {
        if let Some(stack) = rootfs.strip_prefix(PRELOADED) {
            return self.folders.get(stack).cloned();
        }
        let folder = Path::new(rootfs);
        (folder.is_absolute() && folder.is_dir()).then(|| folder.to_owned())
    }

    /// Returns the folder as the lower of the container whose ids begin with `base`. It is mounted if necessary.
    pub(crate) fn mounted(&self, folder: &Path, base: u32) -> Result<PathBuf> {
        let lower = self.lower_of(folder, base);
        if idmap::is_mounted(&lower) && !same(folder, &lower) {
            // The mount shows a folder that has been removed in the meantime.
            idmap::unmount(&lower)?;
        }
        if !idmap::is_mounted(&lower) {
            fs::create_dir_all(&lower).with_context(|| format!("make {}", lower.display()))?;
            idmap::mount_shifted(&self.inside, folder, &lower, base)?;
        }
        Ok(lower)
    }

    /// Removes a lower that its container no longer needs.
    pub(crate) fn release(lower: &Path) -> Result<()> {
        idmap::unmount(lower)?;
        let _ = fs::remove_dir(lower);
        Ok(())
    }

    /// Returns the folder of a tar, which is unpacked once. A changed tar counts as another one; containers of the old one keep
    /// it.
    fn unpacked(&self, name: &str, tar: &Path) -> Result<PathBuf> {
        let about = fs::metadata(tar).with_context(|| format!("examine {}", tar.display()))?;
        let version = digest(&format!(
            "{}\0{}\0{}\0{}\0{LAYOUT}",
            tar.display(),
            about.size(),
            about.mtime(),
            about.mtime_nsec()
        ));
        let folder = self.paths.stacks().join(format!("{name}-{version:016x}"));
        if folder.is_dir() {
            return Ok(folder);
        }
        let began = std::time::Instant::now();
        let half = self.paths.stacks().join(format!("{name}.unpacking"));
        remove_tree(&half)?;
        fs::create_dir_all(&half).with_context(|| format!("make {}", half.display()))?;
        let output = Command::new("tar")
            .args(["--numeric-owner", "-xpf"])
            .arg(tar)
            .arg("-C")
            .arg(&half)
            .output()
            .context("run tar (Debian package tar)")?;
        if !output.status.success() {
            bail!(
                "unpack {}: {}",
                tar.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        complete(&half).with_context(|| format!("complete stack {name}"))?;
        fs::rename(&half, &folder).with_context(|| format!("rename {}", half.display()))?;
        tracing::info!(
            stack = name,
            seconds = began.elapsed().as_secs_f32(),
            "stack unpacked"
        );
        Ok(folder)
    }

    /// Removes the stacks, and the remains of half-made ones, that the configuration does not name and no container uses.
    pub(crate) fn remove_unused(&self, used: &BTreeSet<PathBuf>) -> Result<()> {
        let folders = fs::read_dir(self.paths.stacks()).context("list stacks")?;
        for folder in folders.flatten().map(|entry| entry.path()) {
            let bases = (0..=0xff).map(|n| BASE_ID + n * ID_COUNT);
            let lowers: Vec<PathBuf> = bases.map(|base| self.lower_of(&folder, base)).collect();
            let is_used = lowers.iter().any(|lower| used.contains(lower));
            if is_used || self.folders.values().any(|current| *current == folder) {
                continue;
            }
            for lower in lowers.iter().filter(|lower| lower.exists()) {
                Self::release(lower)?;
            }
            remove_tree(&folder)?;
            tracing::info!(folder = %folder.display(), "stack removed: nothing uses it any more");
        }
        Ok(())
    }

    fn lower_of(&self, folder: &Path, base: u32) -> PathBuf {
        let of = match base {
            BASE_ID => folder.to_string_lossy().into_owned(),
            base => format!("{}\0{base}", folder.display()),
        };
        self.paths.lowers().join(format!("{:016x}", digest(&of)))
    }

    /// Unmounts all lowers. No container may exist.
    pub(crate) fn unmount(paths: &Paths) -> Result<()> {
        for entry in fs::read_dir(paths.lowers()).into_iter().flatten().flatten() {
            Self::release(&entry.path())?;
        }
        Ok(())
    }
}

/// Returns whether the lower shows exactly this folder.
fn same(folder: &Path, lower: &Path) -> bool {
    let identity = |path: &Path| {
        fs::metadata(path)
            .map(|about| (about.dev(), about.ino()))
            .ok()
    };
    identity(folder).is_some_and(|folder| identity(lower) == Some(folder))
}

/// The version of the layout. It must be increased when [`complete`] changes.
const LAYOUT: u32 = 1;

/// Adds what all Cloud Foundry stacks have: the user vcap with its home, and the folders that mounts need.
fn complete(root: &Path) -> Result<()> {
    // Links of the stack must not lead out of it.
    for name in ["etc", "home", "tmp", "proc", "sys", "dev"] {
        let place = root.join(name);
        if place.is_symlink() {
            bail!("/{name} is a link; a root file system must have a folder there");
        }
        fs::create_dir_all(&place).with_context(|| format!("make /{name}"))?;
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let entries = [
        (
            "passwd",
            "vcap:x:2000:2000:vcap:/home/vcap:/bin/bash",
            0o644,
        ),
        ("group", "vcap:x:2000:", 0o644),
        ("shadow", "vcap:*:19000:0:99999:7:::", 0o640),
    ];
    for (file, entry, mode) in entries {
        let place = root.join("etc").join(file);
        if place.is_symlink() {
            bail!("/etc/{file} is a link; a root file system must have a file there");
        }
        let fresh = !place.exists();
        let text = fs::read_to_string(&place).unwrap_or_default();
        fs::write(&place, passwd::with_entry(&text, entry))
            .with_context(|| format!("write /etc/{file}"))?;
        if fresh {
            fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
        }
    }
    let home = root.join("home/vcap");
    fs::create_dir_all(&home).context("make /home/vcap")?;
    chown(&home, Some(passwd::VCAP), Some(passwd::VCAP))
        .context("change the owner of /home/vcap")?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Removes a folder and everything in it. A missing folder is no error.
pub(crate) fn remove_tree(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("remove {}", folder.display())),
    }
}

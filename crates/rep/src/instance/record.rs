//! The record of a container on disk, with which a later process can continue it.
//!
//! The directory `<work dir>/containers/<guid>/` holds `record.json` (the purpose of the container), `definition` (the desired
//! LRP or task definition as it was fetched; older versions wrote `definition.pb` without a checksum), `journal` (the names of
//! completed steps, one per line), and the directories that are mounted into the container. The first two files have a checksum,
//! so that damage is detected and costs only this container.

use crate::files::replace;
use crate::instance::container::Work;
use anyhow::{Context as _, Result};
use garden::seal;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use wire::rep::{PlacementConstraint, Resource};

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    pub(crate) work: Work,
    pub(crate) constraint: PlacementConstraint,
    pub(crate) resource: Resource,
    pub(crate) internal_routes: Vec<String>,
    pub(crate) metric_tags: BTreeMap<String, String>,
}

/// The journal's entry of an instance that has been healthy.
pub(crate) const HEALTHY: &str = "healthy";

const DEFINITION: &str = "definition";

#[derive(Debug)]
pub(crate) struct ContainerDir {
    path: PathBuf,
    done: Mutex<BTreeSet<String>>,
}

pub(crate) fn containers_dir(work_dir: &Path) -> PathBuf {
    work_dir.join("containers")
}

/// Reads the definition. The error names the file.
fn definition<D: prost::Message + Default>(folder: &Path) -> Result<D> {
    let sealed = folder.join(DEFINITION);
    let plain = folder.join("definition.pb");
    if !sealed.exists() && plain.exists() {
        let bytes = std::fs::read(&plain).with_context(|| format!("read {}", plain.display()))?;
        return D::decode(bytes.as_slice()).with_context(|| format!("decode {}", plain.display()));
    }
    let bytes = std::fs::read(&sealed).with_context(|| format!("read {}", sealed.display()))?;
    let bytes = seal::open(&bytes).with_context(|| format!("read {}", sealed.display()))?;
    D::decode(bytes).with_context(|| format!("decode {}", sealed.display()))
}

impl ContainerDir {
    pub(crate) fn create(
        work_dir: &Path,
        guid: &str,
        record: &Record,
        definition: &impl prost::Message,
    ) -> Result<Self> {
        let path = containers_dir(work_dir).join(guid);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("make directory {}", path.display()))?;
        let dir = Self {
            path,
            done: Mutex::default(),
        };
        dir.save_definition(definition)?;
        dir.save(record)?;
        Ok(dir)
    }

    /// Reads the record that an earlier process wrote.
    pub(crate) fn open<D: prost::Message + Default>(
        work_dir: &Path,
        guid: &str,
    ) -> Result<(Self, D)> {
        let path = containers_dir(work_dir).join(guid);
        let definition = definition(&path)?;
        let journal = std::fs::read_to_string(path.join("journal")).unwrap_or_default();
        let done = journal.lines().map(str::to_owned).collect();
        Ok((
            Self {
                path,
                done: Mutex::new(done),
            },
            definition,
        ))
    }

    pub(crate) fn record(work_dir: &Path, guid: &str) -> Result<Record> {
        let path = containers_dir(work_dir).join(guid).join("record.json");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let text =
            seal::open_or_plain(&text).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(text).with_context(|| format!("decode {}", path.display()))
    }

    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        let text = seal::seal(&serde_json::to_vec(record)?);
        replace(&self.path.join("record.json"), &text)
    }

    /// Replaces the definition, so that a later process knows which rules are applied.
    pub(crate) fn save_definition(&self, definition: &impl prost::Message) -> Result<()> {
        let bytes = seal::seal(&definition.encode_to_vec());
        replace(&self.path.join(DEFINITION), &bytes)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_done(&self, name: &str) -> bool {
        self.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(name)
    }

    /// Records that a step is done. If the entry cannot be written, the step is only repeated after a restart.
    pub(crate) fn record_done(&self, name: &str) {
        let written = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path.join("journal"))
            .and_then(|mut file| writeln!(file, "{name}"));
        if let Err(error) = written {
            tracing::warn!(%error, container = %self.path.display(), "journal-not-written");
        }
        self.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
    }
}

/// Removes the whole record of a container. A record that does not exist is not an error.
pub(crate) fn remove(work_dir: &Path, guid: &str) {
    let path = containers_dir(work_dir).join(guid);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "record-not-removed")
        }
        _ => {}
    }
}

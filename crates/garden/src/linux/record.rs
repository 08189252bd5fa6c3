//! Garden's record of a container on disk. It is written before anything is made, so that everything that a killed run left
//! behind can be found and removed.

use super::config::Paths;
use super::passwd::User;
use crate::api::NetIn;
use crate::seal;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FILE: &str = "container.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub handle: String,
    pub key: String,
    /// Whether everything is made. If it is false after a restart, the container is removed.
    pub created: bool,
    /// The time of creation in seconds since 1970.
    pub since: u64,
    pub address: Ipv4Addr,
    pub veth: String,
    /// The container's part of its chain names.
    pub chain: String,
    /// Its rules as they were applied. They are applied again if somebody flushed them.
    pub rules: String,
    /// The mapped ports: host port and container port.
    pub ports: Vec<(u16, u16)>,
    pub env: Vec<(String, String)>,
    pub memory: u64,
    pub disk: u64,
    /// The bytes that an empty writable layer uses.
    pub disk_overhead: u64,
    pub properties: BTreeMap<String, String>,
    pub shim: i32,
    pub init: i32,
    /// The environment of the first process that is no sidecar. Operators' commands get it.
    pub app_env: Vec<(String, String)>,
}

impl Record {
    pub(crate) fn net_in(&self) -> Vec<NetIn> {
        self.ports
            .iter()
            .map(|(host_port, container_port)| NetIn {
                host_port: *host_port,
                container_port: *container_port,
            })
            .collect()
    }

    /// Replaces the whole file. It holds credentials, so only root may read it.
    pub(crate) fn save(&self, paths: &Paths) -> Result<()> {
        let folder = paths.container(&self.key);
        write_private(
            &folder.join(FILE),
            &seal::seal(&serde_json::to_vec(self).context("encode the record")?),
        )
    }

    /// Loads a record. Returns `None` if nothing was made of the container yet.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>> {
        let file = folder.join(FILE);
        let text = match fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", file.display()))?,
        };
        let text =
            seal::open_or_plain(&text).with_context(|| format!("read {}", file.display()))?;
        let record: Self =
            serde_json::from_slice(text).with_context(|| format!("parse {}", file.display()))?;
        anyhow::ensure!(
            Some(record.key.as_str()) == folder.file_name().and_then(|name| name.to_str()),
            "{} is the record of another container, {}",
            file.display(),
            record.key
        );
        Ok(Some(record))
    }

    /// Returns a substitute for a record that cannot be read. The container's processes are found by its folder, its links and
    /// chains by having no record.
    pub(crate) fn unreadable(key: &str) -> Self {
        Self {
            handle: key.to_owned(),
            key: key.to_owned(),
            created: false,
            since: 0,
            address: Ipv4Addr::UNSPECIFIED,
            veth: "-".to_owned(),
            chain: "-".to_owned(),
            rules: String::new(),
            ports: Vec::new(),
            env: Vec::new(),
            memory: 0,
            disk: 0,
            disk_overhead: 0,
            properties: BTreeMap::new(),
            shim: 0,
            init: 0,
            app_env: Vec::new(),
        }
    }
}

/// Replaces a file that only root may read. It does not wait for the disk, which would delay each start of a container or process:
/// no container outlives its machine, and a checksum shows whether a crash damaged a file that is read again.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> Result<()> {
    let new = file.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut output = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        output.write_all(content)?;
        fs::rename(&new, file)
    };
    write().with_context(|| format!("write {}", file.display()))
}

/// Looks up `wanted` in the root file system that the shim mounted.
pub(crate) fn user(root: &super::files::Root, wanted: &str) -> Result<User> {
    let text = |path| {
        root.read(path, 1 << 20)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    };
    let wanted = if wanted.is_empty() { "vcap" } else { wanted };
    super::passwd::find(&text("/etc/passwd"), &text("/etc/group"), wanted).with_context(|| {
        format!("user {wanted:?} does not exist in the container; see its /etc/passwd")
    })
}

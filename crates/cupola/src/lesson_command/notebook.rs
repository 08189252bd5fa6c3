//! The notebook of the person who learns: the next page, and the values that earlier pages showed. It is the file `lesson.json` in the
//! data directory. The password is never written to it.

use anyhow::{Context as _, Result};
use kit::private_file;
use lesson::Values;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name of the value that stays out of the file.
const SECRET: &str = "PASSWORD";

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notebook {
    /// The position of the next page in the list of all pages.
    pub(super) next: usize,
    values: BTreeMap<String, String>,
}

impl Notebook {
    pub(super) fn read(data: &Path) -> Result<Self> {
        let path = path(data);
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Ok(Self::default());
        };
        serde_json::from_str(&text).with_context(|| {
            format!(
                "read {}: remove it to begin the lesson again",
                path.display()
            )
        })
    }

    pub(super) fn values(&self) -> Values {
        Values(self.values.clone())
    }

    /// Stores the next page and the values.
    pub(super) fn save(&mut self, data: &Path, next: usize, values: &Values) -> Result<()> {
        self.next = next;
        self.values = values.0.clone();
        self.values.remove(SECRET);
        private_file::replace(&path(data), &serde_json::to_string_pretty(self)?)
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("lesson.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notebook_keeps_everything_but_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let mut notebook = Notebook::read(folder.path()).unwrap();
        assert_eq!(notebook, Notebook::default());
        let mut values = Values::default();
        values.insert("CELL_IP", "10.255.0.1");
        values.insert(SECRET, "secret");
        notebook.save(folder.path(), 3, &values).unwrap();
        let read = Notebook::read(folder.path()).unwrap();
        assert_eq!(read.next, 3);
        assert_eq!(read.values().get("CELL_IP"), Some("10.255.0.1"));
        assert_eq!(read.values().get(SECRET), None);
    }
}

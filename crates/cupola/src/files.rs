//! Private files that are written again only when their content changes.

use anyhow::Result;
use kit::private_file;
use std::path::Path;

/// Writes a private file if its content differs, so that a full disk does not keep a role from starting again.
pub(crate) fn keep_private(path: &Path, text: &str) -> Result<()> {
    match std::fs::read_to_string(path) {
        Ok(kept) if kept == text => Ok(()),
        _ => private_file::replace(path, text),
    }
}

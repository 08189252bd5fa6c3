//! Functions that write files that other processes read.

use anyhow::{Context as _, Result};
use std::path::Path;

/// Writes a file under another name and renames it to `path`, so that a reader sees either the old content or the new. Everybody
/// may read the file; the directories above it restrict access.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&temporary, content)
        .with_context(|| format!("write {}", temporary.display()))?;
    set_mode(&temporary, 0o644)?;
    std::fs::rename(&temporary, path)
        .with_context(|| format!("rename the new content to {}", path.display()))
}

/// Sets the permission bits of a file or directory.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("set mode of {}", path.display()))
}

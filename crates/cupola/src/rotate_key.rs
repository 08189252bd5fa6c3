//! `cupola rotate-key` gives the Cloud Controller of a foundation a new key for the secrets in its database.
//!
//! The key becomes the first one in the file of keys. A Cloud Controller that runs notices it within seconds and seals all secrets
//! again; one that is stopped does so at its next start. Older keys stay in the file, because backups of the database need them.

use crate::plan::Plan;
use crate::terminal::print;
use anyhow::{Context as _, Result};
use std::path::Path;

pub(crate) fn run(data: &Path) -> Result<()> {
    // A directory without a foundation is named with the next step.
    Plan::read(data)?;
    let file = data
        .join("cloud-controller")
        .join(cloud_controller::KEY_FILE);
    let (label, count) = cloud_controller::rotate_key(&file)
        .context("add a key for the Cloud Controller's secrets")?;
    let file = file.display();
    print(&format!(
        "New key:  {label}\nFile:     {file} ({count} keys)\nThe Cloud Controller seals all secrets again within seconds, or at its next start.\nKeep a copy of the file apart from the backups of the database.\n"
    ))
}

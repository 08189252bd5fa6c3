//! The programs and files that are mounted into every container. Each is in a directory of its own below the work directory.

use crate::files::{replace, set_mode};
use anyhow::{Context as _, Result};
use garden::api::BindMount;
use std::path::{Path, PathBuf};

pub(crate) const HEALTHCHECK: &str = "/etc/cf-assets/healthcheck/healthcheck";

#[derive(Debug)]
pub(crate) struct Assets {
    healthcheck: PathBuf,
    envoy: Option<PathBuf>,
    trusted: PathBuf,
}

impl Assets {
    /// Installs the programs. Existing containers see a replaced program when they start it the next time.
    pub(crate) fn make(
        work_dir: &Path,
        inside: &Path,
        envoy: Option<&Path>,
        trusted_ca_pems: &[&str],
    ) -> Result<Self> {
        let root = work_dir.join("assets");
        let healthcheck = root.join("healthcheck");
        place(inside, &healthcheck, "healthcheck").context("prepare the health check program")?;
        let envoy = match envoy {
            None => None,
            Some(program) => {
                let dir = root.join("envoy");
                place(program, &dir, "envoy").context("prepare Envoy")?;
                Some(dir)
            }
        };
        let trusted = root.join("trusted");
        std::fs::create_dir_all(&trusted)
            .with_context(|| format!("make directory {}", trusted.display()))?;
        set_mode(&trusted, 0o755)?;
        replace(
            &trusted.join("trusted-ca.crt"),
            trusted_ca_pems.concat().as_bytes(),
        )?;
        Ok(Self {
            healthcheck,
            envoy,
            trusted,
        })
    }

    pub(crate) fn healthcheck(&self) -> BindMount {
        mount(&self.healthcheck, "/etc/cf-assets/healthcheck")
    }

    pub(crate) fn envoy(&self) -> Option<BindMount> {
        self.envoy
            .as_deref()
            .map(|dir| mount(dir, cell_plan::envoy::BINARY_DIR))
    }

    pub(crate) fn trusted(&self, container_path: &str) -> BindMount {
        mount(&self.trusted, container_path)
    }
}

pub(crate) fn mount(host: &Path, container: &str) -> BindMount {
    BindMount {
        host: host.to_owned(),
        container: container.to_owned(),
        read_only: true,
    }
}

/// Installs a program as a hard link if possible (an Envoy has 100 MB), otherwise as a copy that is renamed into place.
fn place(program: &Path, dir: &Path, name: &str) -> Result<()> {
    // A link to a symbolic link could not be resolved in the container.
    let program = &program
        .canonicalize()
        .with_context(|| format!("find {}", program.display()))?;
    std::fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
    set_mode(dir, 0o755)?;
    let (target, temporary) = (dir.join(name), dir.join(format!(".{name}.new")));
    let _ = std::fs::remove_file(&temporary);
    if std::fs::hard_link(program, &temporary).is_err() {
        if same(program, &target) {
            return Ok(());
        }
        std::fs::copy(program, &temporary)
            .with_context(|| format!("copy {} to {}", program.display(), temporary.display()))?;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&temporary)
        .with_context(|| format!("read mode of {}", temporary.display()))?
        .permissions()
        .mode();
    if mode & 0o555 != 0o555 {
        set_mode(&temporary, mode | 0o555)?;
    }
    std::fs::rename(&temporary, &target)
        .with_context(|| format!("move the new file to {}", target.display()))?;
    // Renaming a link onto another link of the same file does nothing and leaves both.
    let _ = std::fs::remove_file(&temporary);
    Ok(())
}

/// Returns whether `copy` is an earlier copy of a program that has not changed since.
fn same(program: &Path, copy: &Path) -> bool {
    let Ok((program, copy)) = program.metadata().and_then(|p| Ok((p, copy.metadata()?))) else {
        return false;
    };
    program.len() == copy.len() && program.modified().ok() <= copy.modified().ok()
}

//! The rig that all sections share: a folder, certificates, the backend, the two cores.

use crate::Programs;
use crate::backend::Ports;
use crate::certs::Files;
use crate::peers::Scheme;
use crate::process::Process;
use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The route that requests use.
pub(crate) const HOST: &str = "bench.apps.cupola.test";
/// The name in the backend's certificate.
pub(crate) const INSTANCE: &str = "5d1c1f0e-2a6b-4f0e-7c1d-3a9b";

/// The length and the number of the measurements.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// The length of one measurement in seconds.
    pub(crate) seconds: u64,
}

impl Effort {
    /// Returns number and length of the rounds for measurements of tails. A disturbance of a shared host lasts for seconds, so it
    /// spoils few of many short rounds.
    pub(crate) fn short_rounds(self) -> (usize, Duration) {
        match self.rounds {
            1 => (1, Duration::from_secs(self.seconds)),
            more => (3 * more, Duration::from_secs(self.seconds / 3)),
        }
    }
}

pub(crate) struct Rig {
    pub(crate) folder: PathBuf,
    pub(crate) certs: Files,
    /// The ports of the backend with which peers are configured when they start.
    pub(crate) backend: Cell<Ports>,
    pub(crate) backend_process: Process,
    /// The core of generators, backend and NATS.
    pub(crate) load_core: usize,
    /// The core on which the proxy under test runs alone.
    pub(crate) proxy_core: usize,
    pub(crate) cupola: PathBuf,
    /// Another build of cupola that is measured beside it.
    pub(crate) beside: Option<PathBuf>,
    pub(crate) envoy: PathBuf,
    pub(crate) client_tls: Arc<rustls::ClientConfig>,
    pub(crate) effort: Effort,
    _directory: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(programs: &Programs, effort: Effort) -> Result<Self> {
        ensure!(
            std::thread::available_parallelism()?.get() >= 2,
            "the benchmarks need two cores: one for the proxy alone"
        );
        let whole = |binary: &Path| {
            let path = binary.canonicalize();
            path.with_context(|| {
                format!(
                    "find {}: `make bench` builds this commit's cupola",
                    binary.display()
                )
            })
        };
        let cupola = whole(&programs.cupola)?;
        let beside = programs.beside.as_deref().map(whole).transpose()?;
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let directory = tempfile::Builder::new().prefix("cupola-bench-").tempdir()?;
        // nginx's worker drops its root rights, and writes here.
        let folder = directory.path().to_owned();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let certs = Files::write(&folder, HOST, INSTANCE)?;
        let load_core = 0;
        let (backend_process, ports) = backend(&folder, Some(load_core))?;
        let trusted = kit::tls::Authorities::from_pem(&certs.front.ca_pem)?;
        let client_tls =
            rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
                .dangerous()
                .with_custom_certificate_verifier(trusted.of_servers())
                .with_no_client_auth();
        Ok(Self {
            folder,
            certs,
            backend: Cell::new(ports),
            backend_process,
            load_core,
            proxy_core: 1,
            cupola,
            beside,
            envoy: programs.envoy.clone(),
            client_tls: Arc::new(client_tls),
            effort,
            _directory: directory,
        })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    pub(crate) fn backend_port(&self, scheme: Scheme) -> u16 {
        match scheme {
            Scheme::Http | Scheme::Http2 => self.backend.get().plain,
            Scheme::Https => self.backend.get().mutual,
        }
    }

    /// Configures peers that start before the guard is dropped with another backend.
    pub(crate) fn with_backend(&self, ports: Ports) -> OtherBackend<'_> {
        let before = self.backend.replace(ports);
        OtherBackend { rig: self, before }
    }

    /// Keeps this thread and all that it starts off the proxy's core, until [`Pinned`] is dropped.
    pub(crate) fn pin(&self) -> Result<Pinned> {
        pin_to(self.load_core)
    }
}

/// Starts the backend, and returns its process and its ports.
pub(crate) fn backend(folder: &Path, core: Option<usize>) -> Result<(Process, Ports)> {
    let own = own_program()?;
    let command = [
        &*own,
        "backend",
        "--certificates",
        &folder.to_string_lossy(),
    ];
    let (process, line) = Process::start_with_first_line("backend", core, &command, folder)?;
    Ok((process, Ports::read(&line)?))
}

pub(crate) fn own_program() -> Result<String> {
    Ok(std::env::current_exe()?.to_string_lossy().into_owned())
}

fn pin_to(core: usize) -> Result<Pinned> {
    let before = sched_getaffinity(Pid::from_raw(0))?;
    keep_to(core)?;
    Ok(Pinned { before })
}

/// Binds this thread to the core permanently.
pub(crate) fn keep_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

pub(crate) struct OtherBackend<'r> {
    rig: &'r Rig,
    before: Ports,
}

impl Drop for OtherBackend<'_> {
    fn drop(&mut self) {
        self.rig.backend.set(self.before);
    }
}

pub(crate) struct Pinned {
    before: CpuSet,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

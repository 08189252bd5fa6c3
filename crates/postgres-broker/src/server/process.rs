//! The process of the server: it is started, watched, and ended with its connections.

use super::files::Folder;
use super::{ADMIN, RESERVED};
use crate::address::{Address, Tls};
use crate::config::OwnServer;
use crate::db;
use crate::metrics::Metrics;
use crate::programs::Programs;
use crate::secrets::Secrets;
use anyhow::{Context as _, Result, ensure};
use kit::CancellationToken;
use kit::backoff::Backoff;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::Child;

/// The interval at which a server that has started is asked whether it accepts connections.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(100);
/// The time that a server has to end its connections and to write what it must; the role ends within ten seconds.
const END_LIMIT: Duration = Duration::from_secs(7);
/// The time that the server of a killed process has to end.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(15);
/// The longest wait for an address of the server: a cell may make the one at which apps connect.
const ADDRESS_LIMIT: Duration = Duration::from_secs(60);

/// A server that does not run yet.
#[derive(Debug)]
pub(crate) struct Server {
    own: OwnServer,
    folder: Folder,
    programs: Programs,
    admin: Address,
    admin_password: String,
    metrics: Metrics,
}

impl Server {
    /// Prepares the folder. Nothing runs yet.
    pub(crate) fn build(own: &OwnServer, secrets: &Secrets, metrics: Metrics) -> Result<Self> {
        // The version of the data decides which programs are used.
        let newest = Programs::find(None)?;
        let folder = Folder::open(&own.folder, newest.user.as_ref())?;
        let programs = match folder.version()? {
            Some(version) if version != newest.version => Programs::find(Some(version))?,
            _ => newest,
        };
        folder.write_settings(own, programs.user.as_ref())?;
        Ok(Self {
            admin: admin(own, secrets),
            admin_password: secrets.admin_password.clone(),
            own: own.clone(),
            folder,
            programs,
            metrics,
        })
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Runs the server until shutdown. It is started again within seconds whenever it ends.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let started = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            prepared = self.prepare() => prepared,
        };
        started?;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let began = tokio::time::Instant::now();
            let mut child = self.spawn()?;
            self.metrics.starts.add(1);
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.end(&mut child).await;
                    return Ok(());
                }
                never = self.report_accepting() => match never {},
                status = child.wait() => {
                    let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                    let printed = self.folder.printed();
                    tracing::error!(status, printed, "postgres-ended");
                    self.metrics.server.unmet(format!("it ended ({status}) and is started again"));
                }
            }
            if began.elapsed() > Duration::from_secs(30) {
                backoff.reset();
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }

    async fn prepare(&self) -> Result<()> {
        self.end_leftover().await;
        let (programs, password) = (&self.programs, &self.admin_password);
        self.folder.initialise(programs, password).await?;
        if !self.folder.has_password(password) {
            tracing::warn!("administrator-password-set: secrets.json is not the one of this data");
            self.folder.set_password(programs, password).await?;
        }
        self.wait_for_addresses().await
    }

    /// Waits until the server can listen at all its addresses. It would start without one of them.
    async fn wait_for_addresses(&self) -> Result<()> {
        let listen = self.own.listen;
        let mut addresses = vec![listen];
        if !listen.ip().is_loopback() && !listen.ip().is_unspecified() {
            addresses.push((Ipv4Addr::LOCALHOST, listen.port()).into());
        }
        for address in addresses {
            self.wait_for_address(address).await?;
        }
        Ok(())
    }

    async fn wait_for_address(&self, address: SocketAddr) -> Result<()> {
        let began = tokio::time::Instant::now();
        while let Err(error) = TcpListener::bind(address).await {
            let problem = problem(address, &error);
            ensure!(began.elapsed() < ADDRESS_LIMIT, "{problem}");
            self.metrics.server.unmet(problem);
            tokio::time::sleep(ACCEPT_INTERVAL).await;
        }
        Ok(())
    }

    fn settings(&self) -> Vec<String> {
        let file = |name: &str| self.folder.path(name).display().to_string();
        let addresses = match self.own.listen.ip() {
            ip if ip.is_unspecified() => "*".to_owned(),
            ip if ip.is_loopback() => ip.to_string(),
            ip => format!("{ip},{}", Ipv4Addr::LOCALHOST),
        };
        let connections = self.own.connections + RESERVED;
        vec![
            format!("listen_addresses={addresses}"),
            format!("port={}", self.own.listen.port()),
            "unix_socket_directories=".to_owned(),
            format!("max_connections={connections}"),
            format!("superuser_reserved_connections={RESERVED}"),
            format!("shared_buffers={}MB", self.own.memory_mb),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("server.crt")),
            format!("ssl_key_file={}", file("server.key")),
            format!("hba_file={}", file("pg_hba.conf")),
            "password_encryption=scram-sha-256".to_owned(),
            "idle_in_transaction_session_timeout=1h".to_owned(),
            "logging_collector=on".to_owned(),
            format!("log_directory={}", file("log")),
            "log_filename=postgresql-%a.log".to_owned(),
            "log_truncate_on_rotation=on".to_owned(),
            "log_rotation_age=1d".to_owned(),
            "log_rotation_size=0".to_owned(),
            // Statements of apps may contain data of users, and are not logged.
            "log_min_error_statement=panic".to_owned(),
            "log_line_prefix=%m [%p] %q%u@%d ".to_owned(),
        ]
    }

    fn spawn(&self) -> Result<Child> {
        let startup = self.folder.path("startup.log");
        let log = std::fs::File::create(&startup)
            .with_context(|| format!("create {}", startup.display()))?;
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(self.folder.data());
        for setting in self.settings() {
            command.arg("-c").arg(setting);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open the server's log twice")?)
            .stderr(log)
            .process_group(0);
        command.spawn().context("start PostgreSQL")
    }

    /// Reports when the server accepts connections, and closes the databases that belong to nobody.
    async fn report_accepting(&self) -> Infallible {
        loop {
            let ready = async {
                let mut conn = self.admin.connect_to_maintenance().await?;
                db::close_templates(&mut conn).await
            };
            match ready.await {
                Ok(()) => break,
                Err(error) => {
                    self.metrics.server.unmet(error.to_string());
                    tokio::time::sleep(ACCEPT_INTERVAL).await;
                }
            }
        }
        tracing::info!(port = self.own.listen.port(), "postgres-accepts");
        self.metrics.server.met();
        std::future::pending().await
    }

    /// Ends the server: all sessions at first, and at once if that takes too long. After the latter its next start reads its journal.
    async fn end(&self, child: &mut Child) {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = pid.map(Pid::from_raw) else {
            return;
        };
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            let _ = kill(pid, signal);
            if tokio::time::timeout(END_LIMIT, child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!(%signal, "postgres-does-not-end");
        }
    }

    /// Ends the server of a process that was killed, if the process still is one on our data.
    async fn end_leftover(&self) {
        let file = self.folder.data().join("postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        let Some(pid) = pid.filter(|pid: &i32| *pid > 1) else {
            return;
        };
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let data = self.folder.data();
        if !String::from_utf8_lossy(&command).contains(&*data.to_string_lossy()) {
            return;
        }
        let pid = Pid::from_raw(pid);
        tracing::warn!(%pid, "postgres-left-over: it is ended, and a new one started");
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            let _ = kill(pid, signal);
            let began = tokio::time::Instant::now();
            while began.elapsed() < LEFTOVER_LIMIT {
                if kill(pid, None).is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Returns why the server cannot listen at an address, and what the operator can do.
fn problem(address: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "another process listens at {address}: stop it (Debian's own service: `systemctl disable --now postgresql`), or choose another port with postgres.server.listen"
        ),
        _ => format!(
            "the machine has no address {} ({error}): set postgres.server.listen to one of its addresses, or start its cell",
            address.ip()
        ),
    }
}

/// Returns how the administrator connects to a server of its own: on loopback, with the authority of the server's certificate.
pub(crate) fn admin(own: &OwnServer, secrets: &Secrets) -> Address {
    let host = match own.listen.ip() {
        ip if ip.is_loopback() => ip.to_string(),
        _ => Ipv4Addr::LOCALHOST.to_string(),
    };
    Address {
        host,
        port: own.listen.port(),
        user: ADMIN.to_owned(),
        password: secrets.admin_password.clone(),
        maintenance: "postgres".to_owned(),
        // Clients before version 15 do not find addresses in certificates, so the name is not checked.
        tls: Tls::Authority,
        ca: Some(own.folder.join("ca.crt")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_be_used_is_explained() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let error = TcpListener::bind(address).await.unwrap_err();
        let text = problem(address, &error);
        let wanted = format!("another process listens at {address}");
        assert!(text.starts_with(&wanted), "{text}");
        // The address is one of documentation, which no machine has.
        let address = SocketAddr::from(([192, 0, 2, 1], 5432));
        let error = TcpListener::bind(address).await.unwrap_err();
        let text = problem(address, &error);
        assert!(
            text.starts_with("the machine has no address 192.0.2.1 ("),
            "{text}"
        );
    }
}

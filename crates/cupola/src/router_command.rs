//! `cupola router`: the router alone, from a `gorouter.yml`, in the place of a gorouter.
//!
//! SIGUSR1 and SIGTERM drain as gorouter does on SIGUSR1; SIGINT stops at once; whatever comes later is ignored.

use anyhow::{Context as _, Result};
use clients::loggregator::Emitter;
use kit::CancellationToken;
use kit::tls::{ClientAuth, Identity, server_config};
use router::gorouter_yml::{self, GorouterYml, Prometheus, StatusKeys};
use router::{Pages, PagesListener, Reserved, Router, Settings, Status};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use tokio::net::TcpSocket;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) async fn run(path: &Path) -> Result<()> {
    let read = read(path)?;
    kit::logging::init(read.log_level);
    for warning in &read.warnings {
        tracing::warn!(key = warning, "gorouter.yml");
    }
    let signals = Signals::new()?;
    let router = build(read).await?;
    let shutdown = CancellationToken::new();
    let running = router.run(shutdown.clone());
    tokio::select! {
        result = running => result,
        () = signals.watch(shutdown) => Ok(()),
    }
}

/// `cupola check-config --gorouter`.
pub(crate) fn check(path: &Path) -> Result<()> {
    let read = read(path)?;
    for warning in &read.warnings {
        println!("warning: {warning}");
    }
    let ports = [("HTTP", read.http_port), ("HTTPS", read.https_port)];
    let listens: Vec<String> = ports
        .iter()
        .filter_map(|(name, port)| Some(format!("{name} on port {}", (*port)?)))
        .collect();
    println!("{} is valid: {}", path.display(), listens.join(", "));
    Ok(())
}

fn read(path: &Path) -> Result<GorouterYml> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "read {}: does it exist and may you read it?",
            path.display()
        )
    })?;
    gorouter_yml::read(&text).map_err(|problems| {
        anyhow::anyhow!(
            "{} is not valid:\n  {}",
            path.display(),
            problems.join("\n  ")
        )
    })
}

async fn build(read: GorouterYml) -> Result<Router> {
    let StatusKeys {
        host,
        port,
        tls,
        routes_port,
        user,
        pass,
    } = read.status;
    let mut pages = Vec::new();
    if let Some(port) = port {
        pages.push(PagesListener {
            listener: listen((host, port).into(), "status.port").await?,
            pages: Pages::Health,
            tls: None,
        });
    }
    if let Some((port, certificate)) = tls {
        let identity = Identity {
            cert_pem: certificate.cert_pem,
            key_pem: certificate.key_pem,
            ca_pem: String::new(),
        };
        pages.push(PagesListener {
            listener: listen((host, port).into(), "status.tls.port").await?,
            pages: Pages::Health,
            tls: Some(server_config(&identity, ClientAuth::None, &["http/1.1"])?),
        });
    }
    if let Some(prometheus) = read.prometheus {
        pages.push(metrics(prometheus).await?);
    }
    let mut reserved = Vec::new();
    for (port, tls, key) in [
        (read.http_port, false, "port"),
        (read.https_port, true, "ssl_port"),
    ] {
        if let Some(port) = port {
            let socket = reserve((Ipv4Addr::UNSPECIFIED, port).into())
                .with_context(|| cannot_listen(port, key))?;
            reserved.push(Reserved { socket, tls });
        }
    }
    let config = router::Config {
        http: Vec::new(),
        https: Vec::new(),
        certificates: read.certificates,
        status: Status {
            listener: listen(
                (Ipv4Addr::LOCALHOST, routes_port).into(),
                "status.routes.port",
            )
            .await?,
            user,
            password: pass,
        },
        nats: read.nats,
        backend_tls: read.backend_tls,
        access_log: read.access_log,
        loggregator: Emitter::discard(),
        settings: Settings {
            ip: local_ip(),
            ..read.settings
        },
    };
    Router::build_with(config, reserved, pages).await
}

async fn metrics(prometheus: Prometheus) -> Result<PagesListener> {
    let tls = match prometheus.tls_files {
        None => None,
        Some([cert, key, ca]) => {
            let identity = Identity {
                cert_pem: read_pem(&cert, "prometheus.cert_path")?,
                key_pem: read_pem(&key, "prometheus.key_path")?,
                ca_pem: read_pem(&ca, "prometheus.ca_path")?,
            };
            let config = server_config(&identity, ClientAuth::Required, &["http/1.1"]);
            Some(config.context("prometheus: use its certificate")?)
        }
    };
    Ok(PagesListener {
        listener: listen(
            (Ipv4Addr::LOCALHOST, prometheus.port).into(),
            "prometheus.port",
        )
        .await?,
        pages: Pages::Metrics,
        tls,
    })
}

pub(crate) fn read_pem(path: &Path, key: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!(
            "{key} {}: does it exist and may you read it?",
            path.display()
        )
    })
}

async fn listen(address: SocketAddr, key: &str) -> Result<tokio::net::TcpListener> {
    kit::http::bind(address)
        .await
        .with_context(|| cannot_listen(address.port(), key))
}

/// Ours, but nobody listens yet.
fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn cannot_listen(port: u16, key: &str) -> String {
    format!(
        "{key} {port}: cannot listen there; is another program using the port, or is it below 1024 and you are not root?"
    )
}

/// The address by which this machine reaches others; nothing is sent.
fn local_ip() -> IpAddr {
    let found = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(8, 8, 8, 8), 80))?;
        socket.local_addr()
    };
    found().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

struct Signals {
    drain: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            drain: of(SignalKind::user_defined1())?,
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }

    /// Returns when the process is to stop at once.
    async fn watch(mut self, drain: CancellationToken) {
        loop {
            let name = tokio::select! {
                _ = self.drain.recv() => "SIGUSR1",
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => return tracing::info!("gorouter.stopping"),
            };
            if drain.is_cancelled() {
                tracing::info!(signal = name, "gorouter.signal.ignored");
            } else {
                tracing::info!(signal = name, "gorouter.draining");
                drain.cancel();
            }
        }
    }
}

//! Builds a router with its sockets from a checked `gorouter.yml`, and the values that a running router can change to.

use crate::files::read_text;
use crate::sockets::{Reserved, Sockets};
use crate::yml::{GorouterYml, Prometheus};
use anyhow::{Context as _, Result};
use clients::http::Authorities;
use clients::loggregator::Emitter;
use clients::routing_api::{self, RoutingApi, RoutingApiError};
use kit::tls::{ClientAuth, Identity, server_config};
use router::{
    Certificate, ErrorPage, Pages, PagesListener, Reload, Router, Settings, Status, TlsTerms,
};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

pub(super) struct Built {
    pub(super) router: Router,
    /// The files that the configuration names.
    pub(super) files: Vec<PathBuf>,
    /// The listener on which the log level can be changed.
    pub(super) debug: Option<TcpListener>,
}

/// Builds the router. `error_page` and `api` were made from the files that the configuration names.
pub(super) async fn router(
    read: GorouterYml,
    error_page: Option<ErrorPage>,
    api: Option<routing_api::Config>,
    sockets: &mut Sockets,
) -> Result<Built> {
    let files = files(&read);
    let debug = match read.debug_addr {
        Some(address) => Some(sockets.listen(address, "debug_addr")?),
        None => None,
    };
    let status = read.status;
    let mut pages = Vec::new();
    let mut page = |pages_of, port, address: IpAddr, key, tls, sockets: &mut Sockets| {
        let listener = sockets.listen((address, port).into(), key)?;
        pages.push(PagesListener {
            listener,
            pages: pages_of,
            tls,
        });
        Ok::<_, anyhow::Error>(())
    };
    let loopback = Ipv4Addr::LOCALHOST.into();
    let health = Pages::Health;
    if let Some(port) = status.port {
        page(health, port, status.host, "status.port", None, sockets)?;
    }
    if let Some((port, certificate)) = status.tls {
        let tls = Some(health_tls(
            &certificate,
            &status.tls_terms,
            read.settings.http2,
        )?);
        page(health, port, status.host, "status.tls.port", tls, sockets)?;
    }
    if let Some(prometheus) = &read.prometheus {
        let (tls, port) = (metrics_tls(prometheus)?, prometheus.port);
        page(
            Pages::Metrics,
            port,
            loopback,
            "prometheus.port",
            tls,
            sockets,
        )?;
    }
    let (mut http, mut https, mut reserved) = (Vec::new(), Vec::new(), Vec::new());
    for (port, tls, key) in [
        (read.http_port, false, "port"),
        (read.https_port, true, "ssl_port"),
    ] {
        let Some(port) = port else { continue };
        match sockets.reserve((Ipv4Addr::UNSPECIFIED, port).into(), key)? {
            Reserved::Listening(listener) if tls => https.push(listener),
            Reserved::Listening(listener) => http.push(listener),
            Reserved::Bound(socket) => reserved.push(router::Reserved { socket, tls }),
        }
    }
    let routes = (loopback, status.routes_port).into();
    let config = router::Config {
        http,
        https,
        certificates: read.certificates,
        status: Status {
            listener: sockets.listen(routes, "status.routes.port")?,
            user: status.user,
            password: status.pass,
        },
        nats: read.nats,
        routing_api: api,
        backend_tls: read.backend_tls,
        access_log: read.access_log,
        loggregator: Emitter::discard(),
        settings: Settings {
            ip: local_ip(),
            error_page,
            ..read.settings
        },
    };
    let router = Router::build_with(config, reserved, pages).await?;
    Ok(Built {
        router,
        files,
        debug,
    })
}

/// Reads the files that the configuration names. It fails before anything changes.
pub(super) fn reload(read: GorouterYml) -> Result<(Reload, Vec<PathBuf>)> {
    let files = files(&read);
    let error_page = error_page(&read)?;
    // This part does not change while the router runs, but a file that cannot be read is reported.
    routing_api(&read)?;
    let mut pages_tls = HashMap::new();
    if let Some((_, certificate)) = read.status.tls {
        let (terms, http2) = (&read.status.tls_terms, read.settings.http2);
        pages_tls.insert(Pages::Health, health_tls(&certificate, terms, http2)?);
    }
    if let Some(prometheus) = &read.prometheus
        && let Some(tls) = metrics_tls(prometheus)?
    {
        pages_tls.insert(Pages::Metrics, tls);
    }
    let reload = Reload {
        certificates: read.certificates,
        backend_tls: read.backend_tls,
        settings: Settings {
            error_page,
            ..read.settings
        },
        pages_tls: Some(pages_tls),
        login: Some((read.status.user, read.status.pass)),
    };
    Ok((reload, files))
}

fn files(read: &GorouterYml) -> Vec<PathBuf> {
    let prometheus = read.prometheus.as_ref().and_then(|p| p.tls_files.clone());
    let prometheus = prometheus.into_iter().flatten();
    prometheus.chain(read.error_page.clone()).collect()
}

pub(super) fn error_page(read: &GorouterYml) -> Result<Option<ErrorPage>> {
    let Some(path) = &read.error_page else {
        return Ok(None);
    };
    let key = "html_error_template_file";
    // The text is gorouter's, because tools look for it.
    let text = read_text(path, key).context("Could not read HTML error template file")?;
    let page = ErrorPage::parse(&text);
    page.map(Some)
        .map_err(|problem| anyhow::anyhow!("{key} {} {problem}", path.display()))
}

/// Returns the configuration of the routing API client, with the CAs from its file.
pub(super) fn routing_api(read: &GorouterYml) -> Result<Option<routing_api::Config>> {
    let Some(keys) = &read.routing_api else {
        return Ok(None);
    };
    let mut api = keys.api.clone();
    if let (Some(path), Some(oauth)) = (&keys.oauth_ca_file, &mut api.oauth) {
        let key = "oauth.ca_certs";
        let pem = read_text(path, key)?;
        kit::tls::Authorities::from_pem(&pem).with_context(|| {
            format!(
                "{key} {}: it must contain the UAA's authority as PEM",
                path.display()
            )
        })?;
        oauth.tls.authorities = Authorities::Pem(pem);
    }
    Ok(Some(api))
}

/// Returns the TLS configuration of the health listener, with the versions and suites that HTTPS has.
fn health_tls(
    certificate: &Certificate,
    terms: &TlsTerms,
    http2: bool,
) -> Result<Arc<ServerConfig>> {
    let build = || {
        let chain = kit::tls::certs(&certificate.cert_pem)?;
        let key = kit::tls::key(&certificate.key_pem)?;
        let builder = terms.server()?.with_no_client_auth();
        let mut config = builder.with_single_cert(chain, key)?;
        if http2 {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        anyhow::Ok(Arc::new(config))
    };
    build().context("use the certificate of status.tls")
}

/// Checks that the UAA and the Routing API answer. The UAA is asked as often as the keys say.
pub(super) async fn reach(api: &routing_api::Config) -> Result<()> {
    let routes = RoutingApi::new(api)?.routes().await;
    match routes {
        Ok(_) => Ok(()),
        Err(RoutingApiError::Token(error)) => Err(error.context("unable-to-fetch-token")),
        Err(error) => Err(error.into()),
    }
}

/// Returns the TLS configuration of the metrics listener; `None` means without TLS.
fn metrics_tls(prometheus: &Prometheus) -> Result<Option<Arc<ServerConfig>>> {
    let Some([cert, key, ca]) = &prometheus.tls_files else {
        return Ok(None);
    };
    let identity = Identity::from_files([
        ("prometheus.cert_path", cert.as_path()),
        ("prometheus.key_path", key.as_path()),
        ("prometheus.ca_path", ca.as_path()),
    ])?;
    let config = server_config(&identity, ClientAuth::Required, &["http/1.1"]);
    config
        .context("use the certificate of prometheus")
        .map(Some)
}

/// Returns the address from which this machine reaches others. No packet is sent.
fn local_ip() -> IpAddr {
    let found = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(8, 8, 8, 8), 80))?;
        socket.local_addr()
    };
    found().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::ClientConnection;
    use rustls::server::ServerConnection;
    use rustls::version::{TLS12, TLS13};

    /// Returns whether a handshake between them succeeds. It is done in memory.
    fn speaks(server: Arc<ServerConfig>, client: &TlsTerms) -> bool {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = rustls::ClientConfig::builder_with_provider(provider.into());
        let config = builder.with_protocol_versions(&client.versions).unwrap();
        let config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(kit::tls::AcceptAny::default()))
            .with_no_client_auth();
        let name = "router".try_into().unwrap();
        let mut client = ClientConnection::new(config.into(), name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        for _ in 0..4 {
            for towards_server in [true, false] {
                let mut bytes = Vec::new();
                if towards_server {
                    client.write_tls(&mut bytes).unwrap();
                    server.read_tls(&mut &*bytes).unwrap();
                    let _ = server.process_new_packets();
                } else {
                    server.write_tls(&mut bytes).unwrap();
                    client.read_tls(&mut &*bytes).unwrap();
                    let _ = client.process_new_packets();
                }
            }
        }
        !client.is_handshaking() && !server.is_handshaking()
    }

    #[test]
    fn the_health_page_supports_the_configured_tls_versions() {
        let made = testkit::certs::self_signed(&["router"]);
        let certificate = Certificate {
            cert_pem: made.cert_pem,
            key_pem: made.key_pem,
        };
        let of = |version| TlsTerms {
            versions: vec![version],
            cipher_suites: Vec::new(),
        };
        for (ours, theirs, spoken) in [
            (&TLS12, &TLS12, true),
            (&TLS12, &TLS13, false),
            (&TLS13, &TLS12, false),
            (&TLS13, &TLS13, true),
        ] {
            let server = health_tls(&certificate, &of(ours), true).unwrap();
            assert_eq!(speaks(server, &of(theirs)), spoken, "{ours:?} {theirs:?}");
        }
        // The suite is for another kind of key than that of the certificate.
        let terms = TlsTerms {
            cipher_suites: vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()],
            ..of(&TLS12)
        };
        let server = health_tls(&certificate, &terms, true).unwrap();
        assert!(!speaks(server, &of(&TLS12)));
    }
}

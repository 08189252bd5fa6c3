//! TLS towards clients: the certificates that we present, and those that clients present.
//!
//! One configuration serves most names. Each identity-aware domain has one of its own, which demands a certificate of that
//! domain's authorities. The name in the client's first message decides, before the router answers.

mod client;
mod sni;

pub(crate) use client::CallingInstance;

use crate::backend::tls::trusted;
use crate::config::{
    Certificate, ClientCertValidation, ForwardedClientCert, FrontTls, MtlsDomain, XfccFormat,
};
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::{WithRules, envoy_form};
use kit::tls::Authorities;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use sni::BySni;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

/// The configurations for handshakes with clients.
#[derive(Debug)]
pub(crate) struct Handshakes {
    most: Arc<ServerConfig>,
    domains: Vec<Domain>,
}

#[derive(Debug)]
struct Domain {
    settings: Arc<MtlsDomain>,
    config: Arc<ServerConfig>,
}

/// The values that a handshake reveals about a client.
#[derive(Debug, Default)]
pub(crate) struct ClientTls {
    /// The name that the client requested, in lower case.
    pub(crate) sni: Option<String>,
    /// The identity-aware domain of that name.
    pub(crate) domain: Option<Arc<MtlsDomain>>,
    /// Its verified certificate in the form of `X-Forwarded-Client-Cert`.
    pub(crate) xfcc: Option<String>,
    /// The client's identity, if its certificate is an instance identity and an identity-aware domain asked for it.
    pub(crate) caller: Option<CallingInstance>,
}

impl ClientTls {
    /// Returns the domain's own mode, or the mode of all other hosts.
    pub(crate) fn forwarded_client_cert(&self, most: ForwardedClientCert) -> ForwardedClientCert {
        let domain = self.domain.as_ref();
        domain.map_or(most, |domain| domain.forwarded_client_cert)
    }
}

impl Handshakes {
    pub(crate) fn build(
        certificates: &[Certificate],
        front: &FrontTls,
        http2: bool,
    ) -> Result<Arc<Self>> {
        kit::tls::install_crypto();
        let resolver = Arc::new(BySni::new(certificates)?);
        let most = match front.client_cert_validation {
            ClientCertValidation::None => None,
            validation => {
                let trusted = trusted(&front.client_cas, front.system_client_cas)?;
                let required = validation == ClientCertValidation::Require;
                Some(verifier(front, trusted, required)?)
            }
        };
        let most = config(front, most, resolver.clone(), http2)?;
        let mut domains = Vec::new();
        for settings in &front.domains {
            let trusted = trusted(std::slice::from_ref(&settings.client_cas), false)
                .with_context(|| format!("client authorities of domain {}", settings.name))?;
            let verifier = verifier(front, trusted, true)?;
            domains.push(Domain {
                settings: Arc::new(settings.clone()),
                config: config(front, Some(verifier), resolver.clone(), http2)?,
            });
        }
        Ok(Arc::new(Self { most, domains }))
    }

    /// Performs the handshake with one client.
    pub(crate) async fn accept<S>(&self, stream: S) -> std::io::Result<(TlsStream<S>, ClientTls)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (stream, domain) = if self.domains.is_empty() {
            let acceptor = TlsAcceptor::from(self.most.clone());
            (acceptor.accept(stream).await?, None)
        } else {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let name = start
                .client_hello()
                .server_name()
                .map(str::to_ascii_lowercase);
            let domain = name.and_then(|name| {
                let found = self.domains.iter();
                found
                    .filter(|domain| covers(&domain.settings.name, &name))
                    .max_by_key(|domain| domain.settings.name == name)
            });
            let config = domain.map_or(&self.most, |domain| &domain.config);
            let accepted = start.into_stream(config.clone()).await?;
            (accepted, domain.map(|domain| domain.settings.clone()))
        };
        let session = stream.get_ref().1;
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let caller = leaf.filter(|_| domain.is_some());
        let format = domain.as_ref().map(|domain| domain.xfcc_format);
        let client = ClientTls {
            xfcc: leaf.map(|leaf| xfcc(leaf, format.unwrap_or_default())),
            sni: session.server_name().map(str::to_ascii_lowercase),
            caller: caller.and_then(|leaf| CallingInstance::of(leaf)),
            domain,
        };
        Ok((stream, client))
    }
}

fn xfcc(leaf: &CertificateDer<'_>, format: XfccFormat) -> String {
    match format {
        XfccFormat::Raw => BASE64_STANDARD.encode(leaf),
        XfccFormat::Envoy => envoy_form(leaf),
    }
}

/// Returns whether the pattern covers the host; `*.` stands for one label.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern == host,
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == domain),
    }
}

fn verifier(
    front: &FrontTls,
    trusted: Authorities,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let verifier = trusted.of_clients(required)?;
    Ok(if front.certificate_rules.is_empty() {
        verifier
    } else {
        WithRules::around(verifier, front)
    })
}

fn config(
    front: &FrontTls,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    resolver: Arc<BySni>,
    http2: bool,
) -> Result<Arc<ServerConfig>> {
    let builder = front.terms.server()?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        // Without a list no protocol is negotiated: a client that offers only HTTP/2 is not cut off in its handshake.
        Vec::new()
    };
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label() {
        for (pattern, host, covered) in [
            ("*.apps.identity", "a.apps.identity", true),
            ("*.apps.identity", "a.b.apps.identity", false),
            ("*.apps.identity", "apps.identity", false),
            ("*.apps.identity", ".apps.identity", false),
            ("secure.test", "secure.test", true),
            ("secure.test", "a.secure.test", false),
        ] {
            assert_eq!(covers(pattern, host), covered, "{pattern} {host}");
        }
    }
}

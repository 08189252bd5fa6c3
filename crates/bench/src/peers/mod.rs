//! The programs that are compared. Each has the fairest configuration of its kind: one worker, keep-alive on both sides, and the
//! cheapest access log that it offers.

mod cupola;
mod envoy;
mod haproxy;
pub(crate) mod listener;
mod nginx;

pub(crate) use cupola::{Cupola, Router};

use crate::client::Target;
use crate::process::Process;
use crate::rig::{HOST, Rig};
use anyhow::Result;
use listener::{Listener, Reads};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Scheme {
    /// Connections are plain on both sides.
    Http,
    /// TLS 1.3 is used on both sides. The backend's certificate is checked for the instance's name, and the peer presents its
    /// own.
    Https,
    /// HTTP/2 by TLS 1.3 comes from the client, and plain HTTP/1 goes to the backend.
    Http2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// The generator connects to the backend: this is the floor of the method.
    Direct,
    /// A relay of bytes, which is the floor for every proxy.
    HaproxyTcp,
    /// HAProxy with its log in a ring in memory, which is the cheapest way, cheaper than any file.
    Haproxy,
    /// HAProxy with its log in a file, and a write for each line.
    HaproxyFile,
    Nginx,
    Envoy,
    Cupola,
    /// The router of the other build that is measured beside ours.
    CupolaBeside,
    /// HAProxy with its log by UDP to a server that reads it.
    HaproxyUdp,
    /// Our router, which sends all envelopes by UDP to an agent that reads them as our log-cache does.
    CupolaEnvelopes,
    /// Our router, which sends all envelopes by UDP to an agent that reads each by a call of its own.
    CupolaEnvelopesOneByOne,
    /// Our router, which sends all envelopes by UDP to an address where no agent listens.
    CupolaEnvelopesUnread,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct (no proxy)",
            Self::HaproxyTcp => "HAProxy, mode tcp (floor)",
            Self::Haproxy => "HAProxy",
            Self::HaproxyFile => "HAProxy, log to a file",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::Cupola => "cupola router",
            Self::CupolaBeside => "cupola router, the build beside",
            Self::HaproxyUdp => "HAProxy, log by UDP",
            Self::CupolaEnvelopes => "cupola router, envelopes",
            Self::CupolaEnvelopesOneByOne => "cupola router, envelopes, read one by one",
            Self::CupolaEnvelopesUnread => "cupola router, envelopes, nobody listens",
        }
    }

    pub(crate) fn all(scheme: Scheme) -> &'static [Self] {
        match scheme {
            Scheme::Http => &[
                Self::Direct,
                Self::HaproxyTcp,
                Self::Haproxy,
                Self::HaproxyFile,
                Self::Nginx,
                Self::Envoy,
                Self::Cupola,
            ],
            Scheme::Https => &[
                Self::Direct,
                Self::Haproxy,
                Self::Nginx,
                Self::Envoy,
                Self::Cupola,
            ],
            Scheme::Http2 => &[Self::Haproxy, Self::Nginx, Self::Envoy, Self::Cupola],
        }
    }

    /// The peers with everything that they report about requests by UDP.
    pub(crate) const PRODUCTION: &[Self] = &[
        Self::Haproxy,
        Self::HaproxyUdp,
        Self::Cupola,
        Self::CupolaEnvelopes,
        Self::CupolaEnvelopesOneByOne,
        Self::CupolaEnvelopesUnread,
    ];

    pub(crate) fn start(self, scheme: Scheme, rig: &Rig) -> Result<Running> {
        let reads = match self {
            Self::HaproxyUdp | Self::CupolaEnvelopesOneByOne => Some(Reads::OneByOne),
            Self::CupolaEnvelopes => Some(Reads::Together),
            _ => None,
        };
        let listener = reads
            .map(|reads| Listener::start(Some(rig.load_core), reads))
            .transpose()?;
        let (process, port) = match self {
            Self::Direct => (
                None,
                match scheme {
                    Scheme::Http | Scheme::Http2 => rig.backend.get().plain,
                    Scheme::Https => rig.backend.get().tls,
                },
            ),
            Self::HaproxyTcp => {
                haproxy::start(haproxy::Mode::Tcp, scheme, rig.backend_port(scheme), rig)?
            }
            Self::Haproxy => haproxy::start(
                haproxy::Mode::HttpRing,
                scheme,
                rig.backend_port(scheme),
                rig,
            )?,
            Self::HaproxyFile => haproxy::start(
                haproxy::Mode::HttpFile,
                scheme,
                rig.backend_port(scheme),
                rig,
            )?,
            Self::Nginx => nginx::start(scheme, rig)?,
            Self::Envoy => envoy::start(scheme, rig)?,
            Self::HaproxyUdp => {
                let mode = haproxy::Mode::HttpUdp(listener.as_ref().map_or(0, |l| l.port));
                haproxy::start(mode, scheme, rig.backend_port(scheme), rig)?
            }
            Self::Cupola
            | Self::CupolaBeside
            | Self::CupolaEnvelopes
            | Self::CupolaEnvelopesOneByOne
            | Self::CupolaEnvelopesUnread => {
                let cupola = Cupola::pinned(rig);
                let cupola = match (self, &listener) {
                    (Self::CupolaEnvelopesUnread, _) => {
                        cupola.with_envelopes(kit::net::free_port()?)
                    }
                    (_, Some(listener)) => cupola.with_envelopes(listener.port),
                    (Self::CupolaBeside, None) => cupola.of_build_beside(),
                    (_, None) => cupola,
                };
                let router = cupola.start(rig)?;
                router.register_backend(rig, scheme)?;
                let port = router.port(scheme);
                return Ok(Running {
                    peer: self,
                    port,
                    program: Program::Router(router),
                    _listener: listener,
                });
            }
        };
        Ok(Running {
            peer: self,
            port,
            program: process.map_or(Program::None, Program::Other),
            _listener: listener,
        })
    }
}

pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) port: u16,
    program: Program,
    /// The reader of what the peer sends by UDP.
    _listener: Option<Listener>,
}

enum Program {
    None,
    Other(Process),
    Router(Router),
}

impl Running {
    pub(crate) fn process(&self) -> Option<&Process> {
        match &self.program {
            Program::None => None,
            Program::Other(process) => Some(process),
            Program::Router(router) => Some(&router.process),
        }
    }

    pub(crate) fn url(&self, scheme: Scheme) -> String {
        match scheme {
            Scheme::Http => format!("http://127.0.0.1:{}/", self.port),
            Scheme::Https | Scheme::Http2 => format!("https://127.0.0.1:{}/", self.port),
        }
    }

    /// Returns the target for our own generator, which checks the front's certificate (the backend's in the row "direct").
    pub(crate) fn target(&self, scheme: Scheme, rig: &Rig) -> Target {
        let name = if self.peer == Peer::Direct {
            crate::rig::INSTANCE
        } else {
            HOST
        };
        Target {
            port: self.port,
            tls: (scheme != Scheme::Http).then(|| (name.to_owned(), rig.client_tls.clone())),
        }
    }
}

/// The proxy's process and the port for requests.
type Started = (Option<Process>, u16);

/// Starts HAProxy in front of another backend, plain.
pub(crate) fn haproxy_before(backend: u16, rig: &Rig) -> Result<Running> {
    let (process, port) = haproxy::start(haproxy::Mode::HttpRing, Scheme::Http, backend, rig)?;
    Ok(Running {
        peer: Peer::Haproxy,
        port,
        program: process.map_or(Program::None, Program::Other),
        _listener: None,
    })
}

//! The router: accepts clients' requests and forwards each to an instance of the app that owns the route.
//!
//! The router acts on connections, on messages on `router.*`, and on a timer that prunes the table. It never decides where an app
//! runs. It never remembers routes over a restart: every emitter registers its routes again after `router.start`. It never
//! forwards a request to a backend whose certificate names another instance.
//!
//! # The life of a request
//!
//! ```text
//!  listen      accept, PROXY protocol, TLS, HTTP/1 or HTTP/2                        one single-threaded worker per core
//!    ├─ http1           reads a head, strictly (crate `http1`)              400, 431, 505
//!    ├─ http2           a task for each stream
//!    │
//!  path::route the order of steps, top to bottom:
//!    ├─ tracing_headers X-Vcap-Request-Id, B3, W3C
//!    ├─ healthcheck     a load balancer's probe                             200, 503
//!    ├─ mtls            whether host and caller fit the handshake           403, 421
//!    ├─ lookup          host and path → pool; instance headers              400, 404, 503
//!    │   └─ hold            a route whose instances are starting: waits for one
//!    ├─ route_service   to the service first, or back from it               400, 502, 503, 504
//!    ├─ forwarded       XFCC, hop-by-hop, X-Forwarded-*, X-Request-Start
//!    └─ forward         pick an endpoint, connect, send; on a fault another 502, 503, 496, 499, 525, 526
//!         ├─ backend::connections   idle connections per endpoint and worker
//!         ├─ backend::connect       dial, TLS with the name that was registered
//!         ├─ backend::fault         what a fault means: retry? prune? status?
//!         ├─ sticky                 __VCAP_ID__
//!         └─ exchange               head and body out, answer's head in
//!    │
//!  rejection   the one place that turns a rejection into status, X-Cf-RouterError and body
//!    │
//!  answer      streams it to the client
//!    ├─ tunnel          after 101: bytes both ways
//!    └─ finish          the end, whatever became of it: access log, envelopes, traces and metrics read the record
//! ```
//!
//! The steps are modules of [`path`]. [`worker`] is what a serving thread has, and what all of them share.
//!
//! The crate [`http_sides`] has what client and backend have in common: a connection of HTTP/1 or a stream of HTTP/2, which is read
//! and written without holding a buffer while it waits. Other modules work beside that path. [`bus`] fills the table from NATS, and
//! [`route_fetcher`] fills it from a Routing API. [`observe`] holds access log, metrics and status endpoints. [`life`]
//! starts the router, reloads it, hands its sockets over and ends it.

mod config;
mod life;
mod worker;

mod clock;
mod error_page;
mod listen;
mod path;

mod backend;
mod bus;
mod observe;
mod route_fetcher;

#[cfg(test)]
mod fuzz_tests;

pub use config::{
    AddressRange, Buckets, Certificate, CertificateRule, ClientCertValidation, Config, Difference,
    ForwardedClientCert, FrontTls, LogField, LogFormat, Metron, MtlsDomain, Otlp, Pages,
    PagesListener, RedactQuery, Reload, Reserved, ResponseRewrite, Rotation, RouteServices,
    Settings, Sharding, Status, Subject, Syslog, TlsTerms, XfccFormat,
};
pub use error_page::ErrorPage;
pub use life::router::{Handle, Router};
pub use route_table::registry::ComponentHosts;

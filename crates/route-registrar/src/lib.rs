//! The route-registrar: keeps routes of servers that are not apps (the API, the UAA, log-cache …) registered with every router.
//!
//! The processes that run such a server call it, or it runs alone as `cupola route-registrar` ([`config`]). It registers at once,
//! again every interval, and again when a router publishes `router.start`; it unregisters everything when it is stopped. A route
//! with a health check is registered while its script succeeds, and unregistered while it does not. HTTP routes are published
//! over NATS, TCP routes are sent to the Routing API.

pub mod config;
mod health_check;
mod outlets;
mod registrar;
mod route;
mod tcp_routes;

pub use health_check::HealthCheck;
pub use outlets::Outlets;
pub use registrar::{Registrar, Wanted};
pub use route::{AnyRoute, HttpRoute, Registration, TcpRoute};
pub use tcp_routes::TcpRoutes;

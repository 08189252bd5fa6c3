//! The route-registrar: keeps routes of things that are not apps (the API, the UAA, log-cache …) in every router.
//!
//! Called by whoever runs such a thing, or alone as `cupola route-registrar` ([`config`]). It registers at once, again
//! every interval, again when a router says `router.start`, and unregisters everything when it is told to stop. A route
//! with a health check is registered while its script succeeds, and unregistered while it does not. HTTP routes go over
//! NATS, TCP routes to the Routing API.

pub mod config;
mod glob;
mod health_check;
mod outlets;
mod registrar;
mod route;
mod tcp_routes;

pub use health_check::HealthCheck;
pub use outlets::Outlets;
pub use registrar::{Registrar, Wanted};
pub use route::{AnyRoute, Registration, Route, TcpRoute};
pub use tcp_routes::TcpRoutes;

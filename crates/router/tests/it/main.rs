//! The router over its real protocols: a real nats-server, real backends, clients that speak bytes.

mod backends;
mod bodies;
mod certs;
mod client;
mod headers;
mod lifecycle;
mod routes;
mod tls;
mod upgrades;
mod world;

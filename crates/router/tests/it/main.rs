//! Tests of the router over its real protocols: a real nats-server, real backends, clients that write bytes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod backends;
mod bodies;
mod cancels;
mod cells;
mod certs;
mod changes;
mod client;
mod component_log;
mod drop_in;
mod early;
mod gorouter;
mod h2peer;
mod headers;
mod history;
mod http1;
mod http2;

mod identity;
mod lenient;
mod lifecycle;
mod logs;
mod loss_proof;
mod losses;
mod metron;
mod nats;
mod otlp;
mod ownership;
mod pages;
mod receipts;
mod refused;
mod registrar;
mod reload;
mod route_services;
mod routes;
mod routing_api;
mod routing_api_server;
mod stalls;
mod table;
mod tap;
mod tcp_registrar;
mod tls;
mod upgrades;
mod view;
mod world;

//! Typed clients for the components' real protocols. Components communicate with each other through these only.

pub mod bbs;
pub mod http;
pub mod locket;
pub mod loggregator;
pub mod metron;
pub mod nats;
pub mod otlp;
pub mod rep;
pub mod request_id;
pub mod routing_api;
pub mod service_brokers;
mod sse;
pub mod ssh_access;
pub mod syslog_drains;
pub mod tap;
pub mod uaa;

//! The parts that every component needs to be a good process: TLS identities, an HTTP server, listeners, datagrams, free ports, the
//! addresses that users may name, a database, the disk, files that change, private files, processes, logging, metrics, readiness,
//! reconcilers, rings of numbered entries, fetched lists, zips and back-off.
//!
//! No Cloud Foundry policy is here, and no key of our configuration.

pub mod backoff;
pub mod datagrams;
pub mod db;
pub mod disk;
pub mod http;
pub mod listing;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod private_file;
pub mod processes;
pub mod reach;
pub mod readiness;
pub mod reconcile;
pub mod ring;
pub mod tls;
pub mod watched;
pub mod zip;

pub use tokio_util::sync::CancellationToken;

//! Keeps objects in a bucket of an S3 server: packages and droplets of the Cloud Controller, dumps of the PostgreSQL broker.
//!
//! `rusty_s3` signs the URLs and reads the lists; the requests are sent here. A signed URL is as good as a password for some
//! minutes, so that no error and no log shows one. A request that the server could not answer is repeated, because each of them
//! has the same effect twice. The crate knows no names of objects; its callers choose them.
//!
//! | Module | Owns |
//! |---|---|
//! | [`settings`] | the configuration, checked |
//! | [`client`] | the requests |
//! | [`fault`] | why a request failed, and what the operator can do |

mod client;
mod fault;
mod settings;

pub use client::{Client, Listed, Object};
pub use fault::Fault;
pub use settings::{S3, S3Settings};

#[cfg(test)]
mod tests;

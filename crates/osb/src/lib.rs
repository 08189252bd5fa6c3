//! A client of service brokers, by the Open Service Broker API 2.17.
//!
//! ```text
//!  Client::new(Settings) ──▶ client.at(&Broker, &Caller) ──▶ Calls: catalog, provision, update, deprovision, bind, unbind,
//!                                                                    last_operation, fetch_instance, fetch_binding
//!    request: path, query, body ──▶ transport: one connection ──▶ answer: what the status and the body mean
//!                                    address, time, size          Ok(…) or Error { kind, leaves_orphan }
//! ```
//!
//! A broker is a server of a stranger. A call resolves its name once and connects only to addresses that [`kit::reach::Reach`] permits, ends
//! after a given time, reads a bounded body, follows no redirect, and uses no proxy. Nothing that a broker answers can be more than
//! an [`Error`].
//!
//! An error says whether the broker may have acted, and so has left something that its user does not see
//! ([`Error::leaves_orphan`]). This crate keeps nothing and repeats nothing; its callers poll and remove orphans.
//!
//! [`Catalog::check`] has the rules of a catalog, with the texts that users of Cloud Foundry know.
//!
//! Callers: the jobs and the handlers of the Cloud Controller.

mod answer;
mod catalog;
mod client;
mod error;
mod request;
mod settings;
mod transport;

pub use answer::{
    Binding, Bound, FetchedBinding, FetchedInstance, LastOperation, OperationState, Outcome,
    Progress,
};
pub use catalog::{
    Catalog, CatalogErrors, DashboardClient, MaintenanceInfo, Offering, Plan, is_semantic_version,
};
pub use client::{Calls, Client};
pub use error::{Error, ErrorKind};
pub use request::{
    Bind, Context, Deprovision, Ids, Place, Poll, PreviousValues, Provision, Unbind, Update,
};
pub use settings::{Broker, Caller, Router, Settings};

/// The version of the API that every request names.
pub const API_VERSION: &str = "2.17";

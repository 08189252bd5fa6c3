//! The rep: runs on every cell, takes work from the auction, makes it run in containers and tells the BBS the truth about it.
//!
//! ```text
//!  auctioneer ─POST /work─▶ server ─▶ table (ledger + containers)      bulk: rows ⇄ containers, every 30 s
//!                                        │ one task per container
//!                     lrp ───────────────┴──────────────── task
//!   claim → fetch → create → certificate → Envoy            start → create → action
//!   → setup → action + sidecars + health → RUNNING          → result file → complete
//!   → … → unroutable → SIGTERM → destroy → remove / crash   → destroy
//! ```
//!
//! A container's task owns it: nobody else creates, signals or destroys it; others ask through [`container::Container`].
//! Containers outlive this process: everything needed to go on stands in the work directory ([`record`]), process ids are derived from
//! the place of an action in its tree, so that going on after a restart is the same code with *attach* instead of *run*.
//! The rep never touches namespaces, cgroups or firewalls itself (that is garden's), nor routes (that is the route-emitter's).

mod adopt;
mod archive;
mod assets;
mod bulk;
mod cache;
mod cell;
mod config;
mod container;
mod create;
mod der;
mod egress;
mod evacuation;
mod eviction;
mod guard;
mod handle;
mod health;
mod identity;
mod logs;
mod lrp;
mod metrics;
mod policies;
mod presence;
mod process;
mod record;
mod report;
mod run;
mod server;
mod spec;
mod steps;
mod task;
mod transfer;

pub use config::{Config, InstanceCa, Timing};
pub use handle::Handle;
pub use run::Rep;

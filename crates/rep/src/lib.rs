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

mod config;
mod server;
mod cell;
mod container;
mod report;
mod lrp;
mod task;
mod spec;
mod create;
mod steps;
mod process;
mod health;
mod logs;
mod metrics;
mod identity;
mod der;
mod transfer;
mod archive;
mod cache;
mod assets;
mod record;
mod adopt;
mod bulk;
mod evacuation;
mod presence;
mod duration;
mod handle;
mod run;

pub use config::{Config, InstanceCa, Timing};
pub use handle::Handle;
pub use run::Rep;

//! The rep: runs on every cell, takes work from the auction, runs it in containers and reports to the BBS what really runs.
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
//! The rooms: [`instance`] has what one container goes through from the order to its end; [`cell`] has what the whole machine
//! does (its state, the server, the comparison with the BBS, adoption after a restart, evacuation); [`supply`] fetches, unpacks and
//! caches what containers need; [`identity`] issues their certificates. [`run`] builds the cell and starts its loops.
//!
//! A container's task owns it: nobody else creates, signals or destroys it; others ask through [`container::Container`].
//! Containers outlive this process: everything needed to go on stands in the work directory ([`record`]), process ids are derived from
//! the place of an action in its tree, so that going on after a restart is the same code with *attach* instead of *run*.
//! The rep never touches namespaces, cgroups or firewalls itself (that is garden's), nor routes (that is the route-emitter's).

mod cell;
mod config;
mod files;
mod handle;
mod identity;
mod instance;
mod run;
mod supply;

pub use config::{Config, InstanceCa, Timing};
pub use handle::Handle;
pub use run::Rep;

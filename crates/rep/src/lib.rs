//! The rep runs on every cell. It accepts work from the auctioneer, runs it in containers, and reports to the BBS what really
//! runs.
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
//! The modules: [`instance`] has the life of one container, from the request to its end. [`cell`] has the tasks of the whole
//! machine (its state, the server, the comparison with the BBS, adoption after a restart, evacuation). [`supply`] downloads,
//! unpacks and caches what containers need. [`identity`] issues their certificates. [`run`] builds the cell and starts its loops.
//!
//! A container's task owns it: only this task creates, signals or destroys it. Others send it requests through
//! [`container::Container`]. Containers outlive this process: everything that is needed to continue is in the work directory
//! ([`record`]), and process ids are derived from the position of an action in its tree. After a restart the same code runs with
//! *attach* instead of *run*. The rep never touches namespaces, cgroups or firewalls itself (garden does), nor routes (the
//! route-emitter does).

mod cell;
mod config;
mod files;
mod handle;
mod identity;
mod instance;
mod metrics;
mod run;
mod supply;

pub use config::{Config, InstanceCa, Timing};
pub use handle::Handle;
pub use run::Rep;

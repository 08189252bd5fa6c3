//! Garden on Linux: crun containers, an overlay per container, a point-to-point link, iptables chains.
//!
//! [`LinuxGarden`] is used by rep through [`crate::api::Garden`]; [`CellNetwork::claim`] comes before it, because sockets
//! are bound on the cell's address first. What a container is made of, and who keeps it:
//!
//! | what | kept by | gone when |
//! |---|---|---|
//! | processes, root file system, loop device | the shim, in its own mount namespace | the shim ends |
//! | link | the kernel, with the container's network namespace | removed, or the namespace ends |
//! | chains, cgroups, folder | nobody: named by the record on disk | removed |
//!
//! Nothing here needs this process to live on. After a restart, however it came, [`LinuxGarden::build`] takes over every
//! container whose shim answers and removes what is left of others. Which container should exist is not decided here.

mod addresses;
mod cell_network;
mod cgroups;
mod config;
mod create;
mod destroy;
mod exec;
mod files;
mod firewall;
mod garden;
mod idmap;
mod iptables;
mod links;
mod netlink;
mod oci;
mod passwd;
mod policies;
mod preflight;
mod process;
mod record;
mod ruleset;
mod seccomp;
mod shim;
mod shim_protocol;
mod stacks;
mod turns;
mod usage;

pub use addresses::Range;
pub use cell_network::CellNetwork;
pub use config::{BASE_ID, GardenConfig, ID_COUNT, NetworkLimits, SharedLimits};
pub use exec::exec_interactive;
pub use garden::LinuxGarden;

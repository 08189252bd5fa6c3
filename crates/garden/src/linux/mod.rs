//! Garden on Linux: crun containers, an overlay per container, a point-to-point link, iptables chains.
//!
//! The rep uses [`LinuxGarden`] through [`crate::api::Garden`]. [`CellNetwork::claim`] precedes it, because sockets are bound on
//! the cell's address first. The table lists the parts of a container and what keeps each of them:
//!
//! | what | kept by | gone when |
//! |---|---|---|
//! | processes, root file system, loop device | the shim, in its own mount namespace | the shim ends |
//! | link | the kernel, with the container's network namespace | removed, or the namespace ends |
//! | chains, cgroups, folder | nothing: the record on disk names them | removed |
//!
//! Containers do not depend on this process. After a restart or a crash, [`LinuxGarden::build`] takes over every container whose shim
//! answers and removes what is left of others. This module does not decide which containers should exist.

mod addresses;
mod cell_network;
mod cgroups;
mod config;
mod create;
mod destroy;
mod egress;
mod exec;
mod files;
mod firewall;
mod garden;
mod host_services;
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
mod stacks;
mod turns;
mod usage;

pub use addresses::Range;
pub use cell_network::CellNetwork;
pub use config::{BASE_ID, GardenConfig, ID_COUNT, NetworkLimits, SharedLimits};
pub use exec::exec_interactive;
pub use garden::LinuxGarden;
pub use host_services::{Audience, HostService, NoHostService};

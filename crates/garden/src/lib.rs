//! Containers on Linux: namespaces, cgroups, root file systems, processes, addresses and firewall rules.
//!
//! The rep uses [`api`]; [`linux::LinuxGarden`] implements [`api::Garden`]; [`seal`] is for files on disk. There is no Cloud
//! Foundry policy here.

pub mod api;
pub mod linux;
pub mod seal;

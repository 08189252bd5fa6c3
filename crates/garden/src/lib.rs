//! Containers on Linux: namespaces, cgroups, root file systems, processes, addresses and firewall rules.
//!
//! [`api`] is what the rep knows; [`linux::LinuxGarden`] stands behind [`api::Garden`]; [`seal`] is for files on disk. No Cloud Foundry policy here.

pub mod api;
pub mod linux;
pub mod seal;

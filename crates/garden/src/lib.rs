//! Containers on Linux: namespaces, cgroups, root file systems, processes, addresses and firewall rules.
//!
//! [`api`] is what the rep knows; the Linux implementation stands behind [`api::Garden`]. No Cloud Foundry policy here.

pub mod api;

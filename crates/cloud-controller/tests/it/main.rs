//! The Cloud Controller over real HTTP, with a real BBS. A key of the tests signs the tokens.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apps;
mod archive;
mod audit;
mod bad_rows;
mod blobs;
mod cell;
mod damage;
mod dashboards;
mod fixture;
mod fuzz;
mod limits;
mod links;
mod managed_bindings;
mod managed_faults;
mod managed_instances;
mod managed_sharing;
mod manifests;
mod names;
mod networking;
mod observed;
mod organizations;
mod pages;
mod propagation;
mod pushing;
mod quotas;
mod request_ids;
mod rights;
mod role_table;
mod route_policies;
mod routes;
mod security_groups;
mod service_brokers;
mod service_catalogs;
mod service_credential_bindings;
mod service_instances;
mod service_plans;
mod several;
mod sidecars;
mod spelling;
mod ssh;
mod texts;
mod uploads;
mod usage;
mod why;

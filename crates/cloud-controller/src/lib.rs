//! The Cloud Controller: the v3 API. It stores what users want, and drives Diego until Diego runs exactly that.
//!
//! ```text
//!  cf ──▶ router ──▶ api/<noun> ──▶ actions/<noun> ──▶ db/<noun> (SQLite: the truth)
//!                    parse,         verbs in one            │ `change`: commit, and what follows it
//!                    authorise,     Change                  ▼
//!                    present                       diego: driver ──desire, update, remove──▶ BBS
//!  BBS ──callbacks──▶ internal                            sync ───every 30 s and on nudges──▶ BBS
//!  BBS ──events─────▶ diego::events ──▶ audit events      staging, tasks, deployments
//!  jobs ──parts of long verbs──▶ actions/<noun>
//!    └──calls without a change──▶ service brokers (crate `osb`)
//!  routers ──receipts over NATS──▶ receipts: which routers serve a changed route
//! ```
//!
//! A 2xx response means that the change is committed. What Diego has is derived from the database and repaired by the sync;
//! nothing in this crate reads a cell or a router's table, except `GET /v3/why` for whoever may read the route; routers confirm changes
//! by receipts. Rules that need no database are in the core crate `cc_rules`; their errors
//! become the API's errors in `error`.
//!
//! Each noun has one file of the same singular name in each of `api`, `actions` and `db`: `route.rs`, `space_quota.rs`. A noun
//! without verbs of its own has no file in `actions`. A test compares the three folders and names the exceptions.
//!
//! Secrets are sealed before they are stored (`sealing`); a column of the type `Sealed` cannot have a clear text.
//!
//! Callers: the `cupola` binary builds and runs [`CloudController`].

mod component;
mod config;
mod controller;

mod api;
mod auth;
mod flags;
mod internal;

mod actions;
mod change;
mod quota;
mod receipts;
mod request_id;
mod turns;

pub mod bits;
mod diego;

mod census;
mod cleanup;
mod jobs;
mod metrics;

mod app_log;
mod clock;
mod dashboards;
mod db;
mod error;
mod sealing;
mod secrets;
mod seed;
mod transfer;

pub use api::{ApiEndpoint, described as endpoints};
pub use bits::store::{S3, S3Settings};
pub use cc_rules::limits::Limits;
pub use component::CloudController;
pub use config::{AppSsh, BoundEgress, Config, FirstTarget, IdentityDomain, Retention, UaaClient};
pub use osb::{Router as BrokerRouter, Settings as BrokerSettings};
pub use quota::DefaultQuota;
pub use secrets::{KEY_FILE, rotate_key};

/// The domain of internal routes that every foundation has. The name servers of containers answer for names below it.
pub const INTERNAL_DOMAIN: &str = "apps.internal";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// The files that belong to no noun, by folder.
    const PLUMBING: &[(&str, &[&str])] = &[
        (
            "api",
            &[
                "body",
                "endpoint",
                "fields",
                "guard",
                "label_selector",
                "lookup",
                "managed_instance",
                "mod",
                "present",
                "query",
                "quota_limits",
                "uaa_users",
                "upload",
            ],
        ),
        // Auditing and copying serve many nouns. Managed instances and their bindings are the nouns `service_instance`,
        // `service_credential_binding` and `service_route_binding`; their verbs call brokers and have files of their own. A route is
        // deleted after its binding.
        (
            "actions",
            &[
                "audit",
                "audit_changes",
                "broker_call",
                "copy",
                "managed_binding",
                "managed_instance",
                "managed_route_binding",
                "managed_update",
                "mod",
                "orphan",
                "route_deletion",
            ],
        ),
        // `resource` contains files that packages share; `usage` contains sums over processes and tasks.
        (
            "db",
            &[
                "cleanup",
                "condition",
                "label",
                "mod",
                "resource",
                "row",
                "schema",
                "sealed",
                "select",
                "sight",
                "spelling",
                "stored_route",
                "transaction",
                "usage",
            ],
        ),
    ];

    /// The nouns that the API shows without a table of their own.
    const WITHOUT_TABLE: &[&str] = &[
        "app_feature",
        "info",
        "isolation_segment",
        "manifest",
        "route_propagation",
        "why",
    ];

    fn nouns(folder: &str) -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src")
            .join(folder);
        let plumbing = PLUMBING.iter().find(|(name, _)| *name == folder).unwrap().1;
        let mut files: BTreeSet<String> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        for name in plumbing {
            assert!(
                files.remove(*name),
                "{folder}/{name}.rs does not exist: remove it from the list"
            );
        }
        files
    }

    #[test]
    fn a_noun_has_one_file_of_the_same_name_in_every_folder() {
        let (api, actions, mut tables) = (nouns("api"), nouns("actions"), nouns("db"));
        assert!(tables.len() > 20, "{tables:?}");
        for name in WITHOUT_TABLE {
            assert!(tables.insert((*name).to_owned()), "{name} has a table");
        }
        let (only_api, only_db): (Vec<_>, Vec<_>) = (
            api.difference(&tables).collect(),
            tables.difference(&api).collect(),
        );
        assert!(
            only_api.is_empty() && only_db.is_empty(),
            "api/ and db/ cut the nouns differently: only in api/ {only_api:?}, only in db/ {only_db:?}"
        );
        let foreign: Vec<_> = actions.difference(&api).collect();
        assert!(
            foreign.is_empty(),
            "actions/ has files of no noun: {foreign:?}"
        );
    }
}

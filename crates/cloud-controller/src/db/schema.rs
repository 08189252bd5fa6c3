//! The tables, as migrations from version to version. Their SQL is in files beside this module.

use kit::db::{Migration, Schema};

pub(super) const SCHEMA: Schema = Schema {
    migrations: &[
        Migration::both(1, "tables", TABLES),
        Migration::both(2, "names without case", include_str!("schema/2_names.sql")),
        Migration::each(
            3,
            "order of relationships, triggers",
            include_str!("schema/3_order.sqlite.sql"),
            include_str!("schema/3_order.postgres.sql"),
        ),
        Migration::each(
            4,
            "names of blobs",
            include_str!("schema/4_blobs.sqlite.sql"),
            include_str!("schema/4_blobs.postgres.sql"),
        ),
        Migration::both(5, "input of jobs", "ALTER TABLE jobs ADD COLUMN input TEXT"),
        Migration::both(
            6,
            "generations of routes",
            include_str!("schema/6_generations.sql"),
        ),
        Migration::both(
            7,
            "service instances, bindings, keys of secrets",
            include_str!("schema/7_service_instances.sql"),
        ),
        Migration::both(
            8,
            "service brokers, offerings, plans",
            include_str!("schema/8_service_brokers.sql"),
        ),
        Migration::each(
            9,
            "managed service instances, shares, usage events of services",
            include_str!("schema/9_managed_instances.sqlite.sql"),
            include_str!("schema/9_managed_instances.postgres.sql"),
        ),
        Migration::both(
            10,
            "bindings of routes to services",
            include_str!("schema/10_service_route_bindings.sql"),
        ),
    ],
    unversioned: UNVERSIONED,
};

const TABLES: &str = include_str!("schema/1_tables.sql");

/// Brings files without a version, of any age, to version 1. Their triggers are replaced later.
const UNVERSIONED: &[&str] = &[
    TABLES,
    "ALTER TABLE spaces ADD COLUMN suspended INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE domains ADD COLUMN enforce_route_policies INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE domains ADD COLUMN route_policies_scope TEXT",
    "ALTER TABLE droplets ADD COLUMN sidecars TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE deployments ADD COLUMN options TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE deployments ADD COLUMN instances_before INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE jobs ADD COLUMN actor_guid TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN actor_type TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN actor_name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN parts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN due_at INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN leased_by TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN leased_until INTEGER NOT NULL DEFAULT 0",
    // Files that are older than the usage events lack the use of their processes.
    "INSERT OR IGNORE INTO usage_footprints
        (kind, guid, state, instances, memory_in_mb, name, app_guid, app_name, space_guid, space_name, organization_guid, buildpack)
     SELECT 'process', p.guid, a.state, p.instances, p.memory_in_mb, p.type, a.guid, a.name, s.guid, s.name, s.organization_guid,
        CASE WHEN json_valid(d.buildpacks) THEN json_extract(d.buildpacks, '$[0].name') END
     FROM processes p JOIN apps a ON a.guid = p.app_guid JOIN spaces s ON s.guid = a.space_guid LEFT JOIN droplets d ON d.guid = a.droplet_guid",
];

#[cfg(test)]
mod tests;

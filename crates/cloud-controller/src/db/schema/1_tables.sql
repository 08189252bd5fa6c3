-- The tables of version 1. Files of earlier programs have them too, so every statement here is idempotent.
--
-- `id` is the order of creation; other components know a row by its `guid`. Deleting a parent deletes what belongs to it.

CREATE TABLE IF NOT EXISTS organization_quotas (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    limits TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS organizations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    suspended INTEGER NOT NULL,
    quota_guid TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS space_quotas (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    organization_guid TEXT NOT NULL REFERENCES organizations(guid) ON DELETE CASCADE,
    limits TEXT NOT NULL,
    UNIQUE (organization_guid, name)
);
CREATE TABLE IF NOT EXISTS spaces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    organization_guid TEXT NOT NULL REFERENCES organizations(guid) ON DELETE CASCADE,
    quota_guid TEXT,
    allow_ssh INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    suspended INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    username TEXT,
    origin TEXT,
    metadata TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS roles (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    type TEXT NOT NULL,
    user_guid TEXT NOT NULL REFERENCES users(guid) ON DELETE CASCADE,
    organization_guid TEXT REFERENCES organizations(guid) ON DELETE CASCADE,
    space_guid TEXT REFERENCES spaces(guid) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS roles_by_user ON roles (user_guid);
CREATE TABLE IF NOT EXISTS domains (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    organization_guid TEXT REFERENCES organizations(guid) ON DELETE CASCADE,
    internal INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    enforce_route_policies INTEGER NOT NULL DEFAULT 0,
    route_policies_scope TEXT
);
CREATE TABLE IF NOT EXISTS domain_shares (
    domain_guid TEXT NOT NULL REFERENCES domains(guid) ON DELETE CASCADE,
    organization_guid TEXT NOT NULL REFERENCES organizations(guid) ON DELETE CASCADE,
    PRIMARY KEY (domain_guid, organization_guid)
);
CREATE TABLE IF NOT EXISTS apps (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    state TEXT NOT NULL,
    lifecycle_type TEXT NOT NULL,
    buildpacks TEXT NOT NULL,
    stack TEXT,
    droplet_guid TEXT,
    environment TEXT NOT NULL,
    enable_ssh INTEGER NOT NULL,
    revisions_enabled INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (space_guid, name)
);
CREATE TABLE IF NOT EXISTS processes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    type TEXT NOT NULL,
    version TEXT NOT NULL,
    command TEXT,
    "user" TEXT,
    instances INTEGER NOT NULL,
    memory_in_mb INTEGER NOT NULL,
    disk_in_mb INTEGER NOT NULL,
    log_rate_limit INTEGER NOT NULL,
    health_check TEXT NOT NULL,
    readiness_health_check TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS processes_by_app ON processes (app_guid, type);
CREATE TABLE IF NOT EXISTS sidecars (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    name TEXT NOT NULL,
    command TEXT NOT NULL,
    memory_in_mb INTEGER,
    origin TEXT NOT NULL,
    process_types TEXT NOT NULL,
    UNIQUE (app_guid, name)
);
CREATE TABLE IF NOT EXISTS stale_lrps (
    process_guid TEXT NOT NULL,
    lrp_guid TEXT NOT NULL PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS routes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    port INTEGER NOT NULL,
    domain_guid TEXT NOT NULL REFERENCES domains(guid) ON DELETE CASCADE,
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    options TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS routes_by_domain ON routes (domain_guid);
CREATE INDEX IF NOT EXISTS routes_by_space ON routes (space_guid);
CREATE TABLE IF NOT EXISTS route_policies (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    route_guid TEXT NOT NULL REFERENCES routes(guid) ON DELETE CASCADE,
    source TEXT NOT NULL,
    source_guid TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (route_guid, source)
);
CREATE INDEX IF NOT EXISTS route_policies_by_source ON route_policies (source_guid);
CREATE TABLE IF NOT EXISTS route_shares (
    route_guid TEXT NOT NULL REFERENCES routes(guid) ON DELETE CASCADE,
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    PRIMARY KEY (route_guid, space_guid)
);
CREATE TABLE IF NOT EXISTS destinations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    route_guid TEXT NOT NULL REFERENCES routes(guid) ON DELETE CASCADE,
    app_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    port INTEGER,
    protocol TEXT NOT NULL,
    weight INTEGER
);
CREATE INDEX IF NOT EXISTS destinations_by_app ON destinations (app_guid);
CREATE INDEX IF NOT EXISTS destinations_by_route ON destinations (route_guid);
CREATE TABLE IF NOT EXISTS packages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    type TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    checksum TEXT,
    metadata TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS droplets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    package_guid TEXT,
    state TEXT NOT NULL,
    error TEXT,
    stack TEXT,
    buildpacks TEXT NOT NULL,
    process_types TEXT NOT NULL,
    execution_metadata TEXT NOT NULL,
    checksum TEXT,
    metadata TEXT NOT NULL,
    sidecars TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE IF NOT EXISTS builds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    package_guid TEXT NOT NULL,
    droplet_guid TEXT,
    state TEXT NOT NULL,
    error TEXT,
    buildpacks TEXT NOT NULL,
    stack TEXT NOT NULL,
    memory_in_mb INTEGER NOT NULL,
    disk_in_mb INTEGER NOT NULL,
    created_by_guid TEXT NOT NULL,
    created_by_name TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS deployments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    strategy TEXT NOT NULL,
    droplet_guid TEXT NOT NULL,
    previous_droplet_guid TEXT,
    deploying_process_guid TEXT,
    instances INTEGER NOT NULL,
    max_in_flight INTEGER NOT NULL,
    error TEXT,
    status_changed_at INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    options TEXT NOT NULL DEFAULT '{}',
    instances_before INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    sequence_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    command TEXT NOT NULL,
    state TEXT NOT NULL,
    memory_in_mb INTEGER NOT NULL,
    disk_in_mb INTEGER NOT NULL,
    log_rate_limit INTEGER NOT NULL,
    droplet_guid TEXT NOT NULL,
    failure_reason TEXT,
    metadata TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS packages_by_app ON packages (app_guid);
CREATE INDEX IF NOT EXISTS droplets_by_app ON droplets (app_guid);
CREATE INDEX IF NOT EXISTS builds_by_app ON builds (app_guid, state);
CREATE INDEX IF NOT EXISTS deployments_by_app ON deployments (app_guid, state);
CREATE INDEX IF NOT EXISTS tasks_by_app ON tasks (app_guid, state);
CREATE TABLE IF NOT EXISTS migrations (
    name TEXT NOT NULL PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS resources (
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    sha1 TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (space_guid, sha1, size)
);
CREATE INDEX IF NOT EXISTS resources_by_content ON resources (sha256);
CREATE INDEX IF NOT EXISTS resources_by_sha1 ON resources (sha1);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    operation TEXT NOT NULL,
    state TEXT NOT NULL,
    errors TEXT NOT NULL,
    warnings TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_guid TEXT NOT NULL,
    actor_guid TEXT NOT NULL DEFAULT '',
    actor_type TEXT NOT NULL DEFAULT '',
    actor_name TEXT NOT NULL DEFAULT '',
    parts INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL DEFAULT 0,
    leased_by TEXT NOT NULL DEFAULT '',
    leased_until INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state);
CREATE TABLE IF NOT EXISTS audit_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    type TEXT NOT NULL,
    actor_guid TEXT NOT NULL,
    actor_type TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    target_guid TEXT NOT NULL,
    target_type TEXT NOT NULL,
    target_name TEXT NOT NULL,
    data TEXT NOT NULL,
    space_guid TEXT NOT NULL,
    organization_guid TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_events_by_target ON audit_events (target_guid);
CREATE TABLE IF NOT EXISTS app_usage_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    previous_state TEXT,
    app_guid TEXT NOT NULL,
    app_name TEXT NOT NULL,
    process_guid TEXT,
    process_type TEXT,
    space_guid TEXT NOT NULL,
    space_name TEXT NOT NULL,
    organization_guid TEXT NOT NULL,
    buildpack_guid TEXT,
    buildpack_name TEXT,
    task_guid TEXT,
    task_name TEXT,
    memory_in_mb INTEGER NOT NULL,
    previous_memory_in_mb INTEGER,
    instances INTEGER NOT NULL,
    previous_instances INTEGER
);
CREATE INDEX IF NOT EXISTS app_usage_events_by_age ON app_usage_events (created_at);
CREATE INDEX IF NOT EXISTS audit_events_by_age ON audit_events (created_at);
CREATE INDEX IF NOT EXISTS jobs_by_age ON jobs (updated_at);
CREATE TABLE IF NOT EXISTS dead_blobs (
    kind TEXT NOT NULL,
    guid TEXT NOT NULL,
    PRIMARY KEY (kind, guid)
);
CREATE TABLE IF NOT EXISTS stacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    is_default INTEGER NOT NULL,
    metadata TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS buildpacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    stack TEXT,
    position INTEGER NOT NULL,
    enabled INTEGER NOT NULL,
    locked INTEGER NOT NULL,
    filename TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS feature_flags (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    enabled INTEGER NOT NULL,
    custom_error_message TEXT
);
CREATE TABLE IF NOT EXISTS environment_variable_groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    var TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS security_groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    rules TEXT NOT NULL,
    running INTEGER NOT NULL,
    staging INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS policy_sources (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    app_guid TEXT NOT NULL UNIQUE REFERENCES apps(guid) ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS network_policies (
    source_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    destination_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    protocol TEXT NOT NULL,
    first_port INTEGER NOT NULL,
    last_port INTEGER NOT NULL,
    PRIMARY KEY (source_guid, destination_guid, protocol, first_port, last_port)
);
CREATE TABLE IF NOT EXISTS security_group_spaces (
    security_group_guid TEXT NOT NULL REFERENCES security_groups(guid) ON DELETE CASCADE,
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    phase TEXT NOT NULL,
    PRIMARY KEY (security_group_guid, space_guid, phase)
);
CREATE TABLE IF NOT EXISTS usage_changes (
    kind TEXT NOT NULL,
    guid TEXT NOT NULL,
    UNIQUE (kind, guid)
);
CREATE TABLE IF NOT EXISTS usage_footprints (
    kind TEXT NOT NULL,
    guid TEXT NOT NULL,
    state TEXT NOT NULL,
    instances INTEGER NOT NULL,
    memory_in_mb INTEGER NOT NULL,
    name TEXT NOT NULL,
    app_guid TEXT NOT NULL,
    app_name TEXT NOT NULL,
    space_guid TEXT NOT NULL,
    space_name TEXT NOT NULL,
    organization_guid TEXT NOT NULL,
    buildpack TEXT,
    PRIMARY KEY (kind, guid)
);

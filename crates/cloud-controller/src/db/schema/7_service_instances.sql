-- Instances of services, and their bindings to apps. The credentials are sealed (`crate::sealing`).
CREATE TABLE service_instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    tags TEXT NOT NULL,
    credentials TEXT,
    syslog_drain_url TEXT,
    route_service_url TEXT,
    last_operation TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE UNIQUE INDEX service_instances_by_name ON service_instances (space_guid, name);

-- A binding of type key belongs to no app.
CREATE TABLE service_credential_bindings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    type TEXT NOT NULL,
    name TEXT,
    app_guid TEXT REFERENCES apps(guid) ON DELETE CASCADE,
    service_instance_guid TEXT NOT NULL REFERENCES service_instances(guid) ON DELETE CASCADE,
    credentials TEXT,
    syslog_drain_url TEXT,
    last_operation TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX service_credential_bindings_by_app ON service_credential_bindings (app_guid);
CREATE INDEX service_credential_bindings_by_instance ON service_credential_bindings (service_instance_guid);

-- How an app gets its bindings: as a variable, or as files.
ALTER TABLE apps ADD COLUMN delivery TEXT NOT NULL DEFAULT 'variable';

-- The keys with which secrets were sealed since the last rotation that ended, so that no process seals with another one.
CREATE TABLE sealing_keys (
    label TEXT PRIMARY KEY
);

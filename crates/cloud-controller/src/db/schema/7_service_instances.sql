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

-- The keys with which secrets were sealed since the last rotation that ended, so that no process seals with another one.
CREATE TABLE sealing_keys (
    label TEXT PRIMARY KEY
);

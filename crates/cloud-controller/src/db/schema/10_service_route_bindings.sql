-- Bindings of service instances to routes. Requests for a bound route go to the address first. A route has one binding at most.
CREATE TABLE service_route_bindings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    route_guid TEXT NOT NULL UNIQUE REFERENCES routes(guid) ON DELETE CASCADE,
    service_instance_guid TEXT NOT NULL REFERENCES service_instances(guid) ON DELETE CASCADE,
    route_service_url TEXT,
    last_operation TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX service_route_bindings_by_instance ON service_route_bindings (service_instance_guid);

-- Service brokers with the offerings and plans of their catalogs. The passwords are sealed (`crate::sealing`).
CREATE TABLE service_brokers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    username TEXT NOT NULL,
    password TEXT NOT NULL,
    space_guid TEXT REFERENCES spaces(guid) ON DELETE CASCADE,
    state TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE UNIQUE INDEX service_brokers_by_name ON service_brokers (name);
CREATE INDEX service_brokers_by_space ON service_brokers (space_guid);

CREATE TABLE service_offerings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    service_broker_guid TEXT NOT NULL REFERENCES service_brokers(guid) ON DELETE CASCADE,
    unique_id TEXT NOT NULL,
    active INTEGER NOT NULL,
    bindable INTEGER NOT NULL,
    tags TEXT NOT NULL,
    requires TEXT NOT NULL,
    extra TEXT,
    plan_updateable INTEGER NOT NULL,
    bindings_retrievable INTEGER NOT NULL,
    instances_retrievable INTEGER NOT NULL,
    allow_context_updates INTEGER NOT NULL,
    metadata TEXT NOT NULL
);
CREATE UNIQUE INDEX service_offerings_by_id ON service_offerings (service_broker_guid, unique_id);
CREATE INDEX service_offerings_by_name ON service_offerings (name);

-- `bindable` and `plan_updateable` are NULL when the offering decides.
CREATE TABLE service_plans (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    service_offering_guid TEXT NOT NULL REFERENCES service_offerings(guid) ON DELETE CASCADE,
    unique_id TEXT NOT NULL,
    active INTEGER NOT NULL,
    is_public INTEGER NOT NULL,
    free INTEGER NOT NULL,
    bindable INTEGER,
    plan_updateable INTEGER,
    extra TEXT,
    maximum_polling_duration INTEGER,
    maintenance_info TEXT,
    create_instance_schema TEXT,
    update_instance_schema TEXT,
    create_binding_schema TEXT,
    metadata TEXT NOT NULL
);
CREATE UNIQUE INDEX service_plans_by_id ON service_plans (service_offering_guid, unique_id);
CREATE INDEX service_plans_by_name ON service_plans (name);

-- The organizations that may use a plan that is not public.
CREATE TABLE service_plan_visibilities (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    service_plan_guid TEXT NOT NULL REFERENCES service_plans(guid) ON DELETE CASCADE,
    organization_guid TEXT NOT NULL REFERENCES organizations(guid) ON DELETE CASCADE
);
CREATE UNIQUE INDEX service_plan_visibilities_by_plan ON service_plan_visibilities (service_plan_guid, organization_guid);
CREATE INDEX service_plan_visibilities_by_organization ON service_plan_visibilities (organization_guid);

-- The clients of the UAA that a broker's dashboards use. A broker owns them until its catalog no longer has them.
CREATE TABLE service_dashboard_clients (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uaa_id TEXT NOT NULL UNIQUE,
    service_broker_guid TEXT NOT NULL
);
CREATE INDEX service_dashboard_clients_by_broker ON service_dashboard_clients (service_broker_guid);

-- A plan with instances cannot be removed.
ALTER TABLE service_instances ADD COLUMN service_plan_guid TEXT REFERENCES service_plans(guid);
CREATE INDEX service_instances_by_plan ON service_instances (service_plan_guid);

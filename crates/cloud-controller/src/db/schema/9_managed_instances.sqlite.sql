-- What a broker returned about a managed instance, and the version of its plan that the instance has.
ALTER TABLE service_instances ADD COLUMN dashboard_url TEXT;
ALTER TABLE service_instances ADD COLUMN maintenance_info TEXT;
ALTER TABLE service_instances ADD COLUMN broker_metadata TEXT;

-- The spaces whose apps may be bound to an instance of another space.
CREATE TABLE service_instance_shares (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service_instance_guid TEXT NOT NULL REFERENCES service_instances(guid) ON DELETE CASCADE,
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    UNIQUE (service_instance_guid, space_guid)
);
CREATE INDEX service_instance_shares_by_space ON service_instance_shares (space_guid);

-- The jobs of a resource are looked up while it is deleted.
CREATE INDEX jobs_by_resource ON jobs (resource_guid);

-- Instances of services over time, for billing.
CREATE TABLE service_usage_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    guid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    service_instance_guid TEXT NOT NULL,
    service_instance_name TEXT NOT NULL,
    service_instance_type TEXT NOT NULL,
    space_guid TEXT NOT NULL,
    space_name TEXT NOT NULL,
    organization_guid TEXT NOT NULL,
    service_plan_guid TEXT,
    service_plan_name TEXT,
    service_offering_guid TEXT,
    service_offering_name TEXT,
    service_broker_guid TEXT,
    service_broker_name TEXT
);

-- The last use of each instance that an event has recorded.
CREATE TABLE service_usage_footprints (
    service_instance_guid TEXT PRIMARY KEY,
    service_instance_name TEXT NOT NULL,
    service_instance_type TEXT NOT NULL,
    space_guid TEXT NOT NULL,
    space_name TEXT NOT NULL,
    organization_guid TEXT NOT NULL,
    service_plan_guid TEXT,
    service_plan_name TEXT,
    service_offering_guid TEXT,
    service_offering_name TEXT,
    service_broker_guid TEXT,
    service_broker_name TEXT
);

-- However an instance changes, the commit finds it in usage_changes.
CREATE TRIGGER usage_service_instance_made AFTER INSERT ON service_instances
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('service_instance', NEW.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_service_instance_changed AFTER UPDATE ON service_instances
    WHEN OLD.name <> NEW.name OR COALESCE(OLD.service_plan_guid, '') <> COALESCE(NEW.service_plan_guid, '')
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('service_instance', NEW.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_service_instance_gone AFTER DELETE ON service_instances
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('service_instance', OLD.guid) ON CONFLICT DO NOTHING;
END;

-- Instances that are older than the events are recorded by the first commit.
INSERT INTO usage_changes (kind, guid) SELECT 'service_instance', guid FROM service_instances ORDER BY id;

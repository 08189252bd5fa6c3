-- Triggers of earlier programs. The tables below cannot be changed while triggers name them.
DROP TRIGGER IF EXISTS dead_package;
DROP TRIGGER IF EXISTS dead_droplet;
DROP TRIGGER IF EXISTS expired_package;
DROP TRIGGER IF EXISTS expired_droplet;
DROP TRIGGER IF EXISTS usage_process_made;
DROP TRIGGER IF EXISTS usage_process_changed;
DROP TRIGGER IF EXISTS usage_process_gone;
DROP TRIGGER IF EXISTS usage_app_changed;
DROP TRIGGER IF EXISTS usage_task_changed;
DROP TRIGGER IF EXISTS usage_task_gone;
DROP TRIGGER IF EXISTS usage_build_made;
DROP TRIGGER IF EXISTS usage_build_changed;
DROP TRIGGER IF EXISTS usage_build_gone;

-- The rows that a transaction changed, in the order of the changes. Between two transactions it is empty.
DROP TABLE usage_changes;
CREATE TABLE usage_changes (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    guid TEXT NOT NULL,
    UNIQUE (kind, guid)
);

-- These tables get the order of creation.
CREATE TABLE new_domain_shares (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    domain_guid TEXT NOT NULL REFERENCES domains(guid) ON DELETE CASCADE,
    organization_guid TEXT NOT NULL REFERENCES organizations(guid) ON DELETE CASCADE,
    UNIQUE (domain_guid, organization_guid)
);
INSERT INTO new_domain_shares (domain_guid, organization_guid)
    SELECT domain_guid, organization_guid FROM domain_shares ORDER BY rowid;
DROP TABLE domain_shares;
ALTER TABLE new_domain_shares RENAME TO domain_shares;

CREATE TABLE new_route_shares (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    route_guid TEXT NOT NULL REFERENCES routes(guid) ON DELETE CASCADE,
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    UNIQUE (route_guid, space_guid)
);
INSERT INTO new_route_shares (route_guid, space_guid)
    SELECT route_guid, space_guid FROM route_shares ORDER BY rowid;
DROP TABLE route_shares;
ALTER TABLE new_route_shares RENAME TO route_shares;

CREATE TABLE new_security_group_spaces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    security_group_guid TEXT NOT NULL REFERENCES security_groups(guid) ON DELETE CASCADE,
    space_guid TEXT NOT NULL REFERENCES spaces(guid) ON DELETE CASCADE,
    phase TEXT NOT NULL,
    UNIQUE (security_group_guid, space_guid, phase)
);
INSERT INTO new_security_group_spaces (security_group_guid, space_guid, phase)
    SELECT security_group_guid, space_guid, phase FROM security_group_spaces ORDER BY rowid;
DROP TABLE security_group_spaces;
ALTER TABLE new_security_group_spaces RENAME TO security_group_spaces;

CREATE TABLE new_network_policies (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    destination_guid TEXT NOT NULL REFERENCES apps(guid) ON DELETE CASCADE,
    protocol TEXT NOT NULL,
    first_port INTEGER NOT NULL,
    last_port INTEGER NOT NULL,
    UNIQUE (source_guid, destination_guid, protocol, first_port, last_port)
);
INSERT INTO new_network_policies (source_guid, destination_guid, protocol, first_port, last_port)
    SELECT source_guid, destination_guid, protocol, first_port, last_port FROM network_policies ORDER BY rowid;
DROP TABLE network_policies;
ALTER TABLE new_network_policies RENAME TO network_policies;

-- However a row is deleted or expires, the clean-up finds its file in dead_blobs.
CREATE TRIGGER dead_package AFTER DELETE ON packages
BEGIN
    INSERT INTO dead_blobs (kind, guid) VALUES ('packages', OLD.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER expired_package AFTER UPDATE OF state ON packages
    WHEN NEW.state = 'EXPIRED'
BEGIN
    INSERT INTO dead_blobs (kind, guid) VALUES ('packages', NEW.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER dead_droplet AFTER DELETE ON droplets
BEGIN
    INSERT INTO dead_blobs (kind, guid) VALUES ('droplets', OLD.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER expired_droplet AFTER UPDATE OF state ON droplets
    WHEN NEW.state = 'EXPIRED'
BEGIN
    INSERT INTO dead_blobs (kind, guid) VALUES ('droplets', NEW.guid) ON CONFLICT DO NOTHING;
END;

-- However the use of a process, task or build changes, the commit finds it in usage_changes.
CREATE TRIGGER usage_process_made AFTER INSERT ON processes
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('process', NEW.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_process_changed AFTER UPDATE ON processes
    WHEN OLD.instances <> NEW.instances OR OLD.memory_in_mb <> NEW.memory_in_mb
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('process', NEW.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_process_gone AFTER DELETE ON processes
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('process', OLD.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_app_changed AFTER UPDATE ON apps
    WHEN OLD.state <> NEW.state OR OLD.name <> NEW.name
BEGIN
    INSERT INTO usage_changes (kind, guid) SELECT 'process', guid FROM processes WHERE app_guid = NEW.guid ORDER BY id ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_task_changed AFTER UPDATE ON tasks
    WHEN OLD.state <> NEW.state
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('task', NEW.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_task_gone AFTER DELETE ON tasks
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('task', OLD.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_build_made AFTER INSERT ON builds
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('build', NEW.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_build_changed AFTER UPDATE ON builds
    WHEN OLD.state <> NEW.state
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('build', NEW.guid) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER usage_build_gone AFTER DELETE ON builds
BEGIN
    INSERT INTO usage_changes (kind, guid) VALUES ('build', OLD.guid) ON CONFLICT DO NOTHING;
END;

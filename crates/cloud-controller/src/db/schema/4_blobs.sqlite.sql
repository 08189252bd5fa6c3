-- The name of the bits in the store. Those that are there already have the name of their row.
ALTER TABLE packages ADD COLUMN blob TEXT;
ALTER TABLE droplets ADD COLUMN blob TEXT;
UPDATE packages SET blob = guid WHERE state <> 'EXPIRED';
UPDATE droplets SET blob = guid WHERE state <> 'EXPIRED';
CREATE INDEX packages_by_blob ON packages (blob);
CREATE INDEX droplets_by_blob ON droplets (blob);

-- However a row is deleted or expires, the clean-up finds its blob in dead_blobs.
DROP TRIGGER dead_package;
DROP TRIGGER expired_package;
DROP TRIGGER dead_droplet;
DROP TRIGGER expired_droplet;
ALTER TABLE dead_blobs RENAME COLUMN guid TO name;
CREATE TRIGGER dead_package AFTER DELETE ON packages
    WHEN OLD.blob IS NOT NULL
BEGIN
    INSERT INTO dead_blobs (kind, name) VALUES ('packages', OLD.blob) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER expired_package AFTER UPDATE OF state ON packages
    WHEN NEW.state = 'EXPIRED' AND NEW.blob IS NOT NULL
BEGIN
    INSERT INTO dead_blobs (kind, name) VALUES ('packages', NEW.blob) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER dead_droplet AFTER DELETE ON droplets
    WHEN OLD.blob IS NOT NULL
BEGIN
    INSERT INTO dead_blobs (kind, name) VALUES ('droplets', OLD.blob) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER expired_droplet AFTER UPDATE OF state ON droplets
    WHEN NEW.state = 'EXPIRED' AND NEW.blob IS NOT NULL
BEGIN
    INSERT INTO dead_blobs (kind, name) VALUES ('droplets', NEW.blob) ON CONFLICT DO NOTHING;
END;

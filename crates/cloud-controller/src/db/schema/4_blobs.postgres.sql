-- The name of the bits in the store. Those that are there already have the name of their row.
ALTER TABLE packages ADD COLUMN blob TEXT COLLATE "C";
ALTER TABLE droplets ADD COLUMN blob TEXT COLLATE "C";
UPDATE packages SET blob = guid WHERE state <> 'EXPIRED';
UPDATE droplets SET blob = guid WHERE state <> 'EXPIRED';
CREATE INDEX packages_by_blob ON packages (blob);
CREATE INDEX droplets_by_blob ON droplets (blob);

-- However a row is deleted or expires, the clean-up finds its blob in dead_blobs. The triggers of version 3 call this function.
ALTER TABLE dead_blobs RENAME COLUMN guid TO name;
CREATE OR REPLACE FUNCTION note_dead_blob() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.blob IS NOT NULL THEN
        INSERT INTO dead_blobs (kind, name) VALUES (TG_ARGV[0], OLD.blob) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

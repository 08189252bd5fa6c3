-- The case of ASCII letters does not count in these names. Statements compare lower(name), which these indexes serve.
CREATE UNIQUE INDEX organizations_by_name ON organizations (lower(name));
CREATE UNIQUE INDEX spaces_by_name ON spaces (organization_guid, lower(name));
CREATE UNIQUE INDEX domains_by_name ON domains (lower(name));
CREATE UNIQUE INDEX routes_by_url ON routes (lower(host), domain_guid, lower(path), port);
-- Earlier programs stored apps of one space whose names differ only in case.
CREATE INDEX apps_by_name ON apps (space_guid, lower(name));
CREATE INDEX users_by_name ON users (lower(username));

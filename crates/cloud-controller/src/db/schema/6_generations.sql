-- Every change of a route has a number. Those of destinations and routes that changed last before this migration are 0.
ALTER TABLE destinations ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE routes ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
CREATE TABLE route_generations (
    id INTEGER PRIMARY KEY,
    latest INTEGER NOT NULL
);
INSERT INTO route_generations (id, latest) VALUES (1, 0);

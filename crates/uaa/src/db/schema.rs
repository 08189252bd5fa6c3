//! The schema of the UAA's database.

use kit::db::{Migration, Schema};

pub(super) const SCHEMA: Schema = Schema {
    migrations: &[
        Migration::both(1, "users, clients and tokens", USERS_AND_CLIENTS),
        Migration::both(2, "one-time codes, failed logins and signing keys", SHARED),
        Migration::both(3, "what a one-time code is bound to", BOUND_CODES),
        Migration::both(
            4,
            "the group of users for dashboards of services",
            DASHBOARDS,
        ),
    ],
    unversioned: UNVERSIONED,
};

const USERS_AND_CLIENTS: &str = "
    CREATE TABLE users (
        id TEXT PRIMARY KEY, user_name TEXT NOT NULL, name_key TEXT NOT NULL, origin TEXT NOT NULL,
        given_name TEXT NOT NULL, family_name TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, password_changed_at INTEGER NOT NULL,
        version INTEGER NOT NULL DEFAULT 0, tokens_epoch INTEGER NOT NULL DEFAULT 0,
        active INTEGER NOT NULL DEFAULT 1, UNIQUE (name_key, origin));
    CREATE TABLE user_groups (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, name TEXT NOT NULL, PRIMARY KEY (user_id, name));
    CREATE TABLE clients (
        id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, scopes TEXT NOT NULL, authorities TEXT NOT NULL,
        grant_types TEXT NOT NULL, redirect_uri TEXT NOT NULL, configured INTEGER NOT NULL DEFAULT 1,
        name TEXT NOT NULL DEFAULT '', access_validity INTEGER, refresh_validity INTEGER,
        tokens_epoch INTEGER NOT NULL DEFAULT 0, updated_at INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE revoked_tokens (jti TEXT PRIMARY KEY, expires_at INTEGER NOT NULL);
    CREATE TABLE token_epochs (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, client_id TEXT NOT NULL, epoch INTEGER NOT NULL,
        PRIMARY KEY (user_id, client_id));";

/// The tables that the UAAs of one database share besides those of users and clients. Codes and names are stored as digests.
const SHARED: &str = "
    CREATE TABLE one_time_codes (
        code TEXT PRIMARY KEY, client_id TEXT NOT NULL, user_id TEXT NOT NULL, rev_sig TEXT NOT NULL, expires_at INTEGER NOT NULL);
    CREATE TABLE failed_logins (name TEXT PRIMARY KEY, failures INTEGER NOT NULL, last_at INTEGER NOT NULL);
    CREATE INDEX failed_logins_last_at ON failed_logins (last_at);
    CREATE TABLE signing_keys (name TEXT PRIMARY KEY, pem TEXT NOT NULL);";

/// The values that the request for a token must repeat or prove. Codes of earlier versions have none; they expire in five minutes.
const BOUND_CODES: &str = "
    ALTER TABLE one_time_codes ADD COLUMN redirect_uri TEXT NOT NULL DEFAULT '';
    ALTER TABLE one_time_codes ADD COLUMN code_challenge TEXT NOT NULL DEFAULT '';";

/// The group that new users get since there are dashboards of services.
const DASHBOARDS: &str = "
    INSERT INTO user_groups (user_id, name)
        SELECT id, 'cloud_controller_service_permissions.read' FROM users WHERE 1 = 1 ON CONFLICT DO NOTHING;";

/// The statements of the time before there were versions.
const UNVERSIONED: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS users (
        id TEXT PRIMARY KEY, user_name TEXT NOT NULL, name_key TEXT NOT NULL, origin TEXT NOT NULL,
        given_name TEXT NOT NULL, family_name TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, password_changed_at INTEGER NOT NULL,
        version INTEGER NOT NULL DEFAULT 0, tokens_epoch INTEGER NOT NULL DEFAULT 0, UNIQUE (name_key, origin))",
    "CREATE TABLE IF NOT EXISTS user_groups (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, name TEXT NOT NULL, PRIMARY KEY (user_id, name))",
    "CREATE TABLE IF NOT EXISTS clients (
        id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, scopes TEXT NOT NULL, authorities TEXT NOT NULL,
        grant_types TEXT NOT NULL, redirect_uri TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS revoked_tokens (jti TEXT PRIMARY KEY, expires_at INTEGER NOT NULL)",
    "ALTER TABLE users ADD COLUMN active INTEGER NOT NULL DEFAULT 1",
    // Earlier versions had only the clients of the configuration.
    "ALTER TABLE clients ADD COLUMN configured INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE clients ADD COLUMN name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE clients ADD COLUMN access_validity INTEGER",
    "ALTER TABLE clients ADD COLUMN refresh_validity INTEGER",
    "ALTER TABLE clients ADD COLUMN tokens_epoch INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE clients ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE IF NOT EXISTS token_epochs (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, client_id TEXT NOT NULL, epoch INTEGER NOT NULL,
        PRIMARY KEY (user_id, client_id))",
];

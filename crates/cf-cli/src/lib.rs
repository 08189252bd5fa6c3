//! cf-cli

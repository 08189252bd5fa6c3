//! log-cache

//! uaa

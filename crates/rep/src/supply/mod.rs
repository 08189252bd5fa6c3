//! Everything that containers need from outside: downloads ([`transfer`]), their cache ([`cache`]) and its size ([`eviction`]),
//! archives, and the programs that are mounted into every container ([`assets`]).

pub(crate) mod archive;
pub(crate) mod assets;
pub(crate) mod cache;
pub(crate) mod eviction;
pub(crate) mod transfer;

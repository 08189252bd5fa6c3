//! bbs

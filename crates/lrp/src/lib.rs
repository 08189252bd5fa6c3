//! lrp

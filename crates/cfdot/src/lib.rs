//! cfdot

//! The locket gRPC client: locks and presences.

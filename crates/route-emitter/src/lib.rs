//! route-emitter

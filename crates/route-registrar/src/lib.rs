//! route-registrar

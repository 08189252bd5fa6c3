//! cloud-controller

//! The life of one container: its definition ([`spec`]), its creation ([`create`]), its steps and processes, its health, its log,
//! and the reports to the BBS. [`lrp`] and [`task`] are the two kinds of work.

pub(crate) mod container;
pub(crate) mod create;
pub(crate) mod egress;
mod health;
pub(crate) mod logs;
pub(crate) mod lrp;
pub(crate) mod metrics;
mod process;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod spec;
mod steps;
pub(crate) mod task;

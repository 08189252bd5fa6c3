//! Models long-running processes and tasks: their states, the transitions between them, restart back-off and convergence.
//!
//! It is pure: no IO, no clock, no randomness. Every operation takes what it needs (`now`, a new epoch for a row it may insert)
//! and returns what follows. The bbs stores the result, sends events, and requests auctions.
//!
//! ```text
//!              claim                start (any instance)
//!  UNCLAIMED ────────▶ CLAIMED ────────────────────────▶ RUNNING
//!   ▲  ▲  ▲               │ crash                           │ crash
//!   │  │  └───────────────┴── (restart at once) ────────────┤
//!   │  └── unclaim (evacuation, lost cell) ─────────────────┤
//!   └──────── restart, when its time has come ──── CRASHED ◀┘
//! ```
//!
//! [`actual`] holds the row of one instance, [`slot`] the rows of one index, at most three (ordinary, evacuating, suspect), and
//! every transition; [`evacuation`] holds those of a draining cell; [`restart`] the back-off; [`converge`](mod@converge) compares
//! desired with actual LRPs; [`task`] does all this for tasks.

pub mod actual;
pub mod converge;
pub mod desired;
pub mod evacuation;
pub mod restart;
pub mod slot;
pub mod task;

pub use actual::{
    ActualLrp, ActualLrpKey, InstanceKey, ModificationTag, NetInfo, PortMapping, PreferredAddress,
    Presence, Running, State,
};
pub use converge::{CellState, Plan, Process, Step, converge};
pub use desired::{DesiredLrp, MetricTag, UpdateStrategy};
pub use restart::RestartPolicy;
pub use slot::{Change, Moment, Refusal, Retirement, Slot, Transition};
pub use task::{Task, TaskState};

/// A time in nanoseconds since 1970, as on Diego's wire.
pub type Nanos = i64;

pub const SECOND: Nanos = 1_000_000_000;

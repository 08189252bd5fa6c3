//! Long-running processes and tasks: their states, the transitions between them, restart back-off and convergence.
//!
//! Pure: no IO, no clock, no randomness. Every operation takes what it needs (`now`, a fresh epoch for a row it may
//! insert) and returns what follows; the bbs stores that, tells others, and asks for auctions.
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
//! [`actual`] holds the row of one instance, [`slot`] the up to three rows of one index (ordinary, evacuating, suspect) and every
//! transition; [`evacuation`] those of a draining cell; [`restart`] the back-off; [`converge`](mod@converge) compares what is
//! desired with what is; [`task`] is the same for tasks.

pub mod actual;
pub mod converge;
pub mod desired;
pub mod evacuation;
pub mod restart;
pub mod slot;
pub mod task;

pub use actual::{ActualLrp, ActualLrpKey, InstanceKey, ModificationTag, NetInfo, PortMapping, PreferredAddress, Presence, Running, State};
pub use converge::{CellState, Plan, Process, Step, converge};
pub use desired::{DesiredLrp, MetricTag, UpdateStrategy};
pub use restart::RestartPolicy;
pub use slot::{Change, Moment, Refusal, Retirement, Slot, Transition};
pub use task::{Task, TaskState};

/// Nanoseconds since 1970, as Diego's wire has them.
pub type Nanos = i64;

pub const SECOND: Nanos = 1_000_000_000;

//! Makes losses on the bus noticeable: emitters number their changes and publish a digest of what they have registered, and a router
//! whose own digest of that emitter differs asks it for the difference. It is pure: no clock, no IO.
//!
//! ```text
//!  Outgoing: Changes ──record──▶ numbers ──▶ router.register, router.unregister (emitter, sequence)
//!                                   │ digest ─▶ route-digests.published
//!                                   │ after(n) ─▶ route-digests.difference
//!  Incoming: every message ──admit──▶ applied, or ignored because a newer one was applied before
//!            digest ──compare──▶ equal, or Ask { emitter, after } when it is due
//! ```
//!
//! A registration keeps its number as long as it stays the same, so that its repetitions are equal byte for byte. The digest is the
//! combination of the numbers of all present registrations: two sides with the same digest have the same registrations. A difference
//! has the newest state of everything that changed after a number, so that it does not matter how many messages were lost or in
//! which order they came.

mod incoming;
mod outgoing;

#[cfg(test)]
mod tests;

pub use incoming::{Ask, Incoming, KeyHash};
pub use outgoing::{Difference, Numbered, Outgoing};

/// The digest of an emitter's registrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The number of the emitter's last change.
    pub sequence: u64,
    /// The number of its registrations.
    pub registrations: u64,
    /// The combination of their numbers.
    pub sum: u64,
}

/// A set of numbers, as far as its digest shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    value: u64,
}

impl Sum {
    fn add(&mut self, number: u64) {
        self.count += 1;
        self.value ^= mixed(number);
    }

    fn remove(&mut self, number: u64) {
        self.count -= 1;
        self.value ^= mixed(number);
    }
}

/// Spreads a number over all bits, so that different sets of small numbers have different combinations.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

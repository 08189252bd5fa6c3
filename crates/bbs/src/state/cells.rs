//! The present cells, and how long an absent cell still counts.
//!
//! A presence that expired means a dead cell: its instances are replaced at once. A cell that released its presence has been
//! evacuated (nothing is left to replace) or restarts (its containers still serve), so its instances are kept for [`HOLD`]. The
//! same time is granted to all cells after this BBS has started.

use ids::CellId;
use lrp::{CellState, Nanos, SECOND};
use std::collections::BTreeMap;
use wire::bbs::CellPresence;

/// How long an absent cell is held. It equals the time to live of a presence.
const HOLD: Nanos = 15 * SECOND;

#[derive(Debug, Default)]
pub(crate) struct Cells {
    present: BTreeMap<CellId, CellPresence>,
    held: BTreeMap<CellId, Nanos>,
    /// The time until which cells that were never seen may still appear.
    unknown_until: Nanos,
}

/// The way in which a cell disappeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    Expired,
    Released,
}

impl Cells {
    pub(crate) fn starting_at(now: Nanos) -> Self {
        Self {
            unknown_until: now + HOLD,
            ..Self::default()
        }
    }

    pub(crate) fn state(&self, cell: &CellId, now: Nanos) -> CellState {
        if self.present.contains_key(cell) {
            return CellState::Present;
        }
        let until = self.held.get(cell).copied().unwrap_or(self.unknown_until);
        if now < until {
            CellState::Held
        } else {
            CellState::Lost
        }
    }

    pub(crate) fn present(&self) -> impl Iterator<Item = &CellPresence> {
        self.present.values()
    }

    /// Returns the URL on which the cell's rep listens.
    pub(crate) fn rep_url(&self, cell: &CellId) -> Option<String> {
        let presence = self.present.get(cell)?;
        Some(if presence.rep_url.is_empty() {
            presence.rep_address.clone()
        } else {
            presence.rep_url.clone()
        })
    }

    /// Replaces the list of present cells. Returns whether one appeared, and whether one disappeared.
    pub(crate) fn set(
        &mut self,
        cells: Vec<CellPresence>,
        departure: impl Fn(&CellId) -> Departure,
        now: Nanos,
    ) -> (bool, bool) {
        let fresh: BTreeMap<CellId, CellPresence> = cells
            .into_iter()
            .map(|c| (c.cell_id.as_str().into(), c))
            .collect();
        let appeared = fresh.keys().any(|id| !self.present.contains_key(id));
        let mut went = false;
        for id in self.present.keys().filter(|id| !fresh.contains_key(*id)) {
            went = true;
            let until = if departure(id) == Departure::Released {
                now + HOLD
            } else {
                now
            };
            tracing::info!(cell_id = %id, held_s = (until - now) / SECOND, "cell-disappeared");
            self.held.insert(id.clone(), until);
        }
        for id in fresh.keys().filter(|id| !self.present.contains_key(*id)) {
            tracing::info!(cell_id = %id, "cell-appeared");
        }
        self.held.retain(|id, _| !fresh.contains_key(id));
        self.present = fresh;
        (appeared, went)
    }

    /// Returns the next time at which a held cell becomes a lost one.
    pub(crate) fn next_loss(&self, now: Nanos) -> Option<Nanos> {
        self.held
            .values()
            .chain([&self.unknown_until])
            .copied()
            .filter(|&at| at > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_and_lost() {
        let cell = |id: &str| CellPresence {
            cell_id: id.into(),
            ..CellPresence::default()
        };
        let mut cells = Cells::starting_at(0);
        assert_eq!(
            cells.state(&"a".into(), 14 * SECOND),
            CellState::Held,
            "we started lately"
        );
        assert_eq!(cells.state(&"a".into(), 15 * SECOND), CellState::Lost);
        assert_eq!(
            cells.set(vec![cell("a"), cell("b")], |_| Departure::Expired, 0),
            (true, false)
        );
        let departure = |id: &CellId| {
            if id.as_str() == "a" {
                Departure::Released
            } else {
                Departure::Expired
            }
        };
        assert_eq!(cells.set(vec![], departure, 100 * SECOND), (false, true));
        assert_eq!(cells.state(&"a".into(), 114 * SECOND), CellState::Held);
        assert_eq!(cells.state(&"b".into(), 100 * SECOND), CellState::Lost);
        assert_eq!(cells.next_loss(100 * SECOND), Some(115 * SECOND));
    }
}

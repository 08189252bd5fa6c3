//! The resource ledger of one cell: its resources, the reservations, and what is left.
//!
//! A reservation is made before a container exists and released when the container is gone. Adopted containers are recorded
//! whatever is left, because they already run.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub memory_mb: u64,
    pub disk_mb: u64,
    pub containers: u64,
}

/// The reason why a reservation was refused. Users see it as the placement error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    #[error("insufficient resources: {}", .0.join(", "))]
    Insufficient(Vec<&'static str>),
    #[error("container {0} is reserved already")]
    Exists(String),
    #[error("the remains of an earlier container {0} are being removed; try again")]
    Clearing(String),
}

#[derive(Clone, Debug)]
pub struct Ledger {
    total: Resources,
    reserved: BTreeMap<String, Resources>,
}

impl Ledger {
    pub fn new(total: Resources) -> Self {
        Self {
            total,
            reserved: BTreeMap::new(),
        }
    }

    pub fn total(&self) -> Resources {
        self.total
    }

    /// Returns the resources that are left. They are never negative, though adopted containers may exceed the total.
    pub fn available(&self) -> Resources {
        let mut left = self.total;
        for used in self.reserved.values() {
            left.memory_mb = left.memory_mb.saturating_sub(used.memory_mb);
            left.disk_mb = left.disk_mb.saturating_sub(used.disk_mb);
            left.containers = left.containers.saturating_sub(1);
        }
        left
    }

    /// Reserves the resources of one container. An error names memory first, because it is the most frequent shortage.
    pub fn reserve(
        &mut self,
        guid: &str,
        memory_mb: u64,
        disk_mb: u64,
    ) -> Result<(), ReserveError> {
        if self.reserved.contains_key(guid) {
            return Err(ReserveError::Exists(guid.to_owned()));
        }
        let left = self.available();
        let short: Vec<&'static str> = [
            ("memory", memory_mb > left.memory_mb),
            ("disk", disk_mb > left.disk_mb),
            ("containers", left.containers == 0),
        ]
        .into_iter()
        .filter_map(|(name, lacks)| lacks.then_some(name))
        .collect();
        if !short.is_empty() {
            return Err(ReserveError::Insufficient(short));
        }
        self.adopt(guid, memory_mb, disk_mb);
        Ok(())
    }

    /// Records a container that exists already.
    pub fn adopt(&mut self, guid: &str, memory_mb: u64, disk_mb: u64) {
        self.reserved.insert(
            guid.to_owned(),
            Resources {
                memory_mb,
                disk_mb,
                containers: 1,
            },
        );
    }

    /// Releases a reservation. Unknown guids are ignored.
    pub fn release(&mut self, guid: &str) {
        self.reserved.remove(guid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(Resources {
            memory_mb: 100,
            disk_mb: 1000,
            containers: 2,
        })
    }

    #[test]
    fn reservations_are_subtracted_and_released() {
        let mut ledger = ledger();
        ledger.reserve("a", 60, 100).unwrap();
        assert_eq!(
            ledger.available(),
            Resources {
                memory_mb: 40,
                disk_mb: 900,
                containers: 1
            }
        );
        ledger.release("a");
        ledger.release("a");
        assert_eq!(ledger.available(), ledger.total());
    }

    #[test]
    fn refusals_name_the_missing_resource() {
        let mut ledger = ledger();
        ledger.reserve("a", 60, 100).unwrap();
        assert_eq!(
            ledger.reserve("b", 60, 100).unwrap_err().to_string(),
            "insufficient resources: memory"
        );
        assert_eq!(
            ledger.reserve("b", 60, 5000).unwrap_err().to_string(),
            "insufficient resources: memory, disk"
        );
        assert_eq!(
            ledger.reserve("a", 1, 1),
            Err(ReserveError::Exists("a".into()))
        );
        ledger.reserve("b", 1, 1).unwrap();
        assert_eq!(
            ledger.reserve("c", 1, 1).unwrap_err().to_string(),
            "insufficient resources: containers"
        );
    }

    #[test]
    fn adopted_containers_may_exceed_the_total() {
        let mut ledger = ledger();
        ledger.adopt("a", 500, 5);
        assert_eq!(ledger.available().memory_mb, 0);
    }
}

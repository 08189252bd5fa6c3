//! Allows one change at a time per container: making, destroying and changing the same container exclude each other, even while a
//! change waits for other programs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until nobody else changes the container. The caller may change it as long as the guard lives.
    pub(crate) async fn acquire(&self, handle: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(handle).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::default();
                    turns.insert(handle.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_container_waits_and_another_does_not() {
        let turns = Turns::default();
        let first = turns.acquire("a").await;
        let _other = turns.acquire("b").await;
        let mut second = Box::pin(turns.acquire("a"));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
        assert_eq!(turns.0.lock().unwrap().len(), 2);
        let _next = turns.acquire("c").await;
        assert_eq!(
            turns.0.lock().unwrap().len(),
            2,
            "what nobody holds is forgotten"
        );
    }
}

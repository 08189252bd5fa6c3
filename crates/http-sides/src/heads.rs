//! The memory of one serving thread for heads: a connection that waits for a request holds none.

use http1::{Request, Response};
use std::sync::{Mutex, PoisonError};

/// The pairs that a thread keeps.
const SPARE: usize = 64;
/// The size in bytes up to which a head's memory is kept; the memory of a larger head is freed.
const USUAL: usize = 4 << 10;

/// The spare pairs. Only the serving thread takes the lock, so it is never contended.
#[derive(Debug, Default)]
pub struct Heads(Mutex<Vec<(Request, Response)>>);

impl Heads {
    /// Provides both with memory, if they have none.
    pub fn provide(&self, request: &mut Request, response: &mut Response) {
        if request.fields.has_room() {
            return;
        }
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(spare) = spare {
            (*request, *response) = spare;
        }
    }

    /// Reclaims the memory of both, and with it their contents.
    pub fn reclaim(&self, request: &mut Request, response: &mut Response) {
        if !request.fields.has_room() {
            return;
        }
        let (mut request, mut response) = (std::mem::take(request), std::mem::take(response));
        request.fields.clear();
        response.fields.clear();
        request.fields.shrink(USUAL);
        response.fields.shrink(USUAL);
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push((request, response));
        }
    }
}

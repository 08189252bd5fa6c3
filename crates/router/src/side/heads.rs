//! One worker's room for heads: a connection that waits for a request has none.

use http1::{Request, Response};
use std::sync::{Mutex, PoisonError};

/// Pairs that a worker keeps.
const SPARE: usize = 64;
/// A head that was larger is not kept room for.
const USUAL: usize = 4 << 10;

/// Only the worker's own thread takes the lock, so it is never contended.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<Vec<(Request, Response)>>);

impl Heads {
    /// Gives both room, if they have none.
    pub(crate) fn take(&self, request: &mut Request, response: &mut Response) {
        if request.fields.has_room() {
            return;
        }
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(spare) = spare {
            (*request, *response) = spare;
        }
    }

    /// Takes their room away, and what is in it.
    pub(crate) fn give(&self, request: &mut Request, response: &mut Response) {
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

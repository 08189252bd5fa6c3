//! Provides the room for a head's fields while it is parsed: on the stack for a usual head, on the heap for one with more fields.

use crate::{Limits, Refusal};
use std::mem::MaybeUninit;

pub(crate) type Slot<'a> = MaybeUninit<httparse::Header<'a>>;

/// The number of fields that are parsed without allocating memory.
const USUAL: usize = 64;

/// Parses the head at the beginning of `input`. It calls `parse` with room for the usual number of fields, and once more if that
/// was too little. Returns the length of the head in bytes, or `None` if the head has not ended yet.
#[inline]
pub(crate) fn parse<'a>(
    input: &'a [u8],
    limits: &Limits,
    mut parse: impl FnMut(&mut [Slot<'a>]) -> Result<Option<usize>, Refusal>,
) -> Result<Option<usize>, Refusal> {
    let mut few = [const { MaybeUninit::uninit() }; USUAL];
    let parsed = match parse(&mut few) {
        Err(Refusal::TooManyFields) if limits.fields > USUAL => {
            // Each field takes at least one line.
            let lines = input.iter().filter(|&&byte| byte == b'\n').count();
            let mut many = vec![MaybeUninit::uninit(); limits.fields.min(lines)];
            parse(&mut many)?
        }
        other => other?,
    };
    if parsed.is_none() && input.len() >= limits.bytes {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(parsed)
}

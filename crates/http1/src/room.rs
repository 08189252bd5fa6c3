//! Room for a head's fields while it is parsed: on the stack for the usual head, from memory for one with more fields.

use crate::{Limits, Refusal};
use std::mem::MaybeUninit;

pub(crate) type Slot<'a> = MaybeUninit<httparse::Header<'a>>;

/// So many fields are parsed without asking for memory.
const USUAL: usize = 64;

/// Parses what `input` begins with: `parse` is given room, and once more if it was too little. `Some(n)`: the head took `n`
/// bytes; `None`: it has not ended yet.
#[inline]
pub(crate) fn parse<'a>(
    input: &'a [u8],
    limits: &Limits,
    mut parse: impl FnMut(&mut [Slot<'a>]) -> Result<Option<usize>, Refusal>,
) -> Result<Option<usize>, Refusal> {
    let mut few = [const { MaybeUninit::uninit() }; USUAL];
    let parsed = match parse(&mut few) {
        Err(Refusal::TooManyFields) if limits.fields > USUAL => {
            // No field is shorter than a line.
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

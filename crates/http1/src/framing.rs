//! Decides how long a message's body is (RFC 9112, section 6), once for each head.

use crate::fields::Fields;
use crate::known::Known;
use crate::{Refusal, Version};

/// The end of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// The body ends after this number of bytes, which is at least one.
    Length(u64),
    Chunked,
    /// The body ends with its connection. Only responses have such bodies.
    UntilClose,
}

/// Returns the framing of a request. Equal repetitions of `Content-Length` become one field.
pub(crate) fn of_request(fields: &mut Fields, version: Version) -> Result<Framing, Refusal> {
    if fields.contains(Known::TransferEncoding) {
        if version == Version::Http10 {
            return Err(Refusal::TransferEncodingInHttp10);
        }
        if fields.contains(Known::ContentLength) {
            return Err(Refusal::FramedTwice);
        }
        chunked_alone(fields)?;
        return Ok(Framing::Chunked);
    }
    Ok(match content_length(fields)? {
        None | Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
    })
}

/// Returns the framing of a response. `to_head` means that the request was a HEAD. A length beside chunks is removed, because it
/// has no meaning there.
pub(crate) fn of_response(
    fields: &mut Fields,
    version: Version,
    status: u16,
    to_head: bool,
) -> Result<Framing, Refusal> {
    if matches!(status, 100..=199 | 204) {
        // Some client would believe this length, although the response has no body.
        fields.remove(Known::ContentLength);
        return Ok(Framing::None);
    }
    let length = content_length(fields)?;
    if fields.contains(Known::TransferEncoding) {
        if version == Version::Http10 {
            return Err(Refusal::TransferEncodingInHttp10);
        }
        chunked_alone(fields)?;
        fields.remove(Known::ContentLength);
        if !to_head && status != 304 {
            return Ok(Framing::Chunked);
        }
    }
    Ok(match length {
        _ if to_head || status == 304 => Framing::None,
        None => Framing::UntilClose,
        Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
    })
}

fn chunked_alone(fields: &Fields) -> Result<(), Refusal> {
    let mut values = fields.get_all(Known::TransferEncoding);
    match (values.next(), values.next()) {
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::TransferEncoding),
    }
}

fn content_length(fields: &mut Fields) -> Result<Option<u64>, Refusal> {
    if !fields.contains(Known::ContentLength) {
        return Ok(None);
    }
    let mut values = fields
        .get_all(Known::ContentLength)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii);
    let first = values.next().unwrap_or_default();
    if first.is_empty() {
        return Err(Refusal::ContentLengthEmpty);
    }
    let length = digits(first).ok_or(Refusal::ContentLength)?;
    let mut odd = first.len() > 1 && first[0] == b'0';
    for other in values {
        odd = true;
        if digits(other).ok_or(Refusal::ContentLength)? != length {
            return Err(Refusal::ContentLengthsDiffer);
        }
    }
    if odd {
        fields.set(Known::ContentLength, length.to_string().as_bytes());
    }
    Ok(Some(length))
}

/// Parses a length. It must consist of digits alone and fit into 63 bits, which every implementation can represent.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = text
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    (number <= i64::MAX as u64).then_some(number)
}

//! Walks over the representations of a header block (RFC 7541, 3 and 6) and decodes none of them.
//!
//! A block that contains something that HTTP does not allow is written anew. Names and values that offend become `x`, with their
//! length unchanged, so that the library's table agrees with the client's. A field is added that makes the library or the router
//! refuse the message. When the library cannot represent a request's path, the path is carried in a field of its own, and a
//! substitute stands in its place.

use crate::name::{
    self, CLASSES, Classes, Kind, NOT_ASCII, NOT_IN_NAMES, NOT_IN_PATHS, NOT_IN_VALUES, Sender,
};
use crate::table::{Entry, Name, Table};
use crate::{ConnectionError, MALFORMED, TARGET, huffman};
use std::sync::Arc;

/// The length of the longest path that the library accepts, in bytes.
const LONGEST_PATH: usize = 65_000;

/// The kind of message to which a block belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request,
    /// The trailers of a request, which have no pseudo headers (RFC 9113, 8.1).
    Trailers,
    /// The head of a response, perhaps an informational one, or its trailers. The library distinguishes them.
    Answer,
    /// A block on a stream in an unknown state. The library decides about it.
    Unknown,
}

/// Walks over a whole block. Returns its harmless form, or `None` if it may pass as it is.
///
/// # Errors
/// `Compression` means that the block cannot be decoded, `Protocol` that it has no harmless form.
pub(crate) fn check(
    bytes: &[u8],
    message: Message,
    table: &mut Table,
) -> Result<Option<Vec<u8>>, ConnectionError> {
    let mut walk = Walk { bytes, at: 0 };
    let mut harmless = None;
    let (mut fields, mut malformed, mut target) = (false, false, None);
    while let Some(&first) = bytes.get(walk.at) {
        let start = walk.at;
        let field = match first {
            0x80.. => walk.indexed(table)?,
            0x40.. => walk.literal(6, table)?,
            0x20.. if fields => return Err(ConnectionError::Compression),
            0x20.. => {
                let most = walk.integer(5)?;
                if !table.resize(most) {
                    return Err(ConnectionError::Compression);
                }
                copy(&mut harmless, &bytes[start..walk.at]);
                continue;
            }
            _ => walk.literal(4, table)?,
        };
        fields = true;
        let misplaced = message == Message::Trailers && field.entry.name.kind.is_pseudo();
        let carried = field.entry.target.is_some();
        if field.entry.legal && !misplaced && !carried {
            copy(&mut harmless, &bytes[start..walk.at]);
            continue;
        }
        let out = harmless.get_or_insert_with(|| bytes[..start].to_vec());
        if field.entry.legal && !carried {
            out.extend_from_slice(&bytes[start..walk.at]);
        } else {
            field.write_harmless(&bytes[start..walk.at], out)?;
        }
        malformed |= misplaced || !field.entry.legal;
        target = field.entry.target.or(target);
    }
    if let Some(out) = &mut harmless {
        if let Some(target) = &target
            && !malformed
        {
            literal(out, 0, TARGET.as_bytes(), target);
        }
        match message {
            Message::Request if !malformed => {}
            Message::Request => literal(out, 0, MALFORMED.as_bytes(), b""),
            // The library then refuses the message as malformed.
            Message::Trailers | Message::Answer | Message::Unknown => {
                literal(out, 0, b"connection", b"x")
            }
        }
    }
    Ok(harmless)
}

fn copy(harmless: &mut Option<Vec<u8>>, representation: &[u8]) {
    if let Some(out) = harmless {
        out.extend_from_slice(representation);
    }
}

/// A representation: its form in the block and its entry.
struct Field {
    entry: Entry,
    /// The first byte of a literal, and the position of its value; `None` for an indexed field.
    literal: Option<(u8, usize)>,
}

impl Field {
    /// Writes a legal representation that has the same effect on the table as this one.
    fn write_harmless(&self, written: &[u8], out: &mut Vec<u8>) -> Result<(), ConnectionError> {
        let Entry { name, value, .. } = self.entry;
        let Some((first, value_at)) = self.literal else {
            // An entry that was put into the table before does not change it.
            if name.kind == Kind::Path {
                out.extend_from_slice(written);
            }
            return Ok(());
        };
        if name.kind == Kind::Path {
            out.extend_from_slice(&written[..value_at]);
            // The library has no longer paths in its table either, because no such path fits into one.
            let mut path = vec![b'x'; value.min(LONGEST_PATH)];
            path[..1.min(value)].fill(b'/');
            text(out, &path);
            return Ok(());
        }
        let keeps_name = match name.kind {
            Kind::Field | Kind::Pseudo => true,
            Kind::Method => value > 0,
            Kind::Path | Kind::Status | Kind::Illegal => false,
        };
        if keeps_name {
            out.extend_from_slice(&written[..value_at]);
            text(out, &vec![b'x'; value]);
            return Ok(());
        }
        let first = if first & 0x40 != 0 { 0x40 } else { 0 };
        // A name must not be empty. An empty one gets a byte of the value.
        let name_length = name.length.clamp(1, 100);
        let total = name.length + value;
        let value = total
            .checked_sub(name_length)
            .ok_or(ConnectionError::Protocol)?;
        literal(out, first, &vec![b'x'; name_length], &vec![b'x'; value]);
        Ok(())
    }
}

fn literal(out: &mut Vec<u8>, first: u8, name: &[u8], value: &[u8]) {
    out.push(first);
    text(out, name);
    text(out, value);
}

/// Writes a string without the Huffman code.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    let mut left = text.len();
    if left < 0x7f {
        out.push(left as u8);
    } else {
        out.push(0x7f);
        left -= 0x7f;
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
    }
    out.extend_from_slice(text);
}

/// A string in its place in the block.
struct Text<'a> {
    written: &'a [u8],
    coded: bool,
    /// The length of the decoded string, in bytes.
    length: usize,
    classes: Classes,
}

impl Text<'_> {
    fn decoded(&self) -> Vec<u8> {
        if self.coded {
            huffman::decode(self.written)
        } else {
            self.written.to_vec()
        }
    }

    /// Returns the kind of the string as a name.
    fn kind(&self, sender: Sender) -> Kind {
        if self.classes & NOT_IN_NAMES == 0 && (1..=100).contains(&self.length) {
            return Kind::Field;
        }
        Kind::of(&self.decoded(), sender)
    }

    fn is_text(&self) -> bool {
        self.classes & NOT_ASCII == 0 || std::str::from_utf8(&self.decoded()).is_ok()
    }

    /// Returns the string as a path, if the path has to be carried in a field of its own.
    fn target(&self) -> Option<Arc<[u8]>> {
        let odd = self.classes & NOT_IN_PATHS != 0 || self.length > LONGEST_PATH;
        odd.then(|| Arc::from(self.decoded()))
    }

    fn is_value_of(&self, kind: Kind) -> bool {
        match kind {
            Kind::Field => self.classes & NOT_IN_VALUES == 0,
            Kind::Method => name::is_method(&self.decoded()),
            Kind::Status => name::is_status(&self.decoded()),
            // If the library cannot make a URI of the value, only this stream ends; but the value must be UTF-8.
            Kind::Pseudo => self.is_text(),
            Kind::Path => self.classes & NOT_IN_VALUES == 0 && self.is_text(),
            Kind::Illegal => false,
        }
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn indexed(&mut self, table: &Table) -> Result<Field, ConnectionError> {
        let index = self.integer(7)?;
        let entry = table.get(index).ok_or(ConnectionError::Compression)?;
        Ok(Field {
            entry,
            literal: None,
        })
    }

    /// Reads a literal. With `prefix` 6 it is one that goes into the table.
    fn literal(&mut self, prefix: u32, table: &mut Table) -> Result<Field, ConnectionError> {
        let start = self.at;
        let first = self.bytes[start];
        let index = self.integer(prefix)?;
        let name = if index == 0 {
            let text = self.string()?;
            Name {
                kind: text.kind(table.sender()),
                length: text.length,
            }
        } else {
            table.get(index).ok_or(ConnectionError::Compression)?.name
        };
        let value_at = self.at - start;
        let value = self.string()?;
        let entry = Entry {
            name,
            value: value.length,
            legal: value.is_value_of(name.kind),
            target: match name.kind {
                Kind::Path => value.target(),
                _ => None,
            },
        };
        if prefix == 6 {
            table.insert(entry.clone());
        }
        Ok(Field {
            entry,
            literal: Some((first, value_at)),
        })
    }

    fn string(&mut self) -> Result<Text<'a>, ConnectionError> {
        let first = *self
            .bytes
            .get(self.at)
            .ok_or(ConnectionError::Compression)?;
        let size = self.integer(7)?;
        let rest = &self.bytes[self.at..];
        let written = rest.get(..size).ok_or(ConnectionError::Compression)?;
        self.at += size;
        let coded = first & 0x80 != 0;
        let (length, classes) = if coded {
            huffman::classify(written).ok_or(ConnectionError::Compression)?
        } else {
            let class = |seen, byte: &u8| seen | CLASSES[usize::from(*byte)];
            (size, written.iter().fold(0, class))
        };
        Ok(Text {
            written,
            coded,
            length,
            classes,
        })
    }

    /// Reads an integer (RFC 7541, 5.1). One of more than five bytes is refused, because no sane number is so long.
    fn integer(&mut self, prefix: u32) -> Result<usize, ConnectionError> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.next()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.next()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ConnectionError::Compression)
    }

    fn next(&mut self) -> Result<u8, ConnectionError> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or(ConnectionError::Compression)?;
        self.at += 1;
        Ok(byte)
    }
}

#[cfg(test)]
mod tests;

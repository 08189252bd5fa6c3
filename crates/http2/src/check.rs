//! Checks the bytes of a connection, from the first one on.

use crate::ConnectionError;
use crate::block::{self, Message};
use crate::frame::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEAD, HEADERS, Head, RST_STREAM, SETTINGS,
};
use crate::name::Sender;
use crate::streams::{Streams, Was};
use crate::table::Table;

/// The length of a client's preface `PRI * HTTP/2.0…`, which the library examines.
const PREFACE: usize = 24;
/// The number of frames that a header block may have beyond those that its size needs.
const SPARE_FRAMES: usize = 16;

#[derive(Debug)]
pub struct Check {
    /// The number of bytes of the preface that are still to come.
    preface: usize,
    /// Whether a frame has come.
    begun: bool,
    /// The number of bytes of the present frame's payload that pass unexamined.
    payload: usize,
    streams: Streams,
    table: Table,
    /// The highest number of bytes of a header block.
    most: usize,
    /// The bytes that came and cannot pass before more have come.
    held: Vec<u8>,
    /// The bytes that go on in place of bytes that were consumed.
    replacement: Vec<u8>,
    error: Option<ConnectionError>,
    tally: Tally,
}

/// The counts of what a peer has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of streams that a client has opened, and the number of those that it has reset.
    pub opened: u32,
    pub resets: u32,
    /// The number of DATA frames so small that the library needs more memory for them than their size.
    pub small: u32,
}

/// The memory that the library needs for a frame that waits, in bytes.
const SMALL: usize = 256;

/// The code of an RST_STREAM frame that reports no error.
const NO_ERROR: [u8; 4] = [0; 4];

/// The treatment of the next bytes.
enum Step {
    Pass(usize),
    /// This number of bytes is consumed, and other bytes go on in their place.
    Replace(usize),
    Wait,
}

impl Check {
    /// Makes the check of a connection. `most_head` is the largest size of the head of a request or a response, in bytes.
    pub fn new(sender: Sender, most_head: usize) -> Self {
        Self {
            preface: match sender {
                Sender::Client => PREFACE,
                Sender::Backend => 0,
            },
            begun: false,
            payload: 0,
            streams: Streams::default(),
            table: Table::new(sender),
            most: most_head.saturating_add(frame::MOST),
            held: Vec::new(),
            replacement: Vec::new(),
            error: None,
            tally: Tally::default(),
        }
    }

    /// Consumes bytes that came. Returns how many of them, from the first on, go on as they are; [`Check::replacement`] goes behind
    /// them.
    pub fn consume(&mut self, bytes: &[u8]) -> usize {
        if self.error.is_some() {
            return 0;
        }
        if self.held.is_empty() {
            return self.consume_fresh(bytes);
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let passed = self.consume_fresh(&held);
        // These bytes go in front of those that were written since. There are such bytes only if some passed before.
        self.replacement
            .splice(0..0, held[..passed].iter().copied());
        0
    }

    /// Returns the bytes that go on before any other byte. The caller empties them.
    pub fn replacement(&mut self) -> &mut Vec<u8> {
        &mut self.replacement
    }

    /// Returns the reason why no byte goes on any more, if there is one.
    pub fn error(&self) -> Option<ConnectionError> {
        self.error
    }

    /// Returns the counts since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn consume_fresh(&mut self, bytes: &[u8]) -> usize {
        let (mut at, mut passed) = (0, None);
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                Ok(Step::Pass(size)) => {
                    if passed.is_some() {
                        self.replacement.extend_from_slice(&bytes[at..at + size]);
                    }
                    at += size;
                }
                Ok(Step::Replace(size)) => {
                    passed.get_or_insert(at);
                    at += size;
                }
                Ok(Step::Wait) => {
                    self.held.extend_from_slice(&bytes[at..]);
                    return passed.unwrap_or(at);
                }
                Err(error) => {
                    self.error = Some(error);
                    return passed.unwrap_or(at);
                }
            }
        }
        passed.unwrap_or(at)
    }

    #[inline]
    fn step(&mut self, bytes: &[u8]) -> Result<Step, ConnectionError> {
        let unseen = if self.preface > 0 {
            &mut self.preface
        } else {
            &mut self.payload
        };
        if *unseen > 0 {
            let size = bytes.len().min(*unseen);
            *unseen -= size;
            return Ok(Step::Pass(size));
        }
        let Some(head) = Head::read(bytes) else {
            return Ok(Step::Wait);
        };
        // The first frame must be SETTINGS (RFC 9113, 3.4).
        if !self.begun && (head.kind != SETTINGS || head.has(frame::ACK)) {
            return Err(ConnectionError::Protocol);
        }
        head.check_size()?;
        match head.kind {
            HEADERS => return self.header_block(head, bytes),
            DATA if self.of_client() && !self.streams.data(head.stream, head.has(END_STREAM)) => {
                return Err(ConnectionError::StreamClosed);
            }
            // The frame has no effect, and the library counts such frames over a connection's whole life.
            DATA if head.is_empty() && self.is_open(head.stream) => return Ok(Step::Replace(HEAD)),
            DATA if head.length < SMALL => self.tally.small += 1,
            // HAProxy sends this frame when a client cancels its request while the connection is being made. It has no effect,
            // and the library would end the connection with everybody's requests.
            RST_STREAM if self.of_client() && head.stream == 0 => {
                let Some(code) = bytes.get(HEAD..head.whole()) else {
                    return Ok(Step::Wait);
                };
                self.tally.resets += 1;
                if code == NO_ERROR {
                    return Ok(Step::Replace(head.whole()));
                }
            }
            RST_STREAM if self.of_client() => {
                self.tally.resets += u32::from(self.streams.reset(head.stream));
            }
            SETTINGS => match bytes.get(HEAD..head.whole()) {
                Some(payload) => frame::check_settings(payload)?,
                None => return Ok(Step::Wait),
            },
            _ => {}
        }
        self.begun = true;
        let size = bytes.len().min(head.whole());
        self.payload = head.whole() - size;
        Ok(Step::Pass(size))
    }

    /// Checks a HEADERS frame and the frames that continue it. They pass together.
    fn header_block(&mut self, head: Head, bytes: &[u8]) -> Result<Step, ConnectionError> {
        let Some(end) = self.block_end(head, bytes)? else {
            return Ok(Step::Wait);
        };
        let first = frame::fragment(head, &bytes[HEAD..head.whole()])?;
        let gathered;
        let block = if head.has(END_HEADERS) {
            first
        } else {
            gathered = gather(first, &bytes[head.whole()..end]);
            &gathered
        };
        let message = self.message(head)?;
        let Some(harmless) = block::check(block, message, &mut self.table)? else {
            return Ok(Step::Pass(end));
        };
        write_block(head, &harmless, &mut self.replacement);
        Ok(Step::Replace(end))
    }

    /// Returns whether the sender is a client. Only a client's streams are tracked; the library knows more about a backend's.
    fn of_client(&self) -> bool {
        self.table.sender() == Sender::Client
    }

    fn is_open(&self, stream: u32) -> bool {
        !self.of_client() && stream != 0 || self.streams.is_open(stream)
    }

    /// Returns the kind of message of the header block that begins with this frame.
    fn message(&mut self, head: Head) -> Result<Message, ConnectionError> {
        if !self.of_client() {
            return Ok(Message::Answer);
        }
        match self.streams.headers(head.stream, head.has(END_STREAM)) {
            Was::New => {
                self.tally.opened += 1;
                Ok(Message::Request)
            }
            Was::Open => Ok(Message::Trailers),
            Was::Unknown => Ok(Message::Unknown),
            Was::Ended => Err(ConnectionError::StreamClosed),
        }
    }

    /// Returns the end of the header block, or `None` if it has not come yet.
    fn block_end(&self, head: Head, bytes: &[u8]) -> Result<Option<usize>, ConnectionError> {
        let (mut last, mut end, mut frames) = (head, head.whole(), 1);
        while !last.has(END_HEADERS) {
            if frames > SPARE_FRAMES + self.most / frame::MOST || end > self.most {
                return Err(ConnectionError::Excess);
            }
            let Some(next) = bytes.get(end..).and_then(Head::read) else {
                return Ok(None);
            };
            // A header block must be continued by CONTINUATION frames of the same stream (RFC 9113, 6.10).
            if next.kind != CONTINUATION || next.stream != head.stream {
                return Err(ConnectionError::Protocol);
            }
            next.check_size()?;
            end += next.whole();
            frames += 1;
            last = next;
        }
        Ok((end <= bytes.len()).then_some(end))
    }
}

/// Returns the whole block of a frame and those that continue it.
fn gather(first: &[u8], mut rest: &[u8]) -> Vec<u8> {
    let mut block = first.to_vec();
    while let Some(head) = Head::read(rest) {
        block.extend_from_slice(&rest[HEAD..head.whole()]);
        rest = &rest[head.whole()..];
    }
    block
}

fn write_block(head: Head, block: &[u8], out: &mut Vec<u8>) {
    let mut pieces = block.chunks(frame::MOST).peekable();
    let mut kind = HEADERS;
    let mut flags = head.flags & END_STREAM;
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            flags |= END_HEADERS;
        }
        Head {
            length: piece.len(),
            kind,
            flags,
            stream: head.stream,
        }
        .write(out);
        out.extend_from_slice(piece);
        (kind, flags) = (CONTINUATION, 0);
    }
}

#[cfg(test)]
mod tests;

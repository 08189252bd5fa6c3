//! Server-sent events: [`Events`] separates them in a stream of bytes (pure), [`Stream`] reads them from the body of a response.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::StreamExt as _;
use std::pin::Pin;

/// The error that the server ended the stream in good order.
#[derive(Debug, thiserror::Error)]
#[error("{0} ended")]
pub struct Ended(&'static str);

/// The events of a response whose body does not end.
pub(crate) struct Stream {
    chunks: Pin<Box<dyn futures::Stream<Item = reqwest::Result<Bytes>> + Send>>,
    received: Events,
    /// The name of the stream in errors.
    name: &'static str,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    /// Makes a stream of a response. `name` is its name in errors.
    pub(crate) fn new(answer: reqwest::Response, name: &'static str) -> Self {
        Self {
            chunks: Box::pin(answer.bytes_stream()),
            received: Events::default(),
            name,
        }
    }

    /// Sets the id after which the stream begins.
    pub(crate) fn begin_after(&mut self, id: &str) {
        id.clone_into(&mut self.received.last_id);
    }

    /// Returns the id of the last event that was returned, or the one after which the stream begins; empty if the server sends
    /// no ids.
    pub(crate) fn last_id(&self) -> &str {
        &self.received.last_id
    }

    /// Returns the value of the field `time` of the last event that was returned; empty if it has none.
    pub(crate) fn last_time(&self) -> &str {
        &self.received.last_time
    }

    /// Returns the next event. `Err` means that the stream ended or broke. The future may be dropped and the call repeated.
    pub(crate) async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.received.next()? {
                return Ok(event);
            }
            let name = self.name;
            let chunk = self.chunks.next().await;
            let chunk = chunk.ok_or(Ended(name))?;
            let chunk = chunk.with_context(|| format!("read {name}"))?;
            self.received.push(&chunk);
        }
    }
}

/// The size above which an event is an error.
const LONGEST: usize = 16 << 20;

/// One event. Comments and retry times are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The name of the event; empty if it has none.
    pub(crate) name: String,
    /// The lines of data, joined with line feeds.
    pub(crate) data: String,
}

/// The bytes that have come, up to the first event that is not complete.
#[derive(Debug, Default)]
pub(crate) struct Events {
    buffer: Vec<u8>,
    /// The name of the event that is not complete.
    name: String,
    data: Option<String>,
    id: Option<String>,
    time: String,
    /// The time of the last event that was complete.
    last_time: String,
    /// The id of the last event that was complete.
    last_id: String,
}

impl Events {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete event, or `None` if more bytes are needed. After an error no later event can be trusted.
    pub(crate) fn next(&mut self) -> Result<Option<Event>> {
        let mut from = 0;
        let mut found = None;
        while let Some(length) = self.buffer[from..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer[from..from + length].to_vec();
            from += length + 1;
            let line = String::from_utf8(line).context("an event is not UTF-8")?;
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if !line.is_empty() {
                self.field(line);
            } else if let Some(event) = self.finish() {
                found = Some(event);
                break;
            }
        }
        self.buffer.drain(..from);
        let pending = self.buffer.len() + self.data.as_ref().map_or(0, String::len);
        anyhow::ensure!(
            found.is_some() || pending <= LONGEST,
            "an event is longer than {LONGEST} bytes"
        );
        Ok(found)
    }

    fn field(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" => self.id = Some(value.to_owned()),
            "time" => value.clone_into(&mut self.time),
            "data" => match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            _ => {}
        }
    }

    /// Returns the event that ends here. A name without data is no event.
    fn finish(&mut self) -> Option<Event> {
        if let Some(id) = self.id.take() {
            self.last_id = id;
        }
        self.last_time = std::mem::take(&mut self.time);
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        Some(Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(events: &mut Events) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while let Some(event) = events.next().unwrap() {
            all.push((event.name, event.data));
        }
        all
    }

    #[test]
    fn events_in_any_portions() {
        let text = ": hello\n\nid: 0\nevent: Upsert\ndata: {\"a\":\ndata: 1}\n\nevent:Delete\r\ndata:x\r\n\r\nevent: lost\n\ndata\n\nevent: cut\ndata: off";
        let want = [("Upsert", "{\"a\":\n1}"), ("Delete", "x"), ("", "")];
        let want = want.map(|(name, data)| (name.to_owned(), data.to_owned()));
        for portion in [1, 2, 3, 7, text.len()] {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for bytes in text.as_bytes().chunks(portion) {
                events.push(bytes);
                seen.extend(all(&mut events));
            }
            assert_eq!(seen, want, "in portions of {portion}");
            assert_eq!(
                events.last_id, "0",
                "an event without an id keeps the last one"
            );
        }
    }

    #[test]
    fn an_id_counts_when_its_event_is_complete() {
        let mut events = Events::default();
        events.push(b"id: a-1\ndata: x\n\nid: a-2\nda");
        assert_eq!(all(&mut events).len(), 1);
        assert_eq!(events.last_id, "a-1");
        events.push(b"ta: y\n\n");
        assert_eq!(all(&mut events).len(), 1);
        assert_eq!(events.last_id, "a-2");
    }

    #[test]
    fn a_time_is_that_of_its_event_alone() {
        let mut events = Events::default();
        events.push(b"time: 7\nid: a\ndata: x\n\n");
        assert_eq!(all(&mut events).len(), 1);
        assert_eq!(events.last_time, "7");
        events.push(b"data: y\n\n");
        assert_eq!(all(&mut events).len(), 1);
        assert_eq!(events.last_time, "");
    }

    #[test]
    fn data_that_is_not_an_event_is_refused() {
        let mut events = Events::default();
        events.push(b"data: \xff\n\n");
        assert!(events.next().is_err());
        let mut events = Events::default();
        events.push(&vec![b'x'; LONGEST + 1]);
        assert!(events.next().is_err());
    }
}

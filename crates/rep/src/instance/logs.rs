//! Turns the output of an instance's processes into log lines, and writes the cell's own lines about the instance.
//!
//! Lines end at `\n` or `\r`. Empty lines are dropped and long ones are cut. The lines of an instance that exceeds its rate are
//! dropped for a second.

use clients::loggregator::{Emitter, Source, Stream};
use garden::api::Output;
use kit::metrics::Counter;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The maximum payload of one log message in bytes.
const MAX_LINE: usize = 61_440;
/// How long the lines of an instance that exceeded its limit are dropped.
const SILENCE: Duration = Duration::from_secs(1);

/// The destination of one instance's lines.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    emitter: Emitter,
    source_id: String,
    instance_id: String,
    tags: Arc<BTreeMap<String, String>>,
    limit: Arc<Mutex<RateLimit>>,
    bytes: Arc<AtomicU64>,
}

impl Logs {
    /// Creates the destination.
    pub(crate) fn new(
        emitter: Emitter,
        source_id: String,
        instance_id: String,
        tags: BTreeMap<String, String>,
        limit: RateLimit,
    ) -> Self {
        Self {
            emitter,
            source_id,
            instance_id,
            tags: Arc::new(tags),
            limit: Arc::new(Mutex::new(limit)),
            bytes: Arc::default(),
        }
    }

    /// Writes a line of the cell itself. It does not count towards the limit.
    pub(crate) fn cell(&self, stream: Stream, text: impl Into<Vec<u8>>) {
        self.line("CELL", stream, text);
    }

    pub(crate) fn line(&self, source_type: &str, stream: Stream, text: impl Into<Vec<u8>>) {
        self.emitter.log(&self.source(source_type), stream, text);
    }

    /// Returns the line buffer for the output of one process.
    pub(crate) fn lines(&self, source_type: &str) -> Lines {
        Lines {
            logs: self.clone(),
            source: self.source(source_type),
            out: LineBuffer::default(),
            err: LineBuffer::default(),
        }
    }

    /// Returns the bytes of output since the start of this process, including dropped ones.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn source_id(&self) -> &str {
        &self.source_id
    }

    pub(crate) fn instance_id(&self) -> &str {
        &self.instance_id
    }

    pub(crate) fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    fn source(&self, source_type: &str) -> Source {
        Source {
            source_id: self.source_id.clone(),
            instance_id: self.instance_id.clone(),
            source_type: source_type.to_owned(),
            tags: self.tags.clone(),
        }
    }

    fn emit(&self, source: &Source, stream: Stream, line: &[u8]) {
        self.bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
        let verdict = self
            .limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(Instant::now(), line.len());
        match verdict {
            Verdict::Pass => self.emitter.log(source, stream, line),
            Verdict::Drop => {}
            Verdict::DropAndSay(limit) => self.emitter.log(
                source,
                Stream::Err,
                format!("app instance exceeded log rate limit ({limit} bytes/sec)"),
            ),
        }
    }
}

/// A converter of chunks of output into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    logs: Logs,
    source: Source,
    out: LineBuffer,
    err: LineBuffer,
}

impl Lines {
    pub(crate) fn write(&mut self, output: &Output) {
        let Self {
            logs,
            source,
            out,
            err,
        } = self;
        match output {
            Output::Stdout(bytes) => out.push(bytes, |line| logs.emit(source, Stream::Out, line)),
            Output::Stderr(bytes) => err.push(bytes, |line| logs.emit(source, Stream::Err, line)),
        }
    }

    /// Writes what is left in the buffers as the last line, because the process has ended.
    pub(crate) fn finish(&mut self) {
        self.write(&Output::Stdout(b"\n".as_slice().into()));
        self.write(&Output::Stderr(b"\n".as_slice().into()));
    }
}

/// A buffer that collects bytes until a line ends.
#[derive(Debug, Default)]
struct LineBuffer(Vec<u8>);

impl LineBuffer {
    fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|b| matches!(b, b'\n' | b'\r')) {
            let ended = matches!(piece.last(), Some(b'\n' | b'\r'));
            self.0.extend_from_slice(if ended {
                &piece[..piece.len() - 1]
            } else {
                piece
            });
            while self.0.len() > MAX_LINE {
                let rest = self.0.split_off(cut(&self.0));
                emit(&self.0);
                self.0 = rest;
            }
            if ended && !self.0.is_empty() {
                emit(&self.0);
                self.0.clear();
            }
        }
    }
}

/// Returns the position at which to cut a long line. It is never within a UTF-8 character.
fn cut(line: &[u8]) -> usize {
    let continuation = |at: usize| line[at] & 0b1100_0000 == 0b1000_0000;
    (MAX_LINE - 3..=MAX_LINE)
        .rev()
        .find(|at| !continuation(*at))
        .unwrap_or(MAX_LINE)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
    DropAndSay(u64),
}

/// A limit in bytes per second. An instance that exceeds the budget of a second is silenced for the next second.
#[derive(Debug)]
pub(crate) struct RateLimit {
    limit: i64,
    /// The number of times that an instance exceeded its limit.
    exceeded: Counter,
    window: Option<(Instant, u64)>,
    silent_until: Option<Instant>,
}

impl RateLimit {
    /// Creates a limit of so many bytes per second; -1 means no limit.
    pub(crate) fn new(limit: i64, exceeded: Counter) -> Self {
        Self {
            limit,
            exceeded,
            window: None,
            silent_until: None,
        }
    }

    fn admit(&mut self, now: Instant, length: usize) -> Verdict {
        let Ok(limit) = u64::try_from(self.limit) else {
            return Verdict::Pass;
        };
        if limit == 0 || self.silent_until.is_some_and(|until| now < until) {
            return Verdict::Drop;
        }
        let (start, used) = match self.window {
            Some((start, used)) if now.duration_since(start) < Duration::from_secs(1) => {
                (start, used)
            }
            _ => (now, 0),
        };
        if used + length as u64 > limit {
            self.silent_until = Some(now + SILENCE);
            self.exceeded.add(1);
            return Verdict::DropAndSay(limit);
        }
        self.window = Some((start, used + length as u64));
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            buffer.push(chunk, |line| {
                lines.push(String::from_utf8(line.to_vec()).unwrap())
            });
        }
        lines
    }

    #[test]
    fn lines() {
        assert_eq!(split(&[b"a\nb", b"c\r\n\n", b"d"]), ["a", "bc"]);
        assert_eq!(split(&[b"x\ry\n"]), ["x", "y"]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = "ä".repeat(MAX_LINE);
        let lines = split(&[b"x", text.as_bytes(), b"\n"]);
        assert!(lines.iter().all(|l| l.len() <= MAX_LINE && !l.is_empty()));
        assert_eq!(lines.concat(), format!("x{text}"));
    }

    #[test]
    fn rate() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let exceeded = Counter::default();
        let mut limit = RateLimit::new(10, exceeded.clone());
        assert_eq!(limit.admit(at(0), 6), Verdict::Pass);
        assert_eq!(limit.admit(at(10), 6), Verdict::DropAndSay(10));
        assert_eq!(limit.admit(at(900), 1), Verdict::Drop);
        assert_eq!(limit.admit(at(1011), 6), Verdict::Pass);
        assert_eq!(exceeded.value(), 1, "dropped lines are not counted");
        let verdict =
            |limit, length| RateLimit::new(limit, Counter::default()).admit(start, length);
        assert_eq!(verdict(-1, 1 << 30), Verdict::Pass);
        assert_eq!(verdict(0, 1), Verdict::Drop);
    }
}

//! The packets of SFTP, version 3.

use super::attributes::Attributes;
use super::fields::Fields;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// The size of the longest request. Clients write at most 32 KiB at once, and 256 KiB if asked to.
pub(super) const LONGEST: usize = 300 << 10;

/// A request: its number, its kind, and the rest, which is read field by field.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// The number that the answer repeats. The first request of a client has its version in this place.
    pub id: u32,
    pub kind: u8,
    pub fields: Fields<'a>,
}

impl<'a> Request<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let mut fields = Fields::of(rest);
        Some(Self {
            id: fields.number()?,
            kind: *kind,
            fields,
        })
    }
}

/// The status codes of the protocol that this server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    EndOfFile = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

/// An answer under construction.
#[derive(Debug)]
pub(super) struct Answer(Vec<u8>);

const VERSION: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED_REPLY: u8 = 201;

impl Answer {
    fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn version(extensions: &[(&str, &str)]) -> Self {
        let mut answer = Self::new(VERSION).number(3);
        for (name, version) in extensions {
            answer = answer.bytes(name.as_bytes()).bytes(version.as_bytes());
        }
        answer
    }

    pub(super) fn status(id: u32, status: Status, text: &str) -> Self {
        let answer = Self::new(STATUS).number(id).number(status as u32);
        answer.bytes(text.as_bytes()).bytes(b"en")
    }

    pub(super) fn handle(id: u32, handle: u32) -> Self {
        Self::new(HANDLE).number(id).bytes(&handle.to_be_bytes())
    }

    pub(super) fn data(id: u32, data: &[u8]) -> Self {
        Self::new(DATA).number(id).bytes(data)
    }

    pub(super) fn attributes(id: u32, attributes: &Attributes) -> Self {
        let mut answer = Self::new(ATTRS).number(id);
        attributes.put(&mut answer.0);
        answer
    }

    /// Each name has a line as `ls -l` would show it.
    pub(super) fn names(id: u32, names: &[(OsString, String, Attributes)]) -> Self {
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let mut answer = Self::new(NAME).number(id).number(count);
        for (name, line, attributes) in names {
            answer = answer.bytes(name.as_bytes()).bytes(line.as_bytes());
            attributes.put(&mut answer.0);
        }
        answer
    }

    /// Answers with one path and without attributes.
    pub(super) fn path(id: u32, path: &OsStr) -> Self {
        let name = path.to_owned();
        let line = name.to_string_lossy().into_owned();
        Self::names(id, &[(name, line, Attributes::default())])
    }

    pub(super) fn extended(id: u32, numbers: &[u64]) -> Self {
        let mut answer = Self::new(EXTENDED_REPLY).number(id);
        for number in numbers {
            answer.0.extend_from_slice(&number.to_be_bytes());
        }
        answer
    }

    fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut answer = self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        answer.0.extend_from_slice(bytes);
        answer
    }

    /// Returns the packet with its length.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

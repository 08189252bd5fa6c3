//! Kinds of bytes and of field names, and which values go with them.

/// What is not allowed among the bytes of a string; none: anything may be.
pub(crate) type Classes = u8;
pub(crate) const NOT_IN_NAMES: Classes = 1;
pub(crate) const NOT_IN_VALUES: Classes = 2;
pub(crate) const NOT_ASCII: Classes = 4;
/// The library's kind of a URI has no such byte in a path or a query, or drops what follows it.
pub(crate) const NOT_IN_PATHS: Classes = 8;

pub(crate) static CLASSES: [Classes; 256] = classes();

const fn classes() -> [Classes; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if !is_token(b) || b.is_ascii_uppercase() {
            classes[byte] |= NOT_IN_NAMES;
        }
        if b < b' ' && b != b'\t' || b == 0x7f {
            classes[byte] |= NOT_IN_VALUES;
        }
        if !b.is_ascii() {
            classes[byte] |= NOT_ASCII;
        }
        if b <= b' '
            || matches!(
                b,
                b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{'..=b'}' | 0x7f
            )
        {
            classes[byte] |= NOT_IN_PATHS;
        }
        byte += 1;
    }
    classes
}

/// RFC 9110, 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The library knows no longer names.
const MOST: usize = 65_535;

/// Whose messages they are: what heads they have follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Of requests.
    Client,
    /// Of answers.
    Backend,
}

/// What a name may have as its value, and where it may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Field,
    /// Of a request.
    Method,
    /// Of a request: `:authority`, `:protocol`, `:scheme`.
    Pseudo,
    /// Of a request.
    Path,
    /// Of an answer.
    Status,
    /// Never in a message of this sender.
    Illegal,
}

impl Kind {
    /// Of a name that is a literal.
    pub(crate) fn of(name: &[u8], sender: Sender) -> Self {
        match name {
            b":method" => Self::Method.from(sender),
            b":authority" | b":protocol" | b":scheme" => Self::Pseudo.from(sender),
            b":path" => Self::Path.from(sender),
            b":status" => Self::Status.from(sender),
            b"" => Self::Illegal,
            _ if name.len() > MOST => Self::Illegal,
            _ if name.iter().all(|&b| is_token(b) && !b.is_ascii_uppercase()) => Self::Field,
            _ => Self::Illegal,
        }
    }

    /// A pseudo header of the other direction is illegal.
    pub(crate) fn from(self, sender: Sender) -> Self {
        match (self, sender) {
            (Self::Method | Self::Pseudo | Self::Path, Sender::Backend)
            | (Self::Status, Sender::Client) => Self::Illegal,
            (kind, _) => kind,
        }
    }

    pub(crate) fn is_pseudo(self) -> bool {
        matches!(
            self,
            Self::Method | Self::Pseudo | Self::Path | Self::Status
        )
    }
}

/// A status, as the library takes it: 100 to 999.
pub(crate) fn is_status(value: &[u8]) -> bool {
    value.len() == 3 && value[0] != b'0' && value.iter().all(u8::is_ascii_digit)
}

/// A method's name, as the library takes it.
pub(crate) fn is_method(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().copied().all(is_token)
}

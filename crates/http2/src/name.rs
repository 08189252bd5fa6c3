//! Classifies bytes and field names, and decides which values a field may have.

/// The set of places where the bytes of a string are not allowed; zero means that they are allowed everywhere.
pub(crate) type Classes = u8;
pub(crate) const NOT_IN_NAMES: Classes = 1;
pub(crate) const NOT_IN_VALUES: Classes = 2;
pub(crate) const NOT_ASCII: Classes = 4;
/// The class of bytes that the library's type for URIs does not accept in a path or a query, or after which it cuts the text.
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

/// Returns whether a byte may be in a token (RFC 9110, 5.6.2).
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

/// The length of the longest name that the library accepts.
const MOST: usize = 65_535;

/// The sender of messages, which determines what heads they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The sender of requests.
    Client,
    /// The sender of responses.
    Backend,
}

/// The kind of a name: it determines which values are allowed and where the name may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Field,
    /// The pseudo header `:method` of a request.
    Method,
    /// The pseudo headers `:authority`, `:protocol` and `:scheme` of a request.
    Pseudo,
    /// The pseudo header `:path` of a request.
    Path,
    /// The pseudo header `:status` of a response.
    Status,
    /// A name that is never allowed in a message of this sender.
    Illegal,
}

impl Kind {
    /// Returns the kind of a name that is a literal.
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

    /// Returns the kind in messages of this sender. A pseudo header of the other direction is illegal.
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

/// Returns whether the library accepts the value as a status: 100 to 999.
pub(crate) fn is_status(value: &[u8]) -> bool {
    value.len() == 3 && value[0] != b'0' && value.iter().all(u8::is_ascii_digit)
}

/// Returns whether the library accepts the value as a method.
pub(crate) fn is_method(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().copied().all(is_token)
}

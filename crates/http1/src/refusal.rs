//! Lists every reason for which a head or a body is refused.

/// The reason why a message is refused. The texts are for the peer as well as for the log: they repeat nothing of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("malformed request line")]
    RequestLine,
    #[error("malformed status line")]
    StatusLine,
    #[error("malformed HTTP version")]
    Version,
    #[error("unsupported HTTP version")]
    UnsupportedVersion,
    #[error("malformed request target")]
    Target,
    #[error("CONNECT is not for a reverse proxy")]
    Connect,
    #[error("malformed field name")]
    FieldName,
    #[error("malformed field value")]
    FieldValue,
    #[error("line ends without CR")]
    BareLf,
    #[error("head too large")]
    HeadTooLarge,
    #[error("too many fields")]
    TooManyFields,
    #[error("missing Host")]
    MissingHost,
    #[error("more than one Host")]
    DuplicateHost,
    #[error("malformed Host")]
    Host,
    #[error("Host and request target disagree")]
    HostDisagrees,
    #[error("empty Content-Length")]
    ContentLengthEmpty,
    #[error("malformed Content-Length")]
    ContentLength,
    #[error("Content-Length values differ")]
    ContentLengthsDiffer,
    #[error("both Content-Length and Transfer-Encoding")]
    FramedTwice,
    #[error("unsupported Transfer-Encoding")]
    TransferEncoding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    TransferEncodingInHttp10,
    #[error("malformed chunk size")]
    ChunkSize,
    #[error("chunk extension too long")]
    ChunkExtension,
    #[error("chunk does not end with CRLF")]
    ChunkEnd,
    #[error("malformed trailers")]
    Trailers,
    #[error("trailers too large")]
    TrailersTooLarge,
}

impl Refusal {
    /// Returns the status of the response to a refused request.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }
}

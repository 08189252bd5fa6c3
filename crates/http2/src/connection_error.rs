//! Lists the connection errors (RFC 9113, 5.4.1).

/// The reason why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    #[error("a frame that is not allowed here")]
    Protocol,
    #[error("an initial window size above 2^31 - 1")]
    FlowControl,
    #[error("a DATA or HEADERS frame on a stream after its END_STREAM")]
    StreamClosed,
    #[error("a frame of a wrong size")]
    FrameSize,
    #[error("a header block that cannot be decoded")]
    Compression,
    #[error("a header block that is too long or does not end")]
    Excess,
    #[error("too many streams were reset")]
    Resets,
}

impl ConnectionError {
    /// Returns the error code of RFC 9113, section 7.
    pub fn code(self) -> u32 {
        match self {
            Self::Protocol => 0x1,
            Self::FlowControl => 0x3,
            Self::StreamClosed => 0x5,
            Self::FrameSize => 0x6,
            Self::Compression => 0x9,
            Self::Excess | Self::Resets => 0xb,
        }
    }
}

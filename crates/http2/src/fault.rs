//! Lists the connection errors (RFC 9113, 5.4.1).

/// The reason why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a frame that may not be here")]
    Protocol,
    #[error("a setting larger than a window may be")]
    FlowControl,
    #[error("a frame for a stream that its sender has ended")]
    StreamClosed,
    #[error("a frame of a wrong size")]
    FrameSize,
    #[error("a header block that cannot be decoded")]
    Compression,
    #[error("a header block without an end")]
    Excess,
    #[error("more streams broken off than a budget allows")]
    Resets,
}

impl Fault {
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

//! The limits of what log-cache keeps.

/// The limits of the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub envelopes: usize,
    pub envelopes_per_source: usize,
    /// The approximate memory of all envelopes in bytes.
    pub bytes: usize,
    /// The approximate memory of the envelopes of one source in bytes.
    pub bytes_per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            envelopes: 250_000,
            envelopes_per_source: 50_000,
            bytes: 64 << 20,
            bytes_per_source: 16 << 20,
        }
    }
}

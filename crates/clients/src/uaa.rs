//! Verifying access tokens with the UAA's public keys.

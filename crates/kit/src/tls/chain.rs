//! Verifies the chain of a leaf that is marked as an authority.
//!
//! Go and OpenSSL accept such a leaf when its chain leads to a trusted authority; webpki refuses it for its
//! `basicConstraints` alone. Here webpki verifies a copy that says `CA:FALSE`, by all of its rules: the chain's signatures,
//! periods of validity, purposes, names and lengths. The copy's signature is checked over the bytes that were signed, so
//! nothing but that one word is overlooked.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
    TrustAnchor, UnixTime,
};
use rustls::{CertificateError, Error, OtherError};
use std::ops::Range;
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A leaf that is marked `CA:TRUE`, and its copy that is not.
#[derive(Debug)]
pub(super) struct Authority<'a> {
    leaf: &'a [u8],
    copy: CertificateDer<'static>,
    /// The signed part of both.
    signed: Range<usize>,
}

impl<'a> Authority<'a> {
    /// Returns `None` for a leaf that is not marked as an authority, or that cannot be read.
    pub(super) fn of(leaf: &'a CertificateDer<'_>) -> Option<Self> {
        let leaf: &[u8] = leaf;
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let constraints = certificate
            .extensions()
            .iter()
            .find(|extension| extension.oid == OID_X509_EXT_BASIC_CONSTRAINTS)?;
        // SEQUENCE { BOOLEAN TRUE, … }
        let [0x30, _, 0x01, 0x01, 0xff, ..] = constraints.value else {
            return None;
        };
        let at = within(leaf, constraints.value)?.start + 4;
        let signed = within(leaf, certificate.tbs_certificate.as_ref())?;
        let mut copy = leaf.to_vec();
        *copy.get_mut(at).filter(|_| signed.contains(&at))? = 0;
        Some(Self {
            leaf,
            copy: copy.into(),
            signed,
        })
    }

    /// Verifies that its chain leads to one of the roots.
    pub(super) fn verify(
        &self,
        roots: &[TrustAnchor<'static>],
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), Error> {
        let provider = aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms.all;
        let restored = algorithms.iter().map(|algorithm| Restored {
            algorithm: *algorithm,
            copy: &self.copy[self.signed.clone()],
            signed: &self.leaf[self.signed.clone()],
        });
        let restored: Vec<_> = restored.collect();
        let algorithms: Vec<_> = restored
            .iter()
            .map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm)
            .collect();
        let leaf = EndEntityCert::try_from(&self.copy).map_err(tls_error)?;
        leaf.verify_for_usage(&algorithms, roots, others, now, usage, None, None)
            .map(drop)
            .map_err(tls_error)
    }
}

/// Returns the place of `part` in `whole`, whose slice it is.
fn within(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start + part.len();
    (end <= whole.len()).then_some(start..end)
}

/// Returns the error of the TLS library with the same meaning.
fn tls_error(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let error = match error {
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(error)
}

/// Checks the signature of the copy over what was signed.
#[derive(Debug)]
struct Restored<'a> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    copy: &'a [u8],
    signed: &'a [u8],
}

impl SignatureVerificationAlgorithm for Restored<'_> {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let message = if message == self.copy {
            self.signed
        } else {
            message
        };
        self.algorithm
            .verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

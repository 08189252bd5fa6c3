//! The parts of a server's certificate that an operator compares: its names and its validity. Nothing is verified here.

use anyhow::{Context as _, Result};
use std::net::Ipv4Addr;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A certificate that a server presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The DNS names and IPv4 addresses for which it is valid.
    pub names: Vec<String>,
    /// The times from which and until which it is valid, in seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

impl Presented {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It fails if the bytes are no certificate, or if its names cannot be read.
    pub fn read(der: &[u8]) -> Result<Self> {
        let (_, certificate) = X509Certificate::from_der(der).context("read the certificate")?;
        let names = certificate
            .subject_alternative_name()
            .context("read the certificate's names")?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let shown = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let octets: [u8; 4] = (*bytes).try_into().ok()?;
                Some(Ipv4Addr::from(octets).to_string())
            }
            _ => None,
        };
        let validity = certificate.validity();
        Ok(Self {
            names: names.filter_map(shown).collect(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

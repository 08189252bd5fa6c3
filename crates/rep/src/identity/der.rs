//! Replaces the subject of a certificate. The certificate library keeps one value per attribute type, but an instance's subject
//! has several organizational units. The functions are pure; [`crate::identity`] calls them.

use anyhow::{Context as _, Result};
use yasna::DERWriter;
use yasna::models::ObjectIdentifier;

const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];
const ORGANIZATIONAL_UNIT: [u64; 4] = [2, 5, 4, 11];
/// The position of the subject among the fields of a version 3 TBSCertificate.
const SUBJECT: usize = 5;

/// Returns the certificate with another subject, signed again by `sign` (with the same algorithm as before).
pub(crate) fn with_subject(
    certificate: &[u8],
    subject: Vec<u8>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let (mut fields, algorithm) = yasna::parse_der(certificate, |reader| {
        reader.read_sequence(|reader| {
            let fields = reader
                .next()
                .collect_sequence_of(|field| field.read_der())?;
            let algorithm = reader.next().read_der()?;
            // The signature of the old subject is not needed.
            reader.next().read_der()?;
            Ok((fields, algorithm))
        })
    })
    .context("read certificate")?;
    let count = fields.len();
    *fields
        .get_mut(SUBJECT)
        .with_context(|| format!("the body of the certificate has only {count} fields"))? = subject;
    let body = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for field in &fields {
                writer.next().write_der(field);
            }
        });
    });
    let signature = sign(&body)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            writer.next().write_der(&algorithm);
            let bits = signature.len() * 8;
            writer.next().write_bitvec_bytes(&signature, bits);
        });
    }))
}

/// Returns a DER `Name` of organizational units and a common name.
pub(crate) fn name(organizational_units: &[String], common_name: &str) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for unit in organizational_units {
                attribute(writer.next(), &ORGANIZATIONAL_UNIT, unit);
            }
            attribute(writer.next(), &COMMON_NAME, common_name);
        });
    })
}

fn attribute(writer: DERWriter<'_>, oid: &[u64], value: &str) {
    writer.write_set(|writer| {
        writer.next().write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
            writer.next().write_utf8_string(value);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_der() {
        let attribute = |kind: u8, value: u8| {
            vec![
                0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, kind, 0x0c, 0x01, value,
            ]
        };
        let (unit, common) = (attribute(0x0b, b'u'), attribute(0x03, b'c'));
        let wanted = [&b"\x30\x24"[..], &unit, &unit, &common].concat();
        assert_eq!(name(&["u".into(), "u".into()], "c"), wanted);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for input in [
            &b"\x30\x05\x01"[..],
            b"",
            b"\x30\x06\x30\x00\x30\x00\x03\x00",
        ] {
            assert!(with_subject(input, Vec::new(), |_| panic!("nothing is signed")).is_err());
        }
    }
}

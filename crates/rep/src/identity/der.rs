//! Replaces the subject of a certificate. The certificate library keeps one value per attribute type, but an instance's subject
//! has several organizational units. The functions are pure; [`crate::identity`] calls them.

use anyhow::{Context as _, Result, ensure};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const ORGANIZATIONAL_UNIT: [u8; 3] = [0x55, 0x04, 0x0b];
/// The position of the subject among the members of a version 3 TBSCertificate.
const SUBJECT: usize = 5;

/// Returns the certificate with another subject, signed again by `sign` (with the same algorithm as before).
pub(crate) fn with_subject(
    certificate: &[u8],
    subject: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let (outer, _) = split(certificate).context("read certificate")?;
    let members = elements(outer.content)?;
    ensure!(
        members.len() == 3,
        "the certificate has {} members, expected 3",
        members.len()
    );
    let tbs = split(members[0])?.0;
    let mut fields = elements(tbs.content)?;
    ensure!(
        fields.len() > SUBJECT,
        "the body of the certificate has only {} members",
        fields.len()
    );
    fields[SUBJECT] = subject;
    let body = encode(SEQUENCE, &fields.concat());
    let mut signature = vec![0];
    signature.extend(sign(&body)?);
    Ok(encode(
        SEQUENCE,
        &[body.as_slice(), members[1], &encode(BIT_STRING, &signature)].concat(),
    ))
}

/// Returns a DER `Name` of organizational units and a common name.
pub(crate) fn name(organizational_units: &[String], common_name: &str) -> Vec<u8> {
    let attribute = |oid: &[u8], value: &str| {
        encode(
            SET,
            &encode(
                SEQUENCE,
                &[encode(OID, oid), encode(UTF8_STRING, value.as_bytes())].concat(),
            ),
        )
    };
    let mut parts: Vec<Vec<u8>> = organizational_units
        .iter()
        .map(|unit| attribute(&ORGANIZATIONAL_UNIT, unit))
        .collect();
    parts.push(attribute(&COMMON_NAME, common_name));
    encode(SEQUENCE, &parts.concat())
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n @ 0..=127 => out.push(n as u8),
        n => {
            let bytes: Vec<u8> = n
                .to_be_bytes()
                .into_iter()
                .skip_while(|b| *b == 0)
                .collect();
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
}

/// Splits the input into its first element and the bytes that follow it.
fn split(input: &[u8]) -> Result<(Element<'_>, &[u8])> {
    ensure!(input.len() >= 2, "a DER element is cut off");
    let (length, header) = match input[1] {
        n @ 0..=127 => (usize::from(n), 2),
        n => {
            let count = usize::from(n & 0x7f);
            ensure!(
                (1..=4).contains(&count) && input.len() >= 2 + count,
                "a DER length cannot be read"
            );
            (
                input[2..2 + count]
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte)),
                2 + count,
            )
        }
    };
    let end = header + length;
    ensure!(input.len() >= end, "a DER element is cut off");
    Ok((
        Element {
            whole: &input[..end],
            content: &input[header..end],
        },
        &input[end..],
    ))
}

fn elements(mut input: &[u8]) -> Result<Vec<&[u8]>> {
    let mut all = Vec::new();
    while !input.is_empty() {
        let (element, rest) = split(input)?;
        all.push(element.whole);
        input = rest;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for n in [0, 127, 128, 255, 256, 70_000] {
            let encoded = encode(SEQUENCE, &vec![7; n]);
            let (element, rest) = split(&encoded).unwrap();
            assert_eq!((element.content.len(), rest.len()), (n, 0));
        }
        assert!(split(&[0x30, 0x05, 1]).is_err());
    }
}

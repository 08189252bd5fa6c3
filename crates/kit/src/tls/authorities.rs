//! Defines which peers a program trusts: authorities, and single certificates that were put among them.
//!
//! This is the only place where certificates of peers are verified. A chain must lead to an authority, by the rules of webpki. A
//! leaf that is marked as an authority is verified by the same rules ([`super::chain`]). A certificate that is itself among
//! the trusted ones needs no chain. Its name, its period of validity and its purpose are checked all the same, and it must
//! equal the trusted certificate byte for byte. Go and OpenSSL accept both, and webpki alone refuses them.

use super::chain::Authority;
use super::{certs, install_crypto};
use anyhow::{Context as _, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::collections::HashSet;
use std::sync::Arc;
use webpki::KeyUsage;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The certificates to which a peer's certificate must lead, or of which it must be one.
#[derive(Clone, Debug)]
pub struct Authorities {
    roots: RootCertStore,
    exact: HashSet<CertificateDer<'static>>,
}

impl Authorities {
    /// Makes an empty set, which trusts no certificate.
    pub fn none() -> Self {
        Self {
            roots: RootCertStore::empty(),
            exact: HashSet::new(),
        }
    }

    /// Trusts every certificate in a PEM text, which must contain at least one.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let mut trusted = Self::none();
        trusted.add_pem(pem)?;
        Ok(trusted)
    }

    pub fn add_pem(&mut self, pem: &str) -> Result<()> {
        for certificate in certs(pem)? {
            self.roots
                .add(certificate.clone())
                .context("use the CA certificate")?;
            self.exact.insert(certificate);
        }
        Ok(())
    }

    /// Trusts the machine's own authorities as well. Those that cannot be read are logged and left out.
    pub fn add_system(&mut self) {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "system-authorities-not-read");
        }
        self.exact.extend(found.certs.iter().cloned());
        self.roots.add_parsable_certificates(found.certs);
    }

    /// Returns a verifier of servers.
    pub fn of_servers(self) -> Arc<dyn ServerCertVerifier> {
        install_crypto();
        Arc::new(OfServers {
            trusted: self,
            provider: aws_lc_rs::default_provider(),
        })
    }

    /// Returns a verifier of clients. Without `required` a client may present no certificate.
    pub fn of_clients(self, required: bool) -> Result<Arc<dyn ClientCertVerifier>> {
        install_crypto();
        let roots = Arc::new(self.roots);
        let builder = WebPkiClientVerifier::builder(roots.clone());
        let builder = if required {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        let chains = builder
            .build()
            .context("use the authorities of client certificates")?;
        let exact = self.exact;
        Ok(Arc::new(OfClients {
            chains,
            roots,
            exact,
        }))
    }
}

/// The purpose for which a certificate is presented.
#[derive(Clone, Copy)]
enum Purpose {
    Server,
    Client,
}

/// Checks that a certificate without a chain may be used now and for this purpose. The rules are Go's: a certificate without
/// extended key usages serves every purpose.
fn check_alone(leaf: &CertificateDer<'_>, purpose: Purpose, now: UnixTime) -> Result<(), Error> {
    let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(bad)?;
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < validity.not_before.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    let usages = certificate.extended_key_usage();
    let usages = usages.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let serves = usages.is_none_or(|usages| {
        let usages = usages.value;
        usages.any
            || match purpose {
                Purpose::Server => usages.server_auth,
                Purpose::Client => usages.client_auth,
            }
    });
    if !serves {
        return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
    }
    Ok(())
}

#[derive(Debug)]
struct OfServers {
    trusted: Authorities,
    provider: CryptoProvider,
}

impl ServerCertVerifier for OfServers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(leaf)?;
        if self.trusted.exact.contains(leaf) {
            check_alone(leaf, Purpose::Server, now)?;
        } else {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let roots = &self.trusted.roots;
            let chain = verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                others,
                now,
                algorithms,
            );
            chain.or_else(|refused| {
                let authority = Authority::of(leaf).ok_or(refused)?;
                authority.verify(&roots.roots, others, KeyUsage::server_auth(), now)
            })?;
        }
        verify_server_name(&certificate, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct OfClients {
    chains: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
    exact: HashSet<CertificateDer<'static>>,
}

impl ClientCertVerifier for OfClients {
    fn offer_client_auth(&self) -> bool {
        self.chains.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.exact.contains(leaf) {
            let chain = self.chains.verify_client_cert(leaf, others, now);
            return chain.or_else(|refused| {
                let authority = Authority::of(leaf).ok_or(refused)?;
                let usage = KeyUsage::client_auth();
                authority.verify(&self.roots.roots, others, usage, now)?;
                Ok(ClientCertVerified::assertion())
            });
        }
        ParsedCertificate::try_from(leaf)?;
        check_alone(leaf, Purpose::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
        Issuer, KeyPair, NameConstraints, date_time_ymd,
    };

    /// Returns the parameters of a self-signed certificate for `here.test` that is marked as an authority.
    fn params() -> CertificateParams {
        let mut params = CertificateParams::new(vec!["here.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn signed_itself(params: &CertificateParams) -> (CertificateDer<'static>, String) {
        install_crypto();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), certificate.pem())
    }

    fn server(trusted: &str, leaf: &CertificateDer<'_>, name: &str) -> Result<(), Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let trusted = Authorities::from_pem(trusted).unwrap().of_servers();
        trusted
            .verify_server_cert(leaf, &[], &name, &[], UnixTime::now())
            .map(|_| ())
    }

    fn client(trusted: &str, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let trusted = Authorities::from_pem(trusted).unwrap();
        let verifier = trusted.of_clients(true).unwrap();
        verifier
            .verify_client_cert(leaf, &[], UnixTime::now())
            .map(|_| ())
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        match result.unwrap_err() {
            Error::InvalidCertificate(error) => format!("{error:?}"),
            other => other.to_string(),
        }
    }

    #[test]
    fn a_trusted_authority_may_be_the_certificate_itself() {
        let (leaf, pem) = signed_itself(&params());
        server(&pem, &leaf, "here.test").unwrap();
        client(&pem, &leaf).unwrap();
        let error = refused(server(&pem, &leaf, "there.test"));
        assert!(error.starts_with("NotValidForName"), "{error}");
    }

    #[test]
    fn a_stranger_of_the_same_name_is_not_trusted() {
        let key = KeyPair::generate().unwrap();
        let trusted = params().self_signed(&key).unwrap();
        // This certificate has the same name and the same key, but it is another one, and an authority.
        let mut params = params();
        params.serial_number = Some(7_u64.into());
        let other = params.self_signed(&key).unwrap();
        // The trusted authority's key has signed it.
        server(&trusted.pem(), other.der(), "here.test").unwrap();
        client(&trusted.pem(), other.der()).unwrap();
        let (stranger, _) = signed_itself(&params);
        assert!(server(&trusted.pem(), &stranger, "here.test").is_err());
        assert!(client(&trusted.pem(), &stranger).is_err());
    }

    #[test]
    fn its_time_and_its_purpose_count() {
        for (from, to, error) in [(2001, 2002, "Expired"), (2901, 2902, "NotValidYet")] {
            let mut params = params();
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
            let (leaf, pem) = signed_itself(&params);
            assert_eq!(refused(server(&pem, &leaf, "here.test")), error);
            assert_eq!(refused(client(&pem, &leaf)), error);
        }
        let mut params = params();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (leaf, pem) = signed_itself(&params);
        client(&pem, &leaf).unwrap();
        assert_eq!(refused(server(&pem, &leaf, "here.test")), "InvalidPurpose");
    }

    /// An authority, its text, and one that it has signed itself.
    fn authority() -> (Issuer<'static, KeyPair>, String) {
        install_crypto();
        let key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, "root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = root.self_signed(&key).unwrap().pem();
        (Issuer::new(root, key), pem)
    }

    #[test]
    fn a_signed_leaf_may_call_itself_an_authority() {
        let (issuer, pem) = authority();
        let key = KeyPair::generate().unwrap();
        for constraints in [
            BasicConstraints::Unconstrained,
            BasicConstraints::Constrained(0),
        ] {
            let mut params = params();
            params.is_ca = IsCa::Ca(constraints);
            let leaf = params.signed_by(&key, &issuer).unwrap();
            server(&pem, leaf.der(), "here.test").unwrap();
            client(&pem, leaf.der()).unwrap();
            let error = refused(server(&pem, leaf.der(), "there.test"));
            assert!(error.starts_with("NotValidForName"), "{error}");
            let (_, other) = authority();
            assert!(server(&other, leaf.der(), "here.test").is_err());
            assert!(client(&other, leaf.der()).is_err());
        }
    }

    #[test]
    fn such_a_leaf_must_be_as_good_as_any() {
        let (issuer, pem) = authority();
        let key = KeyPair::generate().unwrap();
        for (from, to, error) in [(2001, 2002, "Expired"), (2901, 2902, "NotValidYet")] {
            let mut params = params();
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
            let leaf = params.signed_by(&key, &issuer).unwrap();
            assert!(refused(server(&pem, leaf.der(), "here.test")).starts_with(error));
            assert!(refused(client(&pem, leaf.der())).starts_with(error));
        }
        let mut only_client = params();
        only_client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = only_client.signed_by(&key, &issuer).unwrap();
        client(&pem, leaf.der()).unwrap();
        assert!(server(&pem, leaf.der(), "here.test").is_err());
        // One bit of what was signed is another.
        let leaf = params().signed_by(&key, &issuer).unwrap();
        let name = b"here.test";
        let at = leaf.der().windows(name.len()).position(|part| part == name);
        let mut forged = leaf.der().to_vec();
        forged[at.unwrap()] = b'w';
        let forged = CertificateDer::from(forged);
        assert_eq!(refused(server(&pem, &forged, "were.test")), "BadSignature");
        assert_eq!(refused(client(&pem, &forged)), "BadSignature");
    }

    #[test]
    fn constraints_of_the_chain_count_for_such_a_leaf() {
        let (root, pem) = authority();
        let key = KeyPair::generate().unwrap();
        let mut between = CertificateParams::default();
        between
            .distinguished_name
            .push(DnType::CommonName, "between");
        between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        between.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("test".into())],
            excluded_subtrees: vec![GeneralSubtree::DnsName("there.test".into())],
        });
        let middle = between.signed_by(&key, &root).unwrap();
        let issuer = Issuer::new(between, key);
        let others = [middle.der().clone()];
        let key = KeyPair::generate().unwrap();
        for (name, accepted) in [
            ("here.test", true),
            ("there.test", false),
            ("a.other", false),
        ] {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let leaf = params.signed_by(&key, &issuer).unwrap();
            let trusted = Authorities::from_pem(&pem).unwrap();
            let server_name = ServerName::try_from(name).unwrap();
            let judged = trusted.clone().of_servers().verify_server_cert(
                leaf.der(),
                &others,
                &server_name,
                &[],
                UnixTime::now(),
            );
            assert_eq!(judged.is_ok(), accepted, "{name}: {judged:?}");
            let verifier = trusted.of_clients(true).unwrap();
            let judged = verifier.verify_client_cert(leaf.der(), &others, UnixTime::now());
            assert_eq!(judged.is_ok(), accepted, "{name}");
            // Without the certificate between them there is no chain.
            let verifier = Authorities::from_pem(&pem)
                .unwrap()
                .of_clients(true)
                .unwrap();
            assert!(
                verifier
                    .verify_client_cert(leaf.der(), &[], UnixTime::now())
                    .is_err()
            );
        }
    }

    #[test]
    fn chains_count_as_before() {
        let key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = root.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(root, key);
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["here.test".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
        server(&pem, leaf.der(), "here.test").unwrap();
        client(&pem, leaf.der()).unwrap();
        assert!(server(&pem, leaf.der(), "there.test").is_err());
        let nobody = Authorities::none().of_servers();
        let name = ServerName::try_from("here.test").unwrap();
        let error = nobody.verify_server_cert(leaf.der(), &[], &name, &[], UnixTime::now());
        assert_eq!(refused(error), "UnknownIssuer");
    }
}

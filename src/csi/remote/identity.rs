//! How an agent is known: a certificate of its own, as long as the process lives.

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use tonic::transport::Identity as TlsIdentity;

use crate::csi::remote::NAME;

/// A key and its certificate, which nobody else has signed.
pub(super) struct Identity {
    /// The certificate, as PEM.
    pub certificate: String,
    key: KeyPair,
}

impl Identity {
    /// A new one. It is that of no authority: the certificate is good for this server alone.
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([NAME.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key })
    }

    /// As a server needs it.
    pub(super) fn tls(&self) -> TlsIdentity {
        TlsIdentity::from_pem(&self.certificate, self.key.serialize_pem())
    }
}

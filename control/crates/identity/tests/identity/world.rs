//! A trust domain with its authority, and forgers who hold the authority's key or one like it.

use std::time::Duration;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ringgate_identity::issue::{Authority, Issued};
use ringgate_identity::tls::Serving;
use ringgate_identity::{
    AgentKey, CertificateDer, Issuer, Revocation, Revocations, Revoked, ServerKey, Subject, TrustDomain,
    UnixTime, Verifier,
};

/// Longest life of a leaf in these tests: a day.
pub(crate) const TTL: u32 = 24 * 3600;
pub(crate) const ALICE: &str = "acme/demo/alice/1";
pub(crate) const BOB: &str = "acme/demo/bob/1";

pub(crate) struct World {
    pub(crate) domain: TrustDomain,
    pub(crate) authority: Authority,
    pub(crate) root_key_pem: String,
    pub(crate) issuer: Issuer,
    pub(crate) now: UnixTime,
}

pub(crate) fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub(crate) fn later(from: UnixTime, seconds: i64) -> UnixTime {
    time(from.as_secs().checked_add_signed(seconds).expect("after 1970"))
}

pub(crate) fn subject(path: &str) -> Subject {
    Subject::from_path(path).expect("valid path")
}

impl World {
    /// The trust domain `acme.example` in 2027.
    pub(crate) fn new() -> Self {
        Self::at("acme.example", time(1_800_000_000))
    }

    pub(crate) fn at(domain: &str, now: UnixTime) -> Self {
        let domain = TrustDomain::new(domain).expect("valid");
        let (authority, root_key_pem) = Authority::create(&domain, now).expect("created");
        let issuer = Issuer::load(domain.clone(), &authority).expect("its own files load");
        Self {
            domain,
            authority,
            root_key_pem: root_key_pem.to_string(),
            issuer,
            now,
        }
    }

    pub(crate) fn verifier(&self) -> Verifier {
        self.verifier_without(Revocations::default())
    }

    pub(crate) fn verifier_without(&self, revocations: Revocations) -> Verifier {
        Verifier::new(self.issuer.bundle(1, TTL), revocations).expect("a good bundle")
    }

    pub(crate) fn enroll(&self, path: &str) -> (AgentKey, Issued) {
        let key = AgentKey::generate().expect("random source");
        let hosts: &[String] = if path.starts_with("node/") {
            &["localhost".to_owned(), "127.0.0.1".to_owned()]
        } else {
            &[]
        };
        let subject = subject(path);
        let csr = key.csr(Some((&self.domain, &subject)), hosts).expect("request");
        let issued = self
            .issuer
            .issue(&csr, &subject, TTL, hosts, self.now)
            .expect("issued");
        (key, issued)
    }

    /// A node's second certificate.
    pub(crate) fn serving(&self, path: &str) -> Serving {
        let key = ServerKey::generate().expect("random source");
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let Subject::Node(node) = subject(path) else {
            panic!("{path} serves nobody");
        };
        let csr = key.csr(None, &hosts).expect("request");
        let issued = self.issuer.issue_server(&csr, &node, TTL, &hosts, self.now);
        Serving {
            chain: issued.expect("issued").chain,
            key,
        }
    }

    pub(crate) fn uri(&self, path: &str) -> String {
        subject(path).uri(&self.domain)
    }

    pub(crate) fn revoking(&self, revoked: Revoked) -> Verifier {
        let mut revocations = Revocations::default();
        revocations
            .insert(Revocation {
                number: 1,
                revoked,
                at: self.now,
            })
            .expect("the first");
        self.verifier_without(revocations)
    }

    /// A leaf as the authority signs it, but for what `change` does to it: its chain.
    pub(crate) fn forge(
        &self,
        key: &impl PublicKeyData,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<CertificateDer<'static>> {
        let issuing_key = AgentKey::from_pem(&self.authority.issuing_key_pem).expect("key");
        let signer =
            rcgen::Issuer::from_ca_cert_pem(&self.authority.issuing_pem, issuing_key).expect("signer");
        let leaf = self.leaf(change).signed_by(key, &signer).expect("signed");
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.issuer.bundle(1, TTL).intermediates);
        chain
    }

    /// The parameters of a good leaf for Alice, changed.
    pub(crate) fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&[0x42; 16]));
        params.not_before = date(later(self.now, -30));
        params.not_after = date(later(self.now, i64::from(TTL)));
        params.subject_alt_names = vec![uri(&self.uri(ALICE))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        params
    }
}

pub(crate) fn date(time: UnixTime) -> ::time::OffsetDateTime {
    ::time::OffsetDateTime::from_unix_timestamp(time.as_secs() as i64).expect("in range")
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

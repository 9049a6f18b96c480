use rcgen::string::BmpString;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, IsCa,
    Issuer, KeyPair, PublicKeyData, SanType, SerialNumber,
};

use super::super::params;
use super::*;
use crate::config::{CertificateName, KeyType, TrustAnchors};

/// 2030-01-01, in seconds of Unix time.
const BEGIN: i64 = 1_893_456_000;
const END: i64 = BEGIN + 3600;
const GOOD: Clocks = Clocks {
    here: BEGIN,
    vault: BEGIN,
};

fn asked() -> Certificate {
    Certificate {
        name: CertificateName::Main,
        mount: "pki".to_owned(),
        role: "app".to_owned(),
        common_name: "app.internal".to_owned(),
        dns_names: vec!["app.internal".to_owned()],
        ip_addresses: vec![IpAddr::from([10, 1, 2, 3]), "fd00::7".parse().expect("one")],
        uris: vec!["spiffe://example/app".to_owned()],
        ttl: None,
        key_type: KeyType::EcP256,
        trust_anchors: TrustAnchors::Answer,
        has_der: false,
    }
}

/// A CA, and the key that it signs certificates for.
struct Vault {
    ca: CertificateParams,
    ca_key: KeyPair,
    key: KeyPair,
}

impl Vault {
    fn new() -> Vault {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "root");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Vault {
            ca,
            ca_key: KeyPair::generate().expect("a key"),
            key: KeyPair::generate().expect("a key"),
        }
    }

    fn root(&self, until: i64) -> String {
        let mut ca = self.ca.clone();
        set_life(&mut ca, BEGIN - 60, until);
        ca.self_signed(&self.ca_key).expect("a root").pem()
    }

    fn leaf(&self) -> CertificateParams {
        let mut leaf = params(&asked()).expect("names");
        set_life(&mut leaf, BEGIN, END);
        leaf
    }

    fn sign(&self, leaf: &CertificateParams) -> String {
        let issuer = Issuer::from_params(&self.ca, &self.ca_key);
        leaf.signed_by(&self.key, &issuer).expect("a leaf").pem()
    }

    fn check(
        &self,
        certificate: &str,
        issuers: &[String],
        clocks: Clocks,
    ) -> Result<Checked, String> {
        let answer = Answer {
            certificate,
            issuers,
            anchors: None,
        };
        let key = self.key.subject_public_key_info();
        check(answer, &asked(), &key, clocks)
    }

    fn refusal(&self, leaf: &CertificateParams) -> Option<String> {
        let root = self.root(END);
        self.check(&self.sign(leaf), &[root], GOOD).err()
    }
}

fn set_life(params: &mut CertificateParams, from: i64, until: i64) {
    let date = |at| OffsetDateTime::from_unix_timestamp(at).expect("a date");
    params.not_before = date(from);
    params.not_after = date(until);
}

fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    pem::read(pem.as_bytes()).expect("a PEM text").certificates
}

#[test]
fn leaf_with_other_names_than_were_asked_for_is_refused() {
    type Change = fn(&mut Certificate);
    let cases: &[(&str, Change, Option<&str>)] = &[
        ("what was asked for", |_| {}, None),
        (
            "a DNS name in capitals, which do not count",
            |it| it.dns_names = vec!["APP.internal".to_owned()],
            None,
        ),
        (
            "a DNS name twice",
            |it| it.dns_names.push("app.internal".to_owned()),
            None,
        ),
        (
            "another common name",
            |it| it.common_name = "other.internal".to_owned(),
            Some("its common name is \"other.internal\", not `app.internal`"),
        ),
        (
            "a common name in capitals",
            |it| it.common_name = "APP.internal".to_owned(),
            Some("its common name is \"APP.internal\", not `app.internal`"),
        ),
        (
            "a DNS name too many",
            |it| it.dns_names.push("evil.example".to_owned()),
            Some("of the DNS names asked for it lacks [] and adds [\"evil.example\"]"),
        ),
        (
            "a DNS name too few",
            |it| it.dns_names.clear(),
            Some("of the DNS names asked for it lacks [\"app.internal\"] and adds []"),
        ),
        (
            "a wildcard that covers the name",
            |it| it.dns_names = vec!["*.internal".to_owned()],
            Some(
                "of the DNS names asked for it lacks [\"app.internal\"] and adds [\"*.internal\"]",
            ),
        ),
        (
            "an address too many",
            |it| it.ip_addresses.push(IpAddr::from([10, 1, 2, 4])),
            Some("of the IP addresses asked for it lacks [] and adds [\"10.1.2.4\"]"),
        ),
        (
            "the address of version 4 alone",
            |it| it.ip_addresses.retain(IpAddr::is_ipv4),
            Some("of the IP addresses asked for it lacks [\"fd00::7\"] and adds []"),
        ),
        (
            "the address of version 6 alone",
            |it| it.ip_addresses.retain(IpAddr::is_ipv6),
            Some("of the IP addresses asked for it lacks [\"10.1.2.3\"] and adds []"),
        ),
        (
            "a URI in capitals, which count",
            |it| it.uris = vec!["spiffe://example/APP".to_owned()],
            Some(
                "of the URIs asked for it lacks [\"spiffe://example/app\"] and adds [\"spiffe://example/APP\"]",
            ),
        ),
    ];
    let vault = Vault::new();
    for (signed, change, refusal) in cases {
        let mut names = asked();
        change(&mut names);
        let mut leaf = params(&names).expect("names");
        set_life(&mut leaf, BEGIN, END);
        assert_eq!(vault.refusal(&leaf).as_deref(), *refusal, "{signed}");
    }
}

#[test]
fn leaf_with_names_of_other_kinds_is_refused() {
    /// Adds alternative names in an extension of their own.
    fn add_names(leaf: &mut CertificateParams, der: &[u8]) {
        leaf.custom_extensions
            .push(CustomExtension::from_oid_content(
                &[2, 5, 29, 17],
                der.to_vec(),
            ));
    }
    /// Builds a common name of another string type, which is the same one to a reader.
    fn common_name() -> DnType {
        DnType::CustomDnType(vec![2, 5, 4, 3])
    }
    type Change = fn(&mut CertificateParams);
    let cases: &[(&str, Change, &str)] = &[
        (
            "no common name",
            |leaf| leaf.distinguished_name = DistinguishedName::new(),
            "its common name is \"\", not `app.internal`",
        ),
        (
            "two common names",
            |leaf| leaf.distinguished_name.push(common_name(), "evil.example"),
            "its common name is \"app.internal, evil.example\", not `app.internal`",
        ),
        (
            "a second common name in an alphabet that few read",
            |leaf| {
                let name = BmpString::try_from("evil.example").expect("letters");
                leaf.distinguished_name
                    .push(common_name(), DnValue::BmpString(name));
            },
            "its common name cannot be read",
        ),
        (
            "a mail address",
            |leaf| {
                let address = "evil@example.io".try_into().expect("an address");
                leaf.subject_alt_names.push(SanType::Rfc822Name(address));
            },
            "it has a name that was not asked for: RFC822Name(evil@example.io)",
        ),
        (
            "an address of five octets",
            |leaf| {
                leaf.subject_alt_names.clear();
                add_names(leaf, b"\x30\x07\x87\x05\x0a\x01\x02\x03\x04");
            },
            "it names an IP address of no known length",
        ),
        (
            "names that are cut off",
            |leaf| {
                leaf.subject_alt_names.clear();
                add_names(leaf, b"\x30\x07\x87");
            },
            "its alternative names cannot be read",
        ),
        (
            "a second list of names",
            |leaf| add_names(leaf, b"\x30\x06\x87\x04\x0a\x01\x02\x03"),
            "its alternative names cannot be read",
        ),
    ];
    let vault = Vault::new();
    for (signed, change, refusal) in cases {
        let mut leaf = vault.leaf();
        change(&mut leaf);
        assert_eq!(vault.refusal(&leaf).as_deref(), Some(*refusal), "{signed}");
    }
}

#[test]
fn leaf_counts_as_long_as_either_clock_is_within_its_dates() {
    let late = "by this machine's clock (2030-01-01 1:00:01.0 +00:00:00) it has expired: \
                it runs from 2030-01-01 0:00:00.0 +00:00:00 to 2030-01-01 1:00:00.0 +00:00:00";
    let early = "by this machine's clock (2029-12-31 23:59:59.0 +00:00:00) it is not yet valid: \
                 it runs from 2030-01-01 0:00:00.0 +00:00:00 to 2030-01-01 1:00:00.0 +00:00:00";
    let vault = Vault::new();
    let (leaf, issuers) = (vault.sign(&vault.leaf()), [vault.root(END + 60)]);
    for (now, here, there, expected) in [
        ("its first second", BEGIN, BEGIN, Ok(Clock::Here)),
        ("its last second", END, END, Ok(Clock::Here)),
        ("early by this machine", BEGIN - 1, BEGIN, Ok(Clock::Vault)),
        ("late by this machine", END + 1, END, Ok(Clock::Vault)),
        ("late by Vault", END, END + 1, Ok(Clock::Here)),
        ("early by both", BEGIN - 1, BEGIN - 1, Err(early)),
        ("late by both", END + 1, END + 1, Err(late)),
        ("early here, late by Vault", BEGIN - 1, END + 1, Err(early)),
    ] {
        let clocks = Clocks { here, vault: there };
        let clock = vault.check(&leaf, &issuers, clocks).map(|it| it.clock);
        assert_eq!(clock, expected.map_err(str::to_owned), "{now}");
    }
    let mut reversed = vault.leaf();
    set_life(&mut reversed, BEGIN, BEGIN - 1);
    let refusal = vault.refusal(&reversed).expect("one that never counts");
    assert!(refusal.contains("it has expired"), "{refusal}");
}

#[test]
fn chain_counts_by_the_clock_that_its_ca_is_valid_by() {
    let vault = Vault::new();
    let (leaf, ca_ends) = (vault.sign(&vault.leaf()), BEGIN + 60);
    let issuers = [vault.root(ca_ends)];
    for (now, here, there, expected) in [
        ("good by both", ca_ends, BEGIN, Some(Clock::Here)),
        ("late here", ca_ends + 1, ca_ends, Some(Clock::Vault)),
        ("late by Vault", ca_ends, ca_ends + 1, Some(Clock::Here)),
        ("late by both", ca_ends + 1, ca_ends + 2, None),
    ] {
        let clocks = Clocks { here, vault: there };
        let clock = vault.check(&leaf, &issuers, clocks).map(|it| it.clock);
        assert_eq!(clock.clone().ok(), expected, "{now}");
        if let Err(refusal) = clock {
            assert!(refusal.contains("; CN=root expired "), "{refusal}");
        }
    }
}

#[test]
fn end_is_the_first_one_and_names_a_ca_before_the_leaf() {
    let vault = Vault::new();
    for (ca, until, end, ends_with) in [
        (
            "a CA that ends before the leaf",
            END - 1,
            END - 1,
            Some("CN=root"),
        ),
        ("a CA that ends with the leaf", END, END, None),
        ("a CA that ends after the leaf", END + 1, END, None),
    ] {
        let leaf = vault.sign(&vault.leaf());
        let checked = vault
            .check(&leaf, &[vault.root(until)], GOOD)
            .map_err(|_| ca);
        let checked = checked.expect("a good answer");
        assert_eq!(
            (checked.end, checked.ends_with.as_deref()),
            (end, ends_with),
            "{ca}"
        );
        assert_eq!(checked.not_after.unix_timestamp(), END, "{ca}");
    }
}

#[test]
fn answer_has_a_leaf_for_the_key_and_at_most_64_issuers() {
    const CUT: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    const EMPTY: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (vault, other) = (Vault::new(), Vault::new());
    let (leaf, root) = (vault.sign(&vault.leaf()), vault.root(END));
    let with_root = format!("{leaf}{root}");
    let roots = |count: usize| vec![root.clone(); count];
    for (what, certificate, issuers, refusal) in [
        ("the root once", &*leaf, roots(1), None),
        ("the root behind the leaf", &with_root, roots(0), None),
        ("64 in all", &leaf, roots(64), None),
        (
            "64 in all, one of them behind the leaf",
            &with_root,
            roots(63),
            None,
        ),
        ("65", &leaf, roots(65), Some("65 certificates came with it")),
        (
            "65, one of them behind the leaf",
            &with_root,
            roots(64),
            Some("65 certificates came with it"),
        ),
        ("no text", "", roots(1), Some("it holds no certificate")),
        (
            "a leaf that is cut off",
            CUT,
            roots(1),
            Some("a PEM section has no END line"),
        ),
        (
            "a leaf that is none",
            EMPTY,
            roots(1),
            Some("it cannot be read"),
        ),
        (
            "an issuer that is cut off",
            &leaf,
            vec![CUT.to_owned()],
            Some("a PEM section has no END line"),
        ),
        (
            "a leaf for another key",
            &other.sign(&vault.leaf()),
            roots(1),
            Some("it is for another key than the one made here"),
        ),
        (
            "a stranger's root",
            &leaf,
            vec![other.root(END)],
            Some("its chain does not lead to the trust anchors"),
        ),
    ] {
        let found = vault.check(certificate, &issuers, GOOD).err();
        assert_eq!(found.is_some(), refusal.is_some(), "{what}: {found:?}");
        let found = found.unwrap_or_default();
        assert!(
            found.contains(refusal.unwrap_or_default()),
            "{what}: {found}"
        );
    }
}

#[test]
fn checked_certificate_has_its_serial_number_chain_and_anchors() {
    let (vault, stranger) = (Vault::new(), Vault::new());
    let mut leaf = vault.leaf();
    leaf.serial_number = Some(SerialNumber::from(vec![0xd7, 0xdf]));
    let (leaf, root) = (vault.sign(&leaf), vault.root(END));
    let checked = |anchors: Option<&str>| {
        let answer = Answer {
            certificate: &leaf,
            issuers: std::slice::from_ref(&root),
            anchors: anchors.map(ders),
        };
        let key = vault.key.subject_public_key_info();
        check(answer, &asked(), &key, GOOD)
    };
    for anchors in [None, Some(&*root)] {
        let checked = checked(anchors).map_err(|reason| panic!("{reason}"));
        let checked = checked.expect("a good answer");
        assert_eq!(checked.serial_number, "d7:df");
        assert_eq!(checked.chain, ders(&leaf));
        assert_eq!(checked.trust_anchors, ders(&root));
    }
    let refusal = checked(Some(&stranger.root(END))).err();
    let refusal = refusal.expect("configured anchors count alone");
    assert!(refusal.contains("does not lead"), "{refusal}");
}

#[test]
fn clock_that_accepts_counts_and_of_two_the_stricter_one() {
    use Clock::{Here, Vault};
    for (life, here, vault, expected) in [
        ("begins", 100, 100, &[Here, Vault][..]),
        ("ends", 200, 200, &[Here, Vault]),
        ("nearly ends by Vault", 100, 190, &[Vault, Here]),
        ("nearly ends here", 190, 100, &[Here, Vault]),
        (
            "is good by Vault; this clock is wrong",
            191,
            100,
            &[Vault, Here],
        ),
        (
            "is good here; Vault's clock is wrong",
            100,
            191,
            &[Here, Vault],
        ),
        ("has ended here", 201, 200, &[Vault]),
        ("has ended by Vault", 200, 201, &[Here]),
        ("has not begun here", 99, 100, &[Vault]),
        ("has not begun by Vault", 100, 99, &[Here]),
        ("has not begun here and has ended by Vault", 99, 201, &[]),
    ] {
        let clocks = Clocks { here, vault };
        assert_eq!(clocks.accepting(100, 200), expected, "a life that {life}");
    }
}

#[test]
fn clocks_say_their_own_time() {
    let clocks = Clocks { here: 5, vault: 7 };
    assert_eq!((clocks.at(Clock::Here), clocks.at(Clock::Vault)), (5, 7));
}

#[test]
fn serial_number_has_no_zero_octet_in_front() {
    for (der, expected) in [
        (&[0x00, 0xd7, 0xdf][..], "d7:df"),
        (&[0x17, 0x00, 0x0f], "17:00:0f"),
        (&[0x00], "00"),
        (&[], ""),
    ] {
        assert_eq!(serial_number(der), expected);
    }
}

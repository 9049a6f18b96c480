//! The certificate: asked for with a key made here, signed by a real PKI, checked, and written as OpenSSL wants it.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start other programs to compare with"
)]

use std::path::Path;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm, date_time_ymd,
};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;

use crate::support::{
    Anteroom, Fault, FaultProxy, Manifest, Run, Service, TempDir, Wrapped, assert_revoked,
    tls::install_crypto,
};

/// The certificate alone.
fn manifest(service: &Service, address: &str) -> Manifest {
    service.manifest_for(address).remove("dependencies")
}

fn start(manifest: Manifest, token: &str) -> Run {
    Anteroom::new()
        .manifest(manifest)
        .token(token)
        .shell("echo started")
        .keep_files()
        .run()
}

#[track_caller]
fn assert_started(run: &Run) {
    run.assert_code(0);
    assert_eq!(run.stdout, "started\n", "{run:?}");
}

/// OpenSSL's own command, which must succeed.
#[track_caller]
pub(crate) fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .output()
        .expect("openssl is installed");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    said
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// Does OpenSSL, at its strictest, find the way from `tls.crt` to `ca.crt`?
#[track_caller]
fn assert_openssl_accepts(run: &Run, more: &[&str]) {
    let (leaf, anchors) = (
        path(&run.secrets_dir, "tls.crt"),
        path(&run.secrets_dir, "ca.crt"),
    );
    let mut arguments = vec!["verify", "-x509_strict"];
    arguments.extend(more);
    arguments.extend(["-CAfile", &anchors, "-untrusted", &leaf, &leaf]);
    openssl(&arguments);
}

fn certificates(pem: &str) -> usize {
    pem.matches("-----BEGIN CERTIFICATE-----").count()
}

#[test]
fn key_of_every_kind_is_signed_and_readable_by_openssl() {
    for (kind, described) in [
        ("ec-p256", "NIST CURVE: P-256"),
        ("ec-p384", "NIST CURVE: P-384"),
        ("ed25519", "ED25519 Private-Key"),
        ("rsa-2048", "(2048 bit"),
        ("rsa-3072", "(3072 bit"),
        ("rsa-4096", "(4096 bit"),
    ] {
        let service = Service::new();
        let manifest =
            manifest(&service, service.admin.address()).set("certificate.key_type", kind);
        let run = start(manifest, &service.mint().token);
        assert_started(&run);
        let key = path(&run.secrets_dir, "tls.key");
        let text = openssl(&["pkey", "-in", &key, "-noout", "-text"]);
        assert!(text.contains(described), "{kind}: {text}");
        let leaf = path(&run.secrets_dir, "tls.crt");
        assert_eq!(
            openssl(&["pkey", "-in", &key, "-pubout"]),
            openssl(&["x509", "-in", &leaf, "-noout", "-pubkey"]),
            "{kind}"
        );
        assert_openssl_accepts(&run, &[]);
    }
}

#[test]
fn request_and_the_certificate_carry_every_name() {
    let service = Service::new();
    let proxy = FaultProxy::recording(service.admin.address());
    let manifest = manifest(&service, &proxy.address())
        .set(
            "certificate.ip_addresses",
            json!(["10.1.2.3", "2001:db8::1"]),
        )
        .set("certificate.uris", json!(["spiffe://example.io/timeline"]));
    let run = start(manifest, &service.mint().token);
    assert_started(&run);

    let wanted = [
        format!("DNS:{}", service.common_name()),
        "DNS:localhost".to_owned(),
        "IP Address:10.1.2.3".to_owned(),
        "IP Address:2001:DB8:0:0:0:0:0:1".to_owned(),
        "URI:spiffe://example.io/timeline".to_owned(),
        format!("CN = {}", service.common_name()),
    ];
    let sign = proxy
        .requests()
        .into_iter()
        .find(|seen| seen.path.contains("/sign/"))
        .expect("it was signed");
    let directory = TempDir::new();
    let csr = directory.write("csr.pem", sign.json()["csr"].as_str().expect("a CSR"));
    let csr = csr.display().to_string();
    let request = openssl(&["req", "-in", &csr, "-noout", "-text", "-verify"]);
    let leaf = path(&run.secrets_dir, "tls.crt");
    let certificate = openssl(&["x509", "-in", &leaf, "-noout", "-text"]);
    for name in &wanted {
        assert!(request.contains(name), "{name} is not in\n{request}");
        assert!(
            certificate.contains(name),
            "{name} is not in\n{certificate}"
        );
    }
}

// p1
#[test]
fn names_in_fields_of_the_request_reach_the_certificate() {
    let service = Service::new();
    service.set_pki_role(json!({"use_csr_common_name": false, "use_csr_sans": false}));
    let manifest = manifest(&service, service.admin.address())
        .set("certificate.ip_addresses", json!(["10.1.2.3"]))
        .set("certificate.uris", json!(["spiffe://example.io/timeline"]));
    let run = start(manifest, &service.mint().token);
    assert_started(&run);
    assert_openssl_accepts(&run, &["-verify_hostname", "localhost"]);
    assert_openssl_accepts(&run, &["-verify_ip", "10.1.2.3"]);
}

// p1, t17, f25
#[test]
fn role_that_changes_the_names_is_76() {
    for change in ["common name", "more", "less"] {
        let service = Service::new();
        let (app, own) = (service.app.clone(), service.common_name());
        let proxy = signed_by_us(&service, move |csr, ca| {
            let mut params = leaf(&own);
            match change {
                "common name" => {
                    params.distinguished_name.remove(DnType::CommonName);
                    params
                        .distinguished_name
                        .push(DnType::CommonName, format!("{app}.elsewhere"));
                }
                "more" => params.subject_alt_names.push(dns("evil.example.io")),
                _ => {
                    params.subject_alt_names.pop();
                }
            }
            answer(&ca.sign(&params, csr), &ca.pem, &[&ca.pem])
        });
        let token = service.mint();
        let run = start(manifest(&service, &proxy.address()), &token.token);
        assert_revoked(&run, 76, &service, &token);
        let word = match change {
            "common name" => "its common name is",
            "more" => "adds [\"evil.example.io\"]",
            _ => "lacks [\"localhost\"]",
        };
        run.assert_stderr(&word.replace('"', "\\\""));
    }
}

// p2
#[test]
fn capped_ttl_is_taken_from_the_certificate() {
    let service = Service::new();
    service.set_pki_role(json!({"max_ttl": "1h"}));
    let manifest = manifest(&service, service.admin.address()).set("certificate.ttl", "48h");
    let run = start(manifest, &service.mint().token);
    assert_started(&run);
    let leaf = path(&run.secrets_dir, "tls.crt");
    let end = openssl(&[
        "x509", "-in", &leaf, "-noout", "-enddate", "-dateopt", "iso_8601",
    ]);
    let end = end.trim().trim_start_matches("notAfter=").replace(' ', "T");
    let status: Value =
        serde_json::from_str(run.file("status.json").text()).expect("the status is JSON");
    assert_eq!(status["certificate"]["not_after"], end, "{status}");
    // It lives an hour, not two days: OpenSSL sees its end within 61 minutes.
    let lives = Command::new("openssl")
        .args(["x509", "-in", &leaf, "-noout", "-checkend", "3660"])
        .output()
        .expect("openssl is installed");
    assert!(!lives.status.success(), "it outlives the role's max_ttl");
}

// f23, p8
#[test]
fn request_that_the_role_refuses_is_78_with_role_and_reason() {
    type Change = fn(&Service) -> Manifest;
    let plain: Change = |service| manifest(service, service.admin.address());
    let rows: [(&str, Value, Change, &str); 4] = [
        (
            "unknown role",
            Value::Null,
            |service| {
                let policy = format!(
                    "{}path \"{}/sign/absent\" {{ capabilities = [\"update\"] }}",
                    service.policy_hcl(),
                    service.pki.mount
                );
                service.admin.policy(&service.policy, &policy);
                manifest(service, service.admin.address()).set("certificate.role", "absent")
            },
            "unknown role: absent",
        ),
        (
            "wrong kind of key",
            json!({"key_type": "rsa", "key_bits": 2048}),
            plain,
            "role requires keys of type rsa",
        ),
        (
            "key too weak",
            json!({"key_type": "rsa", "key_bits": 4096}),
            |service| {
                manifest(service, service.admin.address()).set("certificate.key_type", "rsa-2048")
            },
            "4096",
        ),
        (
            "name not allowed",
            json!({"allowed_domains": ["elsewhere.example.io"]}),
            plain,
            "not allowed by this role",
        ),
    ];
    for (name, role, change, word) in rows {
        let service = Service::new();
        service.set_pki_role(role);
        let manifest = change(&service);
        let role = manifest.0["certificate"]["role"].clone();
        let token = service.mint();
        let run = start(manifest, &token.token);
        assert_revoked(&run, 78, &service, &token);
        let role = role.as_str().expect("a role");
        assert!(
            run.stderr.contains(word) && run.stderr.contains(&format!("/sign/{role}")),
            "{name}: {word}\n{run:?}"
        );
    }
}

// Answers that a proxy altered

/// A CA of the test's own.
pub(crate) struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) pem: String,
}

impl Ca {
    pub(crate) fn new(name: &str, until: i32, above: Option<&Ca>) -> Self {
        install_crypto();
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = above.is_some();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = match above {
            Some(ca) => params.signed_by(&key, &Issuer::from_params(&ca.params, &ca.key)),
            None => params.self_signed(&key),
        };
        let pem = certificate.expect("a CA can sign").pem();
        Self { params, key, pem }
    }

    pub(crate) fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> String {
        params
            .signed_by(key, &Issuer::from_params(&self.params, &self.key))
            .expect("a CA can sign")
            .pem()
    }
}

/// The key of a request.
pub(crate) struct CsrKey(Vec<u8>);

impl PublicKeyData for CsrKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// The key of this request.
pub(crate) fn csr_key(csr: &str) -> CsrKey {
    let (_, csr) = x509_parser::pem::parse_x509_pem(csr.as_bytes()).expect("PEM");
    let (_, csr) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&csr.contents)
            .expect("a CSR");
    let info = csr.certification_request_info;
    CsrKey(info.subject_pki.subject_public_key.data.to_vec())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a host name"))
}

/// A certificate with the names that the manifest asks for.
pub(crate) fn leaf(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![dns(common_name), dns("localhost")];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2080, 1, 1);
    params
}

fn answer(leaf: &str, issuing_ca: &str, chain: &[&str]) -> Value {
    json!({
        "certificate": leaf,
        "issuing_ca": issuing_ca,
        "ca_chain": chain,
        "serial_number": "01:02",
        "expiration": "3471292800",
    })
}

/// In front of the real server: `make` answers the request for a signature instead of the PKI.
fn signed_by_us(
    service: &Service,
    make: impl Fn(&CsrKey, &Ca) -> Value + Send + 'static,
) -> FaultProxy {
    let root = Ca::new("own root", 2090, None);
    FaultProxy::start(service.admin.address(), move |seen| {
        if !seen.path.contains("/sign/") {
            return Fault::Pass;
        }
        let body = seen.json();
        let csr = body["csr"].as_str().expect("a CSR").to_owned();
        let key = csr_key(&csr);
        let data = make(&key, &root);
        Fault::Answer(crate::support::Reply::vault(&json!({"data": data})))
    })
}

/// Starts with an answer of the test's own.
fn start_with_answer(
    make: impl Fn(&str, &CsrKey, &Ca) -> Value + Send + 'static,
) -> (Service, Wrapped, Run, FaultProxy) {
    let service = Service::new();
    let name = service.common_name();
    let proxy = signed_by_us(&service, move |key, root| make(&name, key, root));
    let token = service.mint();
    let run = start(manifest(&service, &proxy.address()), &token.token);
    (service, token, run, proxy)
}

type Make = Box<dyn Fn(&str, &CsrKey, &Ca) -> Value + Send>;

fn make(f: impl Fn(&str, &CsrKey, &Ca) -> Value + Send + 'static) -> Make {
    Box::new(f)
}

/// root – middle – lower – leaf.
fn long_chain(name: &str, key: &CsrKey, root: &Ca) -> (String, Ca, Ca) {
    let middle = Ca::new("middle", 2090, Some(root));
    let lower = Ca::new("lower", 2090, Some(&middle));
    (lower.sign(&leaf(name), key), middle, lower)
}

// b45, b46, b48, b50, p4
#[test]
fn chain_in_any_order_and_shape_is_put_right() {
    for (name, make) in [
        (
            "in order, root included",
            make(|name, key, root| {
                let (leaf, middle, lower) = long_chain(name, key, root);
                answer(&leaf, &lower.pem, &[&lower.pem, &middle.pem, &root.pem])
            }),
        ),
        (
            "the other way round",
            make(|name, key, root| {
                let (leaf, middle, lower) = long_chain(name, key, root);
                answer(&leaf, &lower.pem, &[&root.pem, &middle.pem, &lower.pem])
            }),
        ),
        (
            "each twice, and strangers",
            make(|name, key, root| {
                let (leaf, middle, lower) = long_chain(name, key, root);
                let stranger = Ca::new("stranger", 2090, None);
                let namesake = Ca::new("lower", 2090, Some(&stranger));
                answer(
                    &leaf,
                    &lower.pem,
                    &[
                        &stranger.pem,
                        &namesake.pem,
                        &root.pem,
                        &lower.pem,
                        &root.pem,
                        &middle.pem,
                        &lower.pem,
                    ],
                )
            }),
        ),
        (
            "everything behind the leaf",
            make(|name, key, root| {
                let (leaf, middle, lower) = long_chain(name, key, root);
                let bundle = format!("{leaf}{}{}{}", lower.pem, middle.pem, root.pem);
                answer(&bundle, &lower.pem, &[])
            }),
        ),
        (
            "CRLF, text around, no last newline, the expiration a number",
            make(|name, key, root| {
                let (leaf, middle, lower) = long_chain(name, key, root);
                let odd =
                    |pem: &str| format!("subject: x\r\n{}", pem.trim_end().replace('\n', "\r\n"));
                let chain = [odd(&lower.pem), odd(&middle.pem), odd(&root.pem)];
                let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
                let mut data = answer(&odd(&leaf), &odd(&lower.pem), &chain);
                data["expiration"] = 3_471_292_800_u32.into();
                data
            }),
        ),
    ] {
        let (_, _, run, proxy) = start_with_answer(make);
        assert!(run.code == Some(0), "{name}\n{run:?}");
        assert_eq!(certificates(run.file("tls.crt").text()), 3, "{name}");
        assert_eq!(certificates(run.file("ca.crt").text()), 1, "{name}");
        assert!(!run.file("tls.crt").text().contains('\r'), "{name}");
        assert_openssl_accepts(&run, &[]);
        let signed = proxy.requests();
        let signed = signed.iter().filter(|seen| seen.path.contains("/sign/"));
        assert_eq!(signed.count(), 1, "{name}");
    }
}

/// The answer holds both roots, one of them by way of a certificate that has expired, and a third by way of one that
/// leads nowhere.
#[test]
fn chain_of_cas_that_signed_one_another_is_put_right() {
    let service = Service::new();
    let name = service.common_name();
    for is_reversed in [false, true] {
        let name = name.clone();
        let proxy = signed_by_us(&service, move |key, root| {
            let (absent, older) = (Ca::new("absent", 2090, None), Ca::new("older", 2090, None));
            let middle = Ca::new("middle", 2090, Some(root));
            let cross = |ca: &Ca, until: i32, by: &Ca| {
                let mut params = ca.params.clone();
                params.not_after = date_time_ymd(until, 1, 1);
                params.use_authority_key_identifier_extension = true;
                by.sign(&params, &ca.key)
            };
            let (gone, good) = (cross(&middle, 2021, &older), cross(root, 2089, &older));
            let nowhere = cross(root, 2090, &absent);
            let mut chain = [
                &gone,
                &nowhere,
                &good,
                &middle.pem,
                &older.pem,
                &root.pem,
                &root.pem,
            ];
            if is_reversed {
                chain.reverse();
            }
            let chain: Vec<&str> = chain.iter().map(|pem| pem.as_str()).collect();
            answer(&middle.sign(&leaf(&name), key), &gone, &chain)
        });
        let run = start(manifest(&service, &proxy.address()), &service.mint().token);
        assert_started(&run);
        assert_eq!(certificates(run.file("tls.crt").text()), 2, "{is_reversed}");
        assert_eq!(certificates(run.file("ca.crt").text()), 2, "{is_reversed}");
        assert_openssl_accepts(&run, &[]);
    }
}

// b49
#[test]
fn issuing_ca_is_the_anchor_of_an_answer_without_a_root() {
    for empty in [json!([]), Value::Null] {
        let (_, _, run, _) = start_with_answer(move |name, key, root| {
            let middle = Ca::new("middle", 2090, Some(root));
            let mut data = answer(&middle.sign(&leaf(name), key), &middle.pem, &[]);
            data["ca_chain"] = empty.clone();
            data
        });
        assert_started(&run);
        assert_eq!(certificates(run.file("tls.crt").text()), 2);
        assert_eq!(certificates(run.file("ca.crt").text()), 1);
        assert_openssl_accepts(&run, &["-partial_chain"]);
    }
}

// f25, t17, b47, b51
#[test]
fn unfit_certificate_is_76_and_the_token_is_revoked() {
    for (name, word, make) in [
        (
            "for another key",
            "another key",
            make(|name, _, root| {
                let other = KeyPair::generate().expect("a key can be made");
                answer(&root.sign(&leaf(name), &other), &root.pem, &[&root.pem])
            }),
        ),
        (
            "not yet valid",
            "is not yet valid",
            make(|name, key, root| {
                let mut params = leaf(name);
                params.not_before = date_time_ymd(2079, 1, 1);
                answer(&root.sign(&params, key), &root.pem, &[&root.pem])
            }),
        ),
        (
            "expired",
            "has expired",
            make(|name, key, root| {
                let mut params = leaf(name);
                params.not_after = date_time_ymd(2021, 1, 1);
                answer(&root.sign(&params, key), &root.pem, &[&root.pem])
            }),
        ),
        (
            "from an expired issuer",
            "its chain does not lead",
            make(|name, key, root| {
                let middle = Ca::new("middle", 2021, Some(root));
                answer(
                    &middle.sign(&leaf(name), key),
                    &middle.pem,
                    &[&middle.pem, &root.pem],
                )
            }),
        ),
        (
            "from an expired root",
            "expired",
            make(|name, key, _| {
                let root = Ca::new("old root", 2021, None);
                answer(&root.sign(&leaf(name), key), &root.pem, &[&root.pem])
            }),
        ),
        (
            "signed by a namesake",
            "its chain does not lead",
            make(|name, key, root| {
                let namesake = Ca::new("own root", 2090, None);
                answer(&namesake.sign(&leaf(name), key), &root.pem, &[&root.pem])
            }),
        ),
        (
            "with five thousand issuers",
            "5000 certificates came with it",
            make(|name, key, root| {
                let chain = vec![root.pem.as_str(); 4999];
                answer(&root.sign(&leaf(name), key), &root.pem, &chain)
            }),
        ),
        (
            "with five thousand issuers behind it",
            "5001 certificates came with it",
            make(|name, key, root| {
                let leaf = root.sign(&leaf(name), key);
                let bundle = format!("{leaf}{}", root.pem.repeat(5000));
                answer(&bundle, &root.pem, &[])
            }),
        ),
        (
            "without any issuer",
            "neither a chain nor an issuing CA",
            make(|name, key, root| answer(&root.sign(&leaf(name), key), "", &[])),
        ),
        (
            "a revocation list instead",
            "holds no certificate",
            make(|_, _, root| {
                let list = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
                answer(list, &root.pem, &[&root.pem])
            }),
        ),
        (
            "broken base64",
            "",
            make(|_, _, root| {
                let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
                answer(broken, &root.pem, &[&root.pem])
            }),
        ),
        (
            "no DER inside",
            "cannot be read",
            make(|_, _, root| {
                let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
                answer(broken, &root.pem, &[&root.pem])
            }),
        ),
        (
            "empty",
            "holds no certificate",
            make(|_, _, root| answer("", &root.pem, &[&root.pem])),
        ),
    ] {
        let (service, token, run, proxy) = start_with_answer(make);
        assert!(
            run.code == Some(76) && run.stderr.contains(word),
            "{name}: 76 and {word:?} were expected\n{run:?}"
        );
        assert_revoked(&run, 76, &service, &token);
        let signed = proxy.requests();
        let signed = signed.iter().filter(|seen| seen.path.contains("/sign/"));
        assert_eq!(signed.count(), 1, "{name}: asked again");
    }
}

// t17
#[test]
fn uris_are_compared_to_the_letter() {
    let wanted = "spiffe://example.io/Timeline";
    for (found, code) in [(wanted, 0), ("spiffe://example.io/timeline", 76)] {
        let service = Service::new();
        let name = service.common_name();
        let proxy = signed_by_us(&service, move |key, root| {
            let mut params = leaf(&name);
            let uri = SanType::URI(found.try_into().expect("ASCII"));
            params.subject_alt_names.push(uri);
            answer(&root.sign(&params, key), &root.pem, &[&root.pem])
        });
        let token = service.mint();
        let manifest =
            manifest(&service, &proxy.address()).set("certificate.uris", json!([wanted]));
        let run = start(manifest, &token.token);
        match code {
            0 => assert_started(&run),
            _ => assert_revoked(&run, code, &service, &token),
        }
    }
}

// Trust anchors

// b50, p4, p5
#[test]
fn chain_begins_with_the_leaf_and_the_root_is_its_anchor_alone() {
    let service = Service::new();
    let run = start(
        manifest(&service, service.admin.address()),
        &service.mint().token,
    );
    assert_started(&run);
    let chain = run.file("tls.crt");
    assert_eq!(certificates(chain.text()), 2);
    assert!(chain.text().contains(service.pki.intermediate_pem.trim()));
    assert!(!chain.text().contains(service.pki.root_pem.trim()));
    assert_eq!(
        run.file("ca.crt").text().trim(),
        service.pki.root_pem.trim()
    );
    assert_openssl_accepts(&run, &[]);
}

#[test]
fn pki_with_a_root_alone_works() {
    let service = Service::new();
    let root = format!("{}-root", service.pki.mount);
    let role = json!({
        "allowed_domains": [service.common_name()],
        "allow_bare_domains": true,
        "allow_localhost": true,
        "key_type": "any",
    });
    service.admin.pki_role(&root, &service.app, role);
    let policy = format!(
        "path \"{root}/sign/{}\" {{ capabilities = [\"update\"] }}",
        service.app
    );
    service.admin.policy(&service.policy, &policy);
    let manifest =
        manifest(&service, service.admin.address()).set("certificate.mount", root.as_str());
    let run = start(manifest, &service.mint().token);
    assert_started(&run);
    assert_eq!(certificates(run.file("tls.crt").text()), 1);
    assert_eq!(
        run.file("ca.crt").text().trim(),
        service.pki.root_pem.trim()
    );
    assert_openssl_accepts(&run, &[]);
}

// p6
#[test]
fn trust_anchors_can_come_from_a_file() {
    let service = Service::new();
    let directory = TempDir::new();
    let old = Ca::new("a root that has had its time", 2021, None);
    let anchors = format!("{}{1}{1}", old.pem, service.pki.root_pem);
    let file = directory.write("anchors.pem", &anchors);
    let manifest = manifest(&service, service.admin.address())
        .set("certificate.ca_file", file.display().to_string());
    let run = start(manifest, &service.mint().token);
    assert_started(&run);
    assert_eq!(
        run.file("ca.crt").text().trim(),
        service.pki.root_pem.trim()
    );
    assert_openssl_accepts(&run, &[]);
}

// p6, f25
#[test]
fn certificate_that_leads_to_no_anchor_of_the_file_is_76() {
    let service = Service::new();
    let directory = TempDir::new();
    let file = directory.write("anchors.pem", Ca::new("another root", 2090, None).pem);
    let manifest = manifest(&service, service.admin.address())
        .set("certificate.ca_file", file.display().to_string());
    let token = service.mint();
    let run = start(manifest, &token.token);
    assert_revoked(&run, 76, &service, &token);
    run.assert_stderr("its chain does not lead to the trust anchors");
}

#[test]
fn unusable_anchor_file_is_78_before_the_token_is_touched() {
    let service = Service::new();
    let directory = TempDir::new();
    let missing = directory.join("missing.pem");
    let empty = directory.write("empty.pem", "");
    let text = directory.write("text.pem", "no certificate");
    let ca = Ca::new("with its key", 2090, None);
    let key = directory.write("key.pem", format!("{}{}", ca.pem, ca.key.serialize_pem()));
    let token = service.mint();
    for file in [missing, empty, text, key] {
        let manifest = manifest(&service, service.admin.address())
            .set("certificate.ca_file", file.display().to_string());
        let run = start(manifest, &token.token);
        run.assert_code(78);
        assert_eq!(run.stdout, "");
        run.assert_no_files();
        run.assert_stderr(&file.display().to_string());
    }
    assert_eq!(service.admin.lookup_wrapping(&token.token), 200);
}

// p6
#[test]
fn trust_anchors_can_come_from_a_vault_path() {
    for (endpoint, count) in [("cert/ca_chain", 2), ("cert/ca", 1)] {
        let service = Service::new();
        let root = format!("{}-root", service.pki.mount);
        let mount = if count == 1 {
            &root
        } else {
            &service.pki.mount
        };
        let path = format!("{mount}/{endpoint}");
        let policy = format!(
            "{}path \"{path}\" {{ capabilities = [\"read\"] }}",
            service.policy_hcl()
        );
        service.admin.policy(&service.policy, &policy);
        let manifest =
            manifest(&service, service.admin.address()).set("certificate.ca_path", path.as_str());
        let run = start(manifest, &service.mint().token);
        assert_started(&run);
        assert_eq!(certificates(run.file("ca.crt").text()), count, "{path}");
        assert_openssl_accepts(&run, &[]);
    }
}

// p10
#[test]
fn each_start_has_a_new_key_that_fits_its_certificate() {
    let service = Service::new();
    let keys: Vec<_> = (0..2)
        .map(|_| {
            let run = start(
                manifest(&service, service.admin.address()),
                &service.mint().token,
            );
            assert_started(&run);
            assert_openssl_accepts(&run, &[]);
            run.file("tls.key").bytes
        })
        .collect();
    assert_ne!(keys[0], keys[1]);
}

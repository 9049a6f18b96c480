//! The Java stores, read by every Java that is at hand.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test starts Java and says which of them read what"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use nix::sys::signal::Signal;
use serde_json::json;

use super::dry_run::{dry_run, manifest as dry_manifest};
use crate::support::{
    Anteroom, Authority, Manifest, Running, Service, TempDir, core, repository, tmpfs_dir,
};

const KEY_TYPES: [(&str, &str); 4] = [
    ("ec-p256", "EC"),
    ("ec-p384", "EC"),
    ("rsa-2048", "RSA"),
    ("ed25519", "EdDSA"),
];

/// The first release whose TLS knows Ed25519.
const ED25519: u32 = 15;
/// The first release that reads argument files and `JDK_JAVA_OPTIONS`.
const ARGUMENT_FILES: u32 = 9;

/// A runtime that lives for a second need not learn how to be fast: it takes half the time.
const SHORT_LIVED: [&str; 3] = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
];

/// A runtime of the matrix.
struct Jre {
    release: u32,
    version: String,
    directory: PathBuf,
}

/// All that scripts/install-java could get.
fn runtimes() -> &'static [Jre] {
    static RUNTIMES: LazyLock<Vec<Jre>> = LazyLock::new(|| {
        let root = repository().join(".cache/jre");
        let versions = fs::read_to_string(root.join("versions")).unwrap_or_default();
        let found: Vec<Jre> = versions
            .lines()
            .filter_map(|line| {
                let (release, version) = line.split_once(' ')?;
                Some(Jre {
                    release: release.parse().ok()?,
                    version: version.to_owned(),
                    directory: root.join(release),
                })
            })
            .collect();
        assert!(
            !found.is_empty(),
            "there is no Java: run scripts/install java"
        );
        found
    });
    &RUNTIMES
}

fn jar() -> PathBuf {
    let jar = repository().join(".cache/java/mutual-tls.jar");
    assert!(
        jar.exists(),
        "there is no {}: run scripts/images",
        jar.display()
    );
    jar
}

impl Jre {
    fn keytool(&self, store: &Path, password_file: &Path) -> String {
        let _core = core();
        let output = Command::new(self.directory.join("keytool"))
            .args(SHORT_LIVED.map(|option| format!("-J{option}")))
            .args([
                "-J-Duser.language=en",
                "-list",
                "-v",
                "-storetype",
                "PKCS12",
            ])
            .arg("-storepass:file")
            .arg(password_file)
            .arg("-keystore")
            .arg(store)
            .output()
            .expect("keytool can be started");
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "keytool {}: {listing}",
            self.version
        );
        listing
    }

    /// Runs the program that speaks mutual TLS with itself, with nothing but what `java.args` says.
    fn mutual_tls(&self, secrets_dir: &Path) -> Output {
        let _core = core();
        let arguments = secrets_dir.join("java.args");
        let mut java = Command::new(self.directory.join("java"));
        java.args(SHORT_LIVED);
        if self.release < ARGUMENT_FILES {
            let arguments = fs::read_to_string(arguments).expect("it is there");
            java.args(arguments.lines());
        } else {
            java.env("JDK_JAVA_OPTIONS", format!("@{}", arguments.display()));
        }
        java.arg("-jar")
            .arg(jar())
            .output()
            .expect("java can be started")
    }
}

/// An application that lives, so that its files do.
fn start(service: &Service, manifest: Manifest) -> Running {
    lasting(Anteroom::new().manifest(manifest), service)
}

fn lasting(start: Anteroom, service: &Service) -> Running {
    let start = start.token(service.mint());
    let mut running = start.shell("echo started; exec sleep 600").spawn();
    running.wait_for_stdout("started\n");
    running
}

/// A real start for each kind of key, then every runtime on what it wrote.
fn every_runtime_reads_the_stores_of(profile: &str) {
    let service = Service::new();
    println!("profile {profile}: keytool and mutual TLS 1.2 and 1.3");
    for (key_type, algorithm) in KEY_TYPES {
        let manifest = service
            .manifest()
            .set("java.profile", profile)
            .set("certificate.key_type", key_type);
        let running = start(&service, manifest);
        let at = |name: &str| running.secrets_dir().join(name);
        let password = fs::read_to_string(at("keystore.password")).expect("it is there");
        let mut row = Vec::new();
        for jre in runtimes() {
            if key_type == "ed25519" && jre.release < ED25519 {
                row.push(format!("{} -", jre.version));
                continue;
            }
            let what = format!("{profile} {key_type} on Java {}", jre.version);
            let keys = jre.keytool(&at("keystore.p12"), &at("keystore.password"));
            for line in [
                "Your keystore contains 1 entry".to_owned(),
                format!("Alias name: {}", service.app),
                "Entry type: PrivateKeyEntry".to_owned(),
                // The leaf and the intermediate.
                "Certificate chain length: 2".to_owned(),
                format!("CN={}", service.common_name()),
            ] {
                assert!(
                    keys.contains(&line),
                    "{what}: {line:?} is missing in\n{keys}"
                );
            }
            let trust = jre.keytool(&at("truststore.p12"), &at("keystore.password"));
            for line in [
                "Your keystore contains 1 entry".to_owned(),
                "Entry type: trustedCertEntry".to_owned(),
                format!("Owner: CN={} root", service.pki.mount),
            ] {
                assert!(
                    trust.contains(&line),
                    "{what}: {line:?} is missing in\n{trust}"
                );
            }
            let output = jre.mutual_tls(running.secrets_dir());
            let stdout = String::from_utf8_lossy(&output.stdout);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{what}:\n{stdout}{stderr}");
            for line in [
                format!("java version={}", jre.version),
                format!(
                    "alias={} keyEntry=true chain=2 algorithm={algorithm}",
                    service.app
                ),
                "truststore type=PKCS12 entries=1 trusted=1".to_owned(),
                "server protocol=TLSv1.2".to_owned(),
                "server protocol=TLSv1.3".to_owned(),
            ] {
                // Some releases name the curve here, others its family: Ed25519, EdDSA.
                let line = line.replace("=EdDSA", "=Ed");
                assert!(
                    stdout.contains(&line),
                    "{what}: {line:?} is missing in\n{stdout}"
                );
            }
            assert!(
                !format!("{stdout}{stderr}").contains(&password),
                "{what}: the password is printed"
            );
            row.push(format!("{} ok", jre.version));
        }
        println!("  {key_type:<9}{}", row.join(", "));
    }
}

#[test]
fn every_java_reads_the_stores_of_the_modern_profile() {
    every_runtime_reads_the_stores_of("modern");
}

#[test]
fn every_java_reads_the_stores_of_the_java8_profile() {
    every_runtime_reads_the_stores_of("java8");
}

// x18
#[test]
fn three_authorities_are_three_trusted_entries() {
    let service = Service::new();
    let scratch = TempDir::new();
    // The same subject twice: an alias that came from the name would be taken.
    let others = [Authority::new("Example CA"), Authority::new("Example CA")];
    let bundle = [
        service.pki.root_pem.as_str(),
        others[0].pem(),
        others[1].pem(),
    ]
    .join("\n");
    let file = scratch.write("ca.pem", bundle);
    let manifest = service.manifest().set("java", json!({})).set(
        "certificate.ca_file",
        file.to_str().expect("our own paths are text"),
    );
    let running = start(&service, manifest);
    let at = |name: &str| running.secrets_dir().join(name);
    let anchors = fs::read_to_string(at("ca.crt")).expect("it is there");
    assert_eq!(anchors.matches("BEGIN CERTIFICATE").count(), 3);
    for jre in runtimes() {
        let trust = jre.keytool(&at("truststore.p12"), &at("keystore.password"));
        assert_eq!(
            trust.matches("Entry type: trustedCertEntry").count(),
            3,
            "{}: {trust}",
            jre.version
        );
        assert_eq!(
            trust.matches("Owner: CN=Example CA").count(),
            2,
            "{}: {trust}",
            jre.version
        );
        let output = jre.mutual_tls(running.secrets_dir());
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {stdout}", jre.version);
        assert!(
            stdout.contains("truststore type=PKCS12 entries=3 trusted=3"),
            "{}: {stdout}",
            jre.version
        );
    }
}

// t20
#[test]
fn store_password_is_in_no_output_argument_or_variable() {
    let service = Service::new();
    for jre in runtimes()
        .iter()
        .filter(|jre| jre.release >= ARGUMENT_FILES)
    {
        let mut running = Anteroom::new()
            .manifest(service.manifest().set("java", json!({})).set(
                "environment.JDK_JAVA_OPTIONS",
                "@{{ secrets_dir }}/java.args",
            ))
            .token(service.mint())
            .command([
                jre.directory.join("java").as_os_str(),
                "-jar".as_ref(),
                jar().as_os_str(),
                "--serve".as_ref(),
                "0".as_ref(),
            ])
            .spawn();
        running.wait_for_stdout("listening port=");
        let password =
            fs::read(running.secrets_dir().join("keystore.password")).expect("it is there");
        assert_eq!(password.len(), 32, "{}", jre.version);
        let mut seen = 0;
        for process in fs::read_dir("/proc")
            .expect("/proc is mounted")
            .filter_map(Result::ok)
        {
            for file in ["cmdline", "environ"] {
                // Processes end while we look, and threads of the kernel have neither.
                let bytes = fs::read(process.path().join(file)).unwrap_or_default();
                let found = bytes
                    .windows(password.len())
                    .any(|window| window == password);
                assert!(
                    !found,
                    "{}: {} of {}",
                    jre.version,
                    file,
                    process.path().display()
                );
                let arguments = String::from_utf8_lossy(&bytes);
                seen += usize::from(file == "cmdline" && arguments.contains("mutual-tls.jar"));
            }
        }
        assert!(
            seen > 0,
            "{}: the search did not see the application itself",
            jre.version
        );
        let password = String::from_utf8(password).expect("it is text");
        running.kill(Signal::SIGTERM);
        let run = running.wait();
        // Java answers SIGTERM with this code of its own.
        run.assert_code(143).assert_no([&password]);
        run.assert_stderr("Picked up JDK_JAVA_OPTIONS: @");
    }
}

#[test]
fn argument_files_survive_a_directory_with_blanks_and_quotes() {
    let service = Service::new();
    let parent = tmpfs_dir();
    let directory = parent.join("my #1 \"secrets\\\"'");
    fs::create_dir(&directory).expect("ours");
    let start = Anteroom::new().secrets_dir(&directory);
    let start = start.manifest(service.manifest().set("java", json!({})));
    let _running = lasting(start, &service);
    for jre in runtimes()
        .iter()
        .filter(|jre| jre.release >= ARGUMENT_FILES)
    {
        let _core = core();
        let output = Command::new(jre.directory.join("java"))
            .args(SHORT_LIVED)
            .arg(format!("@{}", directory.join("java.args").display()))
            .arg("-jar")
            .arg(jar())
            .output()
            .expect("java can be started");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stdout}{stderr}", jre.version);
    }
}

#[test]
fn keytool_reads_the_stores_of_a_dry_run() {
    let keytool = repository().join(".cache/jre/17/keytool");
    assert!(
        keytool.exists(),
        "there is no Java: run scripts/install java"
    );
    for profile in ["modern", "java8"] {
        let run = dry_run()
            .manifest(dry_manifest().set("java.profile", profile))
            .command(["/bin/true"])
            .run();
        run.assert_code(0);
        for (store, entry) in [
            ("keystore.p12", "timeline, "),
            ("truststore.p12", "trustedCertEntry"),
        ] {
            let _core = core();
            let output = Command::new(&keytool)
                .args(["-list", "-storetype", "PKCS12", "-storepass:file"])
                .arg(run.secrets_dir.join("keystore.password"))
                .arg("-keystore")
                .arg(run.secrets_dir.join(store))
                .output()
                .expect("keytool can be started");
            let listing = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{profile} {store}: {listing}");
            assert!(
                listing.contains("contains 1 entry"),
                "{profile} {store}: {listing}"
            );
            assert!(listing.contains(entry), "{profile} {store}: {listing}");
        }
    }
}

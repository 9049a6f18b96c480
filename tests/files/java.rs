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

/// A runtime that was made without elliptic curves (the module jdk.crypto.ec).
const WITHOUT_CURVES: &str = "11.0.5";

/// A runtime of the matrix.
struct Jre {
    release: u32,
    /// The number of the update within the release.
    update: u32,
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
                let (name, version) = line.split_once(' ')?;
                let numbers = version.split(['.', '_']).map(str::parse);
                let numbers: Vec<u32> = numbers.collect::<Result<_, _>>().ok()?;
                // Until 8 it was 1.8.0_504, since then it is 11.0.32.
                let (release, update) = match numbers[..] {
                    [1, release, _, update, ..] | [release, _, update, ..] => (release, update),
                    _ => return None,
                };
                Some(Jre {
                    release,
                    update,
                    version: version.to_owned(),
                    directory: root.join(name),
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

/// The runtimes that read the stores of the modern profile.
fn modern_runtimes() -> impl Iterator<Item = &'static Jre> {
    runtimes().iter().filter(|jre| jre.reads_aes())
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
    /// Whether it reads PKCS#12 with AES and HMAC-SHA-256.
    fn reads_aes(&self) -> bool {
        match self.release {
            8 => self.update >= 301,
            11 => self.update >= 12,
            _ => true,
        }
    }

    fn knows(&self, key_type: &str) -> bool {
        match key_type {
            "ed25519" => self.release >= ED25519,
            "rsa-2048" => true,
            _ => self.version != WITHOUT_CURVES,
        }
    }

    fn protocols(&self) -> &'static [&'static str] {
        if self.release == 8 && self.update < 261 {
            &["TLSv1.2"]
        } else {
            &["TLSv1.2", "TLSv1.3"]
        }
    }

    /// The text that keytool prints of a store, or of its failure.
    fn listing(&self, store: &Path, password_file: &Path) -> Result<String, String> {
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
        if output.status.success() {
            Ok(listing)
        } else {
            Err(listing)
        }
    }

    fn keytool(&self, store: &Path, password_file: &Path) -> String {
        let listing = self.listing(store, password_file);
        listing.unwrap_or_else(|listing| panic!("keytool {}: {listing}", self.version))
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

/// Fails unless a text has all these lines.
#[track_caller]
fn assert_lines(text: &str, lines: &[String], what: &str) {
    for line in lines {
        assert!(
            text.contains(line),
            "{what}: {line:?} is missing in\n{text}"
        );
    }
}

/// A service whose CAs have RSA keys, which a runtime without elliptic curves can check.
fn service_of_rsa() -> Service {
    let mut service = Service::new();
    let mount = format!("{}-rsa", service.pki.mount);
    service.pki = service.admin.enable_pki_of("rsa", &mount);
    service.set_pki_role(json!({}));
    service.admin.policy(&service.policy, &service.policy_hcl());
    service
}

/// A real start for each kind of key, then every runtime on what it wrote.
fn every_runtime_reads_the_stores_of(profile: &str) {
    println!("profile {profile}: keytool and mutual TLS 1.2 and 1.3");
    for (key_type, algorithm) in KEY_TYPES {
        // One kind of key is enough for keytool, which starts as slowly as the other.
        let with_keytool = key_type == "rsa-2048";
        let service = if with_keytool {
            service_of_rsa()
        } else {
            Service::new()
        };
        let manifest = service
            .manifest()
            .set("java.profile", profile)
            .set("trust.system", true)
            .set("certificate.key_type", key_type);
        let running = start(&service, manifest);
        let at = |name: &str| running.secrets_dir().join(name);
        let password = fs::read_to_string(at("keystore.password")).expect("it is there");
        let mut row = Vec::new();
        for jre in runtimes() {
            let what = format!("{profile} {key_type} on Java {}", jre.version);
            let list = |store: &str| jre.listing(&at(store), &at("keystore.password"));
            if !jre.knows(key_type) {
                row.push(format!("{} -", jre.version));
                continue;
            }
            if profile == "modern" && !jre.reads_aes() {
                if with_keytool {
                    let refusal = list("truststore.p12").expect_err(&what);
                    let reason = match jre.release {
                        8 => {
                            "parseAlgParameters failed: ObjectIdentifier() -- data isn't an object ID"
                        }
                        _ => "keystore password was incorrect",
                    };
                    assert_lines(&refusal, &[reason.to_owned()], &what);
                }
                row.push(format!("{} refused", jre.version));
                continue;
            }
            if with_keytool {
                let lines = [
                    "Your keystore contains 1 entry".to_owned(),
                    format!("Alias name: {}", service.app),
                    "Entry type: PrivateKeyEntry".to_owned(),
                    // The leaf and the intermediate.
                    "Certificate chain length: 2".to_owned(),
                    format!("CN={}", service.common_name()),
                ];
                assert_lines(&list("keystore.p12").expect(&what), &lines, &what);
                let trusted = "Entry type: trustedCertEntry".to_owned();
                let root = format!("Owner: CN={} root", service.pki.mount);
                let one = "Your keystore contains 1 entry".to_owned();
                let lines = [one, trusted.clone(), root.clone()];
                assert_lines(&list("truststore.p12").expect(&what), &lines, &what);
                if !jre.reads_aes() {
                    let bundle = list("bundle.p12").expect(&what);
                    assert_lines(&bundle, &[root], &what);
                    assert!(bundle.matches(&trusted).count() > 100, "{what}: {bundle}");
                }
            }
            let output = jre.mutual_tls(running.secrets_dir());
            let stdout = String::from_utf8_lossy(&output.stdout);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{what}:\n{stdout}{stderr}");
            let stores = [
                format!("java version={}", jre.version),
                // Some releases name the curve here, others its family: Ed25519, EdDSA.
                format!(
                    "alias={} keyEntry=true chain=2 algorithm={}",
                    service.app,
                    algorithm.replace("EdDSA", "Ed")
                ),
                format!("subject=CN={}", service.common_name()),
                "keystore type=PKCS12 entries=1 keys=1".to_owned(),
                format!(
                    "trustedCertEntry=true subject=CN={} root",
                    service.pki.mount
                ),
                "truststore type=PKCS12 entries=1 trusted=1".to_owned(),
            ];
            let protocols = jre.protocols().iter();
            let spoken = protocols.map(|protocol| format!("server protocol={protocol}"));
            let lines: Vec<String> = stores.into_iter().chain(spoken).collect();
            assert_lines(&stdout, &lines, &what);
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
fn java_since_8u301_reads_the_stores_of_the_modern_profile() {
    every_runtime_reads_the_stores_of("modern");
}

#[test]
fn every_java_reads_the_stores_of_the_java8_profile() {
    every_runtime_reads_the_stores_of("java8");
}

#[test]
fn bundle_opens_connections_where_java_args_names_it() {
    let (server, client) = (Service::new(), Service::new());
    let scratch = TempDir::new();
    let java = repository().join(".cache/jre/17/java");
    let options = "@{{ secrets_dir }}/java.args";
    let call = |service: &Service, manifest: Manifest, arguments: [&str; 2]| {
        let manifest = manifest.set("environment.JDK_JAVA_OPTIONS", options);
        let words = [java.as_os_str(), "-jar".as_ref(), jar().as_os_str()].map(ToOwned::to_owned);
        let arguments = arguments.map(Into::into);
        let call = Anteroom::new().manifest(manifest).token(service.mint());
        call.command(words.into_iter().chain(arguments))
    };
    // The server knows the clients' CA, and needs no bundle for it.
    let both = scratch.write(
        "both.pem",
        [&*server.pki.root_pem, "\n", &client.pki.root_pem].concat(),
    );
    let manifest = server.manifest().set("java", json!({}));
    let manifest = manifest.set("certificate.ca_file", both.display().to_string());
    let mut listening = call(&server, manifest, ["--serve", "0"]).spawn();
    listening.wait_for_stdout("listening port=");
    let stdout = listening.stdout();
    let (_, port) = stdout
        .split_once("listening port=")
        .expect("it was waited for");
    let address = format!("localhost:{}", port.trim_end());

    let servers = scratch.write("servers.pem", &server.pki.root_pem);
    let trust = json!({"system": true, "files": [servers.display().to_string()]});
    let manifest = client.manifest().set("trust", trust);
    for (default, code) in [("bundle", 0), ("anchors", 1)] {
        let manifest = manifest.clone().set("java.default_trust", default);
        let manifest = manifest.set("environment.BUNDLE", "{{ java.bundle }}");
        let run = call(&client, manifest, ["--connect", &address]).run();
        run.assert_code(code);
        let count = run.stdout.lines().find_map(|line| {
            let count = line.strip_prefix("truststore type=PKCS12 entries=")?;
            count.split(' ').next()?.parse::<usize>().ok()
        });
        let count = count.expect("the store is listed");
        if default == "bundle" {
            assert!(count > 100, "{count}: {run:?}");
            assert!(run.stdout.contains("client protocol=TLSv1.3 "), "{run:?}");
        } else {
            assert_eq!(count, 1, "{run:?}");
            run.assert_stderr("unable to find valid certification path");
        }
    }
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
    for jre in modern_runtimes() {
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
    for jre in modern_runtimes().filter(|jre| jre.release >= ARGUMENT_FILES) {
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
    for jre in modern_runtimes().filter(|jre| jre.release >= ARGUMENT_FILES) {
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

#[test]
fn check_names_what_a_profile_is_not_for() {
    for (profile, limits) in [
        (
            "modern",
            "Java before 8u301, and 11 before 11.0.12, cannot read it",
        ),
        ("java8", "triple DES and SHA-1, which are weak"),
    ] {
        let manifest = dry_manifest().set("java.profile", profile);
        let run = Anteroom::new().manifest(manifest).arg("check").run();
        run.assert_code(0);
        let row = run.stdout.lines().find(|line| line.starts_with("java "));
        let row = row.expect("the plan has the profile");
        assert!(row.contains(profile) && row.contains(limits), "{row}");
    }
}

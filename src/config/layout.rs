//! The table of a generation's files: the name, the mode and the source of each, told before anything is fetched.
//!
//! The check for clashes of names, the renderer, the secrets directory and the plan all read it. A new kind of file is a
//! row here, and an arm where its source is rendered, which the compiler asks for.

use super::{CertificateName, Config, Dependency, FileTemplate, Java};

/// The names and lives of fetched items, without any secret. The file is written anew while a generation stays.
pub(crate) const STATUS: &str = "status.json";
/// The wrapping token that an agent delivers, removed once it was read. No generation has it.
pub(crate) const TOKEN: &str = ".anteroom-token";

/// The mode of a file that holds no secret.
pub(crate) const PUBLIC: u32 = 0o444;
/// The mode of a file that only its owner may read.
pub(crate) const PRIVATE: u32 = 0o400;

/// A file of a generation, or the files of one folder whose names the answer alone tells.
pub(crate) struct Entry<S = ()> {
    /// The path below the secrets directory. A folder's ends with a slash.
    pub name: String,
    /// The permission bits.
    pub mode: u32,
    /// Present where the manifest gives the file to others than its owner, so that they must be able to come to it.
    pub shared: Option<Shared>,
    /// The source of the content.
    pub source: S,
}

/// The readers of a file besides its owner: those that the permission bits let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shared {
    /// The group of the file; none where that is its owner's own.
    pub group: Option<Group>,
}

/// A group of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The name or the number, as the manifest has it.
    pub name: String,
    /// The number; none where only another machine knows it, for a look at the manifest.
    pub id: Option<u32>,
}

/// The sources of a certificate's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificatePart {
    /// The leaf, then intermediates, without the root.
    Chain,
    /// The private key, as PKCS#8.
    PrivateKey,
    /// The trust anchors.
    TrustAnchors,
    /// The private key, then the chain.
    KeyAndChain,
    /// The leaf, in DER.
    LeafInDer,
    /// The private key, as PKCS#8 in DER.
    PrivateKeyInDer,
}

/// The sources of the files that Java reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JavaPart {
    /// The key with its chain.
    KeyStore,
    /// The trust anchors.
    TrustStore,
    /// The password of both stores.
    Password,
    /// The options for `JDK_JAVA_OPTIONS`.
    Arguments,
}

/// The sources of the files with all that is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrustPart {
    /// The anchors of all certificates, and what `[trust]` names, in PEM.
    Bundle,
    /// The same for Java.
    JavaBundle,
}

/// The sources of a credential's files.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CredentialPart<'a> {
    /// The value of a declared field.
    Field(&'a str),
    /// The value of a field that may be missing.
    OptionalField(&'a str),
    /// The value of each field of the answer, where the manifest declares none.
    EveryField,
    /// A text with values in it.
    Template(&'a FileTemplate),
}

/// Lists the files of a certificate; `has_der` says whether those in DER are among them.
pub(crate) fn of_certificate(
    certificate: &CertificateName,
    has_der: bool,
) -> Vec<Entry<CertificatePart>> {
    let file = |name, mode, source| entry(&certificate.path_of(name), mode, source);
    let mut entries = vec![
        file("tls.crt", PUBLIC, CertificatePart::Chain),
        file("tls.key", PRIVATE, CertificatePart::PrivateKey),
        file("ca.crt", PUBLIC, CertificatePart::TrustAnchors),
        file("tls.pem", PRIVATE, CertificatePart::KeyAndChain),
    ];
    if has_der {
        entries.extend([
            file("tls.der", PUBLIC, CertificatePart::LeafInDer),
            file("key.der", PRIVATE, CertificatePart::PrivateKeyInDer),
        ]);
    }
    entries
}

/// Lists the Java stores of a certificate, and the files by which Java finds and opens them; `certificates` is the number
/// of all certificates.
pub(crate) fn of_java(
    java: &Java,
    certificate: &CertificateName,
    certificates: usize,
) -> Vec<Entry<JavaPart>> {
    let file = |name, source| entry(&certificate.path_of(name), PRIVATE, source);
    let mut entries = vec![
        file(&java.keystore, JavaPart::KeyStore),
        file(&java.truststore, JavaPart::TrustStore),
        file("keystore.password", JavaPart::Password),
    ];
    if has_java_arguments(certificate, certificates) {
        entries.push(file("java.args", JavaPart::Arguments));
    }
    entries
}

/// The store of all that is trusted, for Java.
pub(crate) const JAVA_BUNDLE: &str = "bundle.p12";

/// Lists the files that `[trust]` asks for.
pub(crate) fn of_trust(java: Option<&Java>) -> Vec<Entry<TrustPart>> {
    let mut entries = vec![entry("ca-bundle.crt", PUBLIC, TrustPart::Bundle)];
    if java.is_some() {
        entries.push(entry(JAVA_BUNDLE, PRIVATE, TrustPart::JavaBundle));
    }
    entries
}

/// Says whether `java.args` names the stores of this certificate, of so many: a JVM has one key store, that of the main
/// certificate or of the only one.
pub(crate) fn has_java_arguments(certificate: &CertificateName, certificates: usize) -> bool {
    *certificate == CertificateName::Main || certificates == 1
}

/// Lists the files of a credential, all in the folder of its dependency.
pub(crate) fn of_credential(dependency: &Dependency) -> Vec<Entry<CredentialPart<'_>>> {
    let below = |name: &str, source| {
        let path = format!("{}/{name}", dependency.name);
        entry(&path, PRIVATE, source)
    };
    let mut entries = Vec::new();
    match &dependency.fields {
        Some(fields) => {
            let declared = fields.iter();
            entries.extend(declared.map(|field| below(field, CredentialPart::Field(field))));
            let others = dependency.optional_fields.iter();
            entries.extend(others.map(|field| below(field, CredentialPart::OptionalField(field))));
        }
        None => entries.push(below("", CredentialPart::EveryField)),
    }
    let templates = dependency.templates.iter();
    entries.extend(templates.map(|file| {
        let path = format!("{}/{}", dependency.name, file.name);
        of_template(path, file).with(CredentialPart::Template(file))
    }));
    entries
}

/// Lists the files of `[files]`.
pub(crate) fn of_files(files: &[FileTemplate]) -> Vec<Entry<&FileTemplate>> {
    let files = files.iter();
    let entries = files.map(|file| of_template(file.name.clone(), file).with(file));
    entries.collect()
}

fn of_template(path: String, file: &FileTemplate) -> Entry {
    Entry {
        name: path,
        mode: file.mode,
        shared: file.shared.clone(),
        source: (),
    }
}

/// Lists all files that readers of the secrets directory find.
pub(crate) fn files(config: &Config) -> Vec<Entry> {
    let mut files = vec![entry(STATUS, PUBLIC, ())];
    for certificate in &config.certificates {
        let (name, count) = (&certificate.name, config.certificates.len());
        let own = of_certificate(name, certificate.has_der).into_iter();
        files.extend(own.map(Entry::plain));
        let java = config.java.iter();
        let java = java.flat_map(|java| of_java(java, name, count));
        files.extend(java.map(Entry::plain));
    }
    if config.trust.is_some() {
        let own = of_trust(config.java.as_ref()).into_iter();
        files.extend(own.map(Entry::plain));
    }
    for dependency in &config.dependencies {
        files.extend(of_credential(dependency).into_iter().map(Entry::plain));
    }
    files.extend(of_files(&config.files).into_iter().map(Entry::plain));
    files
}

/// Lists the names at the top of the secrets directory: files, then folders.
pub(crate) fn visible_names(config: &Config) -> Vec<String> {
    let files = files(config).into_iter().map(|file| file.name);
    let files = files.filter(|name| !name.contains('/'));
    let certificates = config.certificates.iter();
    let certificates = certificates.filter_map(|spec| spec.name.folder());
    let dependencies = config.dependencies.iter().map(|spec| spec.name.as_str());
    let folders = certificates.chain(dependencies).map(str::to_owned);
    let mut names: Vec<String> = files.chain(folders).collect();
    for folder in config.files.iter().filter_map(FileTemplate::folder) {
        if !names.iter().any(|name| name == folder) {
            names.push(folder.to_owned());
        }
    }
    names
}

/// Lists the groups that files are given to.
pub(crate) fn groups(config: &Config) -> Vec<u32> {
    let shared = files(config).into_iter().filter_map(|file| file.shared);
    let mut groups: Vec<u32> = shared.filter_map(|shared| shared.group?.id).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

impl<S> Entry<S> {
    fn plain(self) -> Entry {
        self.with(())
    }

    fn with<T>(self, source: T) -> Entry<T> {
        Entry {
            name: self.name,
            mode: self.mode,
            shared: self.shared,
            source,
        }
    }
}

fn entry<S>(name: &str, mode: u32, source: S) -> Entry<S> {
    Entry {
        name: name.to_owned(),
        mode,
        shared: None,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::config::{Purpose, Surroundings, resolve};

    /// Resolves the manifest of a service with these tables.
    #[track_caller]
    fn service_with(tables: &str) -> Config {
        let cli = Cli::read(["anteroom", "check"].map(Into::into).to_vec());
        let cli = cli.unwrap_or_else(|_| panic!("a command line"));
        let manifest = format!(
            "service = {{ app = 'x', environment = 'y' }}\ntoken.creation_path = 'auth/token/create/x'\n{tables}"
        );
        resolve(&cli, &manifest, Surroundings::bare(), Purpose::Check)
            .unwrap_or_else(|error| panic!("{error}\n{manifest}"))
    }

    const CERTIFICATE: &str = "certificate = { role = 'x', common_name = 'x.example' }\n";

    #[test]
    fn every_file_has_its_name_and_mode() {
        let declared = "dependencies.db = { path = 'a/b', fields = ['user', 'password'], files = { pgpass = '' } }\n";
        let others = "dependencies.kv = { path = 'a/c', files = { x = '' } }\n";
        let none = "dependencies.none = { path = 'a/d', fields = [] }\n";
        let of_certificate = ["444 tls.crt", "400 tls.key", "444 ca.crt", "400 tls.pem"];
        let in_der = "certificate = { role = 'x', common_name = 'x.example', der = true }\n";
        for (tables, files, names) in [
            ("", &[][..], &[][..]),
            (
                CERTIFICATE,
                &of_certificate[..],
                &["tls.crt", "tls.key", "ca.crt", "tls.pem"][..],
            ),
            (
                in_der,
                &[&of_certificate[..], &["444 tls.der", "400 key.der"]].concat(),
                &[
                    "tls.crt", "tls.key", "ca.crt", "tls.pem", "tls.der", "key.der",
                ],
            ),
            (
                &[declared, others, none].concat(),
                &[
                    "400 db/user",
                    "400 db/password",
                    "400 db/pgpass",
                    "400 kv/",
                    "400 kv/x",
                ],
                &["db", "kv", "none"],
            ),
        ] {
            let config = service_with(tables);
            let found = super::files(&config).into_iter();
            let found: Vec<_> = found
                .map(|file| format!("{:o} {}", file.mode, file.name))
                .collect();
            assert_eq!(found[0], "444 status.json");
            assert_eq!(found[1..], *files, "{tables}");
            assert_eq!(visible_names(&config)[1..], *names, "{tables}");
        }
    }

    #[test]
    #[cfg(feature = "java")]
    fn stores_and_password_are_private() {
        let config = service_with(&format!("{CERTIFICATE}java.truststore = 'trust'\n"));
        let found = super::files(&config).into_iter().skip(5);
        let found: Vec<_> = found
            .map(|file| format!("{:o} {}", file.mode, file.name))
            .collect();
        let expected = [
            "400 keystore.p12",
            "400 trust",
            "400 keystore.password",
            "400 java.args",
        ];
        assert_eq!(found, expected);

        let config = service_with(&format!("{CERTIFICATE}java = {{}}\ntrust = {{}}\n"));
        let names = visible_names(&config);
        assert_eq!(names[9..], ["ca-bundle.crt", "bundle.p12"]);
    }

    #[test]
    fn other_certificates_have_folders() {
        let kafka = "certificates.kafka = { role = 'x', common_name = 'x.example', der = true }\n";
        let config = service_with(&format!("{CERTIFICATE}{kafka}"));
        let files = super::files(&config).into_iter();
        let found: Vec<_> = files
            .map(|file| format!("{:o} {}", file.mode, file.name))
            .filter(|file| file.contains('/'))
            .collect();
        let expected = [
            "444 kafka/tls.crt",
            "400 kafka/tls.key",
            "444 kafka/ca.crt",
            "400 kafka/tls.pem",
            "444 kafka/tls.der",
            "400 kafka/key.der",
        ];
        assert_eq!(found, expected);
        let names = visible_names(&config);
        assert_eq!(
            names[1..],
            ["tls.crt", "tls.key", "ca.crt", "tls.pem", "kafka"]
        );
    }
}

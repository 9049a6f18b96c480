//! `[certificate]`, `[certificates]` and `[java]`.

use std::path::PathBuf;

use super::Resolver;
use crate::config::{
    Certificate, CertificateName, DefaultTrust, Java, KeyType, Profile, TrustAnchors, layout,
};
use crate::manifest::{self, At, Manifest};
use crate::text::{file_name, is_host_name, named, positive, vault_path};

/// Lists the tables of certificates with the names of these, the main one first.
pub(super) fn tables(manifest: &Manifest) -> Vec<(CertificateName, &manifest::Certificate)> {
    let main = manifest.certificate.iter();
    let main = main.map(|table| (CertificateName::Main, table));
    let further = manifest.certificates.iter();
    let further =
        further.map(|(name, table)| (CertificateName::Further(name.value.clone()), table));
    main.chain(further).collect()
}

impl Resolver<'_> {
    pub(super) fn certificate(
        &mut self,
        name: &CertificateName,
        table: &manifest::Certificate,
    ) -> Option<Certificate> {
        let within = format!("in [{}]", name.table());
        let mount = match &table.mount {
            Some(value) => self.parsed(value, vault_path),
            None => Some("pki".to_owned()),
        };
        let role = self.required(table.role.as_ref(), &format!("`role` {within}"), vault_path);
        let common_name = self.required(
            table.common_name.as_ref(),
            &format!("`common_name` {within}"),
            common_name,
        );
        let mut dns_names = self.list(&table.dns_names, dns_name);
        if let Some(name) = &common_name
            && dns_name(name).is_ok()
            && !dns_names.contains(name)
        {
            // Since RFC 6125 clients look at the alternative names alone.
            dns_names.insert(0, name.clone());
        }
        let ip_addresses = self.list(&table.ip_addresses, |text| {
            text.parse()
                .map_err(|_| format!("`{}` is not an IP address", text.escape_default()))
        });
        let uris = self.list(&table.uris, uri);
        let ttl = table
            .ttl
            .as_ref()
            .and_then(|value| self.parsed(value, positive));
        let key_type = match &table.key_type {
            Some(value) => self.parsed(value, |text| named(text, &KeyType::NAMES)),
            None => Some(KeyType::EcP256),
        };
        let trust_anchors = match (&table.ca_file, &table.ca_path) {
            (Some(_), Some(path)) => {
                self.report_mistake(
                    Some(path.place),
                    format!("`ca_file` and `ca_path` {within} exclude each other"),
                );
                None
            }
            (Some(file), None) => self
                .text(file)
                .map(|text| TrustAnchors::File(PathBuf::from(text))),
            (None, Some(path)) => self.parsed(path, vault_path).map(TrustAnchors::Path),
            (None, None) => Some(TrustAnchors::Answer),
        };
        Some(Certificate {
            name: name.clone(),
            mount: mount?,
            role: role?,
            common_name: common_name?,
            dns_names,
            ip_addresses,
            uris,
            ttl,
            key_type: key_type?,
            trust_anchors: trust_anchors?,
            has_der: table.der,
        })
    }

    pub(super) fn java(&mut self, table: &manifest::Java, manifest: &Manifest) -> Option<Java> {
        let here = Some(table.place);
        if cfg!(not(feature = "java")) {
            self.report_mistake(here, "this anteroom was built without the feature `java`, and cannot write the stores of [java]: take a build with the feature, or remove [java]");
            return None;
        }
        let certificates = tables(manifest);
        if certificates.is_empty() {
            self.report_mistake(here, "[java] needs [certificate], or a table of [certificates]: its stores hold that certificate and its trust anchors");
        }
        let mut name = |value: &Option<At<String>>, default: &str| match value {
            Some(value) => self.parsed(value, |text| file_name(text).map(|()| text.to_owned())),
            None => Some(default.to_owned()),
        };
        let keystore = name(&table.keystore, "keystore.p12");
        let truststore = name(&table.truststore, "truststore.p12");
        let profile = match &table.profile {
            Some(value) => self.parsed(value, |text| {
                named(
                    text,
                    &[Profile::Modern, Profile::Java8].map(|known| (known.name(), known)),
                )
            }),
            None => Some(Profile::Modern),
        };
        let default_trust = match &table.default_trust {
            Some(value) => self.default_trust(value, manifest),
            None => Some(DefaultTrust::Anchors),
        };
        Some(Java {
            keystore: keystore?,
            truststore: truststore?,
            profile: profile?,
            default_trust: default_trust?,
        })
    }

    /// Reads which trust store `java.args` names, which asks for both of them.
    fn default_trust(&mut self, value: &At<String>, manifest: &Manifest) -> Option<DefaultTrust> {
        let names = [
            ("anchors", DefaultTrust::Anchors),
            ("bundle", DefaultTrust::Bundle),
        ];
        let chosen = self.parsed(value, |text| named(text, &names))?;
        let certificates = tables(manifest);
        let has_arguments = certificates
            .iter()
            .any(|(name, _)| layout::has_java_arguments(name, certificates.len()));
        if chosen == DefaultTrust::Bundle && manifest.trust.is_none() {
            self.report_mistake(
                Some(value.place),
                "`default_trust = \"bundle\"` needs [trust], which says what is in the bundle",
            );
        }
        if !certificates.is_empty() && !has_arguments {
            self.report_mistake(Some(value.place), "`default_trust` says which store java.args names, and there is no java.args here: it is that of [certificate], or of the only certificate");
        }
        Some(chosen)
    }
}

fn common_name(text: &str) -> Result<String, String> {
    // X.520 ub-common-name.
    if text.is_empty() || text.chars().count() > 64 || text.chars().any(char::is_control) {
        return Err(
            "a common name has 1 to 64 characters; longer names go in `dns_names`".to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn dns_name(text: &str) -> Result<String, String> {
    if is_host_name(text.strip_prefix("*.").unwrap_or(text))
        && text.parse::<std::net::IpAddr>().is_err()
    {
        Ok(text.to_owned())
    } else {
        Err(format!("`{}` is not a DNS name", text.escape_default()))
    }
}

fn uri(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                && !rest.is_empty()
                && rest.chars().all(|c| c.is_ascii_graphic()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("`{}` is not a URI", text.escape_default())),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use crate::config::{Error, Purpose, Surroundings, resolve};

    const CERTIFICATE: &str = "[certificate]\nrole = \"x\"\ncommon_name = \"x.example\"\n";

    /// The mistakes that a look at a service with these tables finds.
    fn mistakes(tables: &str) -> Vec<String> {
        let cli = Cli::read(["anteroom", "check"].map(Into::into).to_vec());
        let cli = cli.unwrap_or_else(|_| panic!("a command line"));
        let service = "service = { app = \"x\", environment = \"y\" }\n\
            vault = { address = \"https://vault.example\" }\n\
            token = { creation_path = \"auth/token/create/x\" }\n";
        match resolve(
            &cli,
            &format!("{service}{tables}"),
            Surroundings::bare(),
            Purpose::Check,
        ) {
            Ok(_) => Vec::new(),
            Err(Error::Mistakes { mistakes, .. }) => {
                mistakes.iter().map(ToString::to_string).collect()
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    #[cfg(feature = "java")]
    fn java_without_a_certificate_is_a_mistake_at_its_place() {
        let sound = mistakes(&format!("{CERTIFICATE}[java]\n"));
        assert_eq!(sound, [""; 0]);
        let alone = mistakes("[java]\n");
        assert_eq!(alone.len(), 1, "{alone:?}");
        assert!(alone[0].starts_with("line 4, column 1: [java] needs [certificate]"));
    }

    #[test]
    #[cfg(not(feature = "java"))]
    fn java_in_a_build_without_it_is_one_mistake() {
        assert_eq!(mistakes(CERTIFICATE), [""; 0]);
        let beside = format!("{CERTIFICATE}[java]\n");
        for (what, tables, line) in [
            ("beside a certificate", beside.as_str(), 7),
            ("alone", "[java]\n", 4),
            ("with a key", "[java]\nprofile = \"java8\"\n", 4),
            ("with a wrong value", "[java]\nprofile = \"x\"\n", 4),
        ] {
            let expected = format!(
                "line {line}, column 1: this anteroom was built without the feature `java`, and cannot write the stores of [java]: take a build with the feature, or remove [java]"
            );
            assert_eq!(mistakes(tables), [expected], "{what}");
        }
    }
}

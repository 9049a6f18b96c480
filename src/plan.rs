//! The plan: what a start would fetch and write, as a table without a single value.

use std::fmt::Write as _;
use std::time::Duration;

use crate::config::{
    Config, Dependency, Lifecycle, Method, OnExpiry, OnRotate, TrustAnchors, layout,
};
use crate::log::sanitised;

/// Formats the plan for people.
pub(crate) fn text(config: &Config) -> String {
    let mut plan = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(plan, "{name:<14}{}", sanitised(value, 1024));
    };
    row(
        "service",
        &format!("{} in {}", config.app, config.environment),
    );
    for notice in config.notices.iter().chain(&config.guesses) {
        row("note", notice);
    }
    let address = config.way.address.as_deref();
    let mut vault = address
        .unwrap_or("where VAULT_ADDR or BAO_ADDR says at the start")
        .to_owned();
    if let Some(namespace) = &config.promise.namespace {
        let _ = write!(vault, ", namespace {namespace}");
    }
    row("vault", &vault);
    row(
        "  CA",
        &config.way.ca.as_ref().map_or_else(
            || "the system's".to_owned(),
            |path| path.display().to_string(),
        ),
    );
    let wait = match config.delivery.wait {
        Duration::ZERO => String::new(),
        wait => format!(", waited for {} s", wait.as_secs_f64()),
    };
    row(
        "token",
        &match &config.delivery.path {
            Some(path) if path.as_os_str() == "-" => "on standard input".to_owned(),
            Some(path) => format!("at {}{wait}", path.display()),
            None => "in ANTEROOM_TOKEN, or where --token-file says".to_owned(),
        },
    );
    row("  made at", &config.promise.creation_path);
    for certificate in &config.certificates {
        let ttl = certificate.ttl.map_or_else(
            || "the role's ttl".to_owned(),
            |ttl| format!("{} s", ttl.as_secs()),
        );
        let name = certificate.name.folder();
        row(
            "certificate",
            &format!(
                "{}{}/sign/{} for CN {}, key {}, {ttl}",
                name.map_or_else(String::new, |name| format!("{name}: ")),
                certificate.mount,
                certificate.role,
                certificate.common_name,
                certificate.key_type.name()
            ),
        );
        let addresses: Vec<String> = certificate
            .ip_addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        let names = [
            certificate.dns_names.join(", "),
            addresses.join(", "),
            certificate.uris.join(", "),
        ];
        row(
            "  names",
            &names
                .into_iter()
                .filter(|names| !names.is_empty())
                .collect::<Vec<_>>()
                .join(", "),
        );
        row(
            "  trusts",
            &match &certificate.trust_anchors {
                TrustAnchors::Answer => "the root of its own chain".to_owned(),
                TrustAnchors::File(path) => path.display().to_string(),
                TrustAnchors::Path(path) => path.clone(),
            },
        );
        row("  kept", "replaced before it ends");
    }
    for file in config.trust.iter().flat_map(|trust| &trust.files) {
        let left_out = match file.left_out {
            0 => String::new(),
            1 => ", without 1 that has expired or cannot be read".to_owned(),
            count => format!(", without {count} that have expired or cannot be read"),
        };
        let (path, count) = (file.path.display(), file.certificates.len());
        let cas = if count == 1 { "CA" } else { "CAs" };
        row("trust", &format!("{path}: {count} {cas}{left_out}"));
    }
    if let Some(java) = &config.java {
        let (profile, limits) = (java.profile.name(), java.profile.limits());
        row("java", &format!("profile {profile}: {limits}"));
    }
    for dependency in &config.dependencies {
        let method = match &dependency.method {
            Method::Read => "read".to_owned(),
            Method::Write(fields) => {
                let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                format!("write ({})", names.join(", "))
            }
        };
        let optional = if dependency.is_optional {
            ", optional"
        } else {
            ""
        };
        row(
            "dependency",
            &format!(
                "{}: {method} {}{optional}",
                dependency.name, dependency.path
            ),
        );
        row("  kept", &kept(dependency));
    }
    let directory = config.secrets_dir.as_ref().map_or_else(
        || "a new private directory".to_owned(),
        |path| path.display().to_string(),
    );
    row("directory", &directory);
    for file in layout::files(config) {
        let is_folder = file.name.ends_with('/');
        let of_fields = if is_folder {
            " one file for each field"
        } else {
            ""
        };
        let group = file.shared.and_then(|shared| shared.group);
        let group = group.map_or_else(String::new, |group| format!(" (group {})", group.name));
        row(
            "  file",
            &format!("{:04o} {}{of_fields}{group}", file.mode, file.name),
        );
    }
    for variable in &config.variables {
        row("variable", &variable.name);
    }
    for dependency in &config.dependencies {
        let Some(prefix) = &dependency.env_prefix else {
            continue;
        };
        for field in dependency.known_fields() {
            row("variable", &prefix.variable(field));
        }
        if dependency.fields.is_none() {
            let text = format!("{}… one for each field of {}", prefix.text, dependency.name);
            row("variable", &text);
        }
    }
    row("deadline", &format!("{} s", config.deadline.as_secs_f64()));
    row(
        "lifecycle",
        match &config.lifecycle {
            Lifecycle::Exec => "exec",
            Lifecycle::Supervise(_) => "supervise",
        },
    );
    row(
        "on rotation",
        &match &config.renewal.on_rotate {
            OnRotate::Nothing => "the application is not told".to_owned(),
            OnRotate::Signal(signal) => format!("it gets {signal}, once it has a handler for it"),
            OnRotate::Restart { splay, .. } => format!(
                "it is ended and started again with the new variables, after a random wait of up to {} s",
                splay.as_secs_f64()
            ),
            OnRotate::Command {
                words,
                timeout,
                runs_at_start,
            } => {
                let at_start = if *runs_at_start {
                    ", at the start too"
                } else {
                    ""
                };
                let (words, seconds) = (words.join(" "), timeout.as_secs_f64());
                format!("{words} (at most {seconds} s{at_start})")
            }
        },
    );
    row(
        "on expiry",
        &match config.renewal.on_expiry {
            OnExpiry::Ignore => "the application goes on with what it has".to_owned(),
            OnExpiry::Signal(signal) => format!("it gets {signal}"),
            OnExpiry::Terminate => "it is ended, with exit code 75".to_owned(),
        },
    );
    plan
}

/// Says how a credential is kept fresh, as far as that is known before its engine has answered.
fn kept(dependency: &Dependency) -> String {
    match dependency.refresh {
        Some(interval) => format!(
            "read again every {} s, published when it has changed",
            interval.as_secs_f64()
        ),
        None if dependency.may_have_lease() => {
            "as the answer says: a lease is renewed, then replaced; an answer that names its end is replaced before that; any other is fetched once"
                .to_owned()
        }
        None => "fetched once; `refresh` reads it again".to_owned(),
    }
}

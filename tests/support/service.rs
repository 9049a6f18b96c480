//! The scene of most tests: one service with all it needs in a real OpenBao.

use std::fmt;

use serde_json::{Map, Value, json};

use super::openbao::merge;
use super::{Admin, OpenBao, Pki, Postgres, Run, Wrapped, unique};

/// A service called `app` in the environment `test`, with everything that it may fetch.
#[derive(Clone)]
pub struct Service {
    /// The administrator of the namespace it lives in.
    pub admin: Admin,
    /// The service's name.
    pub app: String,
    /// The service's environment, `test`.
    pub environment: String,
    /// The token role it is minted with, `<app>-test`.
    pub token_role: String,
    /// The service's policy, `<app>-test`.
    pub policy: String,
    /// The service's PKI; the role has the name of the app.
    pub pki: Pki,
    /// The mount of its KV store, version 2.
    pub kv2: String,
    /// The mount of its KV store, version 1.
    pub kv1: String,
    /// The mount of its database engine, if it has one; the role has the name of the app.
    pub database: Option<String>,
}

impl Service {
    /// The field `api_key` of the secret `payment` in KV version 2.
    pub const API_KEY: &'static str = "canary-api-key-4711";
    /// The field `password` of the secret `legacy` in KV version 1.
    pub const LEGACY_PASSWORD: &'static str = "canary-legacy-0815";
    /// Every secret value that is known in advance.
    pub const CANARIES: &'static [&'static str] = &[Self::API_KEY, Self::LEGACY_PASSWORD];

    /// A service on the shared server, without a database.
    pub fn new() -> Self {
        Self::on(OpenBao::shared())
    }

    /// A service on the shared server, with a role on the shared PostgreSQL.
    pub fn with_database() -> Self {
        Self::build(OpenBao::shared(), Some(Postgres::shared()))
    }

    /// A service on this server or in this namespace, without a database.
    pub fn on(admin: &Admin) -> Self {
        Self::build(admin, None)
    }

    /// A service on this server or in this namespace, with a role on this PostgreSQL if there is one.
    pub fn build(admin: &Admin, postgres: Option<&Postgres>) -> Self {
        let app = unique("app");
        let environment = "test".to_owned();
        let name = format!("{app}-{environment}");
        let pki = admin.enable_pki(&format!("pki-{app}"));
        let service = Self {
            admin: admin.clone(),
            token_role: name.clone(),
            policy: name,
            kv2: format!("kv2-{app}"),
            kv1: format!("kv1-{app}"),
            database: postgres.map(|_| format!("database-{app}")),
            pki,
            environment,
            app,
        };
        service.set_pki_role(Value::Null);
        admin.enable_kv2(&service.kv2);
        admin.kv_put(
            &service.payment_path(),
            json!({"data": {"api_key": Self::API_KEY, "endpoint": "https://payment.example.io"}}),
        );
        admin.enable_kv1(&service.kv1);
        admin.kv_put(
            &service.legacy_path(),
            json!({"username": "legacy", "password": Self::LEGACY_PASSWORD}),
        );
        if let (Some(mount), Some(postgres)) = (&service.database, postgres) {
            admin.enable_database(mount, postgres);
            admin.database_role(mount, &service.app, Value::Null);
        }
        admin.policy(&service.policy, &service.policy_hcl());
        service.set_token_role(Value::Null);
        service
    }

    /// The common name of its certificate, `<app>.test.example.io`.
    pub fn common_name(&self) -> String {
        format!("{}.{}.example.io", self.app, self.environment)
    }

    /// The path of the secret in KV version 2.
    pub fn payment_path(&self) -> String {
        format!("{}/data/payment", self.kv2)
    }

    /// The path of the secret in KV version 1.
    pub fn legacy_path(&self) -> String {
        format!("{}/legacy", self.kv1)
    }

    /// The path of its database credential.
    pub fn database_path(&self) -> String {
        let mount = self
            .database
            .as_ref()
            .expect("made with Service::with_database");
        format!("{mount}/creds/{}", self.app)
    }

    /// The least policy that the service needs.
    pub fn policy_hcl(&self) -> String {
        let mut rules = vec![
            (format!("{}/sign/{}", self.pki.mount, self.app), "update"),
            (self.payment_path(), "read"),
            (self.legacy_path(), "read"),
            // For what was replaced.
            ("sys/leases/revoke".to_owned(), "update"),
        ];
        if self.database.is_some() {
            rules.push((self.database_path(), "read"));
        }
        rules
            .iter()
            .map(|(path, capability)| {
                format!("path \"{path}\" {{ capabilities = [\"{capability}\"] }}\n")
            })
            .collect()
    }

    /// Writes the PKI role anew with these changes.
    pub fn set_pki_role(&self, changes: Value) {
        let mut role = json!({
            "allowed_domains": [self.common_name(), "localhost"],
            "allow_bare_domains": true,
            "allow_localhost": true,
            "allow_ip_sans": true,
            "allowed_uri_sans": ["spiffe://example.io/*"],
            "key_type": "any",
            "max_ttl": "72h",
        });
        merge(&mut role, changes);
        self.admin.pki_role(&self.pki.mount, &self.app, role);
    }

    /// Writes the token role anew with these changes.
    pub fn set_token_role(&self, changes: Value) {
        let mut role = json!({
            "orphan": true,
            "renewable": true,
            "allowed_policies": [self.policy],
        });
        merge(&mut role, changes);
        self.admin.token_role(&self.token_role, role);
    }

    /// A wrapping token for the service: 30 s, for a client token of 1 h.
    pub fn mint(&self) -> Wrapped {
        self.mint_with("30s", Value::Null)
    }

    /// A wrapping token with this time to live; `changes` overrides fields of the request.
    pub fn mint_with(&self, wrap_ttl: &str, changes: Value) -> Wrapped {
        let mut body = json!({"ttl": "1h", "policies": [self.policy], "meta": {"app": self.app}});
        merge(&mut body, changes);
        self.admin.mint(&self.token_role, wrap_ttl, body)
    }

    /// Fails when this wrapping token is not valid any more.
    #[track_caller]
    pub fn assert_unused(&self, wrapped: &Wrapped, what: &str) {
        let status = self.admin.lookup_wrapping(&wrapped.token);
        assert_eq!(status, 200, "{what}: the wrapping token was used up");
    }

    /// The manifest: the certificate and every dependency.
    pub fn manifest(&self) -> Manifest {
        self.manifest_for(self.admin.address())
    }

    /// The manifest with another address for Vault, for instance a proxy's.
    pub fn manifest_for(&self, address: &str) -> Manifest {
        let mut manifest = json!({
            "service": {"app": self.app, "environment": self.environment},
            "vault": {"address": address},
            "token": {
                "creation_path": "auth/token/create/${app}-${environment}",
                "max_wrap_ttl": "60s",
                "policies": [self.policy],
            },
            "certificate": {
                "mount": self.pki.mount,
                "role": self.app,
                "common_name": "${app}.${environment}.example.io",
                "dns_names": ["localhost"],
                "ttl": "24h",
            },
            "dependencies": {
                "payment": {"path": self.payment_path(), "fields": ["api_key"]},
                "legacy": {"path": self.legacy_path()},
            },
        });
        if let Some(namespace) = self.admin.namespace_path() {
            manifest["vault"]["namespace"] = namespace.into();
        }
        if self.database.is_some() {
            manifest["dependencies"]["db"] = json!({"path": self.database_path()});
        }
        Manifest(manifest)
    }
}

impl Default for Service {
    fn default() -> Self {
        Self::new()
    }
}

/// A manifest that a test can change before it is written as TOML.
#[derive(Clone, Debug)]
pub struct Manifest(pub Value);

impl Manifest {
    /// A manifest with nothing in it.
    pub fn empty() -> Self {
        Self(json!({}))
    }

    /// Leaves nothing to ask for but the token.
    pub fn bare(self) -> Self {
        self.remove("certificate").remove("dependencies")
    }

    /// Sets one value; `key` is dotted, for instance `vault.deadline`.
    pub fn set(self, key: &str, value: impl Into<Value>) -> Self {
        self.set_at(&key.split('.').collect::<Vec<_>>(), value)
    }

    /// Sets one value at this path, for keys that hold a dot.
    pub fn set_at(mut self, path: &[&str], value: impl Into<Value>) -> Self {
        let mut place = &mut self.0;
        for key in path {
            place = &mut place[*key];
        }
        *place = value.into();
        self
    }

    /// Removes a table or a value; `key` is dotted.
    pub fn remove(mut self, key: &str) -> Self {
        let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
        let pointer: String = parents
            .split('.')
            .filter(|part| !part.is_empty())
            .map(|part| format!("/{part}"))
            .collect();
        if let Some(Value::Object(table)) = self.0.pointer_mut(&pointer) {
            table.remove(last);
        }
        self
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_table(
            out,
            &mut Vec::new(),
            self.0.as_object().expect("a manifest is a table"),
        )
    }
}

impl From<Manifest> for String {
    fn from(manifest: Manifest) -> Self {
        manifest.to_string()
    }
}

fn write_table(
    out: &mut fmt::Formatter<'_>,
    path: &mut Vec<String>,
    table: &Map<String, Value>,
) -> fmt::Result {
    // Plain values come before sub-tables: in TOML they would belong to the last of them otherwise.
    for (key, value) in table.iter().filter(|(_, value)| !value.is_object()) {
        writeln!(out, "{} = {value}", quoted(key))?;
    }
    for (key, value) in table {
        if let Value::Object(inner) = value {
            path.push(quoted(key));
            writeln!(out, "\n[{}]", path.join("."))?;
            write_table(out, path, inner)?;
            path.pop();
        }
    }
    Ok(())
}

fn quoted(key: &str) -> String {
    // TOML's basic strings know every escape that JSON writes.
    Value::from(key).to_string()
}

/// Not started, nothing left, and the token is gone.
#[track_caller]
pub fn assert_revoked(run: &Run, code: i32, service: &Service, token: &Wrapped) {
    run.assert_code(code);
    assert_eq!(run.stdout, "", "the application was started\n{run:?}");
    run.assert_no_files();
    assert!(
        !service.admin.accessor_exists(&token.wrapped_accessor),
        "the token was not revoked\n{run:?}"
    );
}

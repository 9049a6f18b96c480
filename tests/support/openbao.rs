//! A real OpenBao server, and its API as an operator uses it.

use std::net::TcpStream;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Postgres, TempDir, free_port, lock, nursery, report, repository, tls, wait_for};

/// Where a server keeps its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In memory: fast, gone when the server stops.
    #[default]
    Memory,
    /// On disk (integrated storage with one node): survives a restart.
    Raft,
}

/// How a private server is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Serve https, with a certificate from a CA of its own.
    pub tls: bool,
    /// Where the data is.
    pub storage: Storage,
    /// Write another audit log, with hashes for all that a server hashes unless it is told not to.
    pub hashed_audit: bool,
}

/// A running server; also its [`Admin`] in the root namespace.
pub struct OpenBao {
    admin: Admin,
    directory: TempDir,
    ca_pem_path: Option<PathBuf>,
    unseal_key: String,
    child: Mutex<Option<Child>>,
    port: u16,
}

impl Deref for OpenBao {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

impl OpenBao {
    /// The audit device with hashes, and its file.
    pub const HASHED: &'static str = "hashed";

    /// The server that all tests share: in memory, plain http.
    pub fn shared() -> &'static OpenBao {
        static SHARED: LazyLock<OpenBao> = LazyLock::new(|| OpenBao::start(Options::default()));
        report::measure();
        &SHARED
    }

    /// A server of the test's own, killed on Drop.
    pub fn start(options: Options) -> Self {
        tls::install_crypto();
        let directory = TempDir::new();
        let port = free_port();
        let cluster_port = free_port();
        let scheme = if options.tls { "https" } else { "http" };
        let address = format!("{scheme}://127.0.0.1:{port}");
        let at = |name: &str| directory.join(name).display().to_string();

        let ca_pem_path = options.tls.then(|| {
            tls::write_server_files(directory.path());
            directory.join("ca.pem")
        });
        let certificate = if options.tls {
            format!(
                "tls_cert_file = {:?}\n  tls_key_file = {:?}",
                at("server.pem"),
                at("server-key.pem")
            )
        } else {
            "tls_disable = true".to_owned()
        };
        let storage = match options.storage {
            Storage::Memory => "storage \"inmem\" {}".to_owned(),
            Storage::Raft => {
                std::fs::create_dir(directory.join("raft"))
                    .expect("our own directory can be written");
                format!(
                    "storage \"raft\" {{\n  path = {:?}\n  node_id = \"only\"\n  performance_multiplier = \"1\"\n}}",
                    at("raft")
                )
            }
        };
        let hashed = if options.hashed_audit {
            format!(
                "audit \"file\" {:?} {{\n  options {{\n    file_path = {:?}\n  }}\n}}",
                Self::HASHED,
                at(Self::HASHED)
            )
        } else {
            String::new()
        };
        // OpenBao refuses audit devices over the API, and does not read this stanza as JSON.
        let config = format!(
            r#"
ui = false
log_level = "warn"
api_addr = "{address}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
{storage}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  {certificate}
}}
audit "file" "harness" {{
  options {{
    file_path = {:?}
    log_raw = "true"
  }}
}}
{hashed}
"#,
            at("audit.log")
        );
        directory.write("config.hcl", config);

        let ca_pem = ca_pem_path
            .as_ref()
            .map(|path| std::fs::read(path).expect("written just now"));
        let admin = Admin {
            agent: agent(ca_pem.as_deref()),
            address,
            token: String::new(),
            namespace: None,
        };
        let mut server = Self {
            admin,
            directory,
            ca_pem_path,
            unseal_key: String::new(),
            child: Mutex::new(None),
            port,
        };
        server.launch();
        let init = server.ok(
            "PUT",
            "sys/init",
            json!({"secret_shares": 1, "secret_threshold": 1}),
        );
        server.unseal_key = text(&init["keys"][0]);
        server.admin.token = text(&init["root_token"]);
        server.unseal();
        server
    }

    fn launch(&self) {
        let binary = binary();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("server.log"))
            .expect("our own directory can be written");
        let mut command = Command::new(&binary);
        command
            .arg("server")
            .arg(format!(
                "-config={}",
                self.directory.join("config.hcl").display()
            ))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log);
        let child = nursery::spawn(command, Signal::SIGKILL)
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", binary.display()));
        *lock(&self.child) = Some(child);
        wait_for("OpenBao to listen", Duration::from_secs(20), || {
            self.panic_if_ended();
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        // 501: not initialised, 503: sealed. Both are a server that answers.
        wait_for("OpenBao to answer", Duration::from_secs(20), || {
            self.panic_if_ended();
            let status = self.health();
            [200, 429, 501, 503].contains(&status).then_some(())
        });
    }

    fn panic_if_ended(&self) {
        let mut child = lock(&self.child);
        if let Some(status) = child
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
        {
            let log =
                std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default();
            panic!("OpenBao ended ({status}):\n{log}");
        }
    }

    /// The status code of `sys/health`: 200 ready, 429 standby, 501 not initialised, 503 sealed, 0 no answer.
    pub fn health(&self) -> u16 {
        self.api("GET", "sys/health")
            .try_send()
            .map_or(0, |answer| answer.status)
    }

    /// The file with the CA of a server with TLS.
    pub fn ca_pem_path(&self) -> &Path {
        self.ca_pem_path
            .as_deref()
            .expect("this server was started without tls")
    }

    /// The audit log: one JSON object a line, nothing hashed.
    pub fn audit_file(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    /// The audit log of a server that was started with `hashed_audit`.
    pub fn hashed_audit_file(&self) -> PathBuf {
        self.directory.join(Self::HASHED)
    }

    /// The entries of the audit log so far.
    pub fn audit(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.audit_file()).expect("the audit log is readable");
        // The last line may be half written.
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The server's own log.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Kills the server; what is in memory is gone.
    pub fn stop(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the server from answering without closing a connection (SIGSTOP), and waits until it stands still.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let pid = lock(&self.child).as_ref().map(Child::id);
        let threads = format!("/proc/{}/task", pid.expect("it was signalled"));
        let is_still = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the command name, in brackets; a thread without one is gone.
            stat.rsplit_once(") ")
                .is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        wait_for("OpenBao to stand still", Duration::from_secs(20), || {
            let mut threads = std::fs::read_dir(&threads).expect("it is there").flatten();
            threads.all(is_still).then_some(())
        });
    }

    /// Undoes [`OpenBao::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let child = lock(&self.child);
        let pid = child.as_ref().expect("the server is running").id();
        kill(Pid::from_raw(pid.cast_signed()), signal).expect("our own child can be signalled");
    }

    /// Kills the server and starts it again on the same port, unsealed; for [`Storage::Raft`].
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// Starts a stopped server again on the same port, unsealed; for [`Storage::Raft`].
    pub fn start_again(&self) {
        self.launch();
        self.unseal();
    }

    /// Seals the server.
    pub fn seal(&self) {
        self.ok("PUT", "sys/seal", Value::Null);
    }

    /// Unseals the server and waits until it is ready.
    pub fn unseal(&self) {
        self.ok("PUT", "sys/unseal", json!({"key": self.unseal_key}));
        wait_for("OpenBao to be ready", Duration::from_secs(30), || {
            self.panic_if_ended();
            (self.health() == 200).then_some(())
        });
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server's program, which is the command line too.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("ANTEROOM_TEST_BAO")
        .map_or_else(|| repository().join(".cache/bao"), PathBuf::from);
    assert!(
        path.is_file(),
        "there is no OpenBao at {}: run scripts/install bao, or name one in ANTEROOM_TEST_BAO",
        path.display()
    );
    path
}

fn agent(ca_pem: Option<&[u8]>) -> ureq::Agent {
    let mut tls = ureq::tls::TlsConfig::builder();
    if let Some(pem) = ca_pem {
        let ca = ureq::tls::Certificate::from_pem(pem).expect("the CA is PEM");
        tls = tls.root_certs(ureq::tls::RootCerts::new_with_certs(&[ca]));
    }
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .allow_non_standard_methods(true)
        // A server that was restarted in between must not be met through an old connection.
        .max_idle_connections(0)
        .tls_config(tls.build())
        .build()
        .into()
}

/// The string in a JSON answer; panics with the value when it is none.
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string was expected, not {value}"))
        .to_owned()
}

#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; null if it is empty or no JSON.
    pub json: Value,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A request that is being put together.
#[must_use]
pub struct Api<'a> {
    admin: &'a Admin,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    token: Option<String>,
    namespace: Option<String>,
    body: Value,
    patience: Duration,
}

impl Api<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Uses this token instead of the administrator's; an empty one means none.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Uses this namespace instead of the administrator's.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sends this as the body; null is no body.
    pub fn body(mut self, body: Value) -> Self {
        self.body = body;
        self
    }

    /// Waits no longer than this for the answer.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends it; panics when there is no answer.
    pub fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        self.try_send()
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends it.
    pub fn try_send(self) -> Result<Answer, ureq::Error> {
        let url = format!("{}/v1/{}", self.admin.address, self.path);
        let mut request = ureq::http::Request::builder()
            .method(self.method.as_str())
            .uri(url);
        let token = self.token.as_ref().unwrap_or(&self.admin.token);
        if !token.is_empty() {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(namespace) = self.namespace.as_ref().or(self.admin.namespace.as_ref()) {
            request = request.header("X-Vault-Namespace", namespace);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let agent = &self.admin.agent;
        let mut answer = if self.body.is_null() {
            let request = request.body(()).expect("the request is well formed");
            let config = agent.configure_request(request);
            agent.run(config.timeout_global(Some(self.patience)).build())?
        } else {
            let request = request.header("Content-Type", "application/json");
            let request = request
                .body(self.body.to_string())
                .expect("the request is well formed");
            let config = agent.configure_request(request);
            agent.run(config.timeout_global(Some(self.patience)).build())?
        };
        let body = answer.body_mut().read_to_vec()?;
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: answer
                .headers()
                .iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect(),
            json: serde_json::from_slice(&body).unwrap_or(Value::Null),
        })
    }
}

/// A token handed out wrapped.
#[derive(Clone, Debug)]
pub struct Wrapped {
    /// The wrapping token.
    pub token: String,
    /// The accessor of the wrapping token itself.
    pub accessor: String,
    /// The accessor of the client token inside.
    pub wrapped_accessor: String,
    /// The path that made it.
    pub creation_path: String,
    /// The whole answer, as the command line tool prints it with `-format=json`.
    pub json: Value,
}

impl AsRef<std::ffi::OsStr> for Wrapped {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.token.as_ref()
    }
}

/// A PKI with a root and an intermediate CA.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The mount that signs leaves: the intermediate CA.
    pub mount: String,
    /// The root's certificate.
    pub root_pem: String,
    /// The intermediate's certificate.
    pub intermediate_pem: String,
}

/// The API with an administrator's token, in one namespace.
#[derive(Clone)]
pub struct Admin {
    agent: ureq::Agent,
    address: String,
    token: String,
    namespace: Option<String>,
}

impl Admin {
    /// The server's address with scheme and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The administrator's token.
    pub fn root_token(&self) -> &str {
        &self.token
    }

    /// The namespace, if it is not the root.
    pub fn namespace_path(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Begins a request; `path` is what follows `/v1/`.
    pub fn api(&self, method: &str, path: &str) -> Api<'_> {
        Api {
            admin: self,
            method: method.into(),
            path: path.into(),
            headers: Vec::new(),
            token: None,
            namespace: None,
            body: Value::Null,
            patience: Duration::from_secs(60),
        }
    }

    /// Sends a request and gives status and body.
    pub fn request(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let answer = self.api(method, path).body(body).send();
        (answer.status, answer.json)
    }

    /// Sends a request that must succeed and gives the body.
    pub fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, json) = self.request(method, path, body);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {json}"
        );
        json
    }

    /// Makes a namespace below this one and gives its administrator.
    pub fn namespace(&self, name: &str) -> Admin {
        self.ok("POST", &format!("sys/namespaces/{name}"), json!({}));
        let path = match &self.namespace {
            Some(parent) => format!("{parent}/{name}"),
            None => name.to_owned(),
        };
        Admin {
            namespace: Some(path),
            ..self.clone()
        }
    }

    /// Mounts a secrets engine.
    pub fn mount(&self, kind: &str, mount: &str, options: Value) {
        let body = json!({"type": kind, "options": options, "config": {"max_lease_ttl": "87600h"}});
        self.ok("POST", &format!("sys/mounts/{mount}"), body);
    }

    /// Makes an intermediate CA at `mount`, signed by a root CA at `<mount>-root`.
    pub fn enable_pki(&self, mount: &str) -> Pki {
        self.enable_pki_of("ec", mount)
    }

    /// Makes the same with CAs whose keys are of this type.
    pub fn enable_pki_of(&self, key_type: &str, mount: &str) -> Pki {
        let root = format!("{mount}-root");
        self.mount("pki", &root, json!({}));
        self.mount("pki", mount, json!({}));
        let subject = |name: &str| json!({"common_name": format!("{mount} {name}"), "key_type": key_type, "ttl": "87600h"});
        let answer = self.ok(
            "POST",
            &format!("{root}/root/generate/internal"),
            subject("root"),
        );
        let root_pem = text(&answer["data"]["certificate"]);
        let answer = self.ok(
            "POST",
            &format!("{mount}/intermediate/generate/internal"),
            subject("intermediate"),
        );
        let request = json!({
            "csr": text(&answer["data"]["csr"]),
            "common_name": format!("{mount} intermediate"),
            "ttl": "43800h",
        });
        let answer = self.ok("POST", &format!("{root}/root/sign-intermediate"), request);
        let intermediate_pem = text(&answer["data"]["certificate"]);
        // With the root, so that `ca_chain` has something that anteroom must leave out.
        let chain = json!({"certificate": format!("{intermediate_pem}\n{root_pem}\n")});
        self.ok("POST", &format!("{mount}/intermediate/set-signed"), chain);
        Pki {
            mount: mount.to_owned(),
            root_pem,
            intermediate_pem,
        }
    }

    /// Makes a role of a PKI.
    pub fn pki_role(&self, mount: &str, name: &str, role: Value) {
        self.ok("POST", &format!("{mount}/roles/{name}"), role);
    }

    /// Mounts a KV store, version 1.
    pub fn enable_kv1(&self, mount: &str) {
        self.mount("kv", mount, json!({"version": "1"}));
    }

    /// Mounts a KV store, version 2.
    pub fn enable_kv2(&self, mount: &str) {
        self.mount("kv", mount, json!({"version": "2"}));
    }

    /// Writes to an API path of a KV store (`<mount>/data/<name>` with `{"data": …}` for version 2).
    pub fn kv_put(&self, path: &str, body: Value) {
        // A new version 2 store answers 400 while it sets itself up.
        wait_for(
            "the KV store to take a value",
            Duration::from_secs(10),
            || {
                let (status, json) = self.request("POST", path, body.clone());
                let ready = (200..300).contains(&status);
                assert!(
                    ready || json.to_string().contains("pgrading"),
                    "{path}: {status} {json}"
                );
                ready.then_some(())
            },
        );
    }

    /// Mounts a database engine with this PostgreSQL as connection `postgres`.
    pub fn enable_database(&self, mount: &str, postgres: &Postgres) {
        self.mount("database", mount, json!({}));
        let config = json!({
            "plugin_name": "postgresql-database-plugin",
            "connection_url": postgres.connection_url(),
            "username": postgres.user(),
            "password": postgres.password(),
            "allowed_roles": "*",
        });
        self.ok("POST", &format!("{mount}/config/postgres"), config);
    }

    /// Makes a role of a database engine whose users can log in and read; `changes` overrides its fields.
    pub fn database_role(&self, mount: &str, name: &str, changes: Value) {
        let mut role = json!({
            "db_name": "postgres",
            "creation_statements": [
                "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
            ],
            "revocation_statements": ["DROP ROLE IF EXISTS \"{{name}}\""],
            "default_ttl": "1h",
            "max_ttl": "24h",
        });
        merge(&mut role, changes);
        self.ok("POST", &format!("{mount}/roles/{name}"), role);
    }

    /// Writes a policy.
    pub fn policy(&self, name: &str, hcl: &str) {
        self.ok(
            "PUT",
            &format!("sys/policies/acl/{name}"),
            json!({"policy": hcl}),
        );
    }

    /// Makes a token role.
    pub fn token_role(&self, name: &str, role: Value) {
        self.ok("POST", &format!("auth/token/roles/{name}"), role);
    }

    /// Makes a token through a token role, handed out wrapped.
    pub fn mint(&self, role: &str, wrap_ttl: &str, body: Value) -> Wrapped {
        let path = format!("auth/token/create/{role}");
        let body = if body.is_null() { json!({}) } else { body };
        self.wrap(&path, wrap_ttl, body)
    }

    /// Sends a POST whose answer is handed out wrapped; `sys/wrapping/wrap` forges one.
    pub fn wrap(&self, path: &str, wrap_ttl: &str, body: Value) -> Wrapped {
        let answer = self
            .api("POST", path)
            .header("X-Vault-Wrap-TTL", wrap_ttl)
            .body(body)
            .send();
        assert_eq!(answer.status, 200, "POST {path}: {}", answer.json);
        let info = &answer.json["wrap_info"];
        Wrapped {
            token: text(&info["token"]),
            accessor: text(&info["accessor"]),
            // Only what wraps a token has one.
            wrapped_accessor: info["wrapped_accessor"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            creation_path: text(&info["creation_path"]),
            json: answer.json,
        }
    }

    /// The status code of a lookup of a wrapping token: 200 while it can be unwrapped, else 400.
    pub fn lookup_wrapping(&self, token: &str) -> u16 {
        self.api("POST", "sys/wrapping/lookup")
            .token(token)
            .send()
            .status
    }

    /// Unwraps a wrapping token.
    pub fn unwrap(&self, token: &str) -> Answer {
        self.api("POST", "sys/wrapping/unwrap").token(token).send()
    }

    /// Unwraps a wrapping token that holds a client token and gives that.
    pub fn client_token(&self, token: &str) -> String {
        let answer = self.unwrap(token);
        text(&answer.json["auth"]["client_token"])
    }

    /// Whether the token with this accessor is alive.
    pub fn accessor_exists(&self, accessor: &str) -> bool {
        let (status, json) = self.request(
            "POST",
            "auth/token/lookup-accessor",
            json!({"accessor": accessor}),
        );
        match status {
            200 => true,
            403 | 404 | 400 => false,
            _ => panic!("lookup of an accessor: {status} {json}"),
        }
    }

    /// The ids of all leases below this prefix, for instance `database/creds/role`.
    pub fn leases(&self, prefix: &str) -> Vec<String> {
        let (status, json) =
            self.request("LIST", &format!("sys/leases/lookup/{prefix}"), Value::Null);
        match status {
            404 => Vec::new(),
            200 => json["data"]["keys"]
                .as_array()
                .expect("a list of keys")
                .iter()
                .map(text)
                .collect(),
            _ => panic!("list of the leases of {prefix}: {status} {json}"),
        }
    }
}

/// Sets every field of `changes` in `target`; null changes nothing.
pub fn merge(target: &mut Value, changes: Value) {
    if let Value::Object(changes) = changes {
        for (key, value) in changes {
            target[key] = value;
        }
    }
}

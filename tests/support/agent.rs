//! `anteroom-agent` on a real engine: its configuration, its own token, and what is seen of it from outside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::anteroom::events;
use super::docker::{self, Container, Outcome};
use super::nursery::Nursling;
use super::openbao::{merge, text};
use super::{Admin, Anteroom, OpenBao, Service, TempDir, unique, wait_for};

/// Generous: nothing here takes so long.
const LONG: Duration = Duration::from_secs(60);

/// The decisions before an agent starts.
pub struct Setup {
    directory: TempDir,
    admin: Admin,
    /// The bodies of the tables, by name.
    tables: BTreeMap<String, String>,
    rules: Vec<String>,
    policies: Vec<String>,
    own_token: Value,
    log_level: &'static str,
}

impl Setup {
    /// An agent of this Vault, with labels of its own: every agent sees all containers.
    pub fn new(admin: &Admin) -> Self {
        let directory = TempDir::new();
        let label = unique("agent");
        let at = |name: &str| directory.join(name).display().to_string();
        let namespace = admin.namespace_path();
        let namespace = namespace.map_or(String::new(), |path| format!("namespace = {path:?}\n"));
        // As the `docker` command finds it.
        let engine = env::var("DOCKER_HOST").unwrap_or_default();
        let socket = engine.strip_prefix("unix://");
        let socket = socket.map_or(String::new(), |path| format!("socket = {path:?}\n"));
        let tables = [
            (
                "vault",
                format!("address = {:?}\n{namespace}", admin.address()),
            ),
            ("token", format!("file = {:?}\n", at("own-token"))),
            (
                "labels",
                format!(
                    "app = \"{label}.app\"\nenvironment = \"{label}.environment\"\ntoken_path = \"{label}.token-path\"\n"
                ),
            ),
            ("docker", socket),
            // As the services' manifests expect it.
            ("mint", "ttl = \"1h\"\n".to_owned()),
            (
                "agent",
                format!(
                    "register = {:?}\ncontrol = {:?}\nlisten = {:?}\nhost = \"{label}\"\n",
                    at("register.json"),
                    at("control.sock"),
                    format!("unix:{}", at("listen.sock"))
                ),
            ),
        ];
        let tables = tables.map(|(name, body)| (name.to_owned(), body));
        Self {
            directory,
            admin: admin.clone(),
            tables: tables.into(),
            rules: Vec::new(),
            policies: Vec::new(),
            own_token: json!({"ttl": "1h"}),
            log_level: "info",
        }
    }

    /// An agent for one service, from this image.
    pub fn of(service: &Service, image: &str) -> Self {
        Self::new(&service.admin).allow(service, image)
    }

    /// The path of a file beside its configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Replaces a table of the configuration.
    pub fn table(mut self, name: &str, body: impl Into<String>) -> Self {
        self.tables.insert(name.to_owned(), body.into());
        self
    }

    /// Adds a line to a table of the configuration.
    pub fn line(mut self, table: &str, line: &str) -> Self {
        let body = self.tables.entry(table.to_owned()).or_default();
        body.push_str(line);
        body.push('\n');
        self
    }

    /// The same with another address for Vault, for instance a proxy's.
    pub fn vault(self, address: &str) -> Self {
        self.table("vault", format!("address = {address:?}\n"))
    }

    /// Lets this service have tokens in containers of this image, and lets the agent make them.
    pub fn allow(self, service: &Service, image: &str) -> Self {
        self.allow_with(service, &format!("images = [{image:?}]\n"))
    }

    /// The same where these lines say which containers.
    pub fn allow_with(mut self, service: &Service, lines: &str) -> Self {
        let (app, environment) = (&service.app, &service.environment);
        self.rules.push(format!(
            "app = {app:?}\nenvironments = [{environment:?}]\n{lines}"
        ));
        let policy = unique("minter");
        self.admin
            .policy(&policy, &minter(&service.manifest().to_string()));
        self.policies.push(policy);
        self
    }

    /// A rule as it is written, for whatever needs no token role.
    pub fn rule(mut self, lines: &str) -> Self {
        self.rules.push(lines.to_owned());
        self
    }

    /// Another life for the agent's own token: fields of the request that makes it.
    pub fn own_token(mut self, changes: Value) -> Self {
        self.own_token = changes;
        self
    }

    /// How much it logs.
    pub fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    /// The configuration as it is written.
    pub fn configuration(&self) -> String {
        let tables = self.tables.iter();
        let mut text: String = tables
            .map(|(name, body)| format!("[{name}]\n{body}"))
            .collect();
        for rule in &self.rules {
            text.push_str("[[allow]]\n");
            text.push_str(rule);
        }
        text
    }

    /// The names of the policies that the agent's own token needs.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// Everything but the process: the configuration and the own token in their files.
    pub fn prepare(self) -> Agent {
        let configuration = self.configuration();
        self.directory.write("agent.toml", configuration);
        let label = self.tables["labels"]
            .split('"')
            .nth(1)
            .expect("it is the first value");
        let label = label.strip_suffix(".app").expect("as it was made");
        let agent = Agent {
            label: label.to_owned(),
            child: RefCell::new(None),
            own_token: RefCell::new(String::new()),
            setup: self,
        };
        agent.new_token();
        agent
    }

    /// Starts it, and waits until it has its token and has looked at every container.
    pub fn start(self) -> Agent {
        let agent = self.prepare();
        agent.start();
        agent
    }
}

/// The policy that is printed for the minter of this manifest.
fn minter(manifest: &str) -> String {
    let run = Anteroom::new()
        .without_secrets_dir()
        .manifest(manifest)
        .args(["policy", "--minter"])
        .run();
    run.assert_code(0);
    run.stdout
}

/// An agent; killed on Drop.
pub struct Agent {
    setup: Setup,
    label: String,
    child: RefCell<Option<Nursling>>,
    own_token: RefCell<String>,
}

impl Agent {
    /// Starts the process, and waits until it has its token and has looked at every container.
    pub fn start(&self) {
        let [ready, docker] = ["ready", "docker"].map(|name| self.count(name));
        self.spawn();
        self.wait_for_more("ready", ready);
        self.wait_for_more("docker", docker);
    }

    /// Starts the process.
    pub fn spawn(&self) {
        self.spawn_under(&[]);
    }

    /// Starts the process under another program, which must become it.
    pub fn spawn_under(&self, words: &[&str]) {
        let program = env!("CARGO_BIN_EXE_anteroom-agent");
        let mut words = words.iter().chain([&program]);
        let mut command = Command::new(words.next().expect("there is one"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("our own directory can be written");
        command
            .args(words)
            .args(["--log", "json", "--log-level", self.setup.log_level])
            .arg("--config")
            .arg(self.path("agent.toml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = Nursling::spawn(command, Signal::SIGKILL).expect("the agent can be started");
        *self.child.borrow_mut() = Some(child);
    }

    /// The path of a file beside its configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// The agent's own token.
    pub fn own_token(&self) -> String {
        self.own_token.borrow().clone()
    }

    /// Makes another token of its own, and puts it in its file.
    pub fn new_token(&self) {
        let mut body = json!({
            "policies": self.setup.policies,
            "no_default_policy": true,
            "no_parent": true,
        });
        merge(&mut body, self.setup.own_token.clone());
        let answer = self.setup.admin.ok("POST", "auth/token/create", body);
        let token = text(&answer["auth"]["client_token"]);
        self.write_private("own-token", &token);
        *self.own_token.borrow_mut() = token;
    }

    /// Writes a file that is its owner's alone, all at once.
    pub fn write_private(&self, name: &str, content: &str) {
        let new = self.path("new");
        fs::write(&new, content).expect("our own directory can be written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("our own file");
        fs::rename(new, self.path(name)).expect("our own directory");
    }

    pub fn pid(&self) -> i32 {
        let child = self.child.borrow();
        child.as_ref().expect("it runs").id().cast_signed()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("our own child can be signalled");
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&self) {
        let child = self.child.borrow_mut().take();
        drop(child.expect("it runs"));
    }

    /// Says TERM and gives the exit code.
    pub fn stop(&self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits until it ends by itself and gives the exit code.
    pub fn wait(&self) -> Option<i32> {
        let status = wait_for("the agent to end", LONG, || {
            let mut child = self.child.borrow_mut();
            let child = child.as_mut().expect("it was started");
            child.try_wait().expect("our own child can be waited for")
        });
        self.child.borrow_mut().take();
        status.code()
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The events so far; the last line may be half written.
    pub fn events(&self) -> Vec<Value> {
        let log = self.log();
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        events(whole)
    }

    /// The events of one name.
    pub fn named(&self, name: &str) -> Vec<Value> {
        let mut events = self.events();
        events.retain(|event| event["event"] == name);
        events
    }

    /// How many there are of one name.
    pub fn count(&self, name: &str) -> usize {
        self.named(name).len()
    }

    /// Waits for one more event of this name than so many, and gives the last.
    pub fn wait_for_more(&self, name: &str, before: usize) -> Value {
        self.wait_until(&format!("another event {name}"), || {
            let events = self.named(name);
            (events.len() > before).then(|| events[events.len() - 1].clone())
        })
    }

    /// Waits for an event of this name.
    pub fn wait_for(&self, name: &str) -> Value {
        self.wait_for_more(name, 0)
    }

    /// The events of this name about a container.
    pub fn about(&self, container: &Container, name: &str) -> Vec<Value> {
        self.about_id(&id(container), name)
    }

    /// The events of this name about the container with this id.
    pub fn about_id(&self, id: &str, name: &str) -> Vec<Value> {
        let mut events = self.named(name);
        events.retain(|event| event["container"] == id);
        events
    }

    /// Waits for so many events of this name about a container, and gives the one that came as the last of these: a later one
    /// may be there already.
    pub fn wait_about(&self, container: &Container, name: &str, count: usize) -> Value {
        self.wait_about_id(&id(container), name, count)
    }

    /// The same about the container with this id.
    pub fn wait_about_id(&self, id: &str, name: &str, count: usize) -> Value {
        self.wait_until(&format!("{count} events {name} about {id}"), || {
            let events = self.about_id(id, name);
            events.get(count - 1).cloned()
        })
    }

    /// Waits until this is so; a failure shows the log.
    pub fn wait_until<T>(&self, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let start = std::time::Instant::now();
        wait_for(what, LONG + LONG, || {
            let value = done();
            assert!(
                value.is_some() || start.elapsed() < LONG,
                "waited in vain for {what}: {}",
                self.log()
            );
            value
        })
    }

    /// The answer of the agent's listener to a path: status and text.
    pub fn look(&self, path: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.path("listen.sock")).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("it is a socket");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("it speaks HTTP");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// The agent's health: the status and what is wrong.
    pub fn healthz(&self) -> (u16, String) {
        self.look("/healthz")
    }

    /// A metric without its prefix, with its labels if it has any; 0 when it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.look("/metrics");
        assert_eq!(status, 200, "{text}");
        let line = text.lines().find_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            (key.strip_prefix("anteroom_agent_") == Some(name)).then_some(value)
        });
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// How often a reason was counted in `refused` or `undelivered`.
    pub fn reasons(&self, metric: &str, reason: &str) -> f64 {
        self.metric(&format!("{metric}_total{{reason=\"{reason}\"}}"))
    }

    pub fn register(&self) -> Value {
        let text = fs::read_to_string(self.path("register.json")).unwrap_or_else(|_| "{}".into());
        serde_json::from_str(&text).expect("it is written whole")
    }

    /// The accessors in the register's file.
    pub fn accessors(&self) -> Vec<String> {
        let register = self.register();
        let entries = register["entries"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| text(&entry["accessor"]))
            .collect()
    }

    /// Waits until nothing is in the register any more.
    pub fn wait_until_empty(&self) {
        self.wait_until("the register to be empty", || {
            self.accessors().is_empty().then_some(())
        });
    }

    /// Another process of the same program and configuration, for instance `revoke --all`.
    pub fn command(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom-agent"));
        command
            .arg("--config")
            .arg(self.path("agent.toml"))
            .args(["--log", "json"])
            .args(words)
            .env_clear()
            .stdin(Stdio::null());
        docker::run(&mut command).expect("it ends")
    }

    /// The two options of `docker run` that claim to be this service.
    pub fn labels(&self, app: &str, environment: &str) -> [String; 2] {
        [
            format!("--label={}.app={app}", self.label),
            format!("--label={}.environment={environment}", self.label),
        ]
    }

    /// The option of `docker run` that says where the token goes.
    pub fn token_path(&self, path: &str) -> String {
        format!("--label={}.token-path={path}", self.label)
    }

    /// The host's name, which goes on the tokens.
    pub fn host(&self) -> &str {
        &self.label
    }

    /// Makes a container of this service without starting it.
    pub fn create(
        &self,
        service: &Service,
        image: &str,
        options: &[&str],
        command: &[&str],
    ) -> Container {
        let labels = self.labels(&service.app, &service.environment);
        let labels = labels.each_ref().map(String::as_str);
        let options: Vec<&str> = labels.iter().chain(options).copied().collect();
        Container::create(image, &options, command)
    }

    /// Starts a container of this service.
    pub fn run(
        &self,
        service: &Service,
        image: &str,
        options: &[&str],
        command: &[&str],
    ) -> Container {
        let container = self.create(service, image, options, command);
        container.start();
        container
    }
}

/// A container's id.
pub fn id(container: &Container) -> String {
    text(&container.inspect("{{json .Id}}"))
}

/// The accessors of all client tokens that Vault has minted for a service, by its audit log.
pub fn minted(server: &OpenBao, service: &Service) -> Vec<String> {
    minted_by(server, &service.token_role)
}

/// The same with this token role.
pub fn minted_by(server: &OpenBao, token_role: &str) -> Vec<String> {
    let path = format!("auth/token/create/{token_role}");
    let log = fs::read_to_string(server.audit_file()).expect("the audit log is readable");
    // Other tests fill it too.
    let lines = log.lines().filter(|line| line.contains(&path));
    let entries = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answers = entries.filter(|entry| {
        entry["type"] == "response"
            && entry["request"]["path"] == path.as_str()
            && entry["error"].is_null()
    });
    answers
        .map(|entry| text(&entry["response"]["wrap_info"]["wrapped_accessor"]))
        .collect()
}

/// The accessors of the service's tokens that live.
pub fn alive(server: &OpenBao, service: &Service) -> Vec<String> {
    let mut accessors = minted(server, service);
    accessors.retain(|accessor| server.accessor_exists(accessor));
    accessors
}

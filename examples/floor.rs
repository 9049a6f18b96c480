//! The floor under `scripts/bench`: what the server itself needs. One keep-alive connection, the requests of a start in
//! their order, a certificate request made beforehand, nothing checked, nothing written; then it becomes the
//! application.
//!
//! `floor ADDRESS CA|- CSR SIGN_PATH[,SIGN_PATH...] READ_PATH... -- COMMAND [ARGS...]`, with the wrapping token in
//! `FLOOR_TOKEN`. With `FLOOR_CONNECTIONS=2` certificates and secrets come over so many connections at once. With
//! `FLOOR_STEPS` set it says on standard error how many microseconds each request took.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a measuring tool, no part of anteroom"
)]

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

type Failure = Box<dyn Error + Send + Sync>;

struct Floor {
    agent: Agent,
    address: String,
    steps: Mutex<Vec<String>>,
}

impl Floor {
    fn ask(&self, path: &str, token: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let began = Instant::now();
        let url = format!("{}/v1/{path}", self.address);
        let answer = match (body, path.starts_with("sys/wrapping/")) {
            (Some(body), _) => self
                .agent
                .post(url)
                .header("X-Vault-Token", token)
                .send(body.to_string()),
            (None, true) => self
                .agent
                .post(url)
                .header("X-Vault-Token", token)
                .send_empty(),
            (None, false) => self.agent.get(url).header("X-Vault-Token", token).call(),
        };
        let answer = answer
            .map_err(|error| format!("{path}: {error}"))?
            .body_mut()
            .read_to_vec()?;
        let step = format!("{path} {}", began.elapsed().as_micros());
        self.steps.lock().expect("no thread panics").push(step);
        Ok(serde_json::from_slice(&answer)?)
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut parts = arguments.splitn(2, |argument| argument == "--");
    let (requests, command) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let [address, ca, csr, sign, reads @ ..] = requests else {
        return Err("ADDRESS CA|- CSR SIGN_PATH[,SIGN_PATH...] READ_PATH... -- COMMAND".into());
    };
    let wrapping_token = std::env::var("FLOOR_TOKEN")?;

    let mut config = Agent::config_builder().proxy(None);
    if ca != "-" {
        let ca = Certificate::from_pem(&std::fs::read(ca)?)?;
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .root_certs(RootCerts::new_with_certs(&[ca]));
        config = config.tls_config(tls.build());
    }
    let floor = Floor {
        agent: config.build().into(),
        address: address.clone(),
        steps: Mutex::default(),
    };
    let csr = json!({"csr": std::fs::read_to_string(csr)?});

    floor.ask("sys/wrapping/lookup", &wrapping_token, None)?;
    let unwrapped = floor.ask("sys/wrapping/unwrap", &wrapping_token, None)?;
    let token = unwrapped["auth"]["client_token"]
        .as_str()
        .ok_or("the unwrap gave no token")?;
    floor.ask("auth/token/lookup-self", token, None)?;
    let signs = sign.split(',').map(|path| (path, Some(&csr)));
    let rest: Vec<_> = signs
        .chain(reads.iter().map(|path| (path.as_str(), None)))
        .collect();
    let connections = std::env::var("FLOOR_CONNECTIONS");
    let connections: usize = connections.map_or(Ok(1), |number| number.parse())?;
    let rest = Mutex::new(rest.into_iter());
    let ask_rest = || -> Result<(), Failure> {
        loop {
            let next = rest.lock().expect("no thread panics").next();
            let Some((path, body)) = next else {
                return Ok(());
            };
            floor.ask(path, token, body)?;
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..connections).map(|_| scope.spawn(ask_rest)).collect();
        ask_rest()?;
        let mut results = others.into_iter().map(|other| other.join());
        results.try_for_each(|result| result.expect("no thread panics"))
    })?;
    if std::env::var_os("FLOOR_STEPS").is_some() {
        let steps = floor.steps.into_inner().expect("no thread panics");
        eprintln!("{}", steps.join("\n"));
    }
    let (program, arguments) = command.split_first().ok_or("there is no command")?;
    Err(Command::new(program).args(arguments).exec().into())
}

//! The floor under `scripts/bench`: what the server itself needs. One keep-alive connection, the requests of a start in
//! their order, a certificate request made beforehand, nothing checked, nothing written; then it becomes the
//! application.
//!
//! `floor ADDRESS CA|- CSR SIGN_PATH READ_PATH... -- COMMAND [ARGS...]`, with the wrapping token in `FLOOR_TOKEN`. With
//! `FLOOR_STEPS` set it says on standard error how many microseconds each request took.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a measuring tool, no part of anteroom"
)]

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

struct Floor {
    agent: Agent,
    address: String,
    steps: Vec<String>,
}

impl Floor {
    fn ask(
        &mut self,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Value, Box<dyn Error>> {
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
        self.steps
            .push(format!("{path} {}", began.elapsed().as_micros()));
        Ok(serde_json::from_slice(&answer)?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut parts = arguments.splitn(2, |argument| argument == "--");
    let (requests, command) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let [address, ca, csr, sign, reads @ ..] = requests else {
        return Err("ADDRESS CA|- CSR SIGN_PATH READ_PATH... -- COMMAND".into());
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
    let mut floor = Floor {
        agent: config.build().into(),
        address: address.clone(),
        steps: Vec::new(),
    };
    let csr = json!({"csr": std::fs::read_to_string(csr)?});

    floor.ask("sys/wrapping/lookup", &wrapping_token, None)?;
    let unwrapped = floor.ask("sys/wrapping/unwrap", &wrapping_token, None)?;
    let token = unwrapped["auth"]["client_token"]
        .as_str()
        .ok_or("the unwrap gave no token")?;
    floor.ask("auth/token/lookup-self", token, None)?;
    floor.ask(sign, token, Some(&csr))?;
    for path in reads {
        floor.ask(path, token, None)?;
    }
    if std::env::var_os("FLOOR_STEPS").is_some() {
        eprintln!("{}", floor.steps.join("\n"));
    }
    let (program, arguments) = command.split_first().ok_or("there is no command")?;
    Err(Command::new(program).args(arguments).exec().into())
}

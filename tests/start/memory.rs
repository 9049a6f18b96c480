//! Everything that was used up is gone from memory, in every process that lives on.
#![allow(
    clippy::disallowed_methods,
    reason = "a test reads the memory of processes"
)]

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::anteroom::found_in_memory;
use crate::support::{Anteroom, Fault, FaultProxy, Running, Service, TempDir};

/// Variables with tokens that are not anteroom's to use.
const CANARIES: [(&str, &str); 2] = [
    ("VAULT_TOKEN", "hvs.canary-of-vault-9b1c"),
    ("BAO_TOKEN", "s.canary-of-openbao-77ad"),
];
/// The words that a template puts around a secret.
const RENDERED: &str = "-rendered-4711";

/// How a wrapping token is handed in.
const FORMS: [&str; 4] = ["variable", "JSON in a variable", "file", "standard input"];

/// Starts an application with the token in this form; gives the token too.
fn start(service: &Service, form: &str, lifecycle: &str, scratch: &TempDir) -> (Running, String) {
    let wrapped = service.mint();
    let secret = format!("{{{{ password }}}}{RENDERED}");
    let manifest = service
        .manifest()
        .set("dependencies.legacy.files", json!({"dsn": secret}));
    let mut run = Anteroom::new()
        .manifest(manifest.to_string())
        .args(["--lifecycle", lifecycle]);
    for (name, value) in CANARIES {
        run = run.env(name, value);
    }
    run = match form {
        "variable" => run.token(&wrapped),
        "JSON in a variable" => run.token(wrapped.json.to_string()),
        "file" => {
            use std::os::unix::fs::PermissionsExt;
            let path = scratch.write(&form.len().to_string(), &wrapped.token);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("our own file");
            run.arg("--token-file").arg(path)
        }
        _ => run.args(["--token-file", "-"]).stdin(wrapped.token.clone()),
    };
    let mut running = run.shell("echo ready; exec sleep 600").spawn();
    running.wait_for_stdout("ready");
    (running, wrapped.token)
}

#[test]
fn token_is_in_no_memory_once_the_application_runs() {
    let service = Service::new();
    let scratch = TempDir::new();
    for lifecycle in ["exec", "supervise"] {
        for form in FORMS {
            let (running, token) = start(&service, form, lifecycle, &scratch);
            let mut processes = vec![];
            match lifecycle {
                "exec" => processes.push(("keeper", running.keeper())),
                _ => {
                    let below = running.children();
                    let is_anteroom = |pid: &i32| {
                        fs::read_link(format!("/proc/{pid}/exe"))
                            .is_ok_and(|path| path.ends_with("anteroom"))
                    };
                    let keeper = below.into_iter().find(is_anteroom).expect("a keeper");
                    processes.push(("keeper", keeper));
                    processes.push(("init", running.pid()));
                }
            }
            let rendered = format!("{}{RENDERED}", Service::LEGACY_PASSWORD);
            let mut needles = vec![("wrapping token", token.as_str()), ("file", &rendered)];
            needles.extend(CANARIES);
            // A look that finds nothing anywhere would prove nothing.
            let kept = found_in_memory(processes[0].1, Service::LEGACY_PASSWORD.as_bytes());
            assert!(!kept.is_empty(), "the keeper keeps what it has fetched");
            for (name, process) in processes {
                for (what, needle) in &needles {
                    let found = found_in_memory(process, needle.as_bytes());
                    let none: Vec<String> = vec![];
                    assert_eq!(found, none, "{what} in the {name}, {form}, {lifecycle}");
                    let environment = fs::read(format!("/proc/{process}/environ"));
                    let environment = environment.expect("root may read it");
                    let text = String::from_utf8_lossy(&environment).into_owned();
                    assert!(!text.contains(needle), "{what} of the {name}, {form}");
                }
            }
            running.kill(Signal::SIGKILL);
        }
    }
}

#[test]
fn mint_has_its_token_where_it_is_used_alone() {
    let service = Service::new();
    let admin = &service.admin;
    let proxy = FaultProxy::start(admin.address(), |_| Fault::Hang);
    for (name, other) in [("VAULT_TOKEN", "UNRELATED"), ("BAO_TOKEN", "VAULT_TOKEN")] {
        let before = proxy.requests().len();
        let mut running = Anteroom::new()
            .without_secrets_dir()
            .args(["mint", "--role", &service.token_role])
            .env("VAULT_ADDR", proxy.address())
            .env(name, admin.root_token())
            .env(other, CANARIES[0].1)
            .spawn();
        running.wait_until("its request", |_| proxy.requests().len() > before);
        let environment = fs::read(format!("/proc/{}/environ", running.pid()));
        let environment = environment.expect("root may read it");
        let text = String::from_utf8_lossy(&environment).into_owned();
        assert!(!text.contains(admin.root_token()), "{name}: {text}");
        if other == "VAULT_TOKEN" {
            let found = found_in_memory(running.pid(), CANARIES[0].1.as_bytes());
            assert_eq!(found, Vec::<String>::new(), "a token that is not used");
        }
        running.kill(Signal::SIGKILL);
    }
}

#[cfg(feature = "agent")]
#[test]
fn agent_forgets_tokens_in_its_environment() {
    use crate::support::OpenBao;
    use crate::support::agent::Setup;

    let agent = Setup::new(OpenBao::shared())
        .rule("app = \"any\"\nenvironments = [\"any\"]\nimages = [\"any\"]\n")
        .prepare();
    let variables = CANARIES.map(|(name, value)| format!("{name}={value}"));
    agent.spawn_under(&["/usr/bin/env", &variables[0], &variables[1]]);
    agent.wait_for("ready");
    let own = found_in_memory(agent.pid(), agent.own_token().as_bytes());
    assert!(!own.is_empty(), "the agent has its own token");
    for (name, value) in CANARIES {
        let found = found_in_memory(agent.pid(), value.as_bytes());
        assert_eq!(found, Vec::<String>::new(), "{name}");
    }
}

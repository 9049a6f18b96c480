//! Is the harness itself to be trusted?

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::docker::{Container, Image};
use super::*;

#[test]
fn harness_mints_a_token_that_can_be_unwrapped_once() {
    let service = Service::new();
    let bao = OpenBao::shared();
    let wrapped = service.mint();
    assert_eq!(
        wrapped.creation_path,
        format!("auth/token/create/{}", service.token_role)
    );
    assert_eq!(bao.lookup_wrapping(&wrapped.token), 200);
    assert_eq!(bao.lookup_wrapping(&wrapped.token), 200);
    assert!(bao.accessor_exists(&wrapped.wrapped_accessor));

    let answer = bao.unwrap(&wrapped.token);
    let auth = &answer.json["auth"];
    assert_eq!(auth["lease_duration"], 3600);
    assert_eq!(auth["num_uses"], 0);
    assert_eq!(auth["renewable"], true);
    assert_eq!(auth["orphan"], true);
    // Sorted: `app-…` comes before `default`.
    assert_eq!(auth["token_policies"], json!([service.policy, "default"]));
    assert_eq!(bao.unwrap(&wrapped.token).status, 400);

    let token = openbao::text(&auth["client_token"]);
    let read = |path: &str| bao.api("GET", path).token(&token).send();
    let payment = read(&service.payment_path());
    assert_eq!(payment.json["data"]["data"]["api_key"], Service::API_KEY);
    assert_eq!(
        read(&service.legacy_path()).json["data"]["password"],
        Service::LEGACY_PASSWORD
    );
    assert_eq!(read("sys/mounts").status, 403);
    assert_eq!(read("auth/token/lookup-self").status, 200);

    let revoked = bao
        .api("POST", "auth/token/revoke-self")
        .token(&token)
        .send();
    assert_eq!(revoked.status, 204);
    assert!(!bao.accessor_exists(&wrapped.wrapped_accessor));
    let entries = bao.audit();
    let unwraps = entries.iter().filter(|entry| {
        entry["type"] == "request"
            && entry["request"]["path"] == "sys/wrapping/unwrap"
            && entry.to_string().contains(&wrapped.token)
    });
    assert_eq!(unwraps.count(), 2, "the audit log names both unwraps");
}

#[test]
fn harness_signs_a_certificate_with_a_chain_of_three() {
    let service = Service::new();
    let token = service.admin.client_token(&service.mint().token);
    let key = rcgen::KeyPair::generate().expect("a key can be made");
    let mut params = rcgen::CertificateParams::new(vec![service.common_name(), "localhost".into()])
        .expect("host names");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, service.common_name());
    let csr = params
        .serialize_request(&key)
        .expect("a CSR")
        .pem()
        .expect("PEM");
    let body = json!({
        "csr": csr, "common_name": service.common_name(), "ip_sans": "127.0.0.1",
        "uri_sans": "spiffe://example.io/app", "ttl": "24h",
    });
    let path = format!("{}/sign/{}", service.pki.mount, service.app);
    let answer = service
        .admin
        .api("POST", &path)
        .token(&token)
        .body(body)
        .send();
    assert_eq!(answer.status, 200, "{}", answer.json);
    let chain = answer.json["data"]["ca_chain"]
        .as_array()
        .expect("a chain")
        .clone();
    let chain: Vec<String> = chain
        .iter()
        .map(|pem| openbao::text(pem).trim().to_owned())
        .collect();
    assert_eq!(
        chain,
        [
            service.pki.intermediate_pem.trim(),
            service.pki.root_pem.trim()
        ]
    );
}

#[test]
fn harness_proxy_cuts_after_forwarding() {
    let service = Service::new();
    let bao = OpenBao::shared();
    for how in [Cut::Reset, Cut::Close] {
        let wrapped = service.mint();
        let proxy = FaultProxy::start(bao.address(), move |seen| {
            if seen.is("sys/wrapping/unwrap") {
                Fault::CutAfter(how)
            } else {
                Fault::Pass
            }
        });
        let post = |path: &str| {
            ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .new_agent()
                .post(format!("{}/v1/{path}", proxy.address()))
                .header("X-Vault-Token", &wrapped.token)
                .send_empty()
                .map(|answer| answer.status().as_u16())
        };
        assert_eq!(post("sys/wrapping/lookup").expect("this one passes"), 200);
        assert!(post("sys/wrapping/unwrap").is_err());
        assert_eq!(post("sys/wrapping/lookup").expect("this one passes"), 400);
        assert!(
            bao.accessor_exists(&wrapped.wrapped_accessor),
            "the client token lives on"
        );
        let requests = proxy.requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[2].nth, 2);
        assert_eq!(
            requests[1].header("x-vault-token"),
            Some(wrapped.token.as_str())
        );
    }
}

#[test]
fn harness_proxy_knows_every_fault() {
    let bao = OpenBao::shared();
    let faults: Vec<(Fault, Option<u16>)> = vec![
        (Fault::Pass, Some(200)),
        (Fault::Delay(Duration::from_millis(50)), Some(200)),
        (Fault::CutBefore(Cut::Reset), None),
        (Fault::CutBefore(Cut::Close), None),
        (Fault::CutInside(40, Cut::Reset), None),
        (Fault::Hang, None),
        (Fault::HangAfter, None),
        (
            Fault::Answer(Reply::json(503, &json!({"errors": ["Vault is sealed"]}))),
            Some(503),
        ),
        (
            Fault::AnswerAfter(Reply::text(502, "text/html", "<html>")),
            Some(502),
        ),
        (
            Fault::Raw(b"HTTP/1.1 418 x\r\nContent-Length: 0\r\n\r\n".to_vec()),
            Some(418),
        ),
        (Fault::Drip(Duration::from_millis(1)), Some(200)),
        (
            Fault::alter_json(|json| json["version"] = "0".into()),
            Some(200),
        ),
        (
            Fault::Alter(Box::new(|reply| reply.status = 500)),
            Some(500),
        ),
    ];
    let expected: Vec<Option<u16>> = faults.iter().map(|(_, status)| *status).collect();
    let mut script = faults.into_iter().map(|(fault, _)| fault);
    let proxy = FaultProxy::start(bao.address(), move |_| {
        script.next().expect("as many as requests")
    });
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        // A connection that a fault has closed is not to be used for the next one.
        .max_idle_connections(0)
        .build()
        .into();
    for (number, status) in expected.iter().enumerate() {
        // Only where no answer is to come is the wait for it short.
        let patience = if status.is_some() { 60 } else { 1 };
        let answer = agent
            .get(format!("{}/v1/sys/health", proxy.address()))
            .config()
            .timeout_global(Some(Duration::from_secs(patience)))
            .build()
            .call()
            .and_then(|mut answer| {
                Ok((answer.status().as_u16(), answer.body_mut().read_to_vec()?))
            });
        assert_eq!(
            answer.ok().map(|(status, _)| status),
            *status,
            "fault {number}"
        );
    }
    assert_eq!(proxy.count("sys/health"), expected.len());
}

#[test]
fn harness_postgres_lets_a_dynamic_credential_in() {
    let service = Service::with_database();
    let postgres = Postgres::shared();
    let token = service.admin.client_token(&service.mint().token);
    let answer = service
        .admin
        .api("GET", &service.database_path())
        .token(&token)
        .send();
    assert_eq!(answer.status, 200, "{}", answer.json);
    let data = &answer.json["data"];
    let (user, password) = (
        openbao::text(&data["username"]),
        openbao::text(&data["password"]),
    );
    assert_eq!(
        postgres.query_as(&user, &password, "SELECT current_user"),
        Ok(user.clone())
    );
    assert!(postgres.query_as(&user, "wrong", "SELECT 1").is_err());
    assert_eq!(service.admin.leases(&service.database_path()).len(), 1);

    let revoked = service
        .admin
        .api("POST", "auth/token/revoke-self")
        .token(&token)
        .send();
    assert_eq!(revoked.status, 204);
    wait_for(
        "the database user to go with the token",
        Duration::from_secs(10),
        || (!postgres.role_exists(&user)).then_some(()),
    );
}

#[test]
fn harness_private_server_keeps_its_data_over_seal_and_restart() {
    let bao = OpenBao::start(Options {
        tls: true,
        storage: Storage::Raft,
        ..Options::default()
    });
    assert!(bao.address().starts_with("https://"));
    assert!(bao.ca_pem_path().is_file());
    let team = bao.namespace("team");
    let service = Service::on(&team);
    let wrapped = service.mint_with("5m", Value::Null);
    bao.seal();
    assert_eq!(bao.lookup_wrapping(&wrapped.token), 503);
    bao.unseal();
    bao.restart();
    assert_eq!(bao.lookup_wrapping(&wrapped.token), 200);
    let manifest = service.manifest().to_string();
    assert!(manifest.contains("\"namespace\" = \"team\""), "{manifest}");
    bao.freeze();
    let short = Duration::from_millis(200);
    assert!(
        bao.api("GET", "sys/health")
            .patience(short)
            .try_send()
            .is_err()
    );
    bao.thaw();
    assert_eq!(bao.health(), 200);
}

#[test]
fn harness_tls_server_shows_its_defect() {
    let ask = |server: &TlsServer| {
        let pem = std::fs::read(server.ca_pem_path()).expect("the CA file is there");
        let ca = ureq::tls::Certificate::from_pem(&pem).expect("the CA is PEM");
        let roots = ureq::tls::RootCerts::new_with_certs(&[ca]);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build())
            .build()
            .into();
        let request = agent
            .get(server.address())
            .header("X-Vault-Token", "canary");
        request.call().map(|answer| answer.status().as_u16())
    };
    let sound = TlsServer::start(Defect::None);
    assert_eq!(ask(&sound).expect("a sound server is trusted"), 503);
    assert!(String::from_utf8_lossy(&sound.application_bytes()).contains("canary"));
    for defect in [
        Defect::WrongCa,
        Defect::WrongName,
        Defect::Expired,
        Defect::NotYetValid,
    ] {
        let server = TlsServer::start(defect);
        assert!(ask(&server).is_err(), "{defect:?}");
        assert!(server.application_bytes().is_empty(), "{defect:?}");
        wait_for("the handshake to end", Duration::from_secs(5), || {
            server
                .handshakes()
                .first()
                .map(|end| assert!(end.is_err(), "{defect:?}"))
        });
    }
}

#[test]
fn harness_manifest_is_toml() {
    let text = Manifest::empty()
        .set("service.app", "a")
        .set("vault.pin", true)
        .set_at(&["dependencies", "db", "files", "a.b"], "x\n\"y\"")
        .set("certificate.dns_names", json!(["localhost"]))
        .remove("vault.pin")
        .to_string();
    let parsed = toml::de::DeTable::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let table = parsed.get_ref();
    assert!(
        table.contains_key("dependencies") && table.contains_key("certificate"),
        "{text}"
    );
}

#[test]
fn harness_runs_a_program_and_sees_its_files() {
    let script = TempDir::new();
    let program = script.write(
        "program",
        "#!/bin/sh\ncd \"$2\" || exit 9\nmkdir ..1 && echo -n secret >..1/key && chmod 400 ..1/key\n\
         ln -s ..1 ..data && ln -s ..data/key key\necho out; echo '{\"event\":\"one\"}' >&2; cat; id -u\n\
         if test \"$3\" = stay; then exec sleep 100; fi; exit 3\n",
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("chmod of our own file");

    // Only root can become another user.
    let own = nix::unistd::getuid();
    let uid = if own.is_root() { 1000 } else { own.as_raw() };
    let mut call = Anteroom::new().program(&program).stdin("in\n");
    if own.is_root() {
        call = call.uid(uid);
    }
    let run = call.run();
    run.assert_code(3).assert_no(["canary"]);
    assert_eq!(run.stdout, format!("out\nin\n{uid}\n"));
    assert_eq!(run.events(), [json!({"event": "one"})]);
    let key = run.file("key");
    assert_eq!((key.text(), key.mode, key.uid), ("secret", 0o400, uid));
    assert_eq!(key.link.as_deref(), Some(Path::new("..data/key")));
    assert_eq!(run.files().len(), 1);
    assert_eq!(run.entries().len(), 4);
    assert!(run.output_closed);
    assert!(run.survivors().is_empty());

    let run = Anteroom::new()
        .program("/bin/sh")
        .without_secrets_dir()
        .args(["-c", "sleep 100 & exit 0"])
        .run();
    run.assert_code(0);
    assert!(!run.output_closed);
    assert_eq!(run.survivors().len(), 1);

    let mut running = Anteroom::new().program(&program).arg("stay").spawn();
    running.wait_for_stdout("out\n");
    wait_for("the script to become sleep", Duration::from_secs(5), || {
        let command = std::fs::read_to_string(format!("/proc/{}/comm", running.pid())).ok()?;
        (command == "sleep\n").then_some(())
    });
    running.kill(Signal::SIGTERM);
    running.wait().assert_signal(Signal::SIGTERM);
}

#[test]
fn harness_ends_each_process_of_a_run_in_other_groups() {
    let start = |outputs: &str| {
        let script = format!("setsid sleep 600 {outputs} & echo $!; wait");
        let mut running = Anteroom::new()
            .program("/bin/sh")
            .without_secrets_dir()
            .args(["-c", &script])
            .spawn();
        running.wait_for_stdout("\n");
        wait_for("it to leave the group", Duration::from_secs(5), || {
            let group = anteroom::group_members(running.pid());
            (group == [running.pid()]).then_some(())
        });
        let pid = running.stdout().trim().parse().expect("a number");
        (running, pid)
    };
    let assert_ended = |pid: i32| {
        wait_for("its end", Duration::from_secs(5), || {
            anteroom::has_ended(pid).then_some(())
        });
    };
    let (running, pid) = start(">/dev/null 2>&1");
    drop(running);
    assert_ended(pid);

    // What has lost its parent is known by the outputs that it holds.
    let (running, pid) = start("");
    running.kill(Signal::SIGKILL);
    drop(running);
    assert_ended(pid);

    let (running, pid) = start("");
    running.kill(Signal::SIGKILL);
    let run = running.wait();
    run.assert_signal(Signal::SIGKILL);
    assert!(!run.output_closed);
    drop(run);
    assert_ended(pid);
}

#[test]
fn harness_builds_and_runs_a_container() {
    docker::require!();
    let busybox = Path::new("/bin/busybox");
    let image = Image::build(
        "selftest",
        &[("/bin/busybox", busybox, 0o755)],
        &["ENTRYPOINT [\"/bin/busybox\"]"],
    );
    let url = format!("{}/v1/sys/health", OpenBao::shared().address());
    let options = ["--network", "host", "--tmpfs", "/run/secrets"];
    let container = Container::run(&image, &options, &["wget", "-q", "-O", "-", &url]);
    assert_eq!(container.wait(), 0, "{:?}", container.logs());
    assert!(container.logs().stdout.contains("\"sealed\":false"));

    let container = Container::run(&image, &[], &["sleep", "100"]);
    assert_eq!(container.exec(&["/bin/busybox", "true"]).code, 0);
    container.stop(Duration::from_secs(0));
    assert_eq!(container.wait(), 137);
}

//! Vault behind a bad network, a bad certificate, a bad proxy, or not there at all.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start other programs to compare with"
)]

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::nursery::Nursling;
use crate::support::{
    Anteroom, Authority, Cut, Defect, Fault, FaultProxy, Manifest, OpenBao, Options, Reply, Run,
    Seen, Service, Storage, TempDir, TlsServer, free_port, tls, wait_for,
};

const LOOKUP: &str = "sys/wrapping/lookup";
const UNWRAP: &str = "sys/wrapping/unwrap";

/// A service that no test here changes.
fn service() -> &'static Service {
    static SERVICE: LazyLock<Service> = LazyLock::new(Service::new);
    &SERVICE
}

/// The manifest of the service without its certificate, at this address.
fn manifest(address: &str) -> Manifest {
    service().manifest_for(address).remove("certificate")
}

fn start(manifest: Manifest, token: &str) -> Anteroom {
    Anteroom::new()
        .manifest(manifest)
        .token(token)
        .shell("echo started")
}

#[track_caller]
fn assert_started(run: &Run) {
    run.assert_code(0);
    assert_eq!(run.stdout, "started\n", "{run:?}");
}

/// In front of the shared server: `fault` for the first request to `path`, everything else passes.
fn once(path: &'static str, fault: impl FnMut() -> Fault + Send + 'static) -> FaultProxy {
    times(1, path, fault)
}

fn times(
    count: usize,
    path: &'static str,
    mut fault: impl FnMut() -> Fault + Send + 'static,
) -> FaultProxy {
    FaultProxy::start(service().admin.address(), move |seen: &Seen| {
        if seen.is(path) && seen.nth <= count {
            fault()
        } else {
            Fault::Pass
        }
    })
}

fn always(path: &'static str, fault: impl FnMut() -> Fault + Send + 'static) -> FaultProxy {
    times(usize::MAX, path, fault)
}

// TLS

/// A server of OpenSSL's, which can do what rustls refuses to.
struct OpenSsl {
    _child: Nursling,
    port: u16,
    directory: TempDir,
}

impl OpenSsl {
    fn start(cert_pem: &str, key_pem: &str, arguments: &[&str]) -> Self {
        let directory = TempDir::new();
        let port = free_port();
        let log = std::fs::File::create(directory.join("log")).expect("our own directory");
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}")])
            .arg("-cert")
            .arg(directory.write("cert.pem", cert_pem))
            .arg("-key")
            .arg(directory.write("key.pem", key_pem))
            .args(arguments)
            // At the end of its input it would end itself.
            .stdin(Stdio::piped())
            .stderr(log.try_clone().expect("a descriptor is free"))
            .stdout(log);
        let child = Nursling::spawn(command, Signal::SIGKILL).expect("openssl is installed");
        let server = Self {
            _child: child,
            port,
            directory,
        };
        wait_for("openssl s_server", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        server
    }

    fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.directory.join("log")).expect("it was made at the start");
        String::from_utf8_lossy(&log).into_owned()
    }
}

fn with_ca(manifest: Manifest, ca: PathBuf) -> Manifest {
    manifest.set("vault.ca_cert", ca.display().to_string())
}

// f8, t4
#[test]
fn false_server_is_76_and_sees_no_byte_of_the_token() {
    for (defect, complaint) in [
        (Defect::WrongCa, "BadSignature"),
        (Defect::WrongName, "not valid for name"),
        (Defect::Expired, "expired"),
        (Defect::NotYetValid, "not valid yet"),
    ] {
        let server = TlsServer::start(defect);
        let token = service().mint();
        let manifest = with_ca(manifest(&server.address()), server.ca_pem_path());
        let run = start(manifest, &token.token).run();
        run.assert_refused(76);
        for word in [
            complaint,
            "asked for 127.0.0.1",
            "subject CN=",
            "issuer CN=anteroom test CA",
            "valid Jan",
            "this machine's clock 20",
        ] {
            assert!(run.stderr.contains(word), "{defect:?}: {word}\n{run:?}");
        }
        assert_eq!(server.application_bytes(), b"", "{defect:?}");
        wait_for("the server's view of it", Duration::from_secs(20), || {
            (!server.handshakes().is_empty()).then_some(())
        });
        assert_eq!(server.handshakes().len(), 1, "{defect:?} was tried again");
        assert_eq!(
            service().admin.lookup_wrapping(&token.token),
            200,
            "{defect:?}"
        );
    }
}

// f8, t4
#[test]
fn self_signed_server_is_refused_with_76() {
    tls::install_crypto();
    let key = rcgen::KeyPair::generate().expect("a key can be made");
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a key can sign itself");
    let server = OpenSsl::start(&own.pem(), &key.serialize_pem(), &[]);
    let directory = TempDir::new();
    let ca = directory.write("ca.pem", Authority::new("another CA").pem());
    let token = service().mint();
    let run = start(with_ca(manifest(&server.address()), ca), &token.token).run();
    run.assert_refused(76);
    run.assert_stderr("its certificate is refused")
        .assert_stderr("UnknownIssuer");
    assert!(!server.log().contains(&token.token), "{}", server.log());
}

// t4
#[test]
fn tls_1_1_is_refused_with_76_and_tls_1_2_is_spoken() {
    const OLD: [&str; 2] = ["-cipher", "ALL:@SECLEVEL=0"];
    let authority = Authority::new("an old CA");
    let identity = authority.issue(&["127.0.0.1"], tls::Validity::CURRENT);
    let directory = TempDir::new();
    let ca = directory.write("ca.pem", authority.pem());
    let server = |version: &str| {
        let arguments = [&OLD[..], &[version]].concat();
        OpenSsl::start(&identity.cert_pem, &identity.key_pem, &arguments)
    };
    let attempt = |server: &OpenSsl| {
        let manifest = with_ca(manifest(&server.address()), ca.clone());
        start(manifest, &service().mint().token)
            .env("ANTEROOM_DEADLINE", "1s")
            .run()
    };

    let old = server("-tls1_1");
    let run = attempt(&old);
    run.assert_refused(76);
    run.assert_stderr("no safe connection")
        .assert_stderr("ProtocolVersion");
    assert!(!old.log().contains("POST"), "{}", old.log());
    let client = Command::new("openssl")
        .args(["s_client", "-tls1_1", "-connect"])
        .arg(format!("127.0.0.1:{}", old.port))
        .args(OLD)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&client.stdout).into_owned();
    assert!(
        said.contains("TLSv1.1"),
        "this server does not speak it\n{said}"
    );

    let new = server("-tls1_2");
    // OpenSSL's server takes the request and says nothing.
    attempt(&new).assert_refused(69);
    assert!(
        new.log().contains("POST /v1/sys/wrapping/lookup"),
        "{}",
        new.log()
    );
}

#[test]
fn plain_text_where_tls_is_expected_is_refused_with_76() {
    let directory = TempDir::new();
    let ca = directory.write("ca.pem", Authority::new("a CA").pem());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let token = service().mint();
    let run = start(
        with_ca(manifest(&format!("https://{address}")), ca),
        &token.token,
    )
    .run();
    run.assert_refused(76);
    run.assert_stderr("no safe connection");
}

// t4
#[test]
fn vault_with_tls_serves_a_whole_start_by_address_and_by_name() {
    let bao = OpenBao::start(Options {
        tls: true,
        ..Options::default()
    });
    let service = Service::on(&bao);
    let port = bao
        .address()
        .rsplit(':')
        .next()
        .expect("an address has a port");
    for host in ["127.0.0.1", "localhost"] {
        let manifest = with_ca(
            service.manifest_for(&format!("https://{host}:{port}")),
            bao.ca_pem_path().to_owned(),
        );
        let run = start(manifest, &service.mint().token).keep_files().run();
        assert_started(&run);
        assert!(run.files().contains_key("tls.crt"), "{host}");
    }
    // The name that is checked can be another than the one that is connected to.
    let token = service.mint().token;
    let manifest = || {
        with_ca(
            service.manifest_for(bao.address()),
            bao.ca_pem_path().to_owned(),
        )
    };
    let run = start(manifest(), &token)
        .env("VAULT_TLS_SERVER_NAME", "vault.example.io")
        .run();
    run.assert_refused(76);
    let run = start(manifest(), &token)
        .env("VAULT_TLS_SERVER_NAME", "localhost")
        .run();
    assert_started(&run);
    // The CA can come from Vault's own variable.
    let run = start(service.manifest_for(bao.address()), &service.mint().token)
        .env("VAULT_CACERT", bao.ca_pem_path())
        .run();
    assert_started(&run);
}

#[test]
fn server_name_of_the_environment_replaces_the_host_name() {
    let server = TlsServer::start(Defect::WrongName);
    let manifest = with_ca(manifest(&server.address()), server.ca_pem_path());
    let run = start(manifest, &service().mint().token)
        .env("VAULT_TLS_SERVER_NAME", "elsewhere.example.io")
        .env("ANTEROOM_DEADLINE", "500ms")
        .run();
    // This server says that it is sealed: it was understood.
    run.assert_refused(69);
    run.assert_stderr("Vault is sealed");
}

// b17, t4
#[test]
fn plain_http_to_another_machine_is_refused_with_78() {
    let token = service().mint();
    for address in ["http://192.0.2.1:8200", "http://vault.example.io"] {
        let run = start(manifest(address), &token.token).run();
        run.assert_refused(78);
        run.assert_stderr("is not https");
    }
    assert_eq!(service().admin.lookup_wrapping(&token.token), 200);
}

// t4
#[test]
fn proxy_variables_are_ignored() {
    let recorder = FaultProxy::scripted(|_| Fault::Pass);
    let bao = OpenBao::start(Options {
        tls: true,
        ..Options::default()
    });
    let secure = Service::on(&bao);
    let secured = with_ca(
        secure.manifest_for(bao.address()),
        bao.ca_pem_path().to_owned(),
    );
    for (manifest, token) in [
        (service().manifest(), service().mint()),
        (secured, secure.mint()),
    ] {
        let mut start = start(manifest, &token.token);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            start = start
                .env(name, recorder.address())
                .env(name.to_lowercase(), recorder.address());
        }
        assert_started(&start.run());
    }
    assert_eq!(recorder.connections(), 0);
}

// Redirects

/// The words of a standby that does not forward.
fn moved(location: &str) -> Fault {
    let reply = Reply::text(307, "text/plain", "").header("Cache-Control", "no-store");
    Fault::Answer(reply.header("Location", location))
}

fn port_of(proxy: &FaultProxy) -> String {
    let address = proxy.address();
    let (_, port) = address.rsplit_once(':').expect("an address has a port");
    port.to_owned()
}

// f11
#[test]
fn standby_that_redirects_to_another_port_is_followed() {
    let active = FaultProxy::recording(service().admin.address());
    let target = active.address();
    let standby = FaultProxy::scripted(move |seen| moved(&format!("{target}{}", seen.path)));
    let run = start(manifest(&standby.address()), &service().mint().token).run();
    assert_started(&run);
    for path in [LOOKUP, UNWRAP] {
        assert_eq!(active.count(path), 1, "{path}");
    }
    let sent = active.requests();
    assert!(
        sent.iter()
            .all(|seen| seen.header("x-vault-token").is_some())
    );
}

// t5
#[test]
fn redirect_elsewhere_is_76_and_the_token_stays_here() {
    let recorder = FaultProxy::recording(service().admin.address());
    let port = port_of(&recorder);
    for location in [
        format!("http://localhost:{port}/v1/{LOOKUP}"),
        format!("http://127.0.0.2:{port}/v1/{LOOKUP}"),
        format!("https://127.0.0.1:{port}/v1/{LOOKUP}"),
        format!("http://127.0.0.1:{port}/v1/sys/health"),
        format!("http://127.0.0.1:{port}/elsewhere/v1/{LOOKUP}"),
        format!("//127.0.0.1:{port}/v1/{LOOKUP}"),
        format!("/v1/{LOOKUP}"),
        "\u{1b}[31m".to_owned(),
        String::new(),
    ] {
        let target = location.clone();
        let proxy = always(LOOKUP, move || moved(&target));
        let token = service().mint();
        let run = start(manifest(&proxy.address()), &token.token).run();
        run.assert_refused(76);
        assert_eq!(proxy.count(LOOKUP), 1, "{location:?} was tried again");
        if location.starts_with("http") {
            run.assert_stderr(&format!("`{location}`"));
        }
        assert_eq!(recorder.connections(), 0, "{location:?}");
        assert_eq!(
            service().admin.lookup_wrapping(&token.token),
            200,
            "{location:?}"
        );
    }
}

// t5
#[test]
fn redirect_is_followed_once() {
    let ring = FaultProxy::scripted(|seen| {
        let host = seen.header("host").unwrap_or_default().to_owned();
        moved(&format!("http://{host}{}", seen.path))
    });
    let run = start(manifest(&ring.address()), &service().mint().token)
        .env("ANTEROOM_DEADLINE", "400ms")
        .run();
    run.assert_refused(69);
    run.assert_stderr("second redirect");
    assert!(ring.count(LOOKUP) < 20, "it ran in a ring");
}

// f11, f15
#[test]
fn standby_that_dies_after_a_redirect_to_it_is_given_up() {
    for (path, rest) in [(LOOKUP, 1), ("auth/token/lookup-self", 1)] {
        let dead = format!("http://127.0.0.1:{}/v1/{path}", free_port());
        let proxy = once(path, move || moved(&dead));
        assert_started(&start(manifest(&proxy.address()), &service().mint().token).run());
        assert_eq!(proxy.count(path), 1 + rest, "{path}");
    }
}

// t5, f11
#[test]
fn redirect_to_a_host_among_standby_hosts_is_followed() {
    let other = FaultProxy::recording(service().admin.address());
    let location = format!("http://localhost:{}/v1/{LOOKUP}", port_of(&other));
    let proxy = always(LOOKUP, move || moved(&location));
    let manifest = manifest(&proxy.address()).set("vault.standby_hosts", json!(["localhost"]));
    assert_started(&start(manifest, &service().mint().token).run());
    assert_eq!(other.count(LOOKUP), 1);
    assert_eq!(proxy.count(UNWRAP), 1);
}

// t5
#[test]
fn unwrap_is_never_redirected_to_another_host() {
    let other = FaultProxy::recording(service().admin.address());
    let location = format!("http://localhost:{}/v1/{UNWRAP}", port_of(&other));
    let proxy = always(UNWRAP, move || moved(&location));
    let manifest = manifest(&proxy.address()).set("vault.standby_hosts", json!(["localhost"]));
    let token = service().mint();
    let run = start(manifest, &token.token).run();
    run.assert_refused(76);
    assert_eq!(other.connections(), 0);
    assert_eq!(proxy.count(UNWRAP), 1);
    assert_eq!(service().admin.lookup_wrapping(&token.token), 200);
}

// Not there

// f7
#[test]
fn unreachable_vault_is_69_at_the_deadline_after_retries() {
    for address in [
        format!("http://127.0.0.1:{}", free_port()),
        format!("https://127.0.0.1:{}", free_port()),
        "https://192.0.2.1:8200".to_owned(),
        "https://vault.invalid:8200".to_owned(),
    ] {
        let run = start(manifest(&address), &service().mint().token)
            .env("ANTEROOM_DEADLINE", "600ms")
            .args(["--log-level", "debug"])
            .run();
        run.assert_refused(69);
        assert!(
            run.elapsed >= Duration::from_millis(400),
            "{address} was given up too early\n{run:?}"
        );
        if address.contains("127.0.0.1") {
            let retries = run
                .events()
                .iter()
                .filter(|event| event["event"] == "retry")
                .count();
            assert!(retries >= 2, "{address}: {retries} retries\n{run:?}");
        }
    }
}

#[test]
fn vault_that_does_not_answer_is_reported_once_after_a_moment() {
    let silent = always(LOOKUP, || Fault::Hang);
    let stranger = always(LOOKUP, || {
        Fault::Answer(Reply::json(403, &json!({"message": "Forbidden"})))
    });
    for (address, reason) in [
        (format!("http://127.0.0.1:{}", free_port()), "refused"),
        (stranger.address(), "answered 403"),
        (silent.address(), "no answer"),
    ] {
        let run = start(manifest(&address), &service().mint().token)
            .env("ANTEROOM_DEADLINE", "3s")
            .run();
        run.assert_refused(69);
        let events = run.events();
        let said: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "vault_silent")
            .collect();
        assert_eq!(said.len(), 1, "{address}\n{run:?}");
        assert_eq!(said[0]["level"], "warn");
        let message = said[0]["message"].as_str().unwrap_or_default();
        assert!(
            message.contains(reason) && message.contains(&address),
            "{message}"
        );
    }
    // Late is not silent, and what comes later is said elsewhere.
    let slow = always(UNWRAP, || Fault::Delay(Duration::from_millis(1500)));
    let run = start(manifest(&slow.address()), &service().mint().token).run();
    assert_started(&run);
    assert!(!run.stderr.contains("vault_silent"), "{run:?}");
}

/// Words that start something for which `/etc/hosts` and `/etc/resolv.conf` are these files.
fn names(hosts: &Path, servers: &Path) -> [String; 5] {
    let (hosts, servers) = (hosts.display(), servers.display());
    let mounts = format!(
        "mount --bind {hosts} /etc/hosts && mount --bind {servers} /etc/resolv.conf && exec \"$0\" \"$@\""
    );
    ["unshare", "--mount", "/bin/sh", "-c", &mounts].map(str::to_owned)
}

#[test]
fn localhost_that_is_another_machine_is_refused_unless_allowed() {
    let directory = TempDir::new();
    let proxy = FaultProxy::recording(service().admin.address());
    let address = format!("http://localhost:{}", port_of(&proxy));
    // Where nothing listens, and this machine itself, which is not its loopback address by name.
    let servers = directory.write("resolv.conf", "nameserver 127.0.0.1\n");
    for (line, code) in [
        ("192.0.2.1 localhost", 78),
        ("192.0.2.1 localhost\n127.0.0.1 localhost", 0),
        ("127.0.0.1 localhost", 0),
    ] {
        let hosts = directory.write("hosts", format!("{line}\n"));
        let token = service().mint().token;
        let run = start(manifest(&address), &token)
            .under(names(&hosts, &servers))
            .env("ANTEROOM_DEADLINE", "5s")
            .run();
        if code == 0 {
            assert_started(&run);
            continue;
        }
        run.assert_refused(code);
        run.assert_stderr("192.0.2.1").assert_stderr("allow_http");
        assert_eq!(service().admin.lookup_wrapping(&token), 200);
        let run = start(manifest(&address).set("vault.allow_http", true), &token)
            .under(names(&hosts, &servers))
            .env("ANTEROOM_DEADLINE", "500ms")
            .run();
        run.assert_refused(69);
    }
}

#[test]
fn end_of_a_run_revokes_though_every_name_server_is_dead() {
    let directory = TempDir::new();
    let proxy = FaultProxy::recording(service().admin.address());
    let address = format!("http://vault.example:{}", port_of(&proxy));
    let hosts = directory.write("hosts", "127.0.0.1 vault.example\n");
    let servers = directory.write("resolv.conf", "nameserver 127.0.0.1\n");
    let manifest = manifest(&address).set("vault.allow_http", true);
    let token = service().mint();
    let mut run = Anteroom::new()
        .manifest(manifest)
        .token(&token)
        .under(names(&hosts, &servers))
        .shell("echo up; exec sleep 600")
        .spawn();
    run.wait_for_stdout("up");
    // In the same file, which is the one that is mounted.
    fs::write(&hosts, "").expect("the file can be emptied");
    run.kill(Signal::SIGTERM);
    let run = run.wait();
    assert!(run.stderr.contains("\"event\":\"revoked\""), "{run:?}");
    assert!(!service().admin.accessor_exists(&token.wrapped_accessor));
}

// f7, f15
#[test]
fn vault_that_comes_back_before_the_deadline_serves_the_start() {
    let bao = OpenBao::start(Options {
        storage: Storage::Raft,
        ..Options::default()
    });
    let service = Service::on(&bao);
    let token = service.mint_with("60s", Value::Null).token;
    bao.stop();
    let mut running = start(service.manifest().set("vault.deadline", "50s"), &token)
        .args(["--log-level", "debug"])
        .spawn();
    running.wait_for_stderr("\"event\":\"retry\"");
    bao.start_again();
    assert_started(&running.wait());
}

// f10
#[test]
fn vault_unsealed_before_the_deadline_serves_the_start() {
    let bao = OpenBao::start(Options::default());
    let service = Service::on(&bao);
    let token = service.mint_with("60s", Value::Null).token;
    bao.seal();
    let mut running = start(service.manifest().set("vault.deadline", "50s"), &token)
        .args(["--log-level", "debug"])
        .spawn();
    running.wait_for_stderr("Vault is sealed");
    bao.unseal();
    assert_started(&running.wait());
}

// f10
#[test]
fn vault_that_stays_sealed_is_69_and_the_token_survives() {
    let bao = OpenBao::start(Options::default());
    let service = Service::on(&bao);
    let token = service.mint_with("60s", Value::Null).token;
    bao.seal();
    let run = start(service.manifest().set("vault.deadline", "500ms"), &token).run();
    run.assert_refused(69);
    run.assert_stderr("Vault is sealed");
    bao.unseal();
    assert_eq!(service.admin.lookup_wrapping(&token), 200);
}

// f12
#[test]
fn vault_that_is_not_initialised_is_69_at_once() {
    let proxy = always(LOOKUP, || {
        Fault::Answer(Reply::json(
            501,
            &json!({"errors": ["Vault is not initialized"]}),
        ))
    });
    let run = start(manifest(&proxy.address()), &service().mint().token).run();
    run.assert_refused(69);
    run.assert_stderr("not initialised");
    assert_eq!(proxy.count(LOOKUP), 1);
}

// f13
#[test]
fn answer_byte_by_byte_does_not_outlive_the_deadline() {
    let proxy = always(LOOKUP, || Fault::Drip(Duration::from_millis(100)));
    let run = start(manifest(&proxy.address()), &service().mint().token)
        .env("ANTEROOM_DEADLINE", "700ms")
        .limit(Duration::from_secs(20))
        .run();
    run.assert_refused(69);
    run.assert_stderr("did not answer in time");
}

// f15
#[test]
fn lookup_is_made_again_after_its_connection_was_cut() {
    for how in [Cut::Reset, Cut::Close] {
        let proxy = times(3, LOOKUP, move || Fault::CutBefore(how));
        let run = start(manifest(&proxy.address()), &service().mint().token).run();
        assert_started(&run);
        assert_eq!(proxy.count(LOOKUP), 4, "{how:?}");
    }
}

// Status codes

// f14, b42
#[test]
fn rate_limit_is_waited_out_whatever_retry_after_says() {
    for retry_after in [
        "0",
        "-1",
        "1000000000",
        "99999999999999999999",
        "1e9",
        "Sat, 21 Nov 2099 00:00:00 GMT",
        "soon",
        "",
    ] {
        let proxy = once(LOOKUP, move || {
            Fault::Answer(
                Reply::json(429, &json!({"errors": ["request path limited"]}))
                    .header("Retry-After", retry_after),
            )
        });
        let run = start(manifest(&proxy.address()), &service().mint().token)
            .env("ANTEROOM_DEADLINE", "4s")
            .run();
        assert_started(&run);
        let sent: Vec<_> = proxy
            .requests()
            .into_iter()
            .filter(|seen| seen.is(LOOKUP))
            .collect();
        assert_eq!(sent.len(), 2, "{retry_after:?}");
        let pause = sent[1].at - sent[0].at;
        assert!(
            pause >= Duration::from_millis(250),
            "{retry_after:?}: {pause:?}"
        );
    }
}

// f14
#[test]
fn larger_retry_after_is_honoured() {
    let proxy = once(LOOKUP, || {
        Fault::Answer(Reply::json(429, &json!({"errors": []})).header("Retry-After", "1"))
    });
    assert_started(&start(manifest(&proxy.address()), &service().mint().token).run());
    let sent = proxy.requests();
    let pause = sent[1].at - sent[0].at;
    assert!(pause >= Duration::from_secs(1), "{pause:?}");
}

// f14
#[test]
fn rate_limit_without_end_is_69_at_the_deadline() {
    let proxy = always(LOOKUP, || {
        Fault::Answer(Reply::json(429, &json!({"errors": ["limited"]})).header("Retry-After", "0"))
    });
    let run = start(manifest(&proxy.address()), &service().mint().token)
        .env("ANTEROOM_DEADLINE", "1s")
        .run();
    run.assert_refused(69);
    run.assert_stderr("429");
    assert!(proxy.count(LOOKUP) <= 5, "{}", proxy.count(LOOKUP));
}

// f10, f14
#[test]
fn passing_status_is_waited_out_at_reads() {
    for status in [412, 429, 472, 473, 500, 502, 503, 504] {
        for path in [LOOKUP.to_owned(), service().payment_path()] {
            let faulty = path.clone();
            let proxy = FaultProxy::start(service().admin.address(), move |seen| {
                if seen.is(&faulty) && seen.nth == 1 {
                    Fault::Answer(Reply::json(status, &json!({"errors": ["for a moment"]})))
                } else {
                    Fault::Pass
                }
            });
            let run = start(manifest(&proxy.address()), &service().mint().token).run();
            assert_started(&run);
            assert_eq!(proxy.count(&path), 2, "{status} at {path}");
        }
    }
}

// f44
#[test]
fn unexpected_status_is_final_and_named_with_its_request() {
    for status in [301, 302, 308, 401, 405, 413, 418, 505] {
        let answer = move || Fault::Answer(Reply::json(status, &json!({"errors": ["it said so"]})));
        let proxy = always(LOOKUP, answer);
        let token = service().mint();
        let run = start(manifest(&proxy.address()), &token.token).run();
        run.assert_refused(76);
        run.assert_stderr(&format!("{status} to POST {LOOKUP}: it said so"));
        assert_eq!(proxy.count(LOOKUP), 1, "{status}");
        assert_eq!(
            service().admin.lookup_wrapping(&token.token),
            200,
            "{status}"
        );

        let path = service().legacy_path();
        let faulty = path.clone();
        let proxy = FaultProxy::start(service().admin.address(), move |seen| {
            if seen.is(&faulty) {
                answer()
            } else {
                Fault::Pass
            }
        });
        let token = service().mint();
        let run = start(manifest(&proxy.address()), &token.token).run();
        run.assert_refused(76);
        run.assert_stderr(&format!("{status} to GET {path}: it said so"));
        assert_eq!(proxy.count(&path), 1, "{status}");
        assert!(
            !service().admin.accessor_exists(&token.wrapped_accessor),
            "{status}: the token was not revoked"
        );
    }
}

// Answers that are none

fn raw_json(body: impl Into<Vec<u8>>) -> Fault {
    Fault::Answer(Reply::text(200, "application/json", body))
}

/// An answer that no Vault gives.
struct Hostile {
    name: &'static str,
    /// The words of the message when this answers the lookup.
    of_lookup: &'static str,
    /// The words of the message when this answers a secret.
    of_secret: &'static str,
    fault: Box<dyn Fn() -> Fault + Send>,
}

fn hostile() -> Vec<Hostile> {
    fn row(
        name: &'static str,
        word: &'static str,
        fault: impl Fn() -> Fault + Send + 'static,
    ) -> Hostile {
        Hostile {
            name,
            of_lookup: word,
            of_secret: word,
            fault: Box::new(fault),
        }
    }
    vec![
        row("9 MiB", "larger than 8 MiB", || {
            raw_json(format!(
                "{{\"data\":{{\"a\":\"{}\"}}}}",
                "x".repeat(9 << 20)
            ))
        }),
        Hostile {
            of_secret: "or too deep",
            // The field is not read, so the parser does not get that deep.
            ..row("depth 10000", "its JSON has another form", || {
                raw_json(format!(
                    "{{\"data\":{{\"a\":{}{}}}}}",
                    "[".repeat(10_000),
                    "]".repeat(10_000)
                ))
            })
        },
        row("1e999", "a number without an exact form", || {
            raw_json("{\"data\":{\"creation_path\":\"x\",\"creation_ttl\":1e999}}")
        }),
        row("a huge integer", "a number without an exact form", || {
            raw_json(format!(
                "{{\"data\":{{\"creation_path\":\"x\",\"creation_ttl\":{}}}}}",
                "9".repeat(400)
            ))
        }),
        row("names twice", "a name that comes twice", || {
            raw_json("{\"data\":{\"a\":\"1\"},\"data\":{\"a\":\"2\"}}")
        }),
        row("cut off", "cut off", || raw_json("{\"data\":{\"a\":")),
        row("not UTF-8", "it is not UTF-8", || {
            raw_json(b"{\"data\":{\"a\":\"\xff\xfe\"}}".to_vec())
        }),
        row("HTML", "text/html", || {
            Fault::Answer(Reply::text(200, "text/html", "<h1>Welcome</h1>"))
        }),
        row("no type", "Content-Type", || {
            Fault::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec())
        }),
        row("errors beside 200", "it is not so", || {
            raw_json(
                "{\"data\":{\"creation_path\":\"x\",\"creation_ttl\":1},\"errors\":[\"it is not so\"]}",
            )
        }),
        row("gzip", "it is not UTF-8", || {
            Fault::Answer(
                Reply::text(200, "application/json", b"\x1f\x8b\x08\x00\x00".to_vec())
                    .header("Content-Encoding", "gzip"),
            )
        }),
        row("nothing", "cut off", || raw_json("")),
        row("204", "none of Vault's marks", || {
            Fault::Answer(Reply {
                status: 204,
                headers: Vec::new(),
                body: Vec::new(),
            })
        }),
        Hostile {
            of_secret: "its data is no object",
            ..row("data is a list", "its JSON has another form", || {
                raw_json("{\"request_id\":\"1\",\"lease_id\":\"\",\"data\":[1,2]}")
            })
        },
        row("nothing of Vault's", "`request_id`", || raw_json("{}")),
        row("null", "its JSON has another form", || raw_json("null")),
        row("SSH", "no HTTP", || {
            Fault::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())
        }),
        row("endless headers", "no HTTP", || {
            let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
            for number in 0..10_000 {
                bytes.extend_from_slice(format!("X-{number}: x\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"Content-Length: 0\r\n\r\n");
            Fault::Raw(bytes)
        }),
    ]
}

// b37, b38, b39, b40, t16
#[test]
fn malformed_lookup_answer_is_76_and_the_token_survives() {
    for Hostile {
        name,
        of_lookup: word,
        fault,
        ..
    } in hostile()
    {
        let proxy = always(LOOKUP, fault);
        let token = service().mint();
        let run = start(manifest(&proxy.address()), &token.token).run();
        assert!(
            run.code == Some(76) && run.stderr.contains(word),
            "{name}: 76 and {word:?} were expected\n{run:?}"
        );
        run.assert_refused(76);
        assert_eq!(proxy.count(LOOKUP), 1, "{name}");
        assert_eq!(service().admin.lookup_wrapping(&token.token), 200, "{name}");
    }
}

// f27, b37, b38, b39, b40, t16
#[test]
fn malformed_secret_answer_is_76_and_the_token_is_revoked() {
    for Hostile {
        name,
        of_secret: word,
        fault,
        ..
    } in hostile()
    {
        let path = service().payment_path();
        let proxy = FaultProxy::start(service().admin.address(), move |seen| {
            if seen.is(&path) { fault() } else { Fault::Pass }
        });
        let token = service().mint();
        let run = start(manifest(&proxy.address()), &token.token).run();
        assert!(
            run.code == Some(76) && run.stderr.contains(word),
            "{name}: 76 and {word:?} were expected\n{run:?}"
        );
        run.assert_refused(76);
        assert_eq!(proxy.count(&service().payment_path()), 1, "{name}");
        assert!(
            !service().admin.accessor_exists(&token.wrapped_accessor),
            "{name}: the token was not revoked"
        );
    }
}

// b43, f9
#[test]
fn wrong_clock_of_the_server_is_a_warning_only() {
    for (date, warned) in [
        ("Thu, 01 Jan 1970 00:00:00 GMT", true),
        ("Fri, 01 Jan 2100 00:00:00 GMT", true),
        ("yesterday", false),
    ] {
        let proxy = FaultProxy::start(service().admin.address(), move |_| {
            Fault::Alter(Box::new(move |reply: &mut Reply| {
                reply
                    .headers
                    .retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
                reply.headers.push(("Date".into(), date.into()));
            }))
        });
        // With the certificate, whose dates are the reason to look at clocks at all.
        let run = start(
            service().manifest_for(&proxy.address()),
            &service().mint().token,
        )
        .run();
        assert_started(&run);
        let warnings = run
            .events()
            .into_iter()
            .filter(|event| event["event"] == "clock_skew" && event["level"] == "warn")
            .count();
        assert_eq!(warnings, usize::from(warned), "{date}\n{run:?}");
    }
}

// b44, t15
#[test]
fn text_of_a_server_is_escaped_and_capped() {
    let evil = "\u{1b}[2J\r\nanteroom: ready\u{202e}\u{9b}\u{2028}\u{0}\u{7f}";
    for (name, error) in [
        ("controls", evil.to_owned()),
        ("1 MiB", "x".repeat(1 << 20)),
        ("1 MiB of quotes", "\"".repeat(1 << 20)),
        ("1 MiB of backslashes", "\\".repeat(1 << 20)),
        ("1 MiB of controls", "\u{1b}".repeat(1 << 20)),
        ("1 MiB of lines", "a\n".repeat(1 << 19)),
    ] {
        for format in ["json", "human"] {
            let error = error.clone();
            let path = service().payment_path();
            let proxy = FaultProxy::start(service().admin.address(), move |seen| {
                if seen.is(&path) {
                    Fault::Answer(Reply::json(403, &json!({"errors": [error.clone()]})))
                } else {
                    Fault::Pass
                }
            });
            let run = start(manifest(&proxy.address()), &service().mint().token)
                .args(["--log", format, "--log-level", "debug"])
                .run();
            run.assert_refused(77);
            let what = format!("{name} as {format}");
            assert!(run.stderr.len() < 16 << 10, "{what}: {}", run.stderr.len());
            assert!(
                !run.stderr
                    .contains(|c: char| c != '\n' && c.is_control()
                        || matches!(c, '\u{202e}' | '\u{2028}')),
                "{what}: raw\n{run:?}"
            );
            for line in run.stderr.lines() {
                match format {
                    "json" => assert!(
                        serde_json::from_str::<Value>(line).is_ok(),
                        "{what}: no JSON: {line}"
                    ),
                    _ => assert!(
                        line.starts_with("anteroom: ") && !line.starts_with("anteroom: ready"),
                        "{what}: forged: {line}"
                    ),
                }
            }
        }
    }
}

// What is sent

#[test]
fn requests_are_http_1_1() {
    let server = TlsServer::start(Defect::None);
    let manifest = with_ca(manifest(&server.address()), server.ca_pem_path());
    let run = start(manifest, &service().mint().token)
        .env("ANTEROOM_DEADLINE", "500ms")
        .run();
    run.assert_refused(69);
    let sent = String::from_utf8(server.application_bytes()).expect("requests without a body");
    let first = sent.lines().next();
    assert_eq!(first, Some("POST /v1/sys/wrapping/lookup HTTP/1.1"));
}

//! The static binary in images of every kind, started by a real Docker engine.
#![expect(
    clippy::disallowed_methods,
    reason = "a test builds images and looks at what containers did"
)]

use std::collections::HashMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::anteroom::entries_in;
use crate::support::docker::{self, Container, Image, docker};
use crate::support::{
    Fault, FaultProxy, Manifest, Postgres, Service, TempDir, Wrapped, lock, repository, tmpfs_dir,
    wait_for,
};

pub(crate) const ENTRYPOINT: &str = r#"ENTRYPOINT ["/anteroom", "--"]"#;
pub(crate) const TMPFS: [&str; 2] = ["--tmpfs", "/run/secrets"];

/// The binary without what only a debugger reads: each image copies it.
pub(crate) fn binary() -> &'static Path {
    static BINARY: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let directory = TempDir::new();
        let stripped = directory.join("anteroom");
        let status = Command::new("strip")
            .arg("-o")
            .arg(&stripped)
            .arg(env!("CARGO_BIN_EXE_anteroom"))
            .status()
            .expect("strip comes with the linker");
        assert!(status.success(), "strip: {status}");
        (directory, stripped)
    });
    &BINARY.1
}

/// A root file system of scripts/images.
fn tree(name: &str) -> PathBuf {
    let tree = repository().join(".cache/rootfs").join(name);
    assert!(
        tree.is_dir(),
        "there is no {}: run scripts/images",
        tree.display()
    );
    tree
}

/// The tag of an image that holds this root file system, made once.
pub(crate) fn base(name: &'static str) -> String {
    kept(name, || Image::import(name, &[&tree(name)], &[]))
}

/// The tag of an image that is made once.
fn kept(name: &'static str, make: impl FnOnce() -> Image) -> String {
    static KEPT: LazyLock<Mutex<HashMap<&'static str, Image>>> = LazyLock::new(Mutex::default);
    let mut kept = lock(&KEPT);
    kept.entry(name).or_insert_with(make).tag().to_owned()
}

/// An image with the binary, a manifest and these lines of a Dockerfile.
pub(crate) fn image(base: &str, manifest: &Manifest, lines: &[&str]) -> Image {
    image_with(base, manifest, &[], lines)
}

/// The same with more files: (path in the image, file on this machine).
pub(crate) fn image_with(
    base: &str,
    manifest: &Manifest,
    more: &[(&str, &Path)],
    lines: &[&str],
) -> Image {
    let scratch = TempDir::new();
    let file = scratch.write("anteroom.toml", manifest.to_string());
    let mut files = vec![
        ("/anteroom", binary(), 0o755),
        ("/etc/anteroom.toml", file.as_path(), 0o644),
    ];
    files.extend(more.iter().map(|(path, source)| (*path, *source, 0o755)));
    Image::build_on(base, "start", &files, lines)
}

/// Starts a container on the host's network, where the servers are, and waits until it ends.
fn run(image: &str, token: &Wrapped, options: &[&str], command: &[&str]) -> (Container, i32) {
    let container = spawn(image, token, options, command);
    let code = container.wait();
    (container, code)
}

/// Starts a container on the host's network.
pub(crate) fn spawn(image: &str, token: &Wrapped, options: &[&str], command: &[&str]) -> Container {
    let variable = format!("ANTEROOM_TOKEN={}", token.token);
    let mut all = vec!["--network", "host", "--env", &variable];
    all.extend(options);
    Container::run(image, &all, command)
}

#[track_caller]
fn assert_ended(container: &Container, (code, wanted): (i32, i32), what: &str) {
    let logs = container.logs();
    assert_eq!(code, wanted, "{what}: {logs:#?}");
    if wanted != 0 {
        assert_eq!(logs.stdout, "", "{what}: the application was started");
    }
}

#[test]
fn binary_has_no_interpreter_and_needs_no_library() {
    const PT_DYNAMIC: u64 = 2;
    const PT_INTERP: u64 = 3;
    const DT_NEEDED: u64 = 1;
    let elf = fs::read(env!("CARGO_BIN_EXE_anteroom")).expect("cargo has built it");
    let number = |at: usize, length: usize| {
        let bytes = elf[at..at + length].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let at = |offset: u64| usize::try_from(offset).expect("64 bits");
    assert_eq!(
        &elf[..6],
        b"\x7fELF\x02\x01",
        "a 64-bit little-endian ELF file"
    );
    let (table, size, count) = (at(number(32, 8)), at(number(54, 2)), at(number(56, 2)));
    assert!(count > 0, "no program headers");
    for header in (0..count).map(|index| table + index * size) {
        let kind = number(header, 4);
        assert_ne!(kind, PT_INTERP, "it asks for a loader: is RUSTFLAGS set?");
        if kind == PT_DYNAMIC {
            let (start, length) = (at(number(header + 8, 8)), at(number(header + 32, 8)));
            for entry in (start..start + length).step_by(16) {
                assert_ne!(
                    number(entry, 8),
                    DT_NEEDED,
                    "it needs a shared library: is RUSTFLAGS set?"
                );
            }
        }
    }
}

/// A service with a database, its stores and its login wired up as an image would have it.
pub(crate) fn java_and_psql(service: &Service) -> Manifest {
    service
        .manifest()
        .set("java", json!({}))
        .set_at(
            &["dependencies", "db", "files", "pgpass"],
            "*:*:*:{{ username }}:{{ password }}\n",
        )
        .set(
            "environment",
            json!({
                "JDK_JAVA_OPTIONS": "@{{ secrets_dir }}/java.args",
                "PGPASSFILE": "{{ secrets_dir }}/db/pgpass",
                "PGUSER": "{{ db.username }}",
            }),
        )
}

#[test]
fn java_in_a_container_has_mutual_tls_and_reaches_postgresql() {
    docker::require!();
    let service = Service::with_database();
    let image = image(&base("java"), &java_and_psql(&service), &[ENTRYPOINT]);
    let script = format!(
        "echo pid $$ uid $(id -u); set -- /proc/[0-9]*; echo $#; \
         psql -h 127.0.0.1 -p {} -d postgres -Atc 'SELECT current_user' && cat /run/secrets/db/username && echo && \
         exec java -jar /opt/mutual-tls.jar",
        Postgres::shared().port()
    );
    let hardened = ["--user", "1000", "--read-only", "--cap-drop=ALL"];
    for (uid, options) in [(0, &[][..]), (1000, &hardened[..])] {
        let what = format!("uid {uid}");
        let token = service.mint();
        let options: Vec<&str> = TMPFS.iter().chain(options).copied().collect();
        let (container, code) = run(image.tag(), &token, &options, &["sh", "-c", &script]);
        assert_ended(&container, (code, 0), &what);
        let logs = container.logs();
        let lines: Vec<&str> = logs.stdout.lines().collect();
        // The shell and the keeper.
        assert_eq!(
            &lines[..2],
            [&*format!("pid 1 uid {uid}"), "2"],
            "{logs:#?}"
        );
        assert!(
            lines[2].starts_with("v-token-") && lines[2] == lines[3],
            "{logs:#?}"
        );
        for line in [
            &*format!("alias={} keyEntry=true", service.app),
            "trusted=1",
            "server protocol=TLSv1.2",
            "server protocol=TLSv1.3",
        ] {
            assert!(
                logs.stdout.contains(line),
                "{what}: {line:?} is missing: {logs:#?}"
            );
        }
        assert!(
            logs.stderr
                .contains("Picked up JDK_JAVA_OPTIONS: @/run/secrets/java.args")
        );

        // What `docker inspect` shows for ever is worth nothing any more.
        let variables = container.inspect("{{json .Config.Env}}").to_string();
        assert!(variables.contains(&token.token), "{what}: {variables}");
        assert_eq!(service.admin.lookup_wrapping(&token.token), 400, "{what}");
        assert!(
            service.admin.accessor_exists(&token.wrapped_accessor),
            "{what}"
        );
    }
}

// f42
#[test]
fn restarted_container_is_refused_with_80_and_told_why() {
    docker::require!();
    let service = Service::new();
    let image = image(&base("alpine-like"), &service.manifest(), &[ENTRYPOINT]);
    let (container, code) = run(image.tag(), &service.mint(), &TMPFS, &["echo", "started"]);
    assert_ended(&container, (code, 0), "the first start");
    assert_eq!(docker(["restart", container.name()]).code, 0);
    assert_eq!(container.wait(), 80, "{:#?}", container.logs());
    let logs = container.logs();
    assert_eq!(
        logs.stdout, "started\n",
        "only the first start became the application"
    );
    assert!(
        logs.stderr.contains("if this container was restarted"),
        "{logs:#?}"
    );
}

// f28
#[test]
fn docker_stop_during_a_slow_fetch_ends_with_143_and_revokes() {
    docker::require!();
    let service = Service::with_database();
    let slow = service.payment_path();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if seen.is(&slow) {
            Fault::Hang
        } else {
            Fault::Pass
        }
    });
    let image = image(
        &base("alpine-like"),
        &service.manifest_for(&proxy.address()),
        &[ENTRYPOINT],
    );
    for options in [
        &[][..],
        &["--user", "1000", "--cap-drop=ALL", "--read-only"],
    ] {
        let what = format!("{options:?}");
        // The host's own tmpfs, to see what is left when the container is gone.
        let directory = tmpfs_dir();
        let uid = if options.is_empty() { 0 } else { 1000 };
        std::os::unix::fs::chown(directory.path(), Some(uid), Some(uid))
            .expect("root can give directories away");
        let volume = format!("{}:/run/secrets", directory.path().display());
        let token = service.mint();
        let before = proxy.count(&service.payment_path());
        let options: Vec<&str> = ["--volume", &volume]
            .iter()
            .chain(options)
            .copied()
            .collect();
        let container = spawn(image.tag(), &token, &options, &["echo", "started"]);
        wait_for("the slow request", Duration::from_secs(30), || {
            (proxy.count(&service.payment_path()) > before).then_some(())
        });
        // After these seconds Docker kills, and the code is 137.
        container.stop(Duration::from_secs(3));
        assert_ended(&container, (container.wait(), 143), &what);
        assert_eq!(service.admin.lookup_wrapping(&token.token), 400, "{what}");
        assert!(
            !service.admin.accessor_exists(&token.wrapped_accessor),
            "{what}"
        );
        assert_eq!(
            service.admin.leases(&service.database_path()),
            Vec::<String>::new(),
            "{what}"
        );
        assert!(entries_in(directory.path()).is_empty(), "{what}");
    }
}

// f26
#[test]
fn container_without_a_tmpfs_is_refused_with_the_mount_option() {
    docker::require!();
    let service = Service::new();
    let token = service.mint();
    for (what, lines) in [
        ("no directory", &[ENTRYPOINT][..]),
        (
            "a directory of the image",
            &["WORKDIR /run/secrets", ENTRYPOINT],
        ),
    ] {
        let image = image(&base("alpine-like"), &service.manifest(), lines);
        let (container, code) = run(image.tag(), &token, &[], &["echo", "started"]);
        assert_ended(&container, (code, 73), what);
        let logs = container.logs();
        assert!(
            logs.stderr.contains("docker run --tmpfs /run/secrets"),
            "{what}: {logs:#?}"
        );
        assert_eq!(service.admin.lookup_wrapping(&token.token), 200, "{what}");
    }
}

const KINDS: [(&str, &str); 5] = [
    ("alpine-like", "start-alpine-like"),
    ("distroless-like", "start-distroless-like"),
    ("debian-like", "start-debian-like"),
    ("rhel-like", "start-rhel-like"),
    ("nothing else", "start-nothing-else"),
];

/// Starts an application in an image of this kind, with Vault at the host `name`.
fn run_in(
    (kind, image): (&str, &'static str),
    service: &Service,
    token: &Wrapped,
    name: &str,
    options: &[&str],
) -> (Container, i32) {
    let tag = kept(image, || {
        let ours = TempDir::new();
        for (target, source) in [
            ("anteroom", binary()),
            ("application/echo", Path::new("/bin/busybox")),
        ] {
            let target = ours.join(target);
            fs::create_dir_all(target.parent().expect("it is below ours")).expect("ours");
            fs::copy(source, target).expect("ours");
        }
        let mut roots = vec![ours.path()];
        let tree = (kind != "nothing else").then(|| tree(kind));
        roots.extend(tree.as_deref());
        Image::import(image, &roots, &[ENTRYPOINT])
    });
    let scratch = TempDir::new();
    let address = service.admin.address().replace("127.0.0.1", name);
    let manifest = service
        .manifest_for(&address)
        .set("vault.allow_http", true)
        .set("vault.deadline", "3s");
    let manifest = scratch.write("anteroom.toml", manifest.to_string());
    let volume = format!("{}:/etc/anteroom.toml:ro", manifest.display());
    let mut all = vec!["--volume", &volume];
    all.extend(TMPFS);
    all.extend(options);
    run(&tag, token, &all, &["/application/echo", "started"])
}

#[test]
fn image_of_every_kind_finds_names_in_its_own_hosts_file() {
    docker::require!();
    let service = Service::new();
    let hardened = ["--user", "1000:1000", "--read-only", "--cap-drop=ALL"];
    for kind in KINDS {
        for user in [&[][..], &hardened] {
            let what = format!("{kind:?} {user:?}");
            let mut options = vec!["--add-host", "vault.test:127.0.0.1"];
            options.extend(user);
            let (container, code) = run_in(kind, &service, &service.mint(), "vault.test", &options);
            assert_ended(&container, (code, 0), &what);
            assert_eq!(container.logs().stdout, "started\n", "{what}");
        }
    }
}

// f7
#[test]
fn unknown_host_name_ends_with_69_in_every_kind_of_image() {
    docker::require!();
    // A DNS server that takes questions and never answers.
    let silent = UdpSocket::bind("127.0.0.77:53").expect("only root may be a DNS server");
    let service = Service::new();
    for kind in KINDS {
        let token = service.mint();
        let options = ["--dns", "127.0.0.77", "--dns-search", "."];
        let (container, code) = run_in(kind, &service, &token, "no-such-host.test", &options);
        let what = format!("{kind:?}");
        assert_ended(&container, (code, 69), &what);
        let logs = container.logs();
        assert!(
            logs.stderr.contains("no-such-host.test"),
            "{what}: {logs:#?}"
        );
        // It gave up by itself, at its deadline: one dead server does not hold it up for twenty seconds.
        assert!(
            !logs.stderr.contains("did not end by itself"),
            "{what}: {logs:#?}"
        );
        assert_eq!(service.admin.lookup_wrapping(&token.token), 200, "{what}");
    }
    let mut question = [0; 512];
    let (length, _) = silent.recv_from(&mut question).expect("it was asked");
    let question = String::from_utf8_lossy(&question[..length]).into_owned();
    assert!(question.contains("no-such-host"), "{question}");
}

#[test]
fn library_of_the_application_keeps_its_resolver_options() {
    docker::require!();
    let service = Service::new();
    let image = image(&base("alpine-like"), &service.manifest(), &[ENTRYPOINT]);
    for (given, seen) in [
        (None, ""),
        (Some("RES_OPTIONS=ndots:3"), "RES_OPTIONS=ndots:3\n"),
    ] {
        let mut options = TMPFS.to_vec();
        options.extend(given.iter().flat_map(|given| ["--env", given]));
        let command = ["sh", "-c", "env | grep RES_OPTIONS; true"];
        let (container, code) = run(image.tag(), &service.mint(), &options, &command);
        assert_ended(&container, (code, 0), seen);
        assert_eq!(container.logs().stdout, seen);
    }
}

#[test]
fn dry_run_in_a_container_leaves_the_application_alone_in_it() {
    docker::require!();
    let manifest = Service::new()
        .manifest()
        .set("environment.SECRETS", "{{ secrets_dir }}");
    let image = image(&base("alpine-like"), &manifest, &[ENTRYPOINT]);
    let script = "set -- /proc/[0-9]*; echo $#; cat $SECRETS/legacy/username";
    for user in [
        &[][..],
        &["--user", "1000", "--read-only", "--cap-drop=ALL"],
    ] {
        let options: Vec<&str> = ["--network", "none", "--env", "ANTEROOM_DRY_RUN=1"]
            .iter()
            .chain(user)
            .copied()
            .collect();
        let container = Container::run(image.tag(), &options, &["sh", "-c", script]);
        assert_ended(&container, (container.wait(), 0), &format!("{user:?}"));
        assert_eq!(container.logs().stdout, "1\nsample-legacy-username");
    }
}

/// An instruction of a Dockerfile with what follows it, comments gone and lines joined.
fn instructions(dockerfile: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = dockerfile
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

#[test]
fn final_stage_of_the_example_runs_as_it_is_written() {
    docker::require!();
    let text = fs::read_to_string(repository().join("Dockerfile.example"))
        .expect("it is in the repository");
    let all = instructions(&text);
    let last = all
        .iter()
        .rposition(|(word, _)| word == "FROM")
        .expect("it has stages");
    assert!(
        last > 0 && all[last].1 == "scratch",
        "a stage that builds, then one from nothing"
    );

    let service = Service::new();
    let scratch = TempDir::new();
    let java_options = text
        .lines()
        .find_map(|line| line.strip_prefix("#   JDK_JAVA_OPTIONS = "))
        .expect("it says how Java finds its stores");
    let manifest = service.manifest().set("java", json!({})).set(
        "environment.JDK_JAVA_OPTIONS",
        java_options.trim_matches('"'),
    );
    let manifest = scratch.write("anteroom.toml", manifest.to_string());
    let (jar, java) = (tree("java").join("opt/mutual-tls.jar"), base("java"));
    let (mut files, mut lines, mut has_root) = (Vec::new(), Vec::new(), false);
    for (word, rest) in &all[last + 1..] {
        let parts: Vec<&str> = rest.split(' ').collect();
        match (word.as_str(), &parts[..]) {
            // What the stage before would have made: here it is the tree with the same runtime at the same place.
            ("COPY", ["--from=build", "/rootfs", "/"]) => has_root = true,
            ("COPY", ["--from=build", source, target]) if source.ends_with(".jar") => {
                files.push((*target, jar.as_path(), 0o644));
            }
            ("COPY", ["anteroom", target]) => files.push((*target, binary(), 0o755)),
            ("COPY", ["anteroom.toml", target]) => files.push((*target, manifest.as_path(), 0o644)),
            ("USER" | "ENTRYPOINT" | "CMD" | "HEALTHCHECK", _) => {
                lines.push(format!("{word} {rest}"))
            }
            _ => panic!("the test does not know {word} {rest}"),
        }
    }
    assert!(has_root && files.len() == 3, "{files:?}");
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let image = Image::build_on(&java, "example", &files, &lines);

    let comment = text
        .lines()
        .find_map(|line| line.strip_prefix("#   docker run --read-only"))
        .expect("it says how to run it");
    let options: Vec<&str> = comment
        .split(' ')
        .filter(|word| word.starts_with("--"))
        .collect();
    assert_eq!(options, ["--cap-drop=ALL", "--tmpfs"], "as below");
    let token = service.mint();
    let hardened = ["--read-only", "--cap-drop=ALL", "--tmpfs", "/run/secrets"];
    let (container, code) = run(image.tag(), &token, &hardened, &[]);
    assert_ended(&container, (code, 0), "the example");
    let logs = container.logs();
    for line in [
        &*format!("alias={} keyEntry=true", service.app),
        "server protocol=TLSv1.3",
    ] {
        assert!(logs.stdout.contains(line), "{line:?} is missing: {logs:#?}");
    }
    let config = container.inspect("{{json .Config}}");
    assert_eq!(config["User"], "1000:1000");
    assert_eq!(config["Entrypoint"], json!(["/anteroom", "--"]));

    // And its third way to be run, without a Vault.
    let container = Container::run(
        &image,
        &["--network", "none", "--env", "ANTEROOM_DRY_RUN=1"],
        &[],
    );
    assert_ended(&container, (container.wait(), 0), "its dry run");
    assert!(container.logs().stdout.contains("server protocol=TLSv1.3"));
}

//! `[files]`, templates of the image, and files for a group: the programs that read them, and the users who may.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the programs that read the files"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::dry_run::{dry_run, manifest as dry_manifest};
use crate::support::scene::{STAY, Scene};
use crate::support::{
    Anteroom, Manifest, Run, Service, TempDir, assert_revoked, open_tmpfs_dir, tmpfs_dir,
};

/// The application's user, and the groups that files are given to; no user of the machine is in one.
const USER: u32 = 41000;
const GROUP: u32 = 42000;
const OTHER_GROUP: u32 = 42001;

const TEMPLATE: &str = "{# of the image #}\n{\"user\": {{ legacy.username | tojson }},\n \"password\": {{ legacy.password | tojson }}}\n";

/// Files of `[files]` and of a dependency, with this template of the image.
fn with_files(manifest: Manifest, template: &Path) -> Manifest {
    manifest
        .set(
            "files",
            json!({
                "haproxy.pem": "{{ certificate.chain }}{{ certificate.key }}",
                "conf.d/app.json": {"template_file": template, "mode": "0440", "group": GROUP.to_string()},
                "names.txt": {"template": "{{ app }}\n", "mode": "0644"},
            }),
        )
        .set(
            "dependencies.legacy.files",
            json!({"own.txt": {"template": "{{ username }}", "group": GROUP.to_string()}}),
        )
}

/// Reads a path as another user of this group.
fn read_as(user: u32, group: u32, path: &Path) -> Output {
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    Command::new("setpriv")
        .args(ids)
        .arg(format!("--groups={group}"))
        .arg("cat")
        .arg(path)
        .output()
        .expect("setpriv can be started; run scripts/install")
}

#[track_caller]
fn assert_readers(directory: &Path, name: &str, readers: &[(u32, u32, bool)]) {
    for (user, group, may_read) in readers {
        let output = read_as(*user, *group, &directory.join(name));
        let what = format!("{name} for user {user} of group {group}: {output:?}");
        assert_eq!(output.status.success(), *may_read, "{what}");
    }
}

fn python(script: &str, path: &Path) -> String {
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .output();
    let output = output.expect("python3 can be started; run scripts/install");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", path.display());
    String::from_utf8(output.stdout).expect("text")
}

/// The paths of the files of a run, with modes and groups.
fn modes(run: &Run) -> Vec<String> {
    let files = run.files().into_iter();
    let files = files.map(|(path, file)| format!("{:04o} {path} {}", file.mode, file.gid));
    files.collect()
}

#[test]
fn programs_read_files_of_the_manifest_after_start_and_dry_run() {
    let service = Service::new();
    let image = TempDir::new();
    let template = image.write("app.json.j2", TEMPLATE);
    let manifest = with_files(service.manifest(), &template);
    let started = Anteroom::new()
        .manifest(manifest.clone())
        .token(service.mint())
        .shell("echo started")
        .keep_files()
        .run();
    let sample = json!({"username": "legacy", "password": Service::LEGACY_PASSWORD});
    let manifest = manifest.set("dependencies.legacy.sample", sample);
    let dry = dry_run().manifest(manifest).shell("echo started").run();
    for run in [&started, &dry] {
        run.assert_code(0).assert_no([Service::LEGACY_PASSWORD]);
        let pem = "import ssl, sys; ssl.create_default_context().load_cert_chain(sys.argv[1])";
        python(pem, &run.secrets_dir.join("haproxy.pem"));
        let json = "import json, sys; it = json.load(open(sys.argv[1])); print(it['user'] + ' ' + it['password'], end='')";
        assert_eq!(
            python(json, &run.secrets_dir.join("conf.d/app.json")),
            format!("legacy {}", Service::LEGACY_PASSWORD)
        );
        let modes = modes(run);
        for expected in [
            "0400 haproxy.pem 0",
            "0440 conf.d/app.json 42000",
            "0644 names.txt 0",
            "0440 legacy/own.txt 42000",
        ] {
            assert!(modes.iter().any(|mode| mode == expected), "{modes:?}");
        }
    }
    assert_eq!(modes(&started), modes(&dry));
}

#[test]
fn file_for_a_group_is_read_by_it_alone_in_every_generation() {
    let owned = |manifest: Manifest| {
        manifest
            .remove("certificate")
            .remove("dependencies.db")
            .set("process.user", format!("{USER}:{USER}"))
            .set("dependencies.legacy.refresh", "1s")
            .set(
                "files",
                json!({
                    "conf.d/app.txt": {"template": "{{ legacy.password }}", "mode": "0440", "group": GROUP.to_string()},
                    "private.txt": "{{ legacy.password }}",
                }),
            )
    };
    let mut scene = Scene::start(Service::new(), STAY, owned);
    let other = USER + 1;
    let assert_all = |scene: &Scene| {
        assert_readers(
            scene.path(),
            "conf.d/app.txt",
            &[
                (USER, USER, true),
                (other, GROUP, true),
                (other, other, false),
            ],
        );
        for name in ["private.txt", "legacy/password", "payment/api_key"] {
            assert_readers(
                scene.path(),
                name,
                &[(USER, USER, true), (other, GROUP, false)],
            );
        }
        let files = scene.files();
        let file = &files["conf.d/app.txt"];
        assert_eq!((file.mode, file.uid, file.gid), (0o440, USER, GROUP));
    };
    assert_all(&scene);
    let first = scene.generation();
    let fields = json!({"username": "legacy", "password": "another"});
    scene
        .service
        .admin
        .kv_put(&scene.service.legacy_path(), fields);
    scene.wait_for_events("rotated", 1);
    assert_ne!(scene.generation(), first);
    let read = read_as(other, GROUP, &scene.directory.join("conf.d/app.txt"));
    assert_eq!(read.stdout, b"another");
    assert_all(&scene);
    scene.run.kill(nix::sys::signal::Signal::SIGTERM);
}

#[test]
fn files_for_several_groups_are_each_read_by_their_own() {
    let directory = open_tmpfs_dir();
    let group = |group: u32| json!({"template": "canary", "group": group.to_string()});
    let manifest = Service::new().manifest().bare().set(
        "files",
        json!({
            "one.txt": group(GROUP),
            "d/two.txt": group(OTHER_GROUP),
            "d/three.txt": group(OTHER_GROUP),
            "all.txt": {"template": "canary", "mode": "0444"},
            "own.txt": "canary",
        }),
    );
    let mut run = dry_run()
        .manifest(manifest)
        .secrets_dir(directory.path())
        .shell("echo up; read -r line")
        .spawn();
    run.wait_for_stdout("up\n");
    let other = USER + 1;
    for (name, one, two, none) in [
        ("one.txt", true, false, false),
        ("d/two.txt", false, true, false),
        ("d/three.txt", false, true, false),
        ("all.txt", true, true, true),
        ("own.txt", false, false, false),
    ] {
        assert_readers(
            directory.path(),
            name,
            &[
                (other, GROUP, one),
                (other, OTHER_GROUP, two),
                (other, other, none),
            ],
        );
    }
}

/// A manifest without secrets but with a file of this mode and group.
fn shared(service: &Service, file: Value) -> Manifest {
    let file = json!({"app.txt": file});
    service.manifest().bare().set("files", file)
}

#[test]
fn group_that_the_process_is_not_in_is_78_before_the_token() {
    let service = Service::new();
    let directory = tmpfs_dir();
    chown(directory.path(), Some(USER), Some(USER)).expect("root gives directories away");
    let file = json!({"template": "x", "group": GROUP.to_string()});
    let start = |groups: &str| {
        let user = [format!("--reuid={USER}"), format!("--regid={USER}")];
        let groups = format!("--groups={groups}");
        Anteroom::new()
            .manifest(shared(&service, file.clone()))
            .secrets_dir(directory.path())
            .under(["setpriv", &user[0], &user[1], &groups])
            .command([
                "stat",
                "-L",
                "-c",
                "%a %g",
                &directory.join("app.txt").display().to_string(),
            ])
    };
    let token = service.mint();
    let run = start("41000").token(&token).run();
    run.assert_refused(78)
        .assert_stderr("line 5, column 11: only root may give a file to any group, and anteroom runs as user 41000");
    service.assert_unused(&token, "a group of others");
    // A member of the group may.
    let run = start("41000,42000").token(&token).run();
    run.assert_code(0);
    assert_eq!(run.stdout, "440 42000\n");
}

#[test]
fn dry_run_of_another_user_goes_without_the_group() {
    let service = Service::new();
    for group in [&GROUP.to_string(), "no-such-group-here"] {
        let file = json!({"template": "x", "group": group});
        let run = dry_run()
            .manifest(shared(&service, file))
            .uid(USER)
            .shell("echo started")
            .run();
        run.assert_code(0)
            .assert_stderr("`group` of app.txt does not apply in this dry run: ");
        let file = run.file("app.txt");
        assert_eq!((file.mode, file.gid), (0o440, USER));
    }
}

#[test]
fn dry_run_of_a_root_that_may_not_give_goes_without_the_group() {
    let service = Service::new();
    let file = json!({"template": "x", "group": GROUP.to_string()});
    let without_chown = &["setpriv", "--bounding-set=-chown", "--inh-caps=-chown"];
    for (under, why) in [
        (&without_chown[..], "root needs the capability CHOWN for it"),
        (
            &["unshare", "--map-root-user"],
            "no such group is mapped in this user namespace",
        ),
    ] {
        let run = dry_run()
            .manifest(
                shared(&service, file.clone()).set("environment.SECRETS", "{{ secrets_dir }}"),
            )
            .without_secrets_dir()
            .under(under.iter().copied())
            .shell("stat -L -c '%a %g' \"$SECRETS/app.txt\"")
            .run();
        run.assert_code(0)
            .assert_stderr(
                "does not apply in this dry run: no file there can be given to the group 42000: ",
            )
            .assert_stderr(why);
        assert_eq!(run.stdout, "440 0\n");
    }
}

#[test]
fn file_may_be_made_without_an_optional_secret() {
    let service = Service::new();
    let with = |template: &str| {
        let path = format!("{}/not-there", service.kv1);
        let policy = service.policy_hcl().replace(&service.legacy_path(), &path);
        service.admin.policy(&service.policy, &policy);
        service
            .manifest()
            .bare()
            .set(
                "dependencies.extra",
                json!({"path": path, "optional": true}),
            )
            .set("files", json!({"conf.d/app.txt": template}))
    };
    let run = Anteroom::new()
        .manifest(with(
            "{% if extra %}{{ extra.key }}{% else %}none{% endif %}",
        ))
        .token(service.mint())
        .shell("echo started")
        .keep_files()
        .run();
    run.assert_code(0);
    assert_eq!(run.file("conf.d/app.txt").text(), "none");
    let run = Anteroom::new()
        .manifest(with("{{ extra.key }}"))
        .without_secrets_dir()
        .arg("check")
        .run();
    run.assert_code(78)
        .assert_stderr("the template of conf.d/app.txt, line 1 uses a value that is not there")
        .assert_stderr("where no dependency that is `optional` is there");
}

#[test]
fn root_without_chown_is_told_before_the_token() {
    let service = Service::new();
    let file = json!({"template": "x", "group": GROUP.to_string()});
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(shared(&service, file))
        .token(&token)
        .under(["setpriv", "--bounding-set=-chown", "--inh-caps=-chown"])
        .shell("echo started")
        .run();
    run.assert_refused(73)
        .assert_stderr("no file there can be given to the group 42000: Operation not permitted");
    service.assert_unused(&token, "a group that cannot be set");
}

#[test]
fn directory_that_readers_cannot_pass_is_told_at_the_start() {
    let service = Service::new();
    let call = |directory: &TempDir, mode: u32, owner: u32| {
        chown(directory.path(), Some(owner), Some(owner)).expect("root gives directories away");
        let mode = Permissions::from_mode(mode);
        fs::set_permissions(directory.path(), mode).expect("root changes every mode");
        dry_run()
            .manifest(shared(&service, json!({"template": "x", "mode": "0640"})))
            .secrets_dir(directory.path())
            .uid(USER)
            .shell("echo started")
            .run()
    };
    for (mode, owner, why) in [
        (0o700, USER, Some("they cannot enter it")),
        (0o750, USER, None),
        (0o1777, USER, None),
    ] {
        let directory = tmpfs_dir();
        let run = call(&directory, mode, owner);
        run.assert_code(0);
        let told = run.named("out_of_reach");
        assert_eq!(told.len(), usize::from(why.is_some()), "{mode:o} {run:?}");
        run.assert_stderr(why.unwrap_or_default());
    }
}

#[test]
fn template_of_the_image_that_cannot_be_used_is_78() {
    let service = Service::new();
    let image = TempDir::new();
    let large = vec![b'x'; (1 << 20) + 1];
    image.write("large.j2", large);
    image.write("latin.j2", b"stra\xdfe");
    image.write("typo.j2", "a\n\n{{ payment.api_kee }}{{ 1 | tojsn }}");
    image.write("typo3.j2", "\n{{ paymentt.api_key }}");
    image.write("typo4.j2", "\n\n{{ env }}");
    image.write("typo2.j2", "a\n\n{{ payment.api_kee }}");
    nix::unistd::mkfifo(&image.join("pipe.j2"), nix::sys::stat::Mode::S_IRUSR).expect("made");
    let token = service.mint();
    for (name, reason) in [
        ("missing.j2", "missing.j2: No such file"),
        ("", "it is a directory, no regular file"),
        ("pipe.j2", "it is a pipe, no regular file"),
        ("large.j2", "it is larger than 1 MiB"),
        ("latin.j2", "it is not UTF-8"),
        (
            "typo.j2",
            "typo.j2), line 3: unknown filter `tojsn` (is `tojson` meant?)",
        ),
        (
            "typo3.j2",
            "typo3.j2), line 2: `paymentt` is no dependency (is `payment` meant?)",
        ),
        ("typo4.j2", "typo4.j2), line 3: `env` is a whole table"),
        (
            "typo2.j2",
            "typo2.j2), line 3: `api_kee` is none of the `fields` of `payment` (is `api_key` meant?)",
        ),
    ] {
        let file = json!({"app.json": {"template_file": image.join(name)}});
        let manifest = service.manifest().set("files", file);
        let human = |call: Anteroom| call.args(["--log", "human"]).shell("echo started");
        let runs = [
            human(Anteroom::new().manifest(manifest.clone()).token(&token)),
            human(dry_run().manifest(manifest.clone())),
            Anteroom::new()
                .manifest(manifest)
                .args(["--log", "human", "check"]),
        ];
        for call in runs {
            let run = call.run();
            run.assert_refused(78).assert_stderr(reason);
            run.assert_stderr("app.json");
        }
    }
    service.assert_unused(&token, "a template that cannot be used");
}

#[test]
fn policy_needs_no_template_of_the_image() {
    let service = Service::new();
    let file = json!({"app.json": {"template_file": "/no/such/file"}});
    let run = Anteroom::new()
        .manifest(service.manifest().set("files", file))
        .without_secrets_dir()
        .arg("policy")
        .run();
    run.assert_code(0);
}

#[test]
fn template_beside_the_manifest_is_found_from_anywhere() {
    let image = TempDir::new();
    image.write("app.j2", "{{ app }}");
    let file = json!({"app.txt": {"template_file": "app.j2"}});
    let manifest = super::dry_run::manifest().set("files", file);
    let path = image.write("anteroom.toml", String::from(manifest));
    let run = dry_run()
        .arg("--manifest")
        .arg(path)
        .current_dir("/")
        .shell("echo started")
        .run();
    run.assert_code(0);
    assert_eq!(run.file("app.txt").text(), "timeline");
}

#[test]
fn value_that_no_template_can_use_is_78_after_the_token() {
    let service = Service::new();
    let image = TempDir::new();
    let template = image.write("app.j2", "#\n{{ legacy.password | pgpass }}");
    service
        .admin
        .kv_put(&service.legacy_path(), json!({"password": "canary\n"}));
    let file = json!({"app.txt": {"template_file": template}});
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(service.manifest().set("files", file))
        .token(&token)
        .shell("echo started")
        .run();
    assert_revoked(&run, 78, &service, &token);
    run.assert_no(["canary"])
        .assert_stderr("app.j2), line 2: a value for `pgpass` holds a line end");
}

#[test]
fn plan_lists_files_of_the_manifest_with_mode_and_group() {
    let image = TempDir::new();
    let template = image.write("app.json.j2", TEMPLATE);
    let manifest = with_files(Service::new().manifest(), &template)
        .set_at(&["files", "conf.d/app.json", "group"], "no-such-group-here");
    let run = Anteroom::new()
        .manifest(manifest)
        .without_secrets_dir()
        .arg("check")
        .run();
    run.assert_code(0);
    for line in [
        "  file        0400 haproxy.pem\n",
        "  file        0440 conf.d/app.json (group no-such-group-here)\n",
        "  file        0644 names.txt\n",
        "  file        0440 legacy/own.txt (group 42000)\n",
    ] {
        assert!(run.stdout.contains(line), "{line}{}", run.stdout);
    }
}

#[test]
fn secret_for_every_user_is_noticed() {
    let with = |file: Value| {
        let manifest = Service::new()
            .manifest()
            .set("files", json!({"app.txt": file}));
        Anteroom::new()
            .manifest(manifest)
            .without_secrets_dir()
            .args(["check", "--strict"])
            .run()
    };
    for template in ["{{ certificate.ca }}{{ app }}", "text"] {
        with(json!({"template": template, "mode": "0444"})).assert_code(0);
    }
    for template in ["{{ certificate.pem }}", "{{ legacy.password }}"] {
        with(json!({"template": template, "mode": "0444"}))
            .assert_code(78)
            .assert_stderr("app.txt holds secrets, and its mode 0444 lets every user read it");
        with(json!({"template": template, "mode": "0440"})).assert_code(0);
    }
}

#[test]
fn mistake_of_a_file_is_told_once_with_what_would_do() {
    let check = |files: Value| {
        let manifest = dry_manifest().set("files", files);
        let run = Anteroom::new().manifest(manifest).arg("check").run();
        run.assert_code(78);
        run
    };
    let run = check(json!({"tls.key/a": "x", "tls.key/b": "y", "tls.key/c": "z"}));
    let text = "`tls.key` is already the name of a file, and no folder";
    assert_eq!(run.stderr.matches(text).count(), 1, "{}", run.stderr);
    let run = check(json!({"a": "x", "a/b": "y", "a/c": "z"}));
    let text = "`a` is already the name of a file, and no folder";
    assert_eq!(run.stderr.matches(text).count(), 1, "{}", run.stderr);
    let run = check(json!({"app.txt": ["x"]}));
    run.assert_stderr("`app.txt` in [files] must be a string or a table, not a list");
}

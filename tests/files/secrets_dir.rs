//! The secrets directory and what lies in it: modes, layout, planted names, a full tmpfs, readers beside a start.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test plants files and says what it saw"
)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use serde_json::{Value, json};

use crate::support::anteroom::{entries_in, files_in};
use crate::support::openbao::text;
use crate::support::{
    Anteroom, Fault, FaultProxy, Manifest, Run, Service, TempDir, Wrapped, tmpfs_dir,
};

const APPLICATION: &str = "echo the application runs";
const LASTING: &str = "echo the application runs; exec sleep 600";
const RUNS: &str = "the application runs\n";

/// Every file of a service with stores, and its mode.
const FILES: &[(&str, u32)] = &[
    ("ca.crt", 0o444),
    ("java.args", 0o400),
    ("keystore.p12", 0o400),
    ("keystore.password", 0o400),
    ("legacy/password", 0o400),
    ("legacy/username", 0o400),
    ("payment/api_key", 0o400),
    ("payment/conf", 0o400),
    ("status.json", 0o444),
    ("tls.crt", 0o444),
    ("tls.key", 0o400),
    ("tls.pem", 0o400),
    ("truststore.p12", 0o400),
];

/// Files that stand hidden at the top of the directory, and the successor of one.
const HIDDEN: [&str; 3] = ["..status", "..status.next", "..keeper"];

/// The names at the top of the directory that a reader sees.
const VISIBLE: &[&str] = &[
    "ca.crt",
    "java.args",
    "keystore.p12",
    "keystore.password",
    "legacy",
    "payment",
    "status.json",
    "tls.crt",
    "tls.key",
    "tls.pem",
    "truststore.p12",
];

fn manifest(service: &Service) -> Manifest {
    service.manifest().set("java", json!({})).set_at(
        &["dependencies", "payment", "files", "conf"],
        "key={{ api_key }}",
    )
}

#[track_caller]
fn assert_refused(run: &Run, what: &str) {
    assert_eq!(run.code, Some(73), "{what}: {run:?}");
    assert_eq!(run.stdout, "", "{what}: the application was started");
}

#[track_caller]
fn assert_revoked(service: &Service, token: &Wrapped, what: &str) {
    let status = service.admin.lookup_wrapping(&token.token);
    assert_eq!(status, 400, "{what}: the token was never unwrapped");
    let lives = service.admin.accessor_exists(&token.wrapped_accessor);
    assert!(!lives, "{what}: the client token lives on");
}

// t11
#[test]
fn modes_and_owner_do_not_depend_on_the_umask() {
    let service = Service::new();
    for mask in [0o000, 0o022, 0o077, 0o777] {
        for (uid, user) in [(0, None), (1000, None), (1234, Some("1234:1234"))] {
            let what = format!("umask {mask:03o}, uid {uid}, user {user:?}");
            let directory = tmpfs_dir();
            let mut manifest = manifest(&service);
            if let Some(user) = user {
                manifest = manifest.set("process.user", user);
            }
            let mut call = Anteroom::new();
            if user.is_none() && uid != 0 {
                call = call.uid(uid);
            }
            chown(directory.path(), Some(uid), Some(uid)).expect("root can give directories away");
            let run = call
                .secrets_dir(directory.path())
                .manifest(manifest)
                .token(service.mint())
                .pre_exec(move || {
                    umask(Mode::from_bits_truncate(mask));
                    Ok(())
                })
                .shell(&format!(
                    "umask; test -r {}/tls.key",
                    directory.path().display()
                ))
                .keep_files()
                .run();
            assert_eq!(run.code, Some(0), "{what}: {run:?}");
            assert_eq!(
                run.stdout.lines().next(),
                Some(&*format!("{mask:04o}")),
                "{what}"
            );
            let files = run.files();
            let modes: Vec<(&str, u32)> = files
                .iter()
                .map(|(name, entry)| (name.as_str(), entry.mode))
                .collect();
            assert_eq!(modes, FILES, "{what}");
            for (name, entry) in run.entries() {
                if entry.link.is_some() {
                    continue;
                }
                // The mark of a living keeper is the keeper's own, and every user may look at it.
                if name == "..keeper" {
                    let keeper = if user.is_some() { 0 } else { uid };
                    let found = (entry.uid, entry.mode, entry.bytes.len());
                    assert_eq!(found, (keeper, 0o444, 0), "{what}: {name}");
                    continue;
                }
                assert_eq!((entry.uid, entry.gid), (uid, uid), "{what}: {name}");
                if entry.is_dir {
                    assert_eq!(entry.mode, 0o700, "{what}: {name}");
                }
            }
            let mode = fs::metadata(directory.path()).expect("ours").mode();
            assert_eq!(mode & 0o7777, 0o700, "{what}");
        }
    }
}

#[test]
fn application_reads_its_files_as_its_own_user() {
    let service = Service::new();
    let directory = tmpfs_dir();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("ours");
    let script = format!(
        "id -u; cat {0}/payment/api_key; test -r {0}/tls.key",
        directory.path().display()
    );
    let run = Anteroom::new()
        .secrets_dir(directory.path())
        .manifest(manifest(&service).set("process.user", "1234:1234"))
        .token(service.mint())
        .shell(&script)
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, format!("1234\n{}", Service::API_KEY));
}

// f26
#[test]
fn directory_closed_to_the_user_is_refused_before_the_token() {
    let service = Service::new();
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(manifest(&service).set("process.user", "1234:1234"))
        .token(&token)
        .shell(APPLICATION)
        .run();
    assert_refused(&run, "0700 of root");
    run.assert_stderr("cannot enter it").assert_no_files();
    service.assert_unused(&token, "0700 of root");
}

#[test]
fn every_visible_name_is_a_link_through_one_generation() {
    let service = Service::new();
    let run = Anteroom::new()
        .manifest(manifest(&service))
        .token(service.mint())
        .shell(APPLICATION)
        .keep_files()
        .run();
    run.assert_code(0);
    let entries = run.entries();
    let top: BTreeMap<&str, Option<&Path>> = entries
        .iter()
        .filter(|(name, _)| !name.contains('/'))
        .map(|(name, entry)| (name.as_str(), entry.link.as_deref()))
        .collect();
    let generation = top["..data"].expect("..data is a link").to_owned();
    let generation = generation.to_str().expect("our names are text");
    assert!(generation.starts_with("..generation-"), "{generation}");
    assert!(entries[generation].is_dir);
    let mut wanted: Vec<String> = VISIBLE.iter().map(|name| (*name).to_owned()).collect();
    wanted.extend(["..data", "..keeper", "..status", generation].map(str::to_owned));
    wanted.sort();
    assert_eq!(top.keys().copied().collect::<Vec<_>>(), wanted);
    for name in VISIBLE {
        // The status changes while a generation stays.
        let target = match *name {
            "status.json" => "..status".to_owned(),
            name => format!("..data/{name}"),
        };
        assert_eq!(top[name], Some(Path::new(&target)), "{name}");
    }
    for name in ["..status", "..keeper"] {
        assert!(!entries[name].is_dir && top[name].is_none(), "{name}");
    }
}

/// An entry that an attacker has put at a name, and a file outside that must stay as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plant {
    Symlink,
    HardLink,
    Fifo,
    Directory,
    File,
}

pub(crate) const PLANTS: [Plant; 5] = [
    Plant::Symlink,
    Plant::HardLink,
    Plant::Fifo,
    Plant::Directory,
    Plant::File,
];

impl Plant {
    pub(crate) fn at(self, path: &Path, victim: &Path) -> std::io::Result<()> {
        match self {
            Plant::Symlink => symlink(victim, path),
            Plant::HardLink => fs::hard_link(victim, path),
            Plant::Fifo => Ok(nix::unistd::mkfifo(path, Mode::S_IRWXU)?),
            Plant::Directory => fs::create_dir(path),
            Plant::File => fs::File::create_new(path).map(drop),
        }
    }
}

/// A file on the same tmpfs that planted links lead to.
pub(crate) struct Victim {
    directory: TempDir,
    mode: u32,
}

impl Victim {
    pub(crate) fn new() -> Self {
        let directory = tmpfs_dir();
        let path = directory.write("victim", "untouched");
        let mode = fs::metadata(path).expect("just written").mode();
        Self { directory, mode }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("victim")
    }

    #[track_caller]
    pub(crate) fn assert_untouched(&self, what: &str) {
        let found = fs::metadata(self.path()).expect("it stays");
        let content = fs::read_to_string(self.path()).expect("it stays");
        assert_eq!(content, "untouched", "{what}");
        assert_eq!((found.mode(), found.uid()), (self.mode, 0), "{what}");
        let names = fs::read_dir(self.directory.path()).expect("ours").count();
        assert_eq!(names, 1, "{what}: something was written beside it");
    }
}

// t10, f43
#[test]
fn entry_planted_at_an_output_name_is_refused_and_left_alone() {
    let service = Service::new();
    let manifest = manifest(&service).to_string();
    let victim = Victim::new();
    for name in VISIBLE.iter().chain(&["..data", "..data.next"]) {
        let token = service.mint();
        for plant in PLANTS {
            let what = format!("{plant:?} at {name}");
            let directory = tmpfs_dir();
            plant
                .at(&directory.join(name), &victim.path())
                .expect("an empty directory");
            let run = Anteroom::new()
                .secrets_dir(directory.path())
                .manifest(&*manifest)
                .token(&token)
                .shell(APPLICATION)
                .run();
            assert_refused(&run, &what);
            assert!(run.stderr.contains(&format!("`{name}`")), "{what}: {run:?}");
            victim.assert_untouched(&what);
            let left: Vec<String> = run.entries().into_keys().collect();
            assert_eq!(left, [name.to_string()], "{what}");
            service.assert_unused(&token, &what);
        }
    }
}

// t10, f43
#[test]
fn entry_at_a_hidden_name_is_replaced_and_not_written_through() {
    let service = Service::new();
    let manifest = manifest(&service).to_string();
    let victim = Victim::new();
    for name in HIDDEN {
        for plant in PLANTS {
            let what = format!("{plant:?} at {name}");
            let (directory, token) = (tmpfs_dir(), service.mint());
            plant
                .at(&directory.join(name), &victim.path())
                .expect("an empty directory");
            let run = Anteroom::new()
                .secrets_dir(directory.path())
                .manifest(&*manifest)
                .token(&token)
                .shell(APPLICATION)
                .keep_files()
                .run();
            victim.assert_untouched(&what);
            // Behind a link may be the lock of another start.
            let may_be_anothers_lock = name == "..keeper" && plant == Plant::Symlink;
            if plant == Plant::Directory || may_be_anothers_lock {
                assert_refused(&run, &what);
                assert!(run.stderr.contains(&format!("`{name}`")), "{what}: {run:?}");
                service.assert_unused(&token, &what);
                continue;
            }
            assert_eq!(run.code, Some(0), "{what}: {run:?}");
            assert_eq!(run.files().len(), FILES.len(), "{what}");
            run.assert_no_files();
        }
    }
}

// t10
#[test]
fn entry_planted_by_another_user_is_not_taken_for_anterooms() {
    let service = Service::new();
    let planter = 1234;
    let rows: [&[(&str, &str)]; 7] = [
        &[
            ("status.json", "..data/status.json"),
            ("..data", "..generation-x"),
        ],
        &[("status.json", "..data/status.json")],
        &[("status.json", "..status")],
        &[("..data", "..generation-x")],
        &[("..status", "..generation-x/status.json")],
        &[("..status.next", "..generation-x/status.json")],
        &[("..keeper", "..generation-x/status.json")],
    ];
    for starter in [0, 1000] {
        for links in rows {
            let what = format!("{links:?} for {starter}");
            let directory = tmpfs_dir();
            fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).expect("ours");
            let theirs = directory.join("..generation-x");
            fs::create_dir(&theirs).expect("ours");
            fs::write(theirs.join("status.json"), "theirs").expect("ours");
            chown(&theirs, Some(planter), Some(planter)).expect("root gives it away");
            for (name, target) in links {
                let path = directory.join(name);
                symlink(target, &path).expect("ours");
                lchown(&path, Some(planter), Some(planter)).expect("root gives it away");
            }
            let before = entries_in(directory.path());
            let token = service.mint();
            let run = Anteroom::new()
                .uid(starter)
                .secrets_dir(directory.path())
                .manifest(service.manifest())
                .token(&token)
                .shell(APPLICATION)
                .run();
            assert_refused(&run, &what);
            assert_eq!(run.entries(), before, "{what}\n{run:?}");
            service.assert_unused(&token, &what);
        }
    }
}

#[test]
fn lock_of_another_user_is_named_though_it_cannot_be_read() {
    let service = Service::new();
    let directory = tmpfs_dir();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).expect("ours");
    let path = directory.write("..keeper", "");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
    chown(&path, Some(1234), Some(1234)).expect("root gives it away");
    let token = service.mint();
    let run = Anteroom::new()
        .uid(1000)
        .secrets_dir(directory.path())
        .manifest(service.manifest())
        .token(&token)
        .shell(APPLICATION)
        .run();
    assert_refused(&run, "a lock of another user");
    run.assert_stderr("what is there is left alone");
    service.assert_unused(&token, "a lock of another user");
}

// t10
#[test]
fn entry_planted_after_the_check_is_never_written_through() {
    let service = Service::new();
    let victim = Victim::new();
    // The lock is there by then.
    let hidden = ["..data", "..data.next", "..status", "..status.next"];
    for (number, name) in VISIBLE.iter().chain(&hidden).enumerate() {
        // Each name with two kinds, and all kinds in turn.
        for plant in [PLANTS[number % 5], PLANTS[(number + 2) % 5]] {
            let what = format!("{plant:?} at {name} during the unwrap");
            let directory = tmpfs_dir();
            let (place, target) = (directory.join(name), victim.path());
            let proxy = FaultProxy::start(service.admin.address(), move |seen| {
                if seen.is("sys/wrapping/unwrap") {
                    plant.at(&place, &target).expect("nothing is published yet");
                }
                Fault::Pass
            });
            let token = service.mint();
            let run = Anteroom::new()
                .secrets_dir(directory.path())
                .manifest(manifest(&service).set("vault.address", proxy.address()))
                .token(&token)
                .shell(APPLICATION)
                .keep_files()
                .run();
            victim.assert_untouched(&what);
            // What is no directory makes way there, and nothing is followed.
            if hidden.contains(name) && plant != Plant::Directory {
                assert_eq!(run.code, Some(0), "{what}: {run:?}");
                assert_eq!(run.files().len(), FILES.len(), "{what}");
                continue;
            }
            assert_refused(&run, &what);
            assert_revoked(&service, &token, &what);
            let left: Vec<String> = run.entries().into_keys().collect();
            assert_eq!(left, [*name], "{what}");
        }
    }
}

// t10
#[test]
fn racing_planter_never_has_an_entry_written_through() {
    let victim = Victim::new();
    let manifest = dry_manifest();
    let (mut refused, rounds) = (0, 60);
    for round in 0..rounds {
        let directory = tmpfs_dir();
        let begin = Arc::new(Barrier::new(2));
        let done = Arc::new(AtomicBool::new(false));
        let planter = {
            let (path, victim) = (directory.path().to_owned(), victim.path());
            let (begin, done) = (Arc::clone(&begin), Arc::clone(&done));
            std::thread::spawn(move || {
                begin.wait();
                // As soon as a generation is under way: the check of the names is over, the publication is not.
                while !done.load(Ordering::Relaxed)
                    && fs::read_dir(&path).is_ok_and(|mut names| names.next().is_none())
                {
                    std::thread::yield_now();
                }
                let names = ["tls.key", "..data.next", "tls.crt", "db", "status.json"];
                for step in 0..names.len() {
                    let name = names[(round + step) % names.len()];
                    let _ = PLANTS[(round + step) % 5].at(&path.join(name), &victim);
                }
            })
        };
        begin.wait();
        let run = Anteroom::new()
            .arg("--dry-run")
            .secrets_dir(directory.path())
            .manifest(&*manifest)
            .shell(APPLICATION)
            .run();
        done.store(true, Ordering::Relaxed);
        planter.join().expect("the planter does not panic");
        victim.assert_untouched(&format!("round {round}"));
        match run.code {
            Some(0) => {}
            Some(73) => {
                refused += 1;
                assert_eq!(run.stdout, "", "round {round}");
                let ours: Vec<String> = run
                    .entries()
                    .into_keys()
                    .filter(|name| name.starts_with("..generation-"))
                    .collect();
                assert!(ours.is_empty(), "round {round} left {ours:?}");
            }
            _ => panic!("round {round}: {run:?}"),
        }
    }
    println!("the planter won {refused} of {rounds} races");
}

// t10, f26
#[test]
fn unusable_secrets_directory_is_refused_before_the_token() {
    let service = Service::new();
    let token = service.mint();
    let scratch = tmpfs_dir();
    let real = scratch.join("real");
    fs::create_dir(&real).expect("ours");
    let foreign = scratch.join("foreign");
    fs::create_dir(&foreign).expect("ours");
    chown(&foreign, Some(1000), Some(1000)).expect("root can give directories away");
    symlink(&real, scratch.join("link")).expect("ours");
    scratch.write("file", "");
    nix::unistd::mkfifo(&scratch.join("fifo"), Mode::S_IRWXU).expect("ours");
    for (name, reason) in [
        ("link", "symbolic link"),
        ("file", "no directory"),
        ("fifo", "no directory"),
        ("missing", "does not exist"),
        ("foreign", "belongs to the user 1000"),
    ] {
        let run = Anteroom::new()
            .secrets_dir(scratch.join(name))
            .manifest(service.manifest())
            .token(&token)
            .shell(APPLICATION)
            .run();
        assert_refused(&run, name);
        assert!(run.stderr.contains(reason), "{name}: {run:?}");
        service.assert_unused(&token, name);
    }
    assert_eq!(fs::read_dir(real).expect("ours").count(), 0);
}

// f26, t9
#[test]
fn directory_on_a_disk_is_refused_unless_the_manifest_allows_it() {
    let service = Service::new();
    let token = service.mint();
    let disk = TempDir::new();
    let start = |manifest: Manifest| {
        Anteroom::new()
            .secrets_dir(disk.path())
            .manifest(manifest)
            .token(&token)
            .shell(APPLICATION)
            .keep_files()
            .run()
    };
    let run = start(service.manifest());
    assert_refused(&run, "a disk");
    run.assert_stderr("is not a tmpfs")
        .assert_stderr("--tmpfs /run/secrets")
        .assert_no_files();
    service.assert_unused(&token, "a disk");
    let run = start(service.manifest().set("secrets.allow_disk", true));
    run.assert_code(0);
    assert_eq!(run.file("payment/api_key").text(), Service::API_KEY);
}

// f26
#[test]
fn directory_without_permission_is_refused_before_the_token() {
    let service = Service::new();
    let token = service.mint();
    for (mode, reason) in [(0o700, "Permission denied"), (0o755, "cannot write it")] {
        let what = format!("root's directory with {mode:o}");
        let directory = tmpfs_dir();
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).expect("ours");
        let run = Anteroom::new()
            .uid(1000)
            .secrets_dir(directory.path())
            .manifest(service.manifest())
            .token(&token)
            .shell(APPLICATION)
            .run();
        assert_refused(&run, &what);
        assert!(run.stderr.contains(reason), "{what}: {run:?}");
        service.assert_unused(&token, &what);
    }
}

/// A way to run the binary with a tmpfs of these options mounted for it alone; needs root.
struct Mounted {
    scratch: TempDir,
}

impl Mounted {
    fn new(options: &str) -> Self {
        Self::through(options, "")
    }

    /// A mount whose binary is started through these words.
    fn through(options: &str, words: &str) -> Self {
        let scratch = TempDir::new();
        let directory = scratch.join("secrets");
        fs::create_dir(&directory).expect("ours");
        let script = format!(
            "#!/bin/sh\n\
             if test -z \"$INSIDE\"; then INSIDE=1 exec unshare --mount /bin/sh \"$0\" \"$@\"; fi\n\
             unset INSIDE\n\
             mount -t tmpfs -o {options} none {directory} || exit 99\n\
             {words} {anteroom} \"$@\"\n\
             code=$?\n\
             ls -A {directory} >{left}\n\
             find {directory} -type f >{files}\n\
             exit $code\n",
            directory = directory.display(),
            anteroom = env!("CARGO_BIN_EXE_anteroom"),
            left = scratch.join("left").display(),
            files = scratch.join("files").display(),
        );
        scratch.write("program", script);
        Self { scratch }
    }

    fn start(&self, manifest: Manifest, token: &Wrapped) -> Run {
        Anteroom::new()
            .program(self.scratch.join("program"))
            // Not executed itself: another thread may fork while ours holds it open for writing.
            .under(["/bin/sh"])
            .secrets_dir(self.scratch.join("secrets"))
            .manifest(manifest)
            .token(token)
            .shell(APPLICATION)
            .run()
    }

    /// The names in the directory after the end.
    fn left(&self) -> String {
        fs::read_to_string(self.scratch.join("left")).expect("the script got to its end")
    }

    /// The files in the directory after the end, links aside.
    fn files_left(&self) -> String {
        fs::read_to_string(self.scratch.join("files")).expect("the script got to its end")
    }
}

// f26
#[test]
fn tmpfs_that_cannot_take_the_files_is_found_before_the_token() {
    let service = Service::new();
    let token = service.mint();
    for (options, reason) in [
        ("ro", "Read-only file system"),
        ("size=64k", "room for 65536 bytes only"),
        ("nr_inodes=1", "cannot write it"),
    ] {
        let mounted = Mounted::new(options);
        let run = mounted.start(service.manifest(), &token);
        assert_refused(&run, options);
        assert!(run.stderr.contains(reason), "{options}: {run:?}");
        assert_eq!(mounted.left(), "", "{options}");
        service.assert_unused(&token, options);
    }
}

#[test]
fn read_only_secrets_directory_names_the_way_out() {
    let service = Service::new();
    let token = service.mint();
    let run = Mounted::new("ro").start(service.manifest(), &token);
    assert_refused(&run, "ro");
    for text in [
        "/run/anteroom",
        "--secrets-dir",
        "ANTEROOM_SECRETS_DIR",
        "`directory` in [secrets]",
    ] {
        run.assert_stderr(text);
    }
    service.assert_unused(&token, "ro");
}

// f26
#[test]
fn tmpfs_full_after_the_unwrap_leaves_no_file_and_no_token() {
    let service = Service::new();
    service.admin.kv_put(
        &service.legacy_path(),
        json!({"password": Service::LEGACY_PASSWORD.repeat(30_000)}),
    );
    for (options, hint) in [("size=300k", "Its size"), ("nr_inodes=7", "`nr_inodes`")] {
        let mounted = Mounted::new(options);
        let token = service.mint();
        let run = mounted.start(service.manifest(), &token);
        assert_refused(&run, options);
        run.assert_stderr("No space left on device")
            .assert_stderr(hint)
            .assert_no(Service::CANARIES);
        assert_eq!(mounted.left(), "", "{options}");
        assert_revoked(&service, &token, options);
    }
}

// f31
#[test]
fn failed_exec_on_a_nearly_full_tmpfs_leaves_no_secret() {
    let service = Service::new();
    for (error, user) in [
        ("ETXTBSY", None),
        ("EAGAIN", None),
        ("EAGAIN", Some("1000:1000")),
    ] {
        let what = format!("{error} as {user:?}");
        let mounted = Mounted::through(
            "size=264k,mode=0755",
            &format!(
                "strace -f -qq -o /dev/null -e trace=execve -e inject=execve:error={error}:when=1"
            ),
        );
        let manifest = match user {
            Some(user) => service.manifest().set("process.user", user),
            None => service.manifest(),
        };
        let run = mounted.start(manifest, &service.mint());
        assert_eq!((run.code, &*run.stdout), (Some(126), ""), "{what}\n{run:?}");
        run.assert_stderr("\"event\":\"unwrapped\"");
        assert_eq!(mounted.files_left(), "", "{what}\n{run:?}");
        if user.is_none() {
            assert_eq!(mounted.left(), "", "{what}\n{run:?}");
        }
    }
}

// f26
#[test]
fn limit_on_the_size_of_files_is_an_error_and_kills_no_process() {
    let service = Service::new();
    service.admin.kv_put(
        &service.legacy_path(),
        json!({"password": Service::LEGACY_PASSWORD.repeat(1000)}),
    );
    for limit in [0, 8192] {
        let token = service.mint();
        let what = format!("{limit} bytes");
        let run = Anteroom::new()
            .manifest(service.manifest())
            .token(&token)
            .pre_exec(move || Ok(setrlimit(Resource::RLIMIT_FSIZE, limit, limit)?))
            .shell(APPLICATION)
            .run();
        assert_refused(&run, &what);
        run.assert_stderr("File too large")
            .assert_stderr("limit on the size of files");
        assert_revoked(&service, &token, &what);
    }
}

// f43
#[test]
fn secrets_of_the_swarm_are_left_alone_and_can_be_read() {
    let service = Service::new();
    let directory = tmpfs_dir();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("ours");
    let swarm = directory.write("db_password", "from the swarm");
    fs::set_permissions(&swarm, Permissions::from_mode(0o444)).expect("ours");
    let before = fs::metadata(&swarm).expect("ours");
    let script = format!("cat {}", swarm.display());
    let start = |manifest: Manifest| {
        Anteroom::new()
            .secrets_dir(directory.path())
            .manifest(manifest)
            .token(service.mint())
            .shell(&script)
            .run()
    };
    let run = start(service.manifest());
    run.assert_code(0);
    assert_eq!(run.stdout, "from the swarm");
    let left = |run: &Run| Vec::from_iter(run.entries().into_keys());
    assert_eq!(left(&run), ["db_password"], "after the application's end");
    let run = start(
        service
            .manifest()
            .set("dependencies.payment.fields", json!(["no_such_field"])),
    );
    run.assert_code(78);
    assert_eq!(left(&run), ["db_password"], "after a failure");
    let after = fs::metadata(&swarm).expect("it is still there");
    assert_eq!(
        (before.ino(), before.mode(), before.mtime()),
        (after.ino(), after.mode(), after.mtime())
    );
}

#[test]
fn files_of_an_earlier_start_are_replaced_whole() {
    let service = Service::new();
    let directory = tmpfs_dir();
    let start = |manifest: Manifest| {
        Anteroom::new()
            .secrets_dir(directory.path())
            .manifest(manifest)
            .token(service.mint())
    };
    let mut first = start(manifest(&service)).shell(LASTING).spawn();
    first.wait_for_stdout(RUNS);
    first.kill_both();
    let first = first.wait();
    let old_key = first.file("tls.key");
    // And what a start leaves that was killed before it published.
    let half = directory.join("..generation-0123456789abcdef");
    fs::create_dir_all(half.join("db")).expect("ours");
    fs::write(half.join("tls.key"), "half a key").expect("ours");
    fs::write(half.join("db/password"), "half").expect("ours");
    symlink(
        "..generation-0123456789abcdef",
        directory.join("..data.next"),
    )
    .expect("ours");

    let second = start(service.manifest().remove("dependencies.legacy"))
        .shell(APPLICATION)
        .keep_files()
        .run();
    second.assert_code(0);
    let names: Vec<String> = second.files().into_keys().collect();
    assert_eq!(
        names,
        [
            "ca.crt",
            "payment/api_key",
            "status.json",
            "tls.crt",
            "tls.key",
            "tls.pem"
        ]
    );
    assert_ne!(second.file("tls.key"), old_key);
    let hidden: Vec<String> = second
        .entries()
        .into_keys()
        .filter(|name| name.starts_with("..") && !name.contains('/'))
        .collect();
    assert_eq!(
        hidden.len(),
        4,
        "one generation, the link to it, the status and the lock: {hidden:?}"
    );
    second.assert_no_files();
}

fn dry_manifest() -> String {
    Manifest::empty()
        .set("service.app", "timeline")
        .set("service.environment", "test")
        .set("vault.address", "https://vault.example.io:8200")
        .set("token.creation_path", "auth/token/create/timeline-test")
        .set("certificate.role", "timeline")
        .set("certificate.common_name", "timeline.test.example.io")
        .set("dependencies.db.path", "database/creds/timeline")
        .to_string()
}

/// Reads a file of the generation that is visible now; none between two starts.
fn read_in(generation: &impl std::os::fd::AsFd, name: &str) -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(generation, name, flags, Mode::empty()).ok()?;
    std::io::read_to_string(fs::File::from(file))
        .ok()
        .filter(|text| !text.is_empty())
}

pub(crate) fn is_pair(certificate: &str, key: &str) -> bool {
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(certificate.as_bytes()).expect("a whole PEM file");
    let leaf = pem.parse_x509().expect("a whole certificate");
    let key = rcgen::KeyPair::from_pem(key).expect("a whole key");
    use rcgen::PublicKeyData;
    leaf.public_key().raw == key.subject_public_key_info()
}

// t12
#[test]
fn reader_never_sees_a_certificate_beside_another_key() {
    const STARTS: usize = 300;
    let directory = tmpfs_dir();
    let manifest = dry_manifest();
    let done = Arc::new(AtomicBool::new(false));
    let pairs = Arc::new(AtomicUsize::new(0));
    let reader = {
        let (path, done, pairs) = (
            directory.path().to_owned(),
            Arc::clone(&done),
            Arc::clone(&pairs),
        );
        std::thread::spawn(move || {
            let mut generations = std::collections::BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                // As a reader of a Kubernetes volume does it: one look at the link, then everything from there.
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                if let Ok(generation) = open(&path.join("..data"), flags, Mode::empty())
                    && let (Some(certificate), Some(key)) = (
                        read_in(&generation, "tls.crt"),
                        read_in(&generation, "tls.key"),
                    )
                {
                    assert!(is_pair(&certificate, &key), "through one generation");
                    pairs.fetch_add(1, Ordering::Relaxed);
                    generations.insert(key);
                }
                // And by the visible names; two looks are one only while the link stays.
                let link = || fs::read_link(path.join("..data")).ok();
                let read = |name| fs::read_to_string(path.join(name)).ok();
                let before = link();
                if let (Some(certificate), Some(key)) = (read("tls.crt"), read("tls.key"))
                    && before.is_some()
                    && before == link()
                {
                    assert!(is_pair(&certificate, &key), "by the visible names");
                    pairs.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::yield_now();
            }
            generations.len()
        })
    };
    for start in 0..STARTS {
        let run = Anteroom::new()
            .arg("--dry-run")
            .secrets_dir(directory.path())
            .manifest(&*manifest)
            .command(["/bin/true"])
            .run();
        assert_eq!(run.code, Some(0), "start {start}: {run:?}");
        assert!(!reader.is_finished(), "the reader found a mismatch");
        assert!(is_pair(
            run.file("tls.crt").text(),
            run.file("tls.key").text()
        ));
    }
    done.store(true, Ordering::Relaxed);
    let generations = reader.join().expect("the reader found a mismatch");
    println!(
        "{STARTS} starts, {} pairs read, of {generations} generations",
        pairs.load(Ordering::Relaxed)
    );
    assert!(
        generations > 10,
        "the reader hardly saw anything: {generations} generations"
    );
}

#[test]
fn status_json_says_what_was_fetched_and_no_secret() {
    let service = Service::with_database();
    let token = service.mint();
    let mut running = Anteroom::new()
        .manifest(service.manifest())
        .token(&token)
        .shell(LASTING)
        .spawn();
    running.wait_for_stdout(RUNS);
    let files = files_in(running.secrets_dir());
    let file = &files["status.json"];
    assert_eq!(file.mode, 0o444);
    let status: Value = serde_json::from_slice(&file.bytes).expect("it is JSON");
    let db = status["dependencies"]
        .as_array()
        .and_then(|list| list.iter().find(|one| one["name"] == "db"))
        .expect("it is there");
    assert_eq!(status["app"], service.app.as_str());
    assert_eq!(status["environment"], "test");
    assert_eq!(status["dry_run"], false);
    assert_eq!(status["kept"], true);
    assert_eq!(status["vault_away_since"], Value::Null);
    assert_eq!(status["token"]["expires_at_last"], Value::Null);
    assert_eq!(status["token"]["lost"], Value::Null);
    assert_eq!(status["token"]["lease_duration"], 3600);
    assert_eq!(status["certificate"]["common_name"], service.common_name());
    let serial = text(&status["certificate"]["serial_number"]);
    let answer = service.admin.ok(
        "GET",
        &format!("{}/cert/{serial}", service.pki.mount),
        Value::Null,
    );
    let issued = text(&answer["data"]["certificate"]);
    assert!(
        files["tls.crt"].text().starts_with(issued.trim()),
        "{serial} is another certificate"
    );
    for time in [
        &status["rendered"],
        &status["written"],
        &status["token"]["expires"],
        &status["certificate"]["not_after"],
        &db["expires"],
    ] {
        let time = text(time);
        let format = &time::format_description::well_known::Rfc3339;
        assert!(time::OffsetDateTime::parse(&time, format).is_ok(), "{time}");
    }
    let dependencies: Vec<(String, String, &Value)> = status["dependencies"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (text(&one["name"]), text(&one["path"]), &one["fields"]))
        .collect();
    let mut sorted = dependencies.clone();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        sorted,
        [
            (
                "db".to_owned(),
                service.database_path(),
                &json!(["password", "username"])
            ),
            (
                "legacy".to_owned(),
                service.legacy_path(),
                &json!(["password", "username"])
            ),
            (
                "payment".to_owned(),
                service.payment_path(),
                &json!(["api_key", "endpoint"])
            ),
        ]
    );
    let lease = text(&db["lease_id"]);
    let leases = service.admin.leases(&service.database_path());
    assert_eq!(
        leases
            .iter()
            .map(|id| format!("{}/{id}", service.database_path()))
            .collect::<Vec<_>>(),
        [lease]
    );
    assert_eq!(
        (&db["lease_duration"], &db["renewable"]),
        (&json!(3600), &json!(true))
    );

    let status = file.text();
    let mut secrets: Vec<String> = Service::CANARIES
        .iter()
        .map(|secret| (*secret).to_owned())
        .collect();
    secrets.extend([token.token.clone(), files["db/password"].text().to_owned()]);
    secrets.push(
        files["tls.key"]
            .text()
            .lines()
            .nth(1)
            .expect("a PEM file")
            .to_owned(),
    );
    for secret in secrets {
        assert!(!status.contains(&secret), "{secret} in {status}");
    }
}

// b34, b35
#[test]
fn fields_and_templates_are_written_byte_for_byte() {
    let service = Service::new();
    let values = json!({
        "plain": "value",
        "newline": "ends with one\n",
        "crlf": "a\r\nb",
        "text": "ü€ \u{0} \u{1f}",
        "markup": "<&\"'>{{ app }}",
        "empty": "",
    });
    service.admin.kv_put(&service.legacy_path(), values.clone());
    let templates = [
        ("none", "db:5432:{{ plain }}", "db:5432:value"),
        ("one", "{{ plain }}\n", "value\n"),
        ("two", "\n  {{ newline }}\n\n", "\n  ends with one\n\n\n"),
        ("crlf-file", "a={{ crlf | safe }}\r\n", "a=a\r\nb\r\n"),
        ("crlf-alone", "{{ crlf }}\r\n", "a\r\nb\r\n"),
        ("text-alone", "{{ text }}", "ü€ \u{0} \u{1f}"),
        ("markup-file", "{{ markup }}", "<&\"'>{{ app }}"),
        ("other", "{{ payment.api_key }}|{{ app }}", ""),
        ("blank", "", ""),
    ];
    let mut manifest = service.manifest();
    for (name, template, _) in templates {
        manifest = manifest.set_at(&["dependencies", "legacy", "files", name], template);
    }
    let run = Anteroom::new()
        .manifest(manifest)
        .token(service.mint())
        .shell(APPLICATION)
        .keep_files()
        .run();
    run.assert_code(0);
    for (name, value) in values.as_object().expect("an object") {
        let file = run.file(&format!("legacy/{name}"));
        assert_eq!(file.text(), text(value), "{name}");
    }
    let other = format!("{}|{}", Service::API_KEY, service.app);
    for (name, _, expected) in templates {
        let expected = if name == "other" { &other } else { expected };
        assert_eq!(
            run.file(&format!("legacy/{name}")).text(),
            expected,
            "{name}"
        );
    }
}

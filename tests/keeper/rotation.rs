//! Readers beside keepers that rotate: whatever is killed, full or planted, what they find is one generation, whole.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test kills, mounts and plants, and says what it saw"
)]

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use serde_json::{Value, json};

use crate::files::secrets_dir::{PLANTS, Plant, Victim, is_pair};
use crate::start::process::LITTLE_ROOT;
use crate::support::anteroom::{entries_in, has_ended};
use crate::support::openbao::text;
use crate::support::scene::{Place, STAY, generation, start};
use crate::support::{
    Manifest, OpenBao, Options, Postgres, Run, Running, Service, TempDir, lock, nursery, wait_for,
};

/// Generous: nothing here takes so long.
const LONG: Duration = Duration::from_secs(120);

/// Every file of a generation of [`manifest`], and its mode.
const FILES: [(&str, u32); 10] = [
    ("ca.crt", 0o444),
    ("db/password", 0o400),
    ("db/username", 0o400),
    ("java.args", 0o400),
    ("keystore.p12", 0o400),
    ("keystore.password", 0o400),
    ("tls.crt", 0o444),
    ("tls.key", 0o400),
    ("tls.pem", 0o400),
    ("truststore.p12", 0o400),
];
/// The names at the top of the directory that a reader sees.
const VISIBLE: [&str; 10] = [
    "ca.crt",
    "db",
    "java.args",
    "keystore.p12",
    "keystore.password",
    "status.json",
    "tls.crt",
    "tls.key",
    "tls.pem",
    "truststore.p12",
];

/// A certificate that lives so long, with stores, and a database user.
fn manifest(service: &Service, certificate: &str) -> Manifest {
    service
        .manifest()
        .remove("dependencies.payment")
        .remove("dependencies.legacy")
        .set("java", json!({}))
        .set("certificate.ttl", certificate)
}

/// A server of the test's own, and a service on it with a database.
fn service() -> (OpenBao, Service) {
    let server = OpenBao::start(Options::default());
    let service = Service::build(&server, Some(Postgres::shared()));
    (server, service)
}

/// Fails unless `anteroom health` says 1, and one line that names the keeper.
#[track_caller]
fn assert_keeper_is_missed(place: &Place, what: &str) {
    let health = place.health();
    assert_eq!(health.code, Some(1), "{what}\n{health:?}");
    assert_eq!(health.stdout.lines().count(), 1, "{what}\n{health:?}");
    assert!(
        health.stdout.contains("the keeper is gone"),
        "{what}\n{health:?}"
    );
}

/// Fails unless there is what one start makes, and nothing else.
#[track_caller]
fn assert_cleared(place: &Place, what: &str) {
    let names = top_of(place.path());
    let mut wanted: Vec<String> = VISIBLE.map(str::to_owned).to_vec();
    wanted.extend(["..data", "..keeper", "..status"].map(str::to_owned));
    wanted.push(place.generation());
    wanted.sort();
    assert_eq!(names, wanted, "{what}");
}

/// The names at the top of a directory.
fn top_of(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).expect("it is there");
    let mut names: Vec<String> = names
        .map(|entry| entry.expect("it is there").file_name())
        .map(|name| name.into_string().expect("our names are text"))
        .collect();
    names.sort();
    names
}

/// The generations that lie in a directory, complete or not.
fn generations(directory: &Path) -> Vec<String> {
    let mut names = top_of(directory);
    names.retain(|name| name.starts_with("..generation-"));
    names
}

/// The keeper of an application: the only child of the process that was started which is the binary.
#[track_caller]
fn keeper(run: &Running) -> i32 {
    let mut children = run.children();
    children.retain(|child| {
        fs::read_link(format!("/proc/{child}/exe"))
            .is_ok_and(|path| path == Path::new(env!("CARGO_BIN_EXE_anteroom")))
    });
    assert_eq!(children.len(), 1, "one keeper\n{}", run.stderr());
    children[0]
}

#[track_caller]
fn kill_keeper(keeper: i32) {
    kill(Pid::from_raw(keeper), Signal::SIGKILL).expect("it is there");
    wait_for("the keeper to end", LONG, || {
        has_ended(keeper).then_some(())
    });
}

/// The files that a reader finds who opens `..data` once and reads everything below that.
type Files = BTreeMap<&'static str, Vec<u8>>;

/// Takes one look; an error names what is missing.
fn look(directory: &Path) -> Result<Files, String> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let missing = |name: &str, reason: &dyn std::fmt::Display| format!("{name}: {reason}");
    let generation = open(&directory.join("..data"), flags, Mode::empty())
        .map_err(|errno| missing("..data", &errno))?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let read = |name: &str| -> Result<Vec<u8>, String> {
        let file = openat(&generation, name, flags, Mode::empty())
            .map_err(|errno| missing(name, &errno))?;
        let mut bytes = Vec::new();
        let done = File::from(file).read_to_end(&mut bytes);
        done.map_err(|error| missing(name, &error))?;
        Ok(bytes)
    };
    FILES
        .iter()
        .map(|(name, _)| Ok((*name, read(name)?)))
        .collect()
}

fn der(pem: &[u8]) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).expect("a whole PEM file");
    pem.contents
}

/// Knows what belongs together. Each thing is checked once, since readers see most generations many times.
#[derive(Default)]
struct Judge {
    /// Certificates and their keys.
    keys: HashMap<Vec<u8>, Vec<u8>>,
    /// Key stores, with what they are opened with and what is in them.
    stores: HashMap<Vec<u8>, [Vec<u8>; 3]>,
    /// Database users and their passwords.
    passwords: HashMap<Vec<u8>, Vec<u8>>,
}

impl Judge {
    /// Do these files belong together?
    fn judge(&mut self, files: &Files) -> Result<(), String> {
        self.judge_pair(&files["tls.crt"], &files["tls.key"])?;
        let parts = ["keystore.password", "tls.crt", "tls.key"].map(|name| files[name].clone());
        let store = &files["keystore.p12"];
        if let Some(known) = self.stores.get(store) {
            if *known != parts {
                return Err("another key store, or its password".to_owned());
            }
        } else {
            judge_store(store, &parts)?;
            self.stores.insert(store.clone(), parts);
        }
        let user = files["db/username"].clone();
        let password = &files["db/password"];
        // Whether the first one was its password, the server knows.
        let known = self.passwords.entry(user).or_insert(password.clone());
        if known == password {
            Ok(())
        } else {
            Err("a database user beside another password".to_owned())
        }
    }

    fn judge_pair(&mut self, certificate: &[u8], key: &[u8]) -> Result<(), String> {
        let as_text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let belongs = match self.keys.get(certificate) {
            Some(known) => known == key,
            None if is_pair(&as_text(certificate), &as_text(key)) => {
                self.keys.insert(certificate.to_vec(), key.to_vec());
                true
            }
            None => false,
        };
        if belongs {
            Ok(())
        } else {
            Err("a certificate beside another key".to_owned())
        }
    }

    /// Fails unless two generations that it has seen, mixed, would have been noticed.
    #[track_caller]
    fn assert_notices_mixtures(&mut self) {
        let mut pairs = self.keys.clone().into_iter();
        let (Some((certificate, _)), Some((_, key))) = (pairs.next(), pairs.next()) else {
            panic!("it has seen one certificate only");
        };
        let mixed = self.judge_pair(&certificate, &key);
        assert!(mixed.is_err(), "a certificate and the key of another one");
        let mut stores = self.stores.clone().into_iter();
        let (Some((store, _)), Some((_, parts))) = (stores.next(), stores.next()) else {
            panic!("it has seen one key store only");
        };
        assert!(
            judge_store(&store, &parts).is_err(),
            "a key store of another one"
        );
    }

    /// Fails unless the server has made every user that was seen with the password that was seen.
    #[track_caller]
    fn assert_as_issued(&self, server: &OpenBao) {
        let log = fs::read_to_string(server.audit_file()).expect("the audit log is readable");
        let issued: HashMap<String, String> = log
            .lines()
            .filter(|line| line.contains("/creds/"))
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|entry| entry["response"]["data"].clone())
            .filter(|data| data["username"].is_string())
            .map(|data| (text(&data["username"]), text(&data["password"])))
            .collect();
        assert!(!self.passwords.is_empty(), "nothing was seen");
        for (user, password) in &self.passwords {
            let [user, password] =
                [user, password].map(|bytes: &Vec<u8>| String::from_utf8_lossy(bytes));
            assert_eq!(
                issued.get(&*user).map(String::as_str),
                Some(&*password),
                "{user}"
            );
        }
    }
}

fn judge_store(store: &[u8], parts: &[Vec<u8>; 3]) -> Result<(), String> {
    let [password, certificate, key] = parts;
    let password = std::str::from_utf8(password).map_err(|error| error.to_string())?;
    let store = KeyStore::from_pkcs12(store, password, Pkcs12ImportPolicy::Strict)
        .map_err(|error| format!("a key store that its password does not open: {error}"))?;
    let (_, chain) = store.private_key_chain().ok_or("an empty key store")?;
    let found = (chain.certs()[0].as_der(), chain.key().as_der());
    if found == (&*der(certificate), &*der(key)) {
        Ok(())
    } else {
        Err("a key store beside another certificate or key".to_owned())
    }
}

/// Fails unless one whole generation is there, by the visible names too.
#[track_caller]
fn assert_whole(directory: &Path, judge: &mut Judge, what: &str) -> Files {
    let files = look(directory).unwrap_or_else(|missing| panic!("{what}: {missing}"));
    judge
        .judge(&files)
        .unwrap_or_else(|mixed| panic!("{what}: {mixed}"));
    for (name, mode) in FILES {
        let path = directory.join(name);
        let visible = fs::read(&path).unwrap_or_else(|error| panic!("{what}: {name}: {error}"));
        assert!(visible == files[name], "{what}: another {name}");
        let found = fs::metadata(&path).expect("just read").mode() & 0o7777;
        assert_eq!(found, mode, "{what}: {name}");
    }
    let status = fs::read(directory.join("status.json")).expect("it is there");
    let status: Value = serde_json::from_slice(&status).expect("it is whole");
    assert_eq!(status["kept"], true, "{what}");
    files
}

/// Stands for what is written to standard error.
const LOG: &str = "the log";

/// The system calls that change a directory, or what is in it.
const CHANGING: [&str; 9] = [
    "mkdirat",
    "openat",
    "write",
    "fchmod",
    "fchown",
    "fchownat",
    "symlinkat",
    "renameat",
    "unlinkat",
];

/// One of them, as a process has made it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    name: String,
    /// The names in its arguments.
    names: String,
    /// Whether the call is made in vain, or only looks.
    changes_nothing: bool,
}

impl Call {
    /// From a line of strace's.
    fn parse(line: &str) -> Self {
        let (name, arguments) = line.split_once('(').expect("a call");
        let quoted: Vec<String> = arguments
            .split('"')
            .skip(1)
            .step_by(2)
            .map(|name| match name.split_once("..generation-") {
                Some((before, rest)) => format!("{before}..generation-*{}", &rest[16..]),
                None => name.to_owned(),
            })
            .collect();
        let is_logged = name == "write" && arguments.starts_with("2,");
        Self {
            name: name.to_owned(),
            names: if is_logged {
                LOG.to_owned()
            } else {
                quoted.join(" ")
            },
            changes_nothing: line.contains(" = -1 ")
                || name == "openat" && !line.contains("O_CREAT"),
        }
    }

    /// The same call, whatever came of it.
    fn is(&self, other: &Call) -> bool {
        (&self.name, &self.names) == (&other.name, &other.names)
    }
}

/// strace beside a process that lives already.
struct Tracer {
    strace: Child,
    scratch: TempDir,
}

impl Tracer {
    /// Traces the calls that change something, and kills the process when it makes the nth of one of them.
    fn attach(process: i32, kill_at: Option<(&str, usize)>) -> Self {
        let scratch = TempDir::new();
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-s", "0", "-e"]);
        strace.arg(format!("trace={}", CHANGING.join(",")));
        if let Some((call, nth)) = kill_at {
            strace.arg("-e");
            strace.arg(format!("inject={call}:signal=SIGKILL:when={nth}"));
        }
        strace.arg("-o").arg(scratch.join("log"));
        strace.args(["-p", &process.to_string()]);
        strace
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // It lets the process go when it has to end.
        let strace = nursery::spawn(strace, Signal::SIGTERM).expect("strace is installed");
        wait_for("strace to be attached", LONG, || {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            (!status.contains("TracerPid:\t0\n")).then_some(())
        });
        Self { strace, scratch }
    }

    /// The calls so far.
    fn calls(&self) -> Vec<Call> {
        let log = fs::read_to_string(self.scratch.join("log")).unwrap_or_default();
        let complete = log.lines().filter(|line| line.contains(" = "));
        complete.map(Call::parse).collect()
    }

    /// The calls up to the end of the process.
    fn last_calls(mut self) -> Vec<Call> {
        self.strace.wait().expect("our own child can be waited for");
        self.calls()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Ok(None) = self.strace.try_wait() {
            let strace = Pid::from_raw(self.strace.id().cast_signed());
            let _ = kill(strace, Signal::SIGTERM);
            let _ = self.strace.wait();
        }
    }
}

/// The second rotation of a keeper, which is the first that removes a generation: what it does up to the end.
fn calls_of_a_rotation(place: &Place) -> Vec<Call> {
    let mut run = place.start();
    run.wait_for_events("rotated", 1);
    let tracer = Tracer::attach(keeper(&run), None);
    run.wait_for_events("rotated", 2);
    let mut calls = tracer.calls();
    let end = calls.iter().position(|call| call.names == LOG);
    let end = end.expect("that there was a rotation was said");
    calls.truncate(end + 1);
    run.kill(Signal::SIGKILL);
    run.wait().assert_no_files();
    calls
}

/// Kills the keeper in its second rotation, when it makes the call of this index; false when it came to another.
fn kill_in_a_rotation(run: &mut Running, calls: &[Call], index: usize) -> bool {
    let name = &calls[index].name;
    let nth = calls[..=index].iter().filter(|call| call.name == *name);
    let nth = nth.count();
    run.wait_for_events("rotated", 1);
    let keeper = keeper(run);
    let tracer = Tracer::attach(keeper, Some((name, nth)));
    wait_for("the keeper to be killed", LONG, || {
        has_ended(keeper).then_some(())
    });
    let made = tracer.last_calls();
    made.len() == index + 1 && made.iter().zip(calls).all(|(made, call)| made.is(call))
}

/// Kills a keeper at each of these calls of a rotation, several places at a time, and looks at what there is then, and
/// at what the next start makes of it.
fn at_each_moment(
    server: &OpenBao,
    service: &Service,
    manifest: &Manifest,
    is_chosen: impl Fn(&[Call], usize) -> bool,
    end: impl Fn(Running, &str) + Sync,
) -> usize {
    const PLACES: usize = 8;
    const TRIES: usize = 5;
    let calls = calls_of_a_rotation(&Place::new(service, manifest.clone()));
    let moments: Vec<usize> = (0..calls.len())
        .filter(|index| !calls[*index].changes_nothing && is_chosen(&calls, *index))
        .collect();
    let (next, judge) = (AtomicUsize::new(0), Mutex::new(Judge::default()));
    let work = || {
        let place = Place::new(service, manifest.clone());
        while let Some(index) = moments.get(next.fetch_add(1, Ordering::Relaxed)) {
            let call = &calls[*index];
            let what = format!("killed at {} {} ({index})", call.name, call.names);
            let is_killed_there = (0..TRIES).any(|_| {
                let mut run = place.start();
                assert_cleared(&place, &what);
                let is_killed_there = kill_in_a_rotation(&mut run, &calls, *index);
                assert_whole(place.path(), &mut lock(&judge), &what);
                assert_keeper_is_missed(&place, &what);
                assert!(run.is_running(), "{what}: {}", run.stderr());
                end(run, &what);
                is_killed_there
            });
            assert!(is_killed_there, "{what}: that moment never came");
        }
        let run = place.start();
        assert_cleared(&place, "the last start");
        run.kill(Signal::SIGTERM);
        run.wait().assert_no_files();
    };
    thread::scope(|scope| {
        for _ in 0..PLACES.min(moments.len()) {
            scope.spawn(work);
        }
    });
    lock(&judge).assert_as_issued(server);
    moments.len()
}

// t12, f39
#[test]
fn keeper_killed_in_a_rotation_leaves_one_whole_generation() {
    let (server, service) = service();
    let count = at_each_moment(
        &server,
        &service,
        &manifest(&service, "2s"),
        |_, _| true,
        |run, _| {
            run.kill(Signal::SIGKILL);
            run.wait().assert_signal(Signal::SIGKILL);
        },
    );
    println!("killed at {count} moments");
    // Nine files are made, written, and made what they are; so they go.
    assert!(count > 9 * 4, "{count} moments are not all");
}

// f39
#[test]
fn supervised_application_outlives_its_keeper_and_init_says_so() {
    let (server, service) = service();
    let manifest = manifest(&service, "2s").set("process.lifecycle", "supervise");
    // The first call of each kind.
    let is_first = |calls: &[Call], index: usize| {
        let is_same = |call: &Call| call.name == calls[index].name && !call.changes_nothing;
        calls.iter().position(is_same) == Some(index)
    };
    let count = at_each_moment(&server, &service, &manifest, is_first, |mut run, what| {
        run.wait_for_stderr("keeper_lost");
        assert!(run.is_running(), "{what}");
        run.kill(Signal::SIGTERM);
        let run = run.wait();
        run.assert_code(143);
        let lost = run.events();
        let lost = lost.iter().filter(|event| event["event"] == "keeper_lost");
        assert_eq!(lost.count(), 1, "{what}\n{run:?}");
        assert_eq!(run.survivors(), Vec::<i32>::new(), "{what}");
    });
    println!("killed at {count} moments");
    assert!(count >= 7, "{count} moments are not all");
}

/// How many rotations readers look at: `ANTEROOM_TEST_ROTATIONS`, 300 by default.
fn rotations() -> usize {
    std::env::var("ANTEROOM_TEST_ROTATIONS").map_or(300, |text| text.parse().expect("a number"))
}

/// From 0 to 1, another one each time.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    random as f64 / u64::MAX as f64
}

/// A place where keepers rotate, are killed and replaced, while others read.
struct Stage {
    place: Place,
    run: Mutex<Running>,
    /// Odd while an application is replaced by the next one; then files may be missing.
    replaced: AtomicUsize,
    /// The rotations of keepers that have ended.
    rotations: AtomicUsize,
}

impl Stage {
    fn new(service: &Service, limit: Duration) -> Self {
        let place = Place {
            limit,
            ..Place::new(service, manifest(service, "2s"))
        };
        Self {
            run: place.start().into(),
            place,
            replaced: AtomicUsize::new(0),
            rotations: AtomicUsize::new(0),
        }
    }

    fn rotations(&self) -> usize {
        let run = lock(&self.run);
        self.rotations.load(Ordering::Relaxed) + run.named("rotated").len()
    }

    /// Kills the keeper some time, half of the times when it has just begun to rotate; then everything is whole, and
    /// another start goes on.
    fn kill_and_replace(&self, judge: &Mutex<Judge>) {
        let mut run = lock(&self.run);
        let keeper = keeper(&run);
        if chance() < 0.5 {
            let before = generations(self.place.path());
            wait_for("a rotation", LONG, || {
                (generations(self.place.path()) != before).then_some(())
            });
            thread::sleep(Duration::from_secs_f64(0.01 * chance() * chance()));
        }
        kill_keeper(keeper);
        let what = "killed at random";
        assert_whole(self.place.path(), &mut lock(judge), what);
        assert_keeper_is_missed(&self.place, what);
        let count = run.named("rotated").len();
        self.rotations.fetch_add(count, Ordering::Relaxed);
        self.replaced.fetch_add(1, Ordering::SeqCst);
        run.kill(Signal::SIGKILL);
        *run = self.place.start();
        self.replaced.fetch_add(1, Ordering::SeqCst);
    }
}

/// The sum of what readers have seen.
#[derive(Default)]
struct Sight {
    pairs: usize,
    /// Looks that took so long that the generation may have been replaced twice.
    slow: usize,
    /// Sights that no reader may ever have.
    wrong: Vec<String>,
}

impl Sight {
    /// So long a generation stays at the least when it was replaced.
    const PATIENCE: Duration = Duration::from_millis(200);

    fn look_at(&mut self, stage: &Stage, judge: &Mutex<Judge>) {
        let replaced = stage.replaced.load(Ordering::SeqCst);
        let began = Instant::now();
        let directory = stage.place.path();
        match look(directory) {
            Ok(files) => {
                self.pairs += 1;
                self.wrong.extend(lock(judge).judge(&files).err());
            }
            Err(_) if began.elapsed() > Self::PATIENCE => self.slow += 1,
            Err(missing) => {
                let is_replaced = stage.replaced.load(Ordering::SeqCst) != replaced;
                if !is_replaced && replaced.is_multiple_of(2) {
                    self.wrong.push(missing);
                }
            }
        }
        // By the visible names two looks are one only while the link stays.
        let link = || fs::read_link(directory.join("..data")).ok();
        let read = |name| fs::read(directory.join(name)).ok();
        let before = link();
        if let (Some(certificate), Some(key)) = (read("tls.crt"), read("tls.key"))
            && before.is_some()
            && before == link()
        {
            self.pairs += 1;
            let judged = lock(judge).judge_pair(&certificate, &key);
            self.wrong.extend(judged.err());
        }
    }
}

// t12
#[test]
fn readers_see_whole_generations_while_keepers_are_killed() {
    let goal = rotations();
    let (server, service) = service();
    let database = service.database.as_deref().expect("it has one");
    // One rotates every 1.3 s.
    let count = (goal / 20).clamp(8, 100);
    // PostgreSQL makes some users a second, on a small machine too.
    let life = format!("{}s", (count / 3).max(6));
    let lives = json!({"default_ttl": life, "max_ttl": life});
    server.database_role(database, &service.app, lives);
    let limit = LONG + Duration::from_secs(goal as u64);
    let judge = Mutex::new(Judge::default());
    let began = Instant::now();
    let stages: Vec<Stage> = thread::scope(|scope| {
        let starts: Vec<_> = (0..4)
            .map(|lane| {
                let service = &service;
                scope.spawn(move || {
                    let lane = (lane..count).step_by(4);
                    lane.map(|_| Stage::new(service, limit)).collect::<Vec<_>>()
                })
            })
            .collect();
        let started = starts.into_iter();
        started
            .flat_map(|start| start.join().expect("all start"))
            .collect()
    });
    let started = began.elapsed();
    let is_done = AtomicBool::new(false);
    let killed = AtomicUsize::new(0);
    let sights: Vec<Sight> = thread::scope(|scope| {
        let done = Done(&is_done);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut sight = Sight::default();
                    while !is_done.load(Ordering::Relaxed) {
                        for stage in &stages {
                            sight.look_at(stage, &judge);
                        }
                        thread::sleep(Duration::from_millis(1));
                    }
                    sight
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let chosen = (chance() * stages.len() as f64) as usize;
                stages[chosen.min(stages.len() - 1)].kill_and_replace(&judge);
                killed.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        wait_for("the rotations", limit, || {
            thread::sleep(Duration::from_millis(500));
            let count: usize = stages.iter().map(Stage::rotations).sum();
            (count >= goal || readers.iter().any(|reader| reader.is_finished())).then_some(())
        });
        drop(done);
        readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader only looks"))
            .collect()
    });
    let rotated: usize = stages.iter().map(Stage::rotations).sum();
    let pairs: usize = sights.iter().map(|sight| sight.pairs).sum();
    let slow: usize = sights.iter().map(|sight| sight.slow).sum();
    let wrong: Vec<&String> = sights.iter().flat_map(|sight| &sight.wrong).collect();
    let mut judge = judge.into_inner().expect("no thread panicked with it");
    println!(
        "{rotated} rotations of {count} keepers in {:?} ({started:?} to start), {killed:?} of them killed: \
         {pairs} pairs read, of {} certificates and {} database users; {slow} looks were too slow; {} mixed or missing",
        began.elapsed(),
        judge.keys.len(),
        judge.passwords.len(),
        wrong.len(),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(slow * 100 <= pairs, "{slow} looks of {pairs} prove nothing");
    assert!(killed.into_inner() > 0, "no keeper was killed");
    assert!(
        judge.keys.len() * 2 > rotated,
        "readers saw too few generations"
    );
    judge.assert_as_issued(&server);
    judge.assert_notices_mixtures();
    for stage in stages {
        let run = stage.run.into_inner().expect("no thread panicked with it");
        run.kill(Signal::SIGTERM);
        run.wait().assert_no_files();
    }
}

/// Says so when it is dropped, also by a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An application whose secrets directory is a tmpfs that it alone finds.
struct Mounted {
    run: Running,
    place: Place,
}

impl Mounted {
    /// A start on a tmpfs with these mount options, and with a certificate of some seconds.
    fn start(service: &Service, options: &str) -> Self {
        Self::start_with(service, manifest(service, "6s"), options)
    }

    fn start_with(service: &Service, manifest: Manifest, options: &str) -> Self {
        let place = Place::new(service, manifest);
        let directory = place.path().display();
        let mount = format!("mount -t tmpfs -o {options} none {directory}");
        let script = format!("{mount} && exec \"$0\" \"$@\"");
        let call = place
            .call_with_token()
            .under(["unshare", "--mount", "/bin/sh", "-c", &script])
            .args(["--log-level", "debug"]);
        Self {
            run: start(call, STAY),
            place,
        }
    }

    /// The way to it from outside.
    fn path(&self) -> PathBuf {
        let below = self.place.path().strip_prefix("/").expect("it is absolute");
        Path::new("/proc")
            .join(format!("{}/root", self.run.pid()))
            .join(below)
    }

    /// Words that start something where it is mounted.
    fn inside(&self) -> [String; 4] {
        let pid = self.run.pid().to_string();
        ["nsenter", "--target", &pid, "--mount"].map(str::to_owned)
    }

    fn remount(&self, option: &str) {
        let [nsenter, words @ ..] = self.inside();
        // While something is being written it cannot become read-only.
        wait_for("the mount to change", LONG, || {
            let mut mount = Command::new(&nsenter);
            mount.args(&words).args(["mount", "-o"]);
            mount
                .arg(format!("remount,{option}"))
                .arg(self.place.path());
            let done = mount.stderr(Stdio::null()).status();
            done.expect("nsenter is installed").success().then_some(())
        });
    }

    fn health(&self) -> Run {
        self.place.call().under(self.inside()).arg("health").run()
    }

    /// The number of events at this level about files that could not be published.
    fn failures(&self, level: &str) -> usize {
        let failures = self.run.named("not_published");
        let failures = failures.iter().filter(|event| event["level"] == level);
        failures.count()
    }
}

/// An obstacle that keeps a keeper from writing, and can be taken away.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    /// There are so many pages to spare.
    Full(u64),
    NoInodes,
    ReadOnly,
}

impl Obstacle {
    fn begin(self, mounted: &Mounted) {
        let filler = mounted.path().join("filler");
        if let Obstacle::ReadOnly = self {
            return mounted.remount("ro");
        }
        fs::create_dir(&filler).expect("there is room for that");
        match self {
            Obstacle::Full(pages) => {
                let mut file = File::create(filler.join("file")).expect("there is room for that");
                while file.write_all(&[0; 4096]).is_ok() {}
                let length = file.metadata().expect("it is open").len();
                file.set_len(length - pages * 4096)
                    .expect("it gets shorter");
            }
            _ => {
                let mut numbers = 0..;
                let mut next = || filler.join(numbers.next().unwrap_or(0).to_string());
                while File::create(next()).is_ok() {}
            }
        }
    }

    fn end(self, mounted: &Mounted) {
        match self {
            Obstacle::ReadOnly => mounted.remount("rw"),
            _ => fs::remove_dir_all(mounted.path().join("filler")).expect("it is ours"),
        }
    }
}

/// When this certificate's life is over, in seconds since 1970.
fn end_of(certificate: &[u8]) -> i64 {
    let der = der(certificate);
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("it is whole");
    certificate.validity().not_after.timestamp()
}

// f26
#[test]
fn generation_stays_whole_while_nothing_can_be_written() {
    let service = Service::with_database();
    let rows = [
        ("size=1m", Obstacle::Full(0)),
        // For the status, but not for a generation.
        ("size=1m", Obstacle::Full(3)),
        ("nr_inodes=60", Obstacle::NoInodes),
        ("size=1m", Obstacle::ReadOnly),
    ];
    let work = |(options, obstacle): (&str, Obstacle)| {
        let what = format!("{obstacle:?}");
        let mut mounted = Mounted::start(&service, options);
        let mut judge = Judge::default();
        let path = mounted.path();
        let before = assert_whole(&path, &mut judge, &what);
        obstacle.begin(&mounted);
        assert_eq!(mounted.run.named("rotated").len(), 0, "{what}: too late");
        let published = generation(&path);
        for count in 1..=3 {
            mounted
                .run
                .wait_until("a failure", |run| run.named("not_published").len() >= count);
            assert_eq!(generation(&path), published, "{what}");
            assert!(assert_whole(&path, &mut judge, &what) == before, "{what}");
            assert_eq!(mounted.failures("warn"), 1, "{what}");
        }
        let end = end_of(&before["tls.crt"]);
        wait_for("the certificate's end", LONG, || {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
            (now.expect("after 1970").as_secs() as i64 > end).then_some(())
        });
        let health = mounted.health();
        assert_eq!(health.code, Some(1), "{what}\n{health:?}");
        assert_eq!(health.stdout.lines().count(), 1, "{what}\n{health:?}");
        // Where the status could still be written, it says why.
        let reason = match obstacle {
            Obstacle::Full(3) => "new files could not be written since",
            _ => "the certificate ended",
        };
        assert!(health.stdout.contains(reason), "{what}\n{health:?}");
        assert_eq!(generation(&path), published, "{what}");

        obstacle.end(&mounted);
        mounted.run.wait_for_events("rotated", 1);
        let health = mounted.health();
        assert_eq!(health.code, Some(0), "{what}\n{health:?}");
        let after = assert_whole(&path, &mut judge, &what);
        assert!(after["tls.key"] != before["tls.key"], "{what}");
        assert_eq!(mounted.failures("warn"), 1, "{what}");
        mounted.run.kill(Signal::SIGTERM);
        mounted.run.wait();
    };
    thread::scope(|scope| {
        for row in rows {
            scope.spawn(move || work(row));
        }
    });
}

/// A service with a secret of so many bytes, and a certificate of some seconds.
fn large(bytes: usize) -> (Service, Manifest) {
    let service = Service::with_database();
    let value = json!({"password": "x".repeat(bytes)});
    service.admin.kv_put(&service.legacy_path(), value);
    let path = service.legacy_path();
    let manifest = manifest(&service, "6s").set("dependencies.legacy.path", path);
    (service, manifest)
}

#[test]
fn too_little_room_for_a_second_generation_is_foreseen() {
    let (service, manifest) = large(160 << 10);
    let mut mounted = Mounted::start_with(&service, manifest, "size=300k");
    let warnings = mounted.run.named("little_room");
    assert_eq!(warnings.len(), 1, "{}", mounted.run.stderr());
    let [room, needed] = ["room", "needed"].map(|name| warnings[0][name].as_u64());
    let (room, needed) = (room.expect("bytes"), needed.expect("bytes"));
    assert!(room < needed && needed > 160 << 10, "{warnings:?}");
    let message = text(&warnings[0]["message"]);
    assert!(message.contains(&needed.to_string()), "{message}");

    // It comes true; and once there is room the files are written at once, and not only at the next regular try.
    mounted.run.wait_for_events("not_published", 1);
    mounted.remount("size=2m");
    mounted.run.wait_for_events("rotated", 1);
    let at = |name: &str| {
        let events = mounted.run.named(name);
        let last = events.last().expect("it was waited for");
        time::OffsetDateTime::parse(
            &text(&last["time"]),
            &time::format_description::well_known::Rfc3339,
        )
        .expect("a time")
    };
    let regular = time::Duration::seconds(5);
    let took = at("rotated") - at("not_published");
    assert!(took < regular, "{took}");
    mounted.run.kill(Signal::SIGTERM);
    mounted.run.wait();
}

#[test]
fn room_for_two_generations_is_enough_for_every_rotation() {
    let (service, manifest) = large(90 << 10);
    let mut mounted = Mounted::start_with(&service, manifest, "size=300k");
    mounted.run.wait_for_events("rotated", 3);
    for event in ["little_room", "not_published"] {
        assert_eq!(mounted.run.named(event), Vec::<Value>::new());
    }
    mounted.run.kill(Signal::SIGTERM);
    mounted.run.wait();
}

#[test]
fn removed_names_and_a_removed_lock_are_made_again() {
    let service = Service::with_database();
    let place = Place::new(&service, manifest(&service, "6s"));
    let mut run = place.start();
    let path = place.path();
    let removed = VISIBLE.iter().chain(&["..keeper"]);
    for name in removed {
        fs::remove_file(path.join(name)).expect("it is there");
    }
    // A name that something else has is left alone, and said.
    fs::write(path.join("ca.crt"), "theirs").expect("ours");
    run.wait_for_events("rotated", 1);
    let restored = run.named("names_restored");
    let names = text(&restored[0]["names"]);
    for name in VISIBLE.iter().chain(&["..keeper"]) {
        assert_eq!(
            names.split(' ').any(|one| one == *name),
            *name != "ca.crt",
            "{names}"
        );
    }
    assert_eq!(run.named("names_taken")[0]["names"], "ca.crt");
    let taken = fs::read_to_string(path.join("ca.crt")).expect("ours");
    assert_eq!(taken, "theirs");
    fs::remove_file(path.join("ca.crt")).expect("ours");
    place.health().assert_code(0);
    let refused = place.call_with_token().shell(STAY).run();
    refused.assert_code(73).assert_stderr("another anteroom");
    run.wait_for_events("names_restored", 2);
    assert_whole(path, &mut Judge::default(), "after another rotation");
    run.kill(Signal::SIGTERM);
    run.wait().assert_no_files();
}

/// An application that says when SIGHUP comes, and ends with 7 at SIGTERM.
const LISTEN: &str = "trap 'echo told' HUP; trap 'kill $!; exit 7' TERM; sleep 3600 & echo up; \
     while :; do wait $!; done";

/// The user that starts anteroom, and the application's user, when that is another one.
#[derive(Clone, Copy, Debug)]
struct Rights {
    /// Words that take some of them away.
    words: &'static [&'static str],
    uid: u32,
    user: Option<u32>,
}

// t11
#[test]
fn rotation_keeps_modes_and_owners_and_tells_any_application() {
    let service = Service::with_database();
    let all = Rights {
        words: &[],
        uid: 0,
        user: None,
    };
    let another = Rights {
        user: Some(1234),
        ..all
    };
    let little = Rights {
        words: &LITTLE_ROOT,
        user: Some(1000),
        ..all
    };
    let rows = [
        ("exec", all, 0o000),
        ("exec", Rights { uid: 1000, ..all }, 0o777),
        ("exec", another, 0o000),
        ("exec", another, 0o777),
        ("exec", little, 0o022),
        ("supervise", another, 0o077),
        ("supervise", little, 0o022),
    ];
    let work = |(lifecycle, rights, mask): (&str, Rights, u32)| {
        let what = format!("{lifecycle} with {rights:?}, umask {mask:03o}");
        let Rights { words, uid, user } = rights;
        let mut manifest = manifest(&service, "3s")
            .set("process.lifecycle", lifecycle)
            .set("process.on_rotate", "SIGHUP");
        if let Some(user) = user {
            manifest = manifest.set("process.user", format!("{user}:{user}"));
        }
        let place = Place::new(&service, manifest);
        let path = place.path();
        chown(path, Some(uid), Some(uid)).expect("root can give directories away");
        let mut call = place.call_with_token().under(words);
        if uid != 0 {
            call = call.uid(uid);
        }
        let call = call.pre_exec(move || {
            umask(Mode::from_bits_truncate(mask));
            Ok(())
        });
        let mut run = start(call, LISTEN);
        for count in 1..=3 {
            let is_told = format!("{what}: rotation {count}");
            run.wait_until(&is_told, |run| {
                let found = generations(path);
                // While one is being written; the last and the one before stay.
                assert!(found.len() <= 3, "{what}: {found:?}");
                run.stdout().matches("told\n").count() >= count
            });
            let entries = wait_for("the end of a rotation", LONG, || {
                let before = generations(path);
                let entries = entries_in(path);
                (before.len() == 2 && generations(path) == before).then_some(entries)
            });
            let owner = user.unwrap_or(uid);
            for (name, entry) in &entries {
                let inner = name.split_once('/').map_or(&**name, |(_, inner)| inner);
                let mode = match (entry.is_dir, inner) {
                    _ if entry.link.is_some() => continue,
                    (true, _) => 0o700,
                    (false, "..keeper" | "..status") => 0o444,
                    (false, file) => {
                        let known = FILES.iter().find(|(name, _)| *name == file);
                        known.unwrap_or_else(|| panic!("{what}: {name}")).1
                    }
                };
                // What says that the keeper lives is its own.
                let owner = if inner == "..keeper" { uid } else { owner };
                let found = (entry.mode, entry.uid, entry.gid);
                assert_eq!(found, (mode, owner, owner), "{what}: {name}");
            }
            let files = entries
                .values()
                .filter(|entry| !entry.is_dir && entry.link.is_none());
            assert_eq!(files.count(), 2 * FILES.len() + 2, "{what}: {entries:#?}");
        }
        assert_eq!(run.named("on_rotate_failed"), Vec::<Value>::new(), "{what}");
        run.kill(Signal::SIGTERM);
        let run = run.wait();
        assert_eq!(run.code, Some(7), "{what}\n{run:?}");
        run.assert_no_files();
    };
    thread::scope(|scope| {
        for row in rows {
            scope.spawn(move || work(row));
        }
    });
}

#[test]
fn hanging_command_of_another_user_is_ended_without_cap_kill() {
    let service = Service::new();
    // So long no other process sleeps.
    let time = format!("3600.{}", std::process::id());
    let command_line = format!("/bin/sleep\0{time}\0");
    let is_asleep = || {
        let processes = fs::read_dir("/proc").expect("/proc is mounted");
        processes
            .filter_map(|process| fs::read(process.ok()?.path().join("cmdline")).ok())
            .any(|words| words == command_line.as_bytes())
    };
    let manifest = service
        .manifest()
        .set("certificate.ttl", "3s")
        .set("process.user", "1000:1000")
        .set("process.on_rotate", json!(["/bin/sleep", time]))
        .set("process.on_rotate_timeout", "1s");
    let place = Place::new(&service, manifest);
    let mut run = start(place.call_with_token().under(LITTLE_ROOT), LISTEN);
    run.wait_for_events("on_rotate_failed", 2);
    run.wait_until("the third command", |_| is_asleep());
    run.kill(Signal::SIGTERM);
    run.wait().assert_code(7).assert_no_files();
    assert!(!is_asleep(), "the last command outlived the application");
}

/// Names that an attacker with the right to write the directory can take while a keeper works.
const PLANTED: [&str; 9] = [
    "..data.next",
    "..status.next",
    "..generation-0123456789abcdef",
    "tls.key",
    "db",
    "status.json",
    "..status",
    "..data",
    // In the generation that readers see; it is removed two rotations later.
    "..data/db",
];

/// Waits until the keeper has tried so many times to publish.
fn wait_for_tries(run: &mut Running, count: usize) {
    let tries = |run: &Running| {
        let tries = ["rotated", "not_published"].map(|name| run.named(name).len());
        tries.iter().sum::<usize>()
    };
    let before = tries(run);
    run.wait_until("a publication", |run| tries(run) >= before + count);
}

// t10
#[test]
fn entry_planted_beside_a_keeper_is_never_written_through() {
    let service = Service::with_database();
    let work = |plant: Plant, to_directory: bool| {
        let victim = Victim::new();
        let file = victim.path();
        let target = if to_directory {
            file.parent().expect("it lies in a directory")
        } else {
            &file
        };
        let place = Place::new(&service, manifest(&service, "2s"));
        let path = place.path();
        let call = place.call_with_token();
        let mut run = start(call.args(["--log-level", "debug"]), STAY);
        let remove = |path: &Path| fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        let inode = |path: &Path| fs::symlink_metadata(path).ok().map(|found| found.ino());
        for name in PLANTED {
            let what = format!("{plant:?} at {name}");
            wait_for("a generation", LONG, || {
                fs::read_link(path.join("..data")).ok()
            });
            // By its real way: the link may lead elsewhere soon.
            let at = match name.strip_prefix("..data/") {
                Some(inner) => path.join(generation(path)).join(inner),
                None => path.join(name),
            };
            let link = fs::read_link(&at);
            // In the middle of a rotation the keeper may be faster.
            wait_for("a place to plant it", LONG, || {
                let _ = remove(&at);
                plant.at(&at, target).ok()
            });
            let planted = inode(&at);
            wait_for_tries(&mut run, 3);
            victim.assert_untouched(&what);
            if inode(&at) == planted {
                remove(&at).expect("it is ours");
            }
            // Only the keeper puts back what the attacker has taken away.
            if let (true, Ok(link)) = (VISIBLE.contains(&name), link) {
                symlink(link, &at).expect("the name is free again");
            }
        }
        let count = run.named("rotated").len();
        run.wait_for_events("rotated", count + 2);
        let what = format!("after each {plant:?}");
        assert_whole(path, &mut Judge::default(), &what);
        victim.assert_untouched(&what);
        run.kill(Signal::SIGTERM);
        run.wait().assert_no_files();
    };
    thread::scope(|scope| {
        for plant in PLANTS {
            scope.spawn(move || work(plant, false));
        }
        scope.spawn(move || work(Plant::Symlink, true));
    });
}

// t10
#[test]
fn entry_planted_in_a_new_generation_is_never_written_through() {
    let service = Service::with_database();
    let victim = Victim::new();
    let place = Place::new(&service, manifest(&service, "2s"));
    let path = place.path();
    let call = place.call_with_token();
    let mut run = start(call.args(["--log-level", "debug"]), STAY);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = Done(&is_done);
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let latest = generations(path).into_iter();
                for (generation, plant) in latest.zip(PLANTS.iter().cycle()) {
                    for (name, _) in FILES {
                        let _ = plant.at(&path.join(&generation).join(name), &victim.path());
                    }
                }
            }
        });
        wait_for_tries(&mut run, 4);
        // The attacker was faster at least once.
        run.wait_for_events("not_published", 1);
        drop(done);
    });
    victim.assert_untouched("in a race");
    let count = run.named("rotated").len();
    run.wait_for_events("rotated", count + 2);
    assert_whole(path, &mut Judge::default(), "after a race");
    run.kill(Signal::SIGTERM);
    run.wait().assert_no_files();
}

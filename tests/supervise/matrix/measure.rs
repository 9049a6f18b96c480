//! How each fact is found out.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::init::{
    Init, LIMIT, MARK, NAMESPACE, PLACES, Place, Wish, child, command, other, send, state, within,
};
use crate::support::{Anteroom, Run, Running, TempDir, probe, wait_for};

const NO_SIGNAL: &str = "no signal arrives";

fn all_but(total: usize, wrong: &BTreeSet<i32>, what: &str) -> String {
    let named: Vec<String> = wrong.iter().map(i32::to_string).collect();
    match total - wrong.len() {
        right if right == total => format!("all {total}{what}"),
        0 => format!("none of {total}{what}"),
        right if wrong.len() > 9 => format!("{right} of {total}{what}"),
        right => format!("{right} of {total}{what}, not {}", named.join(", ")),
    }
}

/// The same fact in both places, once if it is the same.
pub(super) fn in_both(measure: impl Fn(Place) -> String) -> String {
    let [first, other] = PLACES.map(measure);
    if first == other {
        first
    } else {
        format!("{first}; not as PID 1: {other}")
    }
}

pub(super) fn exit_codes(init: &Init) -> String {
    let differs = |code: &i32| {
        let run = init.run(Place::First, &["exit", &code.to_string()]);
        run.code != Some(*code)
    };
    all_but(256, &(0..=255).filter(differs).collect(), " its own")
}

/// The signals that end a process which has not asked for them.
fn deadly() -> Vec<i32> {
    let harmless = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    let all = (1..32).chain(34..65);
    all.filter(|number| !harmless.contains(number)).collect()
}

pub(super) fn signal_deaths(init: &Init) -> String {
    in_both(|place| {
        let deadly = deadly();
        let ends_otherwise = |number: &i32| {
            let run = init.run(place, &["die", &number.to_string()]);
            run.code != Some(128 + *number)
        };
        let wrong = deadly.iter().copied().filter(ends_otherwise).collect();
        all_but(deadly.len(), &wrong, "")
    })
}

pub(super) fn remapped_exit(init: &Init) -> String {
    let end = |task: &[&str]| {
        let call = init.with(Wish::Remap)?;
        call.under(NAMESPACE).command(command(task)).run().code
    };
    let ends = [&["exit", "143"], &["die", "15"], &["exit", "142"]].map(|task| end(task));
    match ends {
        [None, None, None] => "–".to_owned(),
        [Some(0), Some(0), Some(142)] => "that one".to_owned(),
        [Some(0), Some(0), Some(0)] => "all".to_owned(),
        _ => format!("{ends:?}"),
    }
}

pub(super) fn commands_that_cannot_run(init: &Init) -> String {
    let directory = TempDir::new();
    let plain = directory.write("plain", "#!/bin/sh\n");
    let ends = [directory.join("missing"), plain].map(|path| {
        let run = init.plain().under(NAMESPACE).command([path]).run();
        run.code
            .map_or("a signal".to_owned(), |code| code.to_string())
    });
    ends.join(", ")
}

const FAULTS: [i32; 7] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
];
const STOPS: [(i32, &str); 3] = [
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
];

/// The signals that an init must hand on: no fault, no stop, none that it cannot see or that is its own.
fn owed() -> Vec<i32> {
    let own = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD];
    let not_owed = [&own[..], &FAULTS, &STOPS.map(|(number, _)| number)].concat();
    let all = (1..32).chain(34..65);
    all.filter(|number| !not_owed.contains(number)).collect()
}

pub(super) fn forwarded(init: &Init) -> String {
    in_both(|place| {
        let started = init.listening(place);
        let owed = owed();
        let mut missing = BTreeSet::new();
        for round in 1..4 {
            for &number in &owed {
                if number != MARK {
                    started.send(number);
                }
                if !started.hands_on_mark() {
                    return NO_SIGNAL.to_owned();
                }
                if number != MARK && started.count("application", number) != round {
                    missing.insert(number);
                }
            }
        }
        all_but(owed.len(), &missing, "")
    })
}

pub(super) fn burst(init: &Init) -> String {
    in_both(|place| {
        let started = init.listening(place);
        for _ in 0..100 {
            started.send(libc::SIGRTMIN());
        }
        if !started.hands_on_mark() {
            return NO_SIGNAL.to_owned();
        }
        match started.count("application", libc::SIGRTMIN()) {
            100 => "all 100".to_owned(),
            count => format!("{count} of 100"),
        }
    })
}

pub(super) fn forwarded_stops(init: &Init) -> String {
    let (mut arrived, mut stopped) = (Vec::new(), Vec::new());
    for (number, name) in STOPS {
        let started = init.listening(Place::First);
        let application = started.application();
        let is_stopped = || state(application) == Some('T');
        started.send(number);
        started.send(MARK);
        let has_mark = || started.count("application", MARK) == 1;
        if !within(started.patience, || has_mark() || is_stopped()) {
            return NO_SIGNAL.to_owned();
        }
        if is_stopped() {
            stopped.push(name);
        } else if started.count("application", number) == 1 {
            arrived.push(name);
        }
    }
    match (&stopped[..], &arrived[..]) {
        ([_, _, _], []) => "each stops the application".to_owned(),
        ([], []) => "none arrives".to_owned(),
        ([], [one]) => format!("{one} arrives"),
        (stopped, arrived) => format!("{stopped:?} stop the application, {arrived:?} arrive"),
    }
}

pub(super) fn forwarded_faults(init: &Init) -> String {
    let started = init.listening(Place::First);
    let mut missing = BTreeSet::new();
    for number in FAULTS {
        started.send(number);
        if !started.hands_on_mark() {
            return NO_SIGNAL.to_owned();
        }
        if started.count("application", number) != 1 {
            missing.insert(number);
        }
    }
    all_but(FAULTS.len(), &missing, "")
}

pub(super) fn stopped_application(init: &Init) -> String {
    in_both(|place| {
        let started = init.listening(place);
        let application = started.application();
        send(application, libc::SIGSTOP);
        wait_for("it to be stopped", LIMIT, || {
            (state(application) == Some('T')).then_some(())
        });
        started.send(libc::SIGUSR1);
        started.send(libc::SIGCONT);
        let goes_on = started.hands_on_mark() && started.count("application", libc::SIGUSR1) == 1;
        if goes_on { "goes on" } else { "does not" }.to_owned()
    })
}

fn reached(init: &Init, wish: Wish) -> String {
    in_both(|place| {
        let mut started = init.start(wish, place, &["group"], "application ready");
        started.running.wait_for_stdout("child ready");
        let below = child(started.application());
        started.send(libc::SIGUSR1);
        if !started.hands_on_mark() {
            return NO_SIGNAL.to_owned();
        }
        // Behind what the init may have sent to the child.
        let before = started.count("child", MARK);
        send(below, MARK);
        wait_for("the child's mark", LIMIT, || {
            (started.count("child", MARK) > before).then_some(())
        });
        match started.count("child", libc::SIGUSR1) {
            0 => "arrives there only",
            _ => "arrives at all",
        }
        .to_owned()
    })
}

pub(super) fn signal_to_one(init: &Init) -> String {
    reached(init, Wish::ToOne)
}

pub(super) fn signal_to_group(init: &Init) -> String {
    reached(init, Wish::ToGroup)
}

const BECOME: &str = r#"exec "$0" "$@""#;

/// The probe's findings as the application, when this shell script becomes the init; the error is how that ended.
fn look(call: Anteroom, place: Place, before: &str) -> Result<Vec<String>, Box<Run>> {
    let directory = TempDir::new();
    let file = directory.join("state");
    let script = ["/bin/sh", "-c", before];
    let call = call.under(place.words().iter().chain(&script));
    let run = call
        .command([probe().as_os_str(), "state".as_ref(), file.as_os_str()])
        .run();
    let Ok(text) = fs::read(&file) else {
        return Err(Box::new(run));
    };
    let (text, file) = (String::from_utf8_lossy(&text), file.display().to_string());
    Ok(text
        .lines()
        .map(|line| line.replace(&file, "FILE"))
        .collect())
}

fn found(call: Anteroom, place: Place, before: &str) -> Vec<String> {
    look(call, place, before).unwrap_or_else(|run| panic!("{before}: {run:?}"))
}

/// The probe's findings of these kinds, below the init and without one, in both places and however the init started.
fn differences(init: &Init, kinds: &[&str]) -> String {
    let of_kind = |line: &String| kinds.iter().any(|kind| line.starts_with(kind));
    let differs = |place: Place, before: &str| {
        let mut without = found(other("/usr/bin/env"), place, before);
        let mut with = found(init.plain(), place, before);
        without.retain(of_kind);
        with.retain(of_kind);
        assert!(!without.is_empty(), "the probe tells other things now");
        for line in without.iter().filter(|line| !with.contains(line)) {
            println!("{} does not hand on {line}", init.title);
        }
        without != with
    };
    let ways = [
        ("everything", BECOME.to_owned()),
        (
            "ignored signals",
            format!("trap '' PIPE HUP INT USR1 TSTP; umask 027; {BECOME}"),
        ),
        ("an ignored SIGCHLD", format!("trap '' CHLD; {BECOME}")),
        (
            "blocked signals",
            format!(r#"exec {} block "$0" "$@""#, probe().display()),
        ),
    ];
    let found: Vec<&str> = ways
        .iter()
        .filter(|(_, before)| PLACES.into_iter().any(|place| differs(place, before)))
        .map(|(name, _)| *name)
        .collect();
    match &found[..] {
        [] => "as received".to_owned(),
        ["everything", ..] => "not as received".to_owned(),
        some => format!("other {}", some.join(", ")),
    }
}

pub(super) fn closed_descriptors(init: &Init) -> String {
    let closed = format!("exec <&- >&- 2>&-; {BECOME}");
    let is_standard = |line: &String| {
        ["fd 0 ", "fd 1 ", "fd 2 "]
            .iter()
            .any(|fd| line.starts_with(fd))
    };
    in_both(|place| {
        match look(init.plain(), place, &closed) {
            Ok(found) if found.iter().any(is_standard) => "are opened",
            Ok(_) => "stay closed",
            Err(_) => "does not start",
        }
        .to_owned()
    })
}

pub(super) fn descriptor(init: &Init) -> String {
    in_both(|place| {
        let found = found(init.plain(), place, &format!("exec 3</dev/zero; {BECOME}"));
        let is_open = found.iter().any(|line| line.starts_with("fd 3 "));
        if is_open { "handed on" } else { "closed" }.to_owned()
    })
}

pub(super) fn declared_descriptor(init: &Init) -> String {
    in_both(|place| {
        let declared = format!("exec 3</dev/zero; export LISTEN_FDS=1 LISTEN_PID=$$; {BECOME}");
        let found = found(init.plain(), place, &declared);
        let value = |start: &str| found.iter().find_map(|line| line.strip_prefix(start));
        assert!(value("fd 3 /dev/zero").is_some(), "{found:?}");
        if value("variable LISTEN_PID=") == value("pid ") {
            "the application's"
        } else {
            "another's"
        }
        .to_owned()
    })
}

pub(super) fn dispositions(init: &Init) -> String {
    let status = "/proc/self/status Sig";
    let kinds = ["Blk", "Ign", "Cgt", "Pnd"].map(|kind| format!("{status}{kind}"));
    differences(init, &kinds.each_ref().map(String::as_str))
}

pub(super) fn surroundings(init: &Init) -> String {
    differences(
        init,
        &[
            "argument",
            "variable",
            "fd 0 ",
            "fd 1 ",
            "fd 2 ",
            "directory",
            "umask",
            "/proc/self/limits",
            "/proc/self/status Cap",
            "/proc/self/oom_score_adj",
            "dumpable",
        ],
    )
}

fn adopted(call: Option<Anteroom>, place: Place, count: usize) -> String {
    let Some(call) = call else {
        return "–".to_owned();
    };
    let words = command(&["orphans", &count.to_string()]);
    let run = call.under(place.words()).command(words).run();
    let out = run.stdout.trim_end();
    match out.strip_prefix(&format!("{count} orphans adopted by the init, ")) {
        Some("0 left") => "all reaped".to_owned(),
        Some(left) => left.to_owned(),
        None if out.contains("adopted by another") => "not its own".to_owned(),
        None => panic!("{run:?}"),
    }
}

pub(super) fn orphans(init: &Init) -> String {
    adopted(Some(init.plain()), Place::First, 1000)
}

pub(super) fn orphans_elsewhere(init: &Init) -> String {
    adopted(init.with(Wish::Subreaper), Place::Other, 100)
}

/// The end of a process that outlives the application.
fn end_of_the_last(init: &Init, place: Place, kind: &[&str]) -> &'static str {
    // Elsewhere the init could not find it without that.
    let wish = match place {
        Place::First => Wish::Nothing,
        Place::Other => Wish::Subreaper,
    };
    let task = [&["outlived", "7"], kind].concat();
    let mut started = init.start(wish, place, &task, ".\n");
    let out = started.running.stdout();
    let number = out.trim().trim_start_matches("left ").trim_end_matches('.');
    let last: i32 = number.parse().expect("it prints its process id");
    wait_for("the init's end", LIMIT, || {
        (!started.running.is_running()).then_some(())
    });
    // Below PID 1 the number is one of its namespace, where no process is left. SIGTERM is taken before SIGSYS.
    if matches!(place, Place::Other) && state(last).is_some_and(|state| state != 'Z') {
        send(last, libc::SIGSYS);
        wait_for("what it says", LIMIT, || {
            let out = started.running.stdout();
            (out.contains("is running") || out.contains("ended well")).then_some(())
        });
    }
    let run = started.running.wait();
    if run.code != Some(7) {
        return "another exit code";
    }
    match &run.stdout {
        out if out.contains("ended well, under the init") => "SIGTERM, time to end well",
        out if out.contains("ended well, after the init") => "SIGTERM, not awaited",
        out if out.contains("is running") => "left running",
        _ => "killed at once",
    }
}

pub(super) fn outlived(init: &Init) -> String {
    end_of_the_last(init, Place::First, &[]).to_owned()
}

pub(super) fn outlived_session(init: &Init) -> String {
    end_of_the_last(init, Place::First, &["session"]).to_owned()
}

pub(super) fn outlived_elsewhere(init: &Init) -> String {
    let kinds: [&[&str]; 2] = [&[], &["session"]];
    let mut ends = kinds
        .map(|kind| end_of_the_last(init, Place::Other, kind))
        .to_vec();
    ends.dedup();
    ends.join("; ")
}

/// The time from now until this process has ended; it is not reaped.
fn until_end(process: &Running) -> Duration {
    let start = Instant::now();
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(process.pid())), flags).expect("our own child can be waited for");
    start.elapsed()
}

pub(super) fn stop_time(init: &Init) -> Duration {
    let started = init.start(Wish::Nothing, Place::First, &["stop", "7"], "ready");
    started.send(libc::SIGTERM);
    let time = until_end(&started.running);
    started.running.wait().assert_code(7);
    time
}

pub(super) fn delay_by_the_deaf(init: &Init) -> Duration {
    let task = ["outlived", "7", "deaf"];
    let started = init.start(Wish::Nothing, Place::First, &task, ".\n");
    let time = until_end(&started.running);
    started.running.wait().assert_code(7);
    time
}

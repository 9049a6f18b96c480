//! The terminal as the application and a shell find it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::libc;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::init::{Init, MARK, NAMESPACE, PLACES, Place, child, command, send, within};
use super::measure::in_both;
use crate::support::probe::application;
use crate::support::{Anteroom, Running, lock};

const ON_TERMINAL: [&str; 2] = ["setsid", "--ctty"];
pub(in crate::supervise) const BASH: [&str; 5] =
    ["bash", "--norc", "--noprofile", "--noediting", "-i"];

/// A terminal from the side of the user who sits before it; it is hung up on Drop.
struct Line {
    keyboard: File,
    device: PathBuf,
}

impl Line {
    #[allow(unsafe_code, reason = "a terminal is made with ioctls")]
    fn open() -> Self {
        let keyboard = open("/dev/ptmx");
        let (unlocked, mut number): (libc::c_int, libc::c_int) = (0, 0);
        // SAFETY: the first call reads an int and the second writes one, and both live here.
        let made = unsafe {
            libc::ioctl(keyboard.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) == 0
                && libc::ioctl(keyboard.as_raw_fd(), libc::TIOCGPTN, &mut number) == 0
        };
        assert!(made, "/dev/ptmx makes terminals");
        Self {
            keyboard,
            device: format!("/dev/pts/{number}").into(),
        }
    }

    /// Does what the kernel does when this side is closed, which the reader of the screen holds open.
    #[allow(unsafe_code, reason = "a terminal is hung up with an ioctl")]
    fn hang_up(&self) {
        // SAFETY: the call takes no argument. Whether a process is still there does not matter.
        unsafe { libc::ioctl(open(&self.device).as_raw_fd(), libc::TIOCVHANGUP) };
    }

    fn resize(&self) {
        let mut stty = Command::new("stty");
        let stty = stty.arg("-F").arg(&self.device).args(["cols", "99"]);
        let status = stty.status().expect("there is a stty");
        assert!(status.success(), "stty sets a size");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Shells and their jobs are in groups of their own.
        self.hang_up();
    }
}

/// Opens a terminal that does not become this process's own.
fn open(path: impl AsRef<OsStr>) -> File {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let opened = options.open(path.as_ref());
    opened.expect("/dev/ptmx and its terminals can be opened")
}

/// An init that leads the session of a terminal, as under `docker run -it`.
pub(in crate::supervise) struct Terminal {
    pub(in crate::supervise) running: Running,
    line: Line,
    shown: Arc<Mutex<Vec<u8>>>,
    patience: Duration,
}

impl Terminal {
    fn start<A: AsRef<OsStr>>(
        init: &Init,
        under: &[&str],
        words: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::of(init.plain(), init.patience, under, words)
    }

    /// The same with this call of an init.
    pub(in crate::supervise) fn of<A: AsRef<OsStr>>(
        call: Anteroom,
        patience: Duration,
        under: &[&str],
        words: impl IntoIterator<Item = A>,
    ) -> Self {
        let line = Line::open();
        let own = open(&line.device);
        let call = call.env("HISTFILE", "/dev/null").under(under);
        let running = call
            .command(words)
            .pre_exec(move || {
                dup2_stdin(own.as_fd())?;
                dup2_stdout(own.as_fd())?;
                Ok(dup2_stderr(own.as_fd())?)
            })
            .spawn();
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let mut screen = line.keyboard.try_clone().expect("a descriptor");
        let copy = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                lock(&copy).extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            running,
            line,
            shown,
            patience,
        }
    }

    pub(in crate::supervise) fn types(&mut self, keys: &str) {
        let typed = self.line.keyboard.write_all(keys.as_bytes());
        typed.expect("the terminal takes what is typed");
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shown)).into_owned()
    }

    fn count(&self, text: &str) -> usize {
        self.shown().matches(text).count()
    }

    /// Whether the terminal shows the text in time, so often.
    pub(in crate::supervise) fn shows(&self, text: &str, times: usize) -> bool {
        within(self.patience, || self.count(text) >= times)
    }

    fn shows_signal(&self, number: i32) {
        self.shows(&format!("got {number}\r"), 1);
    }

    /// Types, and waits for an answer; without one the error is the one that is given.
    pub(in crate::supervise) fn ask(
        &mut self,
        keys: &str,
        answer: &str,
        times: usize,
        error: &str,
    ) -> Result<(), String> {
        self.types(keys);
        if self.shows(answer, times) {
            return Ok(());
        }
        println!("{error}:\n{}", self.shown());
        Err(error.to_owned())
    }
}

impl Place {
    /// The words that give the init a terminal.
    pub(in crate::supervise) fn terminal(self) -> Vec<&'static str> {
        match self {
            Place::First => [&NAMESPACE[..], &ON_TERMINAL].concat(),
            Place::Other => [&ON_TERMINAL[..], &["--wait"]].concat(),
        }
    }
}

pub(super) fn application_on_it(init: &Init) -> String {
    in_both(|place| {
        let words = command(&["signals", "5"]);
        let mut terminal = Terminal::start(init, &place.terminal(), words);
        if !terminal.shows("application ready, foreground 1", 1) {
            return "not in the foreground".to_owned();
        }
        for (key, number) in [
            ("\x03", libc::SIGINT),
            ("\x1c", libc::SIGQUIT),
            ("\x1a", libc::SIGTSTP),
        ] {
            terminal.types(key);
            terminal.shows_signal(number);
        }
        terminal.line.resize();
        terminal.shows_signal(libc::SIGWINCH);
        // What the init may hand on besides comes before these.
        let first = child(terminal.running.pid());
        for number in [MARK, libc::SIGUSR2] {
            send(first, number);
            terminal.shows_signal(number);
        }
        let shown = terminal.shown();
        let got: Vec<&str> = shown
            .lines()
            .filter_map(|line| line.split_once("got "))
            .map(|(_, number)| number)
            .collect();
        match (&got[..], terminal.running.wait().code) {
            (["2", "3", "20", "28", "64", "12"], Some(5)) => {
                "in the foreground, each key's signal once".to_owned()
            }
            (got, code) => format!("got {}, ends with {code:?}", got.join(" ")),
        }
    })
}

/// An application that gives back each line that is typed.
const CAT: [&str; 3] = ["/bin/sh", "-c", "echo runs-now; exec cat"];

pub(super) fn stop_key(init: &Init) -> String {
    let mut terminal = Terminal::start(init, &Place::First.terminal(), CAT);
    let goes_on = |terminal: &mut Terminal| {
        terminal.ask("", "runs-now", 1, "does not run")?;
        terminal.ask("\x1aline\n", "line", 2, "stops it for good")
    };
    match goes_on(&mut terminal) {
        Ok(()) => "it goes on".to_owned(),
        Err(error) => error,
    }
}

pub(super) fn stop_key_below_shell(init: &Init) -> String {
    let script = r#""$0" "$@"; echo back; fg; echo code-$?"#;
    let under = [&Place::Other.terminal()[..], &BASH, &["-c", script]].concat();
    let mut terminal = Terminal::start(init, &under, CAT);
    let works = |terminal: &mut Terminal| {
        terminal.ask("", "runs-now", 1, "does not run")?;
        terminal.ask("\x1a", "back", 1, "^Z stops it for good")?;
        terminal.ask("line\n", "line", 2, "fg does not continue it")?;
        terminal.ask("\x03", "code-130", 1, "^C does not end it")
    };
    match works(&mut terminal) {
        Ok(()) => "work".to_owned(),
        Err(error) => error,
    }
}

pub(super) fn hang_up(init: &Init) -> String {
    let mut terminal = Terminal::start(init, &Place::First.terminal(), command(&["wait"]));
    assert!(terminal.shows("waiting", 1), "it runs");
    terminal.line.hang_up();
    if !within(init.patience, || !terminal.running.is_running()) {
        return "no process is told".to_owned();
    }
    match terminal.running.wait().code {
        Some(129) => "SIGHUP, 129".to_owned(),
        code => format!("ends with {code:?}"),
    }
}

/// Works in a shell as a user does who sits before it; the error says what does not work.
pub(in crate::supervise) fn work(terminal: &mut Terminal) -> Result<(), String> {
    let job = format!("{} wait\n", application().display());
    terminal.ask("echo alive-$((40+2))\n", "alive-42", 1, "no prompt")?;
    for complaint in ["job control", "access tty", "process group", "ioctl"] {
        if terminal.count(complaint) > 0 {
            return Err("no job control".to_owned());
        }
    }
    terminal.ask(&job, "waiting", 1, "no job")?;
    terminal.ask("\x03echo code-$?\n", "code-130", 1, "no ^C")?;
    terminal.ask(&job, "waiting", 2, "no second job")?;
    terminal.ask("\x1a", "Stopped", 1, "no ^Z")?;
    terminal.ask("fg\n", "continued", 1, "no fg")?;
    terminal.ask("\x03echo code-$?\n", "code-130", 2, "no ^C after fg")?;
    terminal.types("exit 7\n");
    Ok(())
}

pub(super) fn shells(init: &Init) -> String {
    let shells: [&[&str]; 2] = [&BASH, &["sh", "-i"]];
    for place in PLACES {
        for shell in shells {
            let mut terminal = Terminal::start(init, &place.terminal(), shell);
            if let Err(what) = work(&mut terminal) {
                return format!("{}: {what}", shell[0]);
            }
            let run = terminal.running.wait();
            if run.code != Some(7) {
                return format!("{}: ends with {:?}", shell[0], run.code);
            }
        }
    }
    "work".to_owned()
}

pub(super) fn shell_below_shell(init: &Init) -> String {
    let script = r#""$0" "$@"; echo back-$?; read line; echo "read-$line""#;
    let under = [&Place::Other.terminal()[..], &BASH, &["-c", script]].concat();
    let mut terminal = Terminal::start(init, &under, BASH);
    let comes_back = |terminal: &mut Terminal| {
        work(terminal)?;
        terminal.ask("", "back-7", 1, "does not come back")?;
        terminal.ask("on\n", "read-on", 1, "takes the terminal away")
    };
    match comes_back(&mut terminal) {
        Ok(()) => "works".to_owned(),
        Err(error) => error,
    }
}

pub(super) fn script_afterwards(init: &Init) -> String {
    let script = r#""$0" "$@"; echo back-$?; read line; echo "read-$line""#;
    let under = [&Place::Other.terminal()[..], &["/bin/sh", "-c", script]].concat();
    let mut terminal = Terminal::start(init, &under, command(&["exit", "7"]));
    let has_it = |terminal: &mut Terminal| {
        terminal.ask("", "back-7", 1, "does not come back")?;
        terminal.ask("line\n", "read-line", 1, "cannot read from it")
    };
    match has_it(&mut terminal) {
        Ok(()) => "reads from it".to_owned(),
        Err(error) => error,
    }
}

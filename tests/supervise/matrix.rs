//! tini, dumb-init and anteroom side by side: what each of them does as the init above an application.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test writes files, and prints the table"
)]

pub(super) mod init;
mod measure;
pub(super) mod terminal;

use std::fmt::Display;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::libc;

use crate::support::anteroom::children;
use crate::support::repository;

use init::{
    Init, NAMESPACE, Place, Wish, anteroom, anteroom_with_keeper, child, command, dumb_init,
    neglectful, send, tini,
};

/// A fact, how it is found out, and what comes of it with tini, dumb-init and anteroom.
struct Row {
    fact: &'static str,
    measure: fn(&Init) -> String,
    cells: [&'static str; 3],
    /// The outcome with an init that does nothing it should: a row can tell one.
    neglected: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        fact: "exit code of the application, 0 to 255",
        measure: measure::exit_codes,
        cells: ["all 256 its own"; 3],
        neglected: "1 of 256 its own",
    },
    Row {
        fact: "application ended by a signal: 128+n",
        measure: measure::signal_deaths,
        cells: ["all 54"; 3],
        neglected: "none of 54",
    },
    Row {
        fact: "exit codes that become 0 (`-e 143`, –, `remap_exit`)",
        measure: measure::remapped_exit,
        cells: ["that one", "–", "that one"],
        neglected: "all",
    },
    Row {
        fact: "no such command, no right to run it",
        measure: measure::commands_that_cannot_run,
        cells: ["127, 126", "2, 2", "127, 126"],
        neglected: "0, 0",
    },
    Row {
        fact: "signals that arrive, each three times",
        measure: measure::forwarded,
        cells: ["all 49"; 3],
        neglected: "no signal arrives",
    },
    Row {
        fact: "real-time signal, 100 times in a burst",
        measure: measure::burst,
        cells: ["all 100"; 3],
        neglected: "no signal arrives",
    },
    Row {
        fact: "SIGTSTP, SIGTTIN, SIGTTOU",
        measure: measure::forwarded_stops,
        cells: [
            "SIGTSTP arrives",
            "each stops the application",
            "none arrives",
        ],
        neglected: "no signal arrives",
    },
    Row {
        fact: "signals of a fault, such as SIGSEGV, that arrive",
        measure: measure::forwarded_faults,
        cells: ["none of 7", "all 7", "none of 7"],
        neglected: "no signal arrives",
    },
    Row {
        fact: "application stopped, then continued",
        measure: measure::stopped_application,
        cells: ["goes on"; 3],
        neglected: "does not",
    },
    Row {
        fact: "signal to the application alone (default, `-c`, default)",
        measure: measure::signal_to_one,
        cells: ["arrives there only"; 3],
        neglected: "no signal arrives",
    },
    Row {
        fact: "signal to its process group (`-g`, default, `signal_group`)",
        measure: measure::signal_to_group,
        cells: ["arrives at all"; 3],
        neglected: "no signal arrives",
    },
    Row {
        fact: "dispositions and mask that the application finds",
        measure: measure::dispositions,
        cells: [
            "as received",
            "other ignored signals, blocked signals",
            "as received",
        ],
        neglected: "not as received",
    },
    Row {
        fact: "arguments, environment, descriptors, directory, umask, limits",
        measure: measure::surroundings,
        cells: ["as received"; 3],
        neglected: "not as received",
    },
    Row {
        fact: "standard descriptors, when they were closed",
        measure: measure::closed_descriptors,
        cells: ["does not start", "stay closed", "stay closed"],
        neglected: "are opened",
    },
    Row {
        fact: "descriptor 3, when it was open",
        measure: measure::descriptor,
        cells: ["handed on", "handed on", "closed"],
        neglected: "handed on",
    },
    Row {
        fact: "descriptor 3, when it was declared: whose `LISTEN_PID`",
        measure: measure::declared_descriptor,
        cells: ["another's", "another's", "the application's"],
        neglected: "another's",
    },
    Row {
        fact: "1000 orphans",
        measure: measure::orphans,
        cells: ["all reaped"; 3],
        neglected: "1000 left",
    },
    Row {
        fact: "100 orphans, not as PID 1 (`-s`, –, `subreaper`)",
        measure: measure::orphans_elsewhere,
        cells: ["all reaped", "–", "all reaped"],
        neglected: "not its own",
    },
    Row {
        fact: "process that outlives the application",
        measure: measure::outlived,
        cells: [
            "killed at once",
            "killed at once",
            "SIGTERM, time to end well",
        ],
        neglected: "another exit code",
    },
    Row {
        fact: "one that has called setsid",
        measure: measure::outlived_session,
        cells: [
            "killed at once",
            "killed at once",
            "SIGTERM, time to end well",
        ],
        neglected: "another exit code",
    },
    Row {
        fact: "one of either kind, not as PID 1 (`-s`, default, `subreaper`)",
        measure: measure::outlived_elsewhere,
        cells: [
            "left running",
            "SIGTERM, not awaited; left running",
            "SIGTERM, time to end well",
        ],
        neglected: "another exit code",
    },
    Row {
        fact: "application on a terminal",
        measure: terminal::application_on_it,
        cells: ["in the foreground, each key's signal once"; 3],
        neglected: "not in the foreground",
    },
    Row {
        fact: "^Z at an application that is no shell",
        measure: terminal::stop_key,
        cells: ["stops it for good", "it goes on", "it goes on"],
        neglected: "stops it for good",
    },
    Row {
        fact: "^Z and fg at one that was started from a shell",
        measure: terminal::stop_key_below_shell,
        cells: ["^Z stops it for good", "work", "work"],
        neglected: "fg does not continue it",
    },
    Row {
        fact: "terminal that is closed",
        measure: terminal::hang_up,
        cells: ["SIGHUP, 129"; 3],
        neglected: "no process is told",
    },
    Row {
        fact: "interactive bash and sh: job control, ^C, ^Z, fg",
        measure: terminal::shells,
        cells: ["work"; 3],
        neglected: "bash: no prompt",
    },
    Row {
        fact: "interactive bash, started from one",
        measure: terminal::shell_below_shell,
        cells: ["works", "no job control", "works"],
        neglected: "no prompt",
    },
    Row {
        fact: "terminal afterwards, in the script that started it",
        measure: terminal::script_afterwards,
        cells: ["cannot read from it", "reads from it", "reads from it"],
        neglected: "does not come back",
    },
];

/// A figure that depends on the machine: it is shown, and only that the end is the application's own is asserted.
struct Figure {
    fact: &'static str,
    measure: fn(&Init) -> Duration,
    /// How many times the median is of.
    times: usize,
}

const FIGURES: [Figure; 2] = [
    Figure {
        fact: "from SIGTERM until all has ended, median of 15",
        measure: measure::stop_time,
        times: 15,
    },
    Figure {
        fact: "a process that ignores SIGTERM delays the end by",
        measure: measure::delay_by_the_deaf,
        times: 1,
    },
];

fn line(cells: impl IntoIterator<Item = impl Display>) -> String {
    cells
        .into_iter()
        .map(|cell| format!("| {cell} "))
        .collect::<String>()
        + "|"
}

/// The cells of one init, one after the other.
fn column(init: &Init) -> Vec<String> {
    ROWS.iter().map(|row| row.cell(init)).collect()
}

/// The same, all cells at once: for an init of which each of them waits in vain for something.
fn column_at_once(init: &Init) -> Vec<String> {
    std::thread::scope(|scope| {
        let rows = ROWS.iter().map(|row| scope.spawn(|| row.cell(init)));
        let threads: Vec<_> = rows.collect();
        let cells = threads.into_iter().map(|thread| thread.join());
        cells
            .map(|cell| cell.expect("a cell catches its panics"))
            .collect()
    })
}

fn columns(inits: &[Init]) -> Vec<Vec<String>> {
    std::thread::scope(|scope| {
        let measured = inits.iter().map(|init| scope.spawn(|| column(init)));
        let threads: Vec<_> = measured.collect();
        let columns = threads.into_iter().map(|thread| thread.join());
        columns
            .map(|cells| cells.expect("a column catches its panics"))
            .collect()
    })
}

fn shown(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 0.1 => format!("{:.1} ms", short * 1e3),
        long => format!("{long:.1} s"),
    }
}

impl Row {
    /// The outcome with this init; one that cannot be measured says so, and the cause is in the output.
    fn cell(&self, init: &Init) -> String {
        catch_unwind(AssertUnwindSafe(|| (self.measure)(init)))
            .unwrap_or_else(|_| "FAILED".to_owned())
    }

    fn line(&self) -> String {
        line(std::iter::once(self.fact).chain(self.cells))
    }
}

impl Figure {
    /// The row of the table, measured by turns.
    fn line(&self, inits: &[Init]) -> String {
        let mut times = vec![Vec::new(); inits.len()];
        for _ in 0..self.times {
            for (init, times) in inits.iter().zip(&mut times) {
                times.push((self.measure)(init));
            }
        }
        let medians = times.iter_mut().map(|times| {
            times.sort_unstable();
            shown(times[self.times / 2])
        });
        line(std::iter::once(self.fact.to_owned()).chain(medians))
    }
}

#[test]
fn tini_dumb_init_and_anteroom_side_by_side() {
    let inits = [tini(), dumb_init(), anteroom()];
    let columns = columns(&inits);
    let titles = inits.iter().map(|init| init.title.as_str());
    println!("{}", line(std::iter::once("").chain(titles)));
    println!("|---|---|---|---|");
    let mut wrong = Vec::new();
    for (number, row) in ROWS.iter().enumerate() {
        let cells = columns.iter().map(|cells| cells[number].as_str());
        let measured = line(std::iter::once(row.fact).chain(cells));
        println!("{measured}");
        if measured != row.line() {
            wrong.push(format!("measured: {measured}\nexpected: {}", row.line()));
        }
    }
    for figure in FIGURES {
        println!("{}", figure.line(&inits));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn keeper_beside_the_application_changes_nothing_for_it() {
    let init = anteroom_with_keeper();
    let started = init.listening(Place::First);
    let beside = children(started.init());
    assert_eq!(beside.len(), 2, "the application and the keeper");
    drop(started);
    let cells = column(&init);
    let mut wrong = Vec::new();
    for (row, cell) in ROWS.iter().zip(cells) {
        if cell != row.cells[2] {
            wrong.push(format!("{}: {cell}", row.fact));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn document_says_of_each_init_what_the_table_says() {
    let document = fs::read_to_string(repository().join("docs/supervise.md")).expect("it is there");
    let rows = ROWS.iter().map(Row::line);
    let figures = FIGURES.map(|figure| format!("| {} | ", figure.fact));
    for line in rows.chain(figures) {
        assert!(document.contains(&line), "docs/supervise.md lacks\n{line}");
    }
}

#[test]
fn every_row_exposes_an_init_that_does_nothing() {
    let neglected: Vec<_> = ROWS.iter().map(|row| row.neglected).collect();
    assert_eq!(column_at_once(&neglectful()), neglected);
    for row in ROWS {
        assert_ne!(row.neglected, row.cells[2], "{}", row.fact);
    }
}

/// SIGTERM while the application is started: it is the application's, or ends it before it can say so.
#[test]
fn sigterm_during_the_start_of_the_application_is_not_lost() {
    let init = anteroom();
    let (mut before, mut after) = (0, 0);
    for wish in [Wish::Nothing, Wish::ToGroup] {
        for round in 0..40 {
            let call = init.with(wish).expect("it can do both");
            let mut running = call
                .under(NAMESPACE)
                .command(command(&["stop", "7"]))
                .spawn();
            // From then on PID 1 takes signals.
            running.wait_until("the keeper", |run| {
                run.children()
                    .first()
                    .is_some_and(|init| !children(*init).is_empty())
            });
            std::thread::sleep(Duration::from_millis(round));
            send(child(running.pid()), libc::SIGTERM);
            let run = running.wait();
            match run.code {
                Some(143) => before += 1,
                Some(7) => after += 1,
                _ => panic!("{round} ms: {run:?}"),
            }
        }
    }
    println!(
        "{before} ended before the application could say so, {after} by the application itself"
    );
}

//! The agent on Docker's host: parses the command line, runs, and reports a failure once, with its exit code.

use std::process::ExitCode;

use anteroom::agent::cli::{self, Cli};
use anteroom::system::name_lookup;
use clap::Parser;

/// The exit code for a wrong command line (`EX_USAGE` of sysexits(3)).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    name_lookup::settle();
    std::panic::set_hook(Box::new(anteroom::log::report_panic));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let log = cli.logging.log();
    match cli::run(cli, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(log);
            error.exit_code().into()
        }
    }
}

//! The entrypoint: parses the command line, runs, and reports a failure once, with its exit code.

use std::process::ExitCode;
use std::time::Instant;

use anteroom::cli::{Cli, Refusal, is_answer};
use anteroom::system::{name_lookup, signal};
use anteroom::{log, start};

/// The exit code for a wrong command line (`EX_USAGE` of sysexits(3)).
const USAGE: u8 = 64;

/// The first instruction that is anteroom's own.
#[expect(
    unsafe_code,
    reason = "a function that is called before main has to be named to the linker"
)]
// SAFETY: the function reads and sets the mask and dispositions, and needs nothing that Rust's runtime sets up.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_RUNTIME: extern "C" fn() = signal::receive;

fn main() -> ExitCode {
    let began = Instant::now();
    name_lookup::settle();
    std::panic::set_hook(Box::new(log::report_panic));
    let cli = match Cli::read(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(Refusal { others, last, hint }) => {
            for text in others {
                log::write_line(&text);
            }
            let _ = last.print();
            if let Some(hint) = hint {
                log::write_line(&format!("anteroom: hint: {hint}"));
            }
            return if is_answer(&last) {
                ExitCode::SUCCESS
            } else {
                USAGE.into()
            };
        }
    };
    let log = cli.logging.log();
    match start::run(&cli, log, began) {
        Ok(code) => code.into(),
        Err(error) => {
            start::report(&error, log);
            error.exit_code().into()
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        reason = "a panic ends its process, so that it needs one of its own"
    )]

    use std::process::Command;

    const IN_CHILD: &str = "ANTEROOM_TEST_PANIC";

    // f32
    #[test]
    fn panic_ends_with_70_and_shows_its_place_but_no_value() {
        if std::env::var_os(IN_CHILD).is_some() {
            std::panic::set_hook(Box::new(anteroom::log::report_panic));
            panic!("canary");
        }
        let test = "tests::panic_ends_with_70_and_shows_its_place_but_no_value";
        let ended = Command::new(std::env::current_exe().expect("this test has a file"))
            .args([test, "--exact", "--nocapture"])
            .env(IN_CHILD, "1")
            .output()
            .expect("it can be run");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(70), "{said}");
        assert!(said.contains("internal error at src/main.rs:"), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

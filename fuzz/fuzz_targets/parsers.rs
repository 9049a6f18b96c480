//! One of `anteroom::fuzzing`, by the name in ANTEROOM_FUZZ.

#![no_main]

use std::sync::OnceLock;

use anteroom::fuzzing::{TARGETS, Target, target};
use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        CHOSEN.get_or_init(chosen);
    },
    |input: &[u8]| CHOSEN.get().expect("chosen at the start")(input)
);

fn chosen() -> Target {
    #[expect(
        clippy::disallowed_methods,
        reason = "libFuzzer takes the whole command line for itself"
    )]
    let name = std::env::var("ANTEROOM_FUZZ").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("ANTEROOM_FUZZ must be one of {}", names.join(", "))
    })
}

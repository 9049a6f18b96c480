//! Where fuzzers enter: one function for each parser of hostile input. Each reads any bytes, and panics where a promise
//! about what comes out does not hold.
//!
//! The functions stand beside their parsers, in modules that only fuzzers and unit tests have. `fuzz/` runs them under
//! libFuzzer; the unit test here runs what is kept in `fuzz/corpus`, so that what was found once is not forgotten.

/// A function that is run on an input.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its directory in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("token", crate::wrapping_token::fuzzing::token),
    ("agent_answer", crate::wrapping_token::fuzzing::agent_answer),
    ("vault_answer", crate::vault::fuzzing::answer),
    ("vault_value", crate::vault::fuzzing::value),
    ("redirect", crate::vault::fuzzing::redirect),
    (
        "ssh_certificate",
        crate::dependencies::ssh_certificate::fuzzing::ssh_certificate,
    ),
    ("certificate", crate::certificate::fuzzing::certificate),
    ("pem", crate::pem::fuzzing::pem),
    #[cfg(feature = "java")]
    ("java_store", crate::trust::fuzzing::java_store),
    ("manifest", crate::config::fuzzing::manifest),
    ("names", crate::config::fuzzing::names),
    ("template", crate::template::fuzzing::template),
    ("escapes", crate::template::fuzzing::escapes),
    ("log", crate::log::fuzzing::log),
    #[cfg(feature = "agent")]
    ("cgroup", crate::agent::process::fuzzing::cgroup),
    #[cfg(feature = "agent")]
    ("docker_answers", crate::agent::docker::fuzzing::answers),
    #[cfg(feature = "agent")]
    ("mountinfo", crate::agent::delivery::fuzzing::mountinfo),
    #[cfg(feature = "agent")]
    ("token_path", crate::agent::delivery::fuzzing::token_path),
    #[cfg(feature = "agent")]
    ("labels", crate::agent::identity::fuzzing::labels),
    #[cfg(feature = "agent")]
    ("order", crate::agent::break_glass::fuzzing::order),
];

/// Finds a target by its name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}

/// Cuts an input into its lines, as far as it is text.
pub(crate) fn lines<const N: usize>(input: &[u8]) -> Option<[&str; N]> {
    let mut lines = std::str::from_utf8(input).ok()?.splitn(N, '\n');
    Some(std::array::from_fn(|_| lines.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The number of changes to each kept input; fuzzers make millions.
    const CHANGES: usize = 300;

    /// Draws numbers without a pattern that matters (xorshift), the same ones each time.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as usize % below.max(1)
        }
    }

    /// Changes a place or two, or takes a piece from elsewhere.
    fn changed(input: &[u8], other: &[u8], number: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
        const MARKS: &[u8] = b"\0\n\"\\/{}[]:,.-$@%\x1b\x7f\xff09az ";
        let mut changed = input.to_vec();
        for _ in 0..=number(3) {
            let at = number(changed.len() + 1);
            let length = number(9).min(changed.len() - at);
            let mark = MARKS[number(MARKS.len())];
            match number(5) {
                0 => changed.insert(at, mark),
                1 => changed[at..at + length].fill(mark),
                2 => drop(changed.drain(at..at + length)),
                3 => changed.truncate(at),
                _ => {
                    let from = number(other.len() + 1);
                    let piece = &other[from..other.len().min(from + 40)];
                    changed.splice(at..at, piece.iter().copied());
                }
            }
        }
        changed
    }

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
    }

    /// Lists what lies in a directory, always in the same order.
    fn paths_in(directory: &Path) -> Vec<PathBuf> {
        let mut paths: Vec<_> = fs::read_dir(directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        paths
    }

    /// Runs a target, and names the input when a promise is broken.
    fn run(target: Target, path: &Path, input: &[u8]) {
        let verdict = std::panic::catch_unwind(|| target(input));
        let (path, input) = (path.display(), input.escape_ascii());
        assert!(verdict.is_ok(), "{path}, changed to: {input}");
    }

    #[test]
    fn every_kept_input_and_those_like_it_hold_what_is_promised() {
        let corpus = corpus();
        let mut number = numbers();
        for (name, target) in TARGETS {
            let paths = paths_in(&corpus.join(name));
            assert!(!paths.is_empty(), "{name} has no input");
            let inputs: Vec<Vec<u8>> = paths
                .iter()
                .map(|path| fs::read(path).expect("an input"))
                .collect();
            for (path, input) in paths.iter().zip(&inputs) {
                run(*target, path, input);
                for _ in 0..CHANGES {
                    let other = &inputs[number(inputs.len())];
                    run(*target, path, &changed(input, other, &mut number));
                }
            }
        }
    }

    #[test]
    #[cfg(all(feature = "agent", feature = "java"))]
    fn every_directory_of_the_corpus_belongs_to_a_target() {
        for directory in paths_in(&corpus()) {
            let name = directory.file_name().expect("a name").to_string_lossy();
            assert!(target(&name).is_some(), "{name} is no target");
        }
    }
}

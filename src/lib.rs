//! anteroom turns a one-use wrapping token into the secrets of one service, then becomes the service.
//!
//! The modules in the order in which data flows:
//!
//! | stage | module |
//! |---|---|
//! | the command line | [`cli`] |
//! | from the command line to a plan or a start | [`start`] |
//! | the needs of the image, as written | [`manifest`] |
//! | the ready-made files of a dependency, as data | [`presets`] |
//! | the configuration, everything resolved and checked, with the table of files | [`config`] |
//! | the CAs of the image that `[trust]` names | [`trust`] |
//! | PID 1: fork the keeper, wait, become the application | [`init`], with [`command`] and [`application`] |
//! | the message between the two processes | [`link`] |
//! | the keeper: the story of a start, then the renewal | [`keeper`] |
//! | the wrapping token, taken once | [`wrapping_token`] |
//! | whether the token is the promised one | [`handover`] |
//! | from an introduction, such as a wrapping token, to a session | [`login`] |
//! | Vault's HTTP API | [`vault`] |
//! | key, request, check of the answer | [`certificate`], with [`pem`] |
//! | one credential for each dependency | [`dependencies`] |
//! | certificate and credentials at once | [`fetch`] |
//! | secrets to bytes | [`files`] |
//! | bytes to the tmpfs, a generation at a time | [`secrets_dir`] |
//! | the schedule of renewals | [`schedule`], by the [`clock`] |
//! | whether everything published is still good | [`health`] |
//! | a start without a Vault | [`dry_run`] |
//! | the host side: mints wrapping tokens and hands them in | [`agent`], a binary of its own |
//! | the plan of a start | [`plan`] |
//! | the policy for a start and the renewal | [`policy`] |
//! | the host side: a wrapping token for a service | [`mint`] |
//! | files from outside: with text, and with a token | [`text_file`], [`secret_file`] |
//! | the environment as received, and the tokens in it | [`environment`] |
//! | random bytes and passwords, and waits that differ from one container to the next | [`random`] |
//! | texts that become durations, paths, addresses and names | [`text`], with [`spelling`] |
//! | numbers and texts of JSON | `json` |
//! | templates, before and with their values | [`template`] |
//! | a mutex that stays usable after a panic | `mutex` |
//! | the sum of all errors | [`error`], made like other sums by `sum` |
//! | the floor: processes, signals, exec, users, name lookups, memory | [`system`] |
//! | promises about every input, for fuzzers and tests alone | `fuzzing` |
//! | the log, and values that must not be shown | [`log`], [`secret`] |
//!
//! Rules that hold it together: [`config`], [`manifest`], [`files`], [`plan`] and the checks of [`handover`] and
//! [`certificate`] are functions of their arguments, with chance for the key stores alone; only [`secrets_dir`] writes
//! files, only [`vault`] opens sockets to others, only [`system`] forks and execs; `unsafe` lives there and in one
//! attribute of `main.rs`; a wrapping token is moved into the unwrap, only that or a login makes a session, and only a
//! session can ask for secrets. The host side has rules of its own: its sessions begin with the issuing token ([`mint`]) or the
//! agent's own, and of [`agent`] only its `delivery` writes into containers.

// A part has no user for some of what the whole uses.
#![cfg_attr(
    not(all(feature = "agent", feature = "java")),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "the check of the whole finds what is dead"
    )
)]

#[cfg(feature = "agent")]
pub mod agent;
mod application;
mod certificate;
pub mod cli;
mod clock;
mod command;
mod config;
mod dependencies;
mod dry_run;
mod environment;
mod error;
mod fetch;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handover;
mod health;
mod init;
mod json;
mod keeper;
mod link;
pub mod log;
mod login;
mod manifest;
mod mint;
mod mutex;
mod pem;
mod plan;
mod policy;
mod presets;
mod random;
mod schedule;
mod secret;
mod secret_file;
mod secrets_dir;
mod spelling;
pub mod start;
mod sum;
pub mod system;
mod template;
mod text;
mod text_file;
mod trust;
mod vault;
mod wrapping_token;

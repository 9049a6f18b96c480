//! Black-box tests of the binary against real servers, in a folder for each part of the programs.

mod support;

/// From the token to the running application.
mod start {
    mod config;
    pub(crate) mod container;
    mod handover;
    mod memory;
    mod name_lookup;
    mod network;
    pub(crate) mod process;
    mod seccomp;
    mod secrecy;
    mod stale_variables;
    mod token;
    mod wait;
    mod whole;
}

/// Certificates, credentials, and the files in the secrets directory.
mod files {
    pub(crate) mod certificate;
    pub(crate) mod certificates;
    mod credentials;
    mod dry_run;
    mod dry_run_beside_a_start;
    mod java;
    mod made_files;
    mod presets;
    pub(crate) mod secrets_dir;
    mod templates;
    mod trust;
    mod variables;
}

/// The process beside a living application, which renews, replaces and warns.
mod keeper {
    mod all_outputs;
    mod certificates;
    mod ends;
    mod occupied;
    mod readings;
    mod rotation;
    mod steady;
    mod upkeep;
}

/// PID 1 above the application: signals, zombies, terminals, exit codes.
mod supervise {
    mod lifecycle;
    mod matrix;
    mod restart;
    mod signals;
}

/// The commands for the host and the pipeline.
mod host {
    mod mint;
    mod policy;
    mod setup;
}

/// The pages of docs/recipes, run as they stand.
mod recipes {
    mod all;
    mod haproxy;
    mod java;
    mod kafka;
    mod load;
    mod mariadb;
    mod migrate;
    mod nginx;
    mod page;
    mod postgresql;
    mod python;
    mod spring;
}

#[cfg(feature = "agent")]
mod agent;

/// The documents against the code, and the rules of the source.
mod repository;

//! The application's share besides its files: the environment, and descriptors that were handed in for it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use nix::unistd::getpid;
use zeroize::Zeroize;

use crate::command;
use crate::config::Config;
use crate::secret::Secret;

/// Builds the application's environment: what was received without tokens, then what the keeper added.
pub(crate) fn environment(
    config: &Config,
    variables: &[Secret<Vec<u8>>],
) -> Result<Vec<CString>, command::Error> {
    let is_given = config
        .variables
        .iter()
        .any(|variable| variable.name == "HOME")
        || variables
            .iter()
            .any(|variable| variable.expose().starts_with(b"HOME="));
    let home = config
        .user
        .as_ref()
        .and_then(|user| user.home.as_deref())
        .filter(|_| !is_given);
    let mut environment = Vec::new();
    for (name, value) in config.received.without_tokens() {
        if home.is_some() && name == "HOME" {
            continue;
        }
        environment.push([name.as_bytes(), b"=", value.as_bytes()].concat());
    }
    environment.extend(home.map(|home| format!("HOME={home}").into_bytes()));
    environment.extend(variables.iter().map(|variable| {
        // With room for the NUL: what is moved leaves a copy behind.
        let mut copy = Vec::with_capacity(variable.expose().len() + 1);
        copy.extend_from_slice(variable.expose());
        copy
    }));
    environment
        .into_iter()
        .map(|variable| CString::new(variable).map_err(|_| command::Error::Nul))
        .collect()
}

/// Overwrites an environment, whose variables may hold secrets.
pub(crate) fn forget(environment: Vec<CString>) {
    for variable in environment {
        variable.into_bytes().zeroize();
    }
}

/// Counts the descriptors behind standard error that were handed in for the application (sd_listen_fds(3)).
pub(crate) fn passed_descriptors(config: &Config) -> u32 {
    let number = |name| {
        config
            .received
            .text(name)
            .and_then(|text| text.parse::<u32>().ok())
    };
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if i64::from(pid) == i64::from(getpid().as_raw()) => {
            count.min(1024)
        }
        _ => 0,
    }
}

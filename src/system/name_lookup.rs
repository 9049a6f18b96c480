//! Name lookups: from a name to addresses by `/etc/hosts` and DNS, and by no code but this program's own.

#![cfg_attr(
    target_env = "gnu",
    expect(
        unsafe_code,
        reason = "the C library takes this by a call that only its header declares, and from the environment"
    )
)]

/// The places that the C library may look things up in, by the names that `nsswitch.conf` gives them (nsswitch.conf(5)): no more
/// than what is part of this program.
#[cfg(target_env = "gnu")]
const SOURCES: [(&std::ffi::CStr, &std::ffi::CStr); 6] = [
    (c"hosts", c"files dns"),
    (c"networks", c"files"),
    (c"services", c"files"),
    (c"protocols", c"files"),
    (c"passwd", c"files"),
    (c"group", c"files"),
];

/// Has every lookup of this process keep to files and DNS, whatever `/etc/nsswitch.conf` says; for the first line of each
/// program, while there is one thread.
///
/// A static program must not load the modules that this file names. They are built for the machine's own C library, and
/// two of them in one process crash; and `LD_LIBRARY_PATH` says where they come from.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: glibc declares it like this in nss.h.
        unsafe extern "C" {
            fn __nss_configure_lookup(
                database: *const nix::libc::c_char,
                services: *const nix::libc::c_char,
            ) -> nix::libc::c_int;
        }
        for (database, services) in SOURCES {
            // SAFETY: both are C strings that live for ever, the call copies them, and there is one thread only.
            unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
        }
    }
}

/// Has a dead DNS server cost less time than a wrapping token lives, unless the operator has said how long to wait
/// (`RES_OPTIONS`, resolv.conf(5)).
///
/// Only for a process that hands its environment on to no other, and only while there is one thread.
pub fn limit_patience(options_are_set: bool) {
    #[cfg(target_env = "gnu")]
    if !options_are_set {
        #[expect(
            clippy::disallowed_methods,
            reason = "the C library takes this from the environment alone"
        )]
        // SAFETY: there is one thread only, so that no other reads the environment meanwhile.
        unsafe {
            std::env::set_var("RES_OPTIONS", "timeout:1 attempts:1");
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = options_are_set;
}

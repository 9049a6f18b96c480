//! Black-box tests of the binary against real servers.

#[cfg(feature = "agent")]
mod agent;
mod certificate;
mod config;
mod container;
mod credentials;
#[cfg(feature = "agent")]
mod delivery;
#[cfg(feature = "agent")]
mod door;
mod dry_run;
mod ends;
mod files;
mod handover;
mod java;
mod matrix;
mod memory;
mod mint;
mod name_lookup;
mod network;
mod occupied;
#[cfg(feature = "agent")]
mod orchestrators;
mod policy;
mod process;
mod repository;
mod rotation;
mod seccomp;
mod secrecy;
mod signals;
mod start;
mod steady;
mod supervise;
mod support;
mod token;
mod upkeep;
mod wait;

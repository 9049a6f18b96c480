//! Black-box tests of the binary against real servers.

mod certificate;
mod config;
mod container;
mod credentials;
mod dry_run;
mod files;
mod handover;
mod java;
mod matrix;
mod mint;
mod network;
mod policy;
mod process;
mod repository;
mod rotation;
mod secrecy;
mod signals;
mod start;
mod steady;
mod supervise;
mod support;
mod token;
mod upkeep;
mod wait;

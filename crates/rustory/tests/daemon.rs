//! `rr daemon` and `rr hub` as processes on the loopback: what they promise, and what is done to
//! them.

#![allow(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

#[path = "daemon/copies.rs"]
mod copies;
#[path = "daemon/cost.rs"]
mod cost;
#[path = "daemon/device.rs"]
mod device;
#[path = "daemon/doctor.rs"]
mod doctor;
#[path = "daemon/hub.rs"]
mod hub;
#[path = "shell/session.rs"]
#[allow(dead_code, reason = "the shell tests use all of it")]
mod session;

#[path = "daemon/life.rs"]
mod life;
#[path = "daemon/pairing.rs"]
mod pairing;
#[path = "daemon/secrets.rs"]
mod secrets;
#[path = "daemon/travel.rs"]
mod travel;
#[path = "daemon/trouble.rs"]
mod trouble;

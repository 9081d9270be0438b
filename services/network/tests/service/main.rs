//! The whole service, called as a controller calls it, each test on a host of its own.

#![expect(clippy::unwrap_used, reason = "a failure of a helper fails its test")]

mod attach;
mod connect;
mod ipv6;
mod killed;
mod lab;
mod lost;
mod names;
mod networks;
mod ports;
mod ranges;

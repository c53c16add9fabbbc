//! gatelet: a small always-on gateway between the places where people write and the AI agents that answer them.
//!
//! The modules stand in dependency order: each imports only from those above it (`tests/suite/house.rs` holds it so).
//! `docs/ARCHITECTURE.md` is the map; `docs/` tells how a message flows.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr))]

#[cfg(not(target_os = "linux"))]
compile_error!("gatelet runs on Linux: its door is epoll, its sockets wake by eventfd, its file watch is inotify");

pub mod base;

pub mod domain;

pub mod telemetry;

pub mod config;

pub mod store;

pub mod net;

pub mod auth;

pub mod channel;

pub mod agent;

pub mod flow;

pub mod console;

pub mod api;

pub mod gateway;

pub mod cli;

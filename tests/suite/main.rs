//! The suite: drives the built binary from outside, over its public contract alone, and reads its sources for the house rules.
//!
//! Invariant: nothing here calls into the library; what passes would pass against any program that keeps the contract. Each
//! test has its own gateway, folder and port, so that all of them run side by side; those that need the machine to themselves
//! hold `support::heavy`. Larger runs by environment: `GATELET_KILLS`, `GATELET_SLOW_CONNECTIONS`, `GATELET_SEED`.
#![allow(
    clippy::disallowed_methods, // outside of the program: the suite has its own threads, clock and pauses
    clippy::unwrap_used,
    clippy::expect_used
)]

mod support;

mod auth;
mod channels;
mod command_line;
mod config;
mod console;
mod conversation;
mod crash;
mod documents;
mod door;
mod flow;
mod honesty;
mod house;
mod lifecycle;
mod model_server;
mod openai;
mod openai_sdk;
mod security;
mod tools;
mod websocket;

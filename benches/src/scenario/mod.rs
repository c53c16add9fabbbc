//! What is measured, part by part.
//!
//! Invariant: each part starts its own gateways and ends them, so that any may be run alone.

mod accept;
mod allocators;
mod growth;
mod health;
mod idle;
mod profile;
mod reply;
mod slow;
mod sockets;
mod start;
mod tools;
mod waiting;

pub use accept::drive;

use crate::Outcome;
use crate::gateway::Setting;
use crate::table::Table;

/// One part of a run.
pub struct Scenario {
    /// Its name for `--only`.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// How it was measured, for the document.
    pub note: &'static str,
    /// Measures it.
    pub run: fn(&Setting, &mut Table) -> Outcome<()>,
}

/// All parts, in the order of the table.
pub const ALL: &[Scenario] = &[
    health::SCENARIO,
    accept::SCENARIO,
    reply::SCENARIO,
    tools::SCENARIO,
    start::SCENARIO,
    idle::SCENARIO,
    sockets::SCENARIO,
    growth::SCENARIO,
    waiting::SCENARIO,
    slow::SCENARIO,
    allocators::SCENARIO,
    profile::SCENARIO,
];

/// Bytes as MiB.
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

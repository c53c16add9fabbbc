//! The client against scripted servers that misbehave, and against real ones.
#![allow(clippy::disallowed_methods)]

mod eras;
mod fake;
mod http;
mod misbehaving;
mod real;
mod reload;

use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;
use crate::base::cancel::Cancel;
use crate::base::error::Result;

pub const LONG: Duration = Duration::from_secs(60);

/// Asks `probe` again and again until it gives something; panics after a minute, saying what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < LONG, "still waiting for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Server {
    /// Calls a tool by the server's own name of it.
    pub fn try_tool(&self, remote: &str, arguments: Value, wait: Duration, cancel: &Cancel) -> Result<String> {
        let offer = self.offers().into_iter().find(|offer| offer.remote == remote);
        let offer = offer.unwrap_or_else(|| panic!("no tool {remote}"));
        self.call(&offer, arguments.as_object().unwrap(), self.parts.clock.mono() + wait, cancel)
    }

    /// The same, at leisure.
    pub fn tool(&self, remote: &str, arguments: Value) -> Result<String> {
        self.try_tool(remote, arguments, LONG, &Cancel::new())
    }

    /// Waits for a state.
    #[track_caller]
    pub fn reach(&self, state: ServerState) -> ServerStatus {
        eventually(&format!("{} {state:?} ({:?})", self.parts.name, self.status()), || {
            Some(self.status()).filter(|s| s.state == state)
        })
    }
}

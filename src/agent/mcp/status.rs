//! How a server is, as operators see it.
//!
//! Invariant: a state is told from the moment it is so. Cannot fail.

use serde::Serialize;

use crate::agent::mcp::wire::Protocol;
use crate::base::error::{Error, ErrorKind};

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// It is being started or reached.
    Connecting,
    /// Its tools can be called.
    Connected,
    /// It is lost, or it does not answer; it is tried again by itself.
    Degraded,
    /// It was ended.
    Stopped,
    /// A person must look: the program does not exist, the credential is refused, no common version. It is tried again all the same.
    Misconfigured,
}

/// A server as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// `stdio` or `http`.
    pub transport: &'static str,
    /// Where it stands.
    pub state: ServerState,
    /// The revision of MCP that is spoken with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<&'static str>,
    /// `modern` (2026-07-28 and later) or `legacy` (with a handshake).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub era: Option<&'static str>,
    /// Its tools that can be used.
    pub tools: usize,
    /// Its tools that could not be made fit.
    pub left_out: usize,
    /// Since when its state is so, in ms since 1970.
    pub since_ms: i64,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How often it was started or reached anew.
    pub restarts: u64,
}

impl ServerStatus {
    /// Of a server that nothing was done for yet.
    pub fn new(name: &str, transport: &'static str, now_ms: i64) -> Self {
        ServerStatus {
            name: name.to_string(),
            transport,
            state: ServerState::Connecting,
            protocol_version: None,
            era: None,
            tools: 0,
            left_out: 0,
            since_ms: now_ms,
            last_error: None,
            restarts: 0,
        }
    }

    /// It stands there now.
    pub fn enter(&mut self, state: ServerState, now_ms: i64) {
        if self.state != state {
            (self.state, self.since_ms) = (state, now_ms);
        }
    }

    /// It failed.
    pub fn failed(&mut self, error: &Error, now_ms: i64) {
        let person = matches!(error.kind, ErrorKind::Invalid | ErrorKind::Denied);
        self.enter(if person { ServerState::Misconfigured } else { ServerState::Degraded }, now_ms);
        self.last_error = Some(error.to_string());
    }

    /// It is spoken with.
    pub fn connected(&mut self, protocol: Protocol, now_ms: i64) {
        self.enter(ServerState::Connected, now_ms);
        (self.protocol_version, self.era) = (Some(protocol.version), Some(protocol.era.as_str()));
    }
}

//! How a conversation with a server begins: which era it speaks, and what tools it has.
//!
//! Invariant: each step has a deadline, and a list has an end. What only a modern server says is never answered by falling back, and
//! anything else is, whatever its code, as the specification has it. Fails with `Invalid` where the two sides share no version.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::agent::mcp::catalog::Catalog;
use crate::agent::mcp::link::{Ask, Failure, Link};
use crate::agent::mcp::text::one_line;
use crate::agent::mcp::wire::{
    self, Era, LEGACY, METHOD_NOT_FOUND, MODERN, MODERN_REFUSALS, Protocol, Refusal, UNSUPPORTED_VERSION,
};
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};

/// Most pages of one list.
const PAGES_MAX: usize = 16;

/// Somebody who begins a conversation.
pub struct Host<'a> {
    /// The connection.
    pub link: &'a dyn Link,
    /// Time.
    pub clock: &'a Clock,
    /// Cuts it short.
    pub cancel: &'a Cancel,
    /// How long `server/discover` may take before the server counts as one that does not know it.
    pub probe: Duration,
    /// How long anything else may take.
    pub wait: Duration,
}

/// What was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The protocol.
    pub protocol: Protocol,
    /// Whether it has tools at all.
    pub tools: bool,
    /// Whether it tells when they change.
    pub changes: bool,
}

/// What a probe shows.
enum Probed {
    Modern(Greeting),
    Legacy,
}

impl Host<'_> {
    /// Settles the protocol; `first` is the era that is tried first.
    ///
    /// # Errors
    /// Where the server can't be reached, does not answer, or shares no version with us.
    pub fn greet(&self, first: Era) -> Result<Greeting> {
        if first == Era::Modern
            && let Probed::Modern(greeting) = self.discover()?
        {
            return Ok(greeting);
        }
        match self.initialize() {
            // It is a modern one after all: it was too slow for the first probe, or was not asked.
            Err(Failure::Refused(refusal)) if speaks_modern(&refusal) => match self.discover()? {
                Probed::Modern(greeting) => Ok(greeting),
                Probed::Legacy => Err(Failure::Refused(refusal).error("initialize")),
            },
            Ok(settled) => settled,
            Err(failure) => Err(failure.error("initialize")),
        }
    }

    fn discover(&self) -> Result<Probed> {
        match self.ask("server/discover", Map::new(), Some(Protocol::MODERN), self.probe) {
            Ok(found) => {
                let versions = found.get("supportedVersions").and_then(Value::as_array);
                let modern = versions.into_iter().flatten().any(|v| v == MODERN);
                let greeting = greeting(Protocol::MODERN, &found);
                Ok(if modern { Probed::Modern(greeting) } else { Probed::Legacy })
            }
            Err(Failure::Refused(refusal)) if refusal.code == UNSUPPORTED_VERSION => {
                let known = |v: &&str| LEGACY.contains(v) || *v == MODERN;
                let named = refusal.supported();
                if !named.is_empty() && !named.iter().any(known) {
                    return Err(no_version(&named.join(", ")));
                }
                Ok(Probed::Legacy)
            }
            Err(Failure::Refused(refusal)) if MODERN_REFUSALS.contains(&refusal.code) => {
                Err(Failure::Refused(refusal).error("server/discover"))
            }
            Err(Failure::Refused(_) | Failure::Late) => Ok(Probed::Legacy),
            Err(failure) => Err(failure.error("server/discover")),
        }
    }

    /// The handshake of the legacy era.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn initialize(&self) -> Result<Result<Greeting>, Failure> {
        let offered = LEGACY[LEGACY.len() - 1];
        let params = json!({"protocolVersion": offered, "capabilities": {}, "clientInfo": wire::client_info()});
        let Value::Object(params) = params else { return Err(Failure::Late) }; // it is an object
        let answer = self.ask("initialize", params, None, self.wait)?;
        let version = answer.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        let Some(protocol) = Protocol::legacy(version) else { return Ok(Err(no_version(version))) };
        self.link.initialized(protocol, self.clock.mono() + self.wait)?;
        Ok(Ok(greeting(protocol, &answer)))
    }

    /// Reads the list of tools into `catalog`.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn list(&self, protocol: Protocol, catalog: &mut Catalog<'_>) -> Result<(), Failure> {
        let mut params = Map::new();
        for _ in 0..PAGES_MAX {
            let page = self.ask("tools/list", params.clone(), Some(protocol), self.wait)?;
            for tool in page.get("tools").and_then(Value::as_array).into_iter().flatten() {
                catalog.add(tool);
            }
            match page.get("nextCursor").and_then(Value::as_str).filter(|c| !c.is_empty()) {
                Some(cursor) => params = Map::from_iter([("cursor".to_string(), cursor.into())]),
                None => return Ok(()),
            }
        }
        Ok(()) // a list without an end: what was read of it will do
    }

    /// Whether the server is there, and the one that the protocol was settled with.
    ///
    /// # Errors
    /// Where it is not.
    pub fn is_there(&self, protocol: Protocol) -> Result<()> {
        let modern = protocol.era == Era::Modern;
        let method = if modern { "server/discover" } else { "ping" };
        match self.ask(method, Map::new(), Some(protocol), self.probe) {
            Ok(_) => Ok(()),
            // Some know no ping, and say so; every modern one knows discover.
            Err(Failure::Refused(refusal)) if !modern && refusal.code == METHOD_NOT_FOUND => Ok(()),
            Err(failure) => Err(failure.error(method)),
        }
    }

    fn ask(
        &self,
        method: &str,
        params: Map<String, Value>,
        protocol: Option<Protocol>,
        wait: Duration,
    ) -> Result<Value, Failure> {
        let deadline = self.clock.mono() + wait;
        self.link.request(&Ask { method, params: &params, protocol, mirrored: None, deadline, cancel: self.cancel })
    }
}

fn greeting(protocol: Protocol, answer: &Value) -> Greeting {
    let tools = answer.pointer("/capabilities/tools");
    let changes = tools.and_then(|t| t.get("listChanged")).and_then(Value::as_bool) == Some(true);
    Greeting { protocol, tools: tools.is_some(), changes }
}

fn speaks_modern(refusal: &Refusal) -> bool {
    refusal.code == UNSUPPORTED_VERSION && refusal.supported().contains(&MODERN)
}

fn no_version(theirs: &str) -> Error {
    let ours = format!("{}, {MODERN}", LEGACY.join(", "));
    let theirs = one_line(theirs, 100);
    Error::new(ErrorKind::Invalid, format!("it speaks version {theirs:?} of MCP, and we speak {ours}"))
        .hint("use another version of that server")
}

//! A server's tool, as one of ours.
//!
//! Invariant: it holds nothing of a connection, so that a list of tools that a turn took stays usable, and says so where it is not.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::agent::mcp::catalog::{Offer, digest};
use crate::agent::mcp::server::Server;
use crate::agent::tools::{About, Context, Tool};
use crate::base::error::{Error, ErrorKind, Result};

/// A tool of an MCP server.
pub struct McpTool {
    /// What the server offers.
    pub offer: Offer,
    server: Weak<Server>,
    binding: String,
    wait: Duration,
}

impl McpTool {
    /// A tool of `server`.
    pub fn new(server: &Arc<Server>, offer: Offer) -> Self {
        let binding = digest(&format!("{}\n{}", server.parts.binding, offer.definition), 16);
        McpTool { offer, server: Arc::downgrade(server), binding, wait: server.parts.timeout }
    }
}

impl Tool for McpTool {
    fn about(&self) -> &About {
        &self.offer.about
    }

    /// The server's configuration (its secrets left out) and the tool's whole definition: a server that is another one, or that
    /// describes the tool in another way, is asked about again.
    fn binding(&self, _: &Map<String, Value>) -> Result<String> {
        Ok(format!("\0{}", self.binding))
    }

    fn wait(&self) -> Duration {
        self.wait
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let gone = || Error::new(ErrorKind::Transient, "the MCP server of this tool was stopped");
        let server = self.server.upgrade().ok_or_else(gone)?;
        let deadline = context.deadline.min(context.clock.mono() + self.wait);
        server.call(&self.offer, arguments, deadline, context.cancel)
    }
}

//! MCP servers: programs and addresses whose tools agents may use, as `mcp.<server>.<tool>`.
//!
//! Invariant: a server is on the other side of a boundary. What it says is bounded before it is read and cleaned before it is shown;
//! what it asks is answered with nothing; it holds no turn past its deadline, and its failure is its own. A server without a
//! configuration costs nothing: no thread, no timer. `Servers::new` never fails; what can't be reached is told by its status.

mod calls;
mod catalog;
mod content;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod handshake;
mod headers;
mod http;
mod link;
mod pipes;
mod process;
mod pump;
mod server;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod tool;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::tools::Tool;
use crate::base::clock::Clock;
use crate::base::secret::Fingerprint;
use crate::base::threads::Threads;
use crate::config::{McpReach, McpServer};
use crate::net::client::Client;

use http::Address;
use process::Program;
use server::{Pace, Parts, Server};
pub use status::{ServerState, ServerStatus};

/// All servers of one configuration. They live until [`Servers::stop`], or until a later configuration replaces them.
pub struct Servers {
    members: BTreeMap<String, Arc<Server>>,
    clock: Clock,
}

impl Servers {
    /// The servers of `config`, being connected from now on. Those of `former` whose configuration is the same are kept as they are,
    /// and the others are stopped, in the background.
    pub fn new(
        config: &BTreeMap<String, McpServer>,
        former: Option<&Servers>,
        client: &Arc<Client>,
        clock: &Clock,
        threads: &Threads,
    ) -> Servers {
        let mut members = BTreeMap::new();
        for (name, server) in config {
            let identity = Fingerprint::of(&described(server, true));
            let kept = former.and_then(|f| f.members.get(name)).filter(|s| s.parts.identity.matches(&identity));
            let member =
                kept.cloned().unwrap_or_else(|| Server::start(parts(name, server, identity, client, clock, threads), threads));
            members.insert(name.clone(), member);
        }
        for (name, server) in former.iter().flat_map(|f| &f.members) {
            if !members.get(name).is_some_and(|kept| Arc::ptr_eq(kept, server)) {
                server.stop();
            }
        }
        Servers { members, clock: clock.clone() }
    }

    /// The tools of all servers, as they were last known.
    pub fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.members.values().flat_map(|server| server.tools()).collect()
    }

    /// How they are.
    pub fn status(&self) -> Vec<ServerStatus> {
        self.members.values().map(|server| server.status()).collect()
    }

    /// Ends them all, together within some six seconds; gives the names of those that did not come to an end.
    pub fn stop(&self) -> Vec<String> {
        self.members.values().for_each(|server| server.stop());
        let deadline = self.clock.mono() + process::CLOSE_WAIT + Duration::from_millis(500);
        let late = |(name, server): (&String, &Arc<Server>)| (!server.ended(deadline)).then(|| name.clone());
        self.members.iter().filter_map(late).collect()
    }
}

fn parts(name: &str, server: &McpServer, identity: Fingerprint, client: &Arc<Client>, clock: &Clock, threads: &Threads) -> Parts {
    let (transport, opener): (_, Box<dyn link::Opener>) = match &server.reach {
        McpReach::Program { command, args, env, cwd } => {
            let (name, command, args) = (name.to_string(), command.clone(), args.clone());
            let (env, cwd, clock, threads) = (env.clone(), cwd.clone(), clock.clone(), threads.clone());
            ("stdio", Box::new(Program { name, command, args, env, cwd, clock, threads }))
        }
        McpReach::Address { url, token } => {
            let (name, url, token) = (name.to_string(), url.clone(), token.clone());
            let (client, clock, threads) = (client.clone(), clock.clone(), threads.clone());
            ("http", Box::new(Arc::new(Address { name, url, token, client, clock, threads })))
        }
    };
    Parts {
        name: name.to_string(),
        transport,
        opener,
        wanted: server.tools.clone(),
        timeout: server.timeout,
        identity,
        binding: described(server, false),
        pace: Pace::default(),
        clock: clock.clone(),
    }
}

/// A server's configuration as a text that is another one for every other configuration; with its secrets or without.
fn described(server: &McpServer, secrets: bool) -> String {
    let shown = |secret: &crate::base::secret::Secret| if secrets { secret.reveal().to_string() } else { String::new() };
    let reach = match &server.reach {
        McpReach::Program { command, args, env, cwd } => {
            let env: Vec<_> = env.iter().map(|(name, value)| (name, shown(value))).collect();
            format!("{command:?} {args:?} {env:?} {cwd:?}")
        }
        McpReach::Address { url, token } => format!("{url:?} {:?}", token.as_ref().map(shown)),
    };
    // What an approval is bound to is who is called and what for; how long it may take is not a part of that.
    if secrets { format!("{reach} {:?} {:?}", server.tools, server.timeout) } else { reach }
}

//! Agents: who answers, by which provider, and how that goes.
//!
//! Invariant: built whole from a configuration and replaced whole at a reload; what was counted lives on under the agent's name.
//! A provider's failure is the turn's, never the registry's: here only an unknown or disabled agent fails.

pub mod breaker;
pub mod commands;
pub mod detect;
mod health;
pub mod mcp;
pub mod prompt;
pub mod provider;
pub mod tools;
pub mod turn;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::config::{self, Config, ProviderKind};
use crate::net::client::Client;

use detect::Detector;
use health::Health;
pub use health::{AgentState, AgentStatus};
use provider::anthropic::Anthropic;
use provider::builtin::Builtin;
use provider::openai::OpenAi;
use provider::{Answer, Completion, Failure, Provider};

/// The name of the offline provider where none is configured.
const BUILTIN: &str = "builtin";

/// All agents of one configuration.
pub struct Agents {
    members: BTreeMap<String, Member>,
    providers: BTreeMap<String, Arc<dyn Provider>>,
    local: Local,
}

struct Member {
    config: config::Agent,
    health: Arc<Health>,
}

/// Who may answer one turn.
pub struct Route {
    /// The agent's configuration.
    pub config: config::Agent,
    /// The providers to ask, in this order; never empty.
    pub candidates: Vec<Candidate>,
    health: Arc<Health>,
}

/// One provider of a route.
pub struct Candidate {
    /// The name in `providers`, `detected ADDRESS`, or `builtin`.
    pub label: String,
    /// The provider itself.
    pub provider: Arc<dyn Provider>,
}

impl Agents {
    /// The agents of `config`. `former` are those that these replace.
    pub fn new(config: &Config, client: &Arc<Client>, clock: &Clock, former: Option<&Agents>) -> Self {
        let detector = Detector::new(client.clone(), clock.clone(), config.gateway.listen.port());
        let ttl = config.gateway.cache.ttl;
        let local = Local::new(detector, client.clone(), clock.clone(), ttl);
        let open = |p: &config::Provider| -> Arc<dyn Provider> {
            match p.kind {
                ProviderKind::OpenAi => Arc::new(OpenAi::new(p.clone(), client.clone(), clock.clone(), ttl)),
                ProviderKind::Anthropic => Arc::new(Anthropic::new(p.clone(), client.clone(), clock.clone(), ttl)),
                ProviderKind::Builtin => Arc::new(Builtin),
            }
        };
        let providers = config.providers.iter().map(|(name, p)| (name.clone(), open(p))).collect();
        Agents::of(config.agents.clone(), providers, local, former)
    }

    fn of(
        agents: BTreeMap<String, config::Agent>,
        providers: BTreeMap<String, Arc<dyn Provider>>,
        local: Local,
        former: Option<&Agents>,
    ) -> Self {
        let health = |name: &String| former.and_then(|f| Some(f.members.get(name)?.health.clone()));
        let members = agents
            .into_iter()
            .map(|(name, config)| (name.clone(), Member { health: health(&name).unwrap_or_default(), config }))
            .collect();
        Agents { members, providers, local }
    }

    /// The agents' names that are enabled.
    pub fn names(&self) -> Vec<&str> {
        self.members.iter().filter(|(_, m)| m.config.enabled).map(|(name, _)| name.as_str()).collect()
    }

    /// Whether there is an enabled agent of that name.
    pub fn has(&self, agent: &str) -> bool {
        self.members.get(agent).is_some_and(|m| m.config.enabled)
    }

    /// Transcript entries that enter that agent's prompt.
    pub fn max_history(&self, agent: &str) -> usize {
        self.members.get(agent).map_or(0, |m| m.config.max_history)
    }

    /// Who answers for `agent`. May search for a model server on this machine, for at most a few seconds.
    ///
    /// # Errors
    /// `Permanent` where there is no such agent, or it is disabled.
    pub fn resolve(&self, agent: &str) -> Result<Route> {
        let member = self.members.get(agent).filter(|m| m.config.enabled).ok_or_else(|| {
            let how = if self.members.contains_key(agent) { "is disabled" } else { "does not exist" };
            Error::new(ErrorKind::Permanent, format!("the agent {agent} {how}"))
                .hint("see agents and bindings in the configuration")
        })?;
        let config = member.config.clone();
        let primary = match self.provider_of(&config) {
            Some(name) => self.named(name)?,
            None => self.local.find(),
        };
        let mut candidates = vec![primary];
        for name in &config.fallbacks {
            candidates.push(self.named(name)?);
        }
        Ok(Route { config, candidates, health: member.health.clone() })
    }

    /// The configuration names the document's first provider already where an agent has none of its own; the first by name
    /// stands in for configurations that were not made from a document.
    fn provider_of<'a>(&'a self, config: &'a config::Agent) -> Option<&'a String> {
        config.provider.as_ref().or_else(|| self.providers.keys().next())
    }

    fn named(&self, name: &str) -> Result<Candidate> {
        match self.providers.get(name) {
            Some(provider) => Ok(Candidate { label: name.to_string(), provider: provider.clone() }),
            None if name == BUILTIN => Ok(builtin()),
            None => Err(Error::new(ErrorKind::Permanent, format!("the provider {name} does not exist"))
                .hint("see providers in the configuration")),
        }
    }

    /// How the agents are. Asks nobody.
    pub fn statuses(&self) -> Vec<AgentStatus> {
        let provider = |config| self.provider_of(config).cloned().unwrap_or_else(|| self.local.last_label());
        self.members.iter().map(|(name, m)| m.health.status(name, &m.config, provider(&m.config))).collect()
    }
}

fn builtin() -> Candidate {
    Candidate { label: BUILTIN.to_string(), provider: Arc::new(Builtin) }
}

/// Who answers where no provider is configured: a server found on this machine, else the built-in one.
struct Local {
    detector: Arc<Detector>,
    client: Arc<Client>,
    clock: Clock,
    models_ttl: Duration,
    found: Mutex<Option<(SocketAddr, Arc<dyn Provider>)>>,
}

impl Local {
    fn new(detector: Detector, client: Arc<Client>, clock: Clock, models_ttl: Duration) -> Self {
        Local { detector: Arc::new(detector), client, clock, models_ttl, found: Mutex::new(None) }
    }

    fn find(&self) -> Candidate {
        let address = self.detector.find(); // not under the lock: it may take seconds
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = address else {
            *found = None;
            return builtin();
        };
        let provider = match &*found {
            Some((before, provider)) if *before == address => provider.clone(),
            _ => {
                let provider: Arc<dyn Provider> = Arc::new(self.open(address));
                *found = Some((address, provider.clone()));
                provider
            }
        };
        Candidate { label: format!("detected {address}"), provider }
    }

    fn open(&self, address: SocketAddr) -> Detected {
        let config = config::Provider {
            kind: ProviderKind::OpenAi,
            base_url: format!("http://{address}/v1"),
            api_key: None,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            chunk_timeout: Duration::from_secs(60),
        };
        let server = OpenAi::new(config, self.client.clone(), self.clock.clone(), self.models_ttl);
        Detected { server, detector: self.detector.clone() }
    }

    fn last_label(&self) -> String {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.as_ref().map_or(BUILTIN.to_string(), |(address, _)| format!("detected {address}"))
    }
}

/// A server that was found; a failed call to it has the search begin anew.
struct Detected {
    server: OpenAi,
    detector: Arc<Detector>,
}

impl Provider for Detected {
    fn complete(&self, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        self.server.complete(ask, on_delta).inspect_err(|_| self.detector.forget())
    }

    fn models(&self) -> Result<Vec<String>> {
        self.server.models().inspect_err(|_| self.detector.forget())
    }
}

#[cfg(test)]
pub(crate) mod tests;

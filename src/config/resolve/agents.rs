//! `providers`, `agents`, `bindings`: names that must be there. Tools are in `tools`.
//!
//! Invariant: every name that a resolved agent or binding holds exists; the last binding takes all.

use std::collections::BTreeMap;

use super::secrets::Use;
use super::{Resolver, ms, size, text};
use crate::config::model::{Agent, Binding, Provider, ProviderKind};
use crate::config::problem::{join, nearest, quoted};
use crate::config::raw::{self, ProviderOf, Raw};
use crate::config::section::Named;
use crate::domain::{OPENAI_CHANNEL, WEBSOCKET_CHANNEL};

/// Anthropic's own server.
const ANTHROPIC: &str = "https://api.anthropic.com";

impl Resolver<'_> {
    pub(super) fn providers(&mut self, raw: &Named<raw::Provider>) -> BTreeMap<String, Provider> {
        let mut providers = BTreeMap::new();
        for (name, provider) in &raw.0 {
            let path = join("$.providers", name);
            let (kind, base_url, api_key) = match &provider.of {
                Some(ProviderOf::OpenAi(openai)) => {
                    let base_url = self.formed(Some(&openai.base_url), &path, "baseUrl", text::url);
                    (ProviderKind::OpenAi, base_url, self.keyed(openai.api_key.as_ref(), &path, "apiKey", Use::Key))
                }
                Some(ProviderOf::Anthropic(anthropic)) => {
                    let base_url = match &anthropic.base_url {
                        Some(url) => self.formed(Some(url), &path, "baseUrl", text::url),
                        None => Some(ANTHROPIC.to_string()),
                    };
                    (ProviderKind::Anthropic, base_url, self.keyed(anthropic.api_key.as_ref(), &path, "apiKey", Use::Key))
                }
                Some(ProviderOf::Builtin(_)) => (ProviderKind::Builtin, None, None),
                None => continue, // a problem already
            };
            let provider = Provider {
                kind,
                base_url: base_url.unwrap_or_default(),
                api_key,
                connect_timeout: ms(provider.common.connect_timeout),
                first_byte_timeout: ms(provider.common.first_byte_timeout),
                chunk_timeout: ms(provider.common.chunk_timeout),
            };
            providers.insert(name.clone(), provider);
        }
        providers
    }

    pub(super) fn agents(&mut self, raw: &Raw) -> BTreeMap<String, Agent> {
        let mut agents = BTreeMap::new();
        for (name, agent) in &raw.agents.0 {
            let path = join("$.agents", name);
            if let Some(provider) = &agent.provider {
                self.provider_exists(provider, raw, &join(&path, "provider"));
            }
            for (i, provider) in agent.fallbacks.iter().enumerate() {
                self.provider_exists(provider, raw, &format!("{path}.fallbacks[{i}]"));
            }
            let agent = Agent {
                enabled: agent.enabled,
                // The first one in the order of the document: `Config::providers` is sorted by name.
                provider: agent.provider.clone().or_else(|| raw.providers.names().next().map(str::to_string)),
                model: agent.model.clone(),
                fallbacks: agent.fallbacks.clone(),
                system_prompt: agent.system_prompt.clone(),
                max_history: size(agent.max_history),
                turn_timeout: ms(agent.turn_timeout),
                max_output_tokens: agent.max_output_tokens,
                images: agent.images,
                max_rounds: size(agent.max_rounds),
                tokens_per_turn: agent.tokens_per_turn,
                tokens_per_day: agent.tokens_per_day,
                tokens_per_user_day: agent.tokens_per_user_day,
                tools: agent.tools.clone(),
            };
            agents.insert(name.clone(), agent);
        }
        agents
    }

    fn provider_exists(&mut self, name: &str, raw: &Raw, path: &str) {
        if !raw.providers.has(name) {
            self.out.add(path, missing("provider", name, raw.providers.names()));
        }
    }

    pub(super) fn bindings(&mut self, raw: &Raw) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for (i, binding) in raw.bindings.iter().enumerate() {
            let own = ["*", WEBSOCKET_CHANNEL, OPENAI_CHANNEL];
            if !own.contains(&binding.channel.as_str()) && !raw.channels.has(&binding.channel) {
                let known = raw.channels.names().chain([WEBSOCKET_CHANNEL, OPENAI_CHANNEL]);
                self.out.add(format!("$.bindings[{i}].channel"), missing("channel", &binding.channel, known));
            }
            if !raw.agents.has(&binding.agent) {
                self.out.add(format!("$.bindings[{i}].agent"), missing("agent", &binding.agent, raw.agents.names()));
            }
            bindings.push(Binding { channel: binding.channel.clone(), user: binding.user.clone(), agent: binding.agent.clone() });
        }
        let agents = &raw.agents.0;
        let first = agents.iter().find(|(_, agent)| agent.enabled).or(agents.first());
        if let Some((name, _)) = first {
            bindings.push(Binding { channel: "*".into(), user: "*".into(), agent: name.clone() });
        }
        bindings
    }
}

/// A name that nothing bears.
pub(super) fn missing<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let name_shown = quoted(name);
    match nearest(name, known.iter().copied()) {
        None => format!("there is no {what} {name_shown}; {what}s has none at all"),
        Some((near, _)) => format!("there is no {what} {name_shown}; the nearest one is {}", quoted(near)),
    }
}

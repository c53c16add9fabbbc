//! The configuration while the gateway runs: where it came from, what runs, and how a change is applied.
//!
//! Invariant: one change at a time; a document is resolved whole before anything is written, written (atomically) before it is
//! applied, and applied by steps that can't fail, so that every request sees the old configuration or the new one. An invalid
//! document changes nothing.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::Agents;
use crate::agent::mcp::Servers;
use crate::api::error::ApiError;
use crate::api::{Api, Change, Configurator, Settings};
use crate::auth::Authenticator;
use crate::base::clock::Clock;
use crate::base::error::Result as Outcome;
use crate::base::live::Live;
use crate::channel::chat::Chat;
use crate::channel::registry::Registry;
use crate::config::files::{self, Loaded, Places};
use crate::config::{self, AuthMode, Config, Limits, Problem, Resolved, TokenSource};
use crate::domain::WEBSOCKET_CHANNEL;
use crate::flow::{Flow, Settings as FlowSettings};
use crate::gateway::{build, tools};
use crate::net::door::Door;
use crate::net::mdns::Announcer;
use crate::net::websocket::{self, Sockets};
use crate::store::AuditEntry;
use crate::telemetry::logging::Logger;

/// What a configuration is applied to.
pub struct Parts {
    /// The way of a message.
    pub flow: Arc<Flow>,
    /// Credentials.
    pub auth: Arc<Authenticator>,
    /// The door, once it is there.
    pub door: Arc<OnceLock<Arc<Door>>>,
    /// The door's bounds.
    pub limits: Arc<Live<Limits>>,
    /// The built-in channel; stays over reloads.
    pub chat: Arc<Chat>,
    /// The WebSockets.
    pub sockets: Sockets,
    /// What announces the gateway on the local network, once it is there.
    pub announcer: OnceLock<Announcer>,
    /// The logger.
    pub logger: Logger,
    /// Where the configuration is read and written.
    pub places: Places,
    /// Time.
    pub clock: Clock,
}

struct State {
    /// As it was written.
    document: Value,
    resolved: Resolved,
    complaint: Option<String>,
}

/// The running configuration.
pub struct Reload {
    state: Mutex<State>,
    parts: Parts,
    api: OnceLock<Weak<Api>>,
}

fn at_path(problems: Vec<Problem>) -> ApiError {
    ApiError::invalid(problems.into_iter().map(|p| (p.path, p.message)).collect())
}

fn sentence(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Reload {
    /// The configuration that the gateway starts with.
    pub fn new(loaded: Loaded, parts: Parts) -> Self {
        let complaint = loaded.used_last_good.then(|| {
            format!("the configuration file is invalid, the last one that worked is used: {}", sentence(&loaded.problems))
        });
        if let Some(complaint) = &complaint {
            log::error!("{complaint}");
        }
        if complaint.is_none() {
            keep(&parts.places, &loaded.doc);
        }
        let state = State { document: loaded.doc, resolved: loaded.resolved, complaint };
        Reload { state: Mutex::new(state), parts, api: OnceLock::new() }
    }

    /// The API, once it is there: part of it goes by the configuration, too.
    pub fn attach(&self, api: &Arc<Api>) {
        let _ = self.api.set(Arc::downgrade(api));
    }

    /// Announces the gateway on the local network from now on, if that is wanted.
    pub fn announce(&self, announcer: Announcer) {
        let state = self.lock();
        announcer.set(state.resolved.config.gateway.mdns);
        let _ = self.parts.announcer.set(announcer); // there is one
    }

    /// Announces it no more.
    pub fn hide(&self) {
        if let Some(announcer) = self.parts.announcer.get() {
            announcer.set(false);
        }
    }

    /// `gateway.shutdown.drainTimeout` as it is now.
    pub fn drain_timeout(&self) -> Duration {
        self.lock().resolved.config.gateway.drain_timeout
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again.
    pub fn from_file(&self, why: &str) {
        let mut state = self.lock();
        // A file that came to be after the start counts, too.
        let mut places = self.parts.places.clone();
        places.file = places.file.or_else(|| places.target.exists().then(|| places.target.clone()));
        let read = files::load_file(&places, &files::system_var).and_then(|l| Ok((l.doc, self.completed(l.resolved)?)));
        match read {
            Ok((document, resolved)) => {
                // Secrets may live in files beside it: an unchanged document is not an unchanged configuration.
                if document == state.document && resolved.secrets == state.resolved.secrets && state.complaint.is_none() {
                    return log::debug!("{why}: nothing changed");
                }
                let outcome = self.apply(&mut state, document, resolved);
                drop(state);
                log::info!("{why}: the configuration was applied: {outcome}");
                self.audit("file", &outcome);
            }
            Err(problems) => {
                let complaint = format!("the configuration file is invalid, the running one stays: {}", sentence(&problems));
                log::error!("{why}: {complaint}");
                self.parts.flow.metrics.config_reload(false);
                state.complaint = Some(complaint);
            }
        }
    }

    fn resolved(&self, document: &Value) -> Result<Resolved, Vec<Problem>> {
        self.completed(files::resolve_here(document, &self.parts.places, &files::system_var)?)
    }

    /// With the token that the gateway keeps itself, where the document leaves that to it.
    fn completed(&self, mut resolved: Resolved) -> Result<Resolved, Vec<Problem>> {
        complete(&mut resolved, &self.parts.places.data_dir)
            .map_err(|e| vec![Problem::new("$.gateway.auth.token", e.to_string())])?;
        Ok(resolved)
    }

    /// What a change asked over HTTP comes to, if it may be.
    fn prepared(&self, state: &State, change: Change, if_match: Option<&str>) -> Result<(Value, Resolved), ApiError> {
        let revision = config::revision(&state.document);
        if let Some(wanted) = if_match
            && !wanted.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == revision)
        {
            return Err(ApiError::new(412, "The configuration was changed meanwhile; read it again"));
        }
        let asked = match change {
            Change::Replace(document) => document,
            Change::Merge(patch) => {
                let mut document = state.document.clone();
                config::merge(&mut document, &patch);
                document
            }
        };
        let restored = config::restore(&asked, &state.document).map_err(at_path)?;
        let resolved = self.resolved(&restored).map_err(at_path)?;
        if let Some(path) = config::forbidden_over_http(&state.document, &restored) {
            return Err(ApiError::forbidden(format!("{path} names a program: it can be set in the file alone")));
        }
        Ok((restored, resolved))
    }

    /// Applies a resolved configuration. Every step replaces one value, none can fail.
    fn apply(&self, state: &mut State, document: Value, resolved: Resolved) -> Value {
        let plan = config::diff(&state.resolved, &resolved);
        let (parts, config) = (&self.parts, &resolved.config);
        parts.logger.set_level(config.log.level);
        parts.auth.replace(&config.gateway.auth);
        parts.limits.set(config.gateway.limits);
        if let Some(door) = parts.door.get() {
            door.wake(); // shorter deadlines count at once
        }
        if let Some(announcer) = parts.announcer.get() {
            announcer.set(config.gateway.mdns);
        }
        parts.flow.settings.set(FlowSettings::new(config));
        parts.flow.sync_jobs();
        parts.flow.sync_retention();
        parts.sockets.set(websocket_settings(config));
        let old = parts.flow.channels.get();
        let chat = parts.chat.clone();
        let made_with = build::channel_parts(&parts.flow);
        parts.flow.channels.set(Registry::new(&config.channels, &made_with, Some(&old)).with(WEBSOCKET_CHANNEL, chat));
        let agents = parts.flow.agents.get();
        parts.flow.agents.set(Agents::new(config, &parts.flow.client, &parts.clock, Some(&agents)));
        let (former, threads) = (parts.flow.mcp.get(), &parts.flow.threads);
        let mcp = Arc::new(Servers::new(&config.tools.mcp, Some(&former), &parts.flow.client, &parts.clock, threads));
        parts.flow.tools.set(tools::toolbox(config, &parts.places.data_dir, &mcp));
        parts.flow.mcp.set(mcp);
        if let Some(api) = self.api.get().and_then(Weak::upgrade) {
            api.settings.set(Settings::new(config, &parts.clock));
        }
        let revoked = parts.flow.hub.revoke(|p| parts.auth.still_good(p));
        if revoked > 0 {
            log::info!("{revoked} WebSockets closed: their credential was revoked");
        }
        parts.flow.nudge_turns();
        parts.flow.nudge_deliveries();
        parts.flow.nudge_timer();
        parts.flow.metrics.config_reload(true);
        keep(&parts.places, &document);
        let outcome = outcome_of(&document, &plan);
        parts.flow.hub.event("config.changed", outcome.clone());
        *state = State { document, resolved, complaint: None };
        outcome
    }

    fn audit(&self, actor: &str, outcome: &Value) {
        let at_ms = self.parts.clock.unix_ms();
        self.parts.flow.store.audit(AuditEntry {
            at_ms,
            actor: actor.into(),
            action: "config.changed".into(),
            detail: outcome.clone(),
        });
    }
}

/// Puts in the admin's token that is kept in the data directory, made where it is not there yet; the token, where it was made.
///
/// # Errors
/// Where the disk refuses it, or the file holds no fit token.
pub fn complete(resolved: &mut Resolved, data_dir: &Path) -> Outcome<Option<String>> {
    if resolved.token != TokenSource::ToMake || resolved.config.gateway.auth.mode == AuthMode::None {
        return Ok(None);
    }
    let (token, made) = files::ensure_token(data_dir)?;
    let shown = made.then(|| token.reveal().to_string());
    resolved.set_token(token);
    Ok(shown)
}

/// What is answered to a change.
fn outcome_of(document: &Value, plan: &config::Plan) -> Value {
    json!({"revision": config::revision(document), "applied": plan.applied, "restartRequired": plan.restart})
}

/// What the WebSockets go by.
pub fn websocket_settings(config: &Config) -> websocket::Settings {
    websocket::Settings { open_max: config.gateway.limits.max_websockets, ping_interval: config.gateway.heartbeat }
}

/// Keeps the configuration that works; without it the gateway goes on all the same.
fn keep(places: &Places, document: &Value) {
    if let Err(e) = files::keep_last_good(places, document) {
        log::warn!("the configuration that works could not be kept: {e}");
    }
}

impl Configurator for Reload {
    fn current(&self) -> (Value, String) {
        let state = self.lock();
        (state.resolved.effective(), config::revision(&state.document))
    }

    fn change(&self, change: Change, if_match: Option<&str>, actor: &str) -> Result<Value, ApiError> {
        let mut state = self.lock();
        let (restored, resolved) = self.prepared(&state, change, if_match)?;
        files::save(&self.parts.places, &restored).map_err(|e| {
            log::error!("the configuration could not be written: {e}");
            ApiError::new(503, "The configuration could not be written to disk; nothing was changed")
        })?;
        let outcome = self.apply(&mut state, restored, resolved);
        drop(state);
        log::info!(actor; "the configuration was changed over HTTP: {outcome}");
        self.audit(actor, &outcome);
        Ok(outcome)
    }

    fn preview(&self, change: Change, if_match: Option<&str>) -> Result<Value, ApiError> {
        let state = self.lock();
        let (restored, resolved) = self.prepared(&state, change, if_match)?;
        Ok(outcome_of(&restored, &config::diff(&state.resolved, &resolved)))
    }

    fn complaint(&self) -> Option<String> {
        self.lock().complaint.clone()
    }
}

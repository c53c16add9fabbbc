//! What can be written: every key of the document, declared once each (see `section`).
//!
//! Invariant: all keys of the documentation are here, also those that this version cannot run yet (`resolve` names those), so
//! that a file for a later version is refused for what it asks, not for how it is written.

mod agents;
mod channels;
mod gateway;
mod store;

use serde_json::Value;

use super::section::*;

pub(super) use agents::*;
pub(super) use channels::*;
pub(super) use gateway::*;
pub(super) use store::*;

/// `users`: user id → channel → the user's id there.
pub(super) type Users = Named<Named<String>>;

section! {
    /// The whole document. All of it is optional: `{}` is a working configuration.
    Raw {
        /// The schema of this document, for editors; the gateway ignores it.
        schema: Option<String> = key("$schema", Preset::Unset).range(0, 1024);
        /// The server: where it listens, who may call it, its bounds.
        gateway: Gateway = key("gateway", Preset::EmptyObject);
        /// People who write by several channels: user id → channel → the user's id there.
        users: Users = key("users", Preset::EmptyObject).range(0, 100_000);
        /// The places where people write, by name. The webhook `default` is always there unless it is configured otherwise.
        channels: Named<Channel> = key("channels", Preset::EmptyObject).names();
        /// Language models' servers, by name.
        providers: Named<Provider> = key("providers", Preset::EmptyObject).names();
        /// Who answers, by name. The agent `main` is there where none is configured.
        agents: Named<Agent> = key("agents", Preset::EmptyObject).names();
        /// Which agent answers whom; the first that fits decides, and what fits none goes to the first agent.
        bindings: Vec<Binding> = key("bindings", Preset::EmptyList);
        /// What agents may do beside answering.
        tools: Tools = key("tools", Preset::EmptyObject);
        /// Scheduled turns and messages.
        jobs: Vec<Job> = key("jobs", Preset::EmptyList);
        /// Where all that lasts is kept, for how long, and how large it may be.
        store: Store = key("store", Preset::EmptyObject);
        /// What the gateway tells about itself.
        log: Log = key("log", Preset::EmptyObject);
    }
}

section! {
    /// What the gateway tells about itself, on standard error.
    Log {
        /// The least grave records that are written.
        level: LogLevel = key("level", Preset::Text("info"));
        /// `auto` is text on a terminal and JSON lines elsewhere.
        format: LogFormat = key("format", Preset::Text("auto"));
    }
}

choice! {
    /// `log.level`
    LogLevel { Off = "off", Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" }
}

choice! {
    /// `log.format`
    LogFormat { Auto = "auto", Text = "text", Json = "json" }
}

//! Tools: what agents can do beside answering, and the one door through which every call goes.
//!
//! Invariant: no tool runs but by [`Toolbox::invoke`], whatever the call's origin (chat, API, job, MCP): name, arguments, policy,
//! approval, deadline and output are all settled there, and every call leaves a trace in the audit. Who the call is for is said
//! by the gateway ([`Who`]), never by the model's arguments. A call that may not or cannot run is a result with `is_error`, in
//! words that the model can use; a panic in a tool is one such result.

mod html;
pub mod http;
pub mod job;
pub mod memory;
pub mod message;
mod names;
pub mod pattern;
pub mod policy;
pub mod question;
pub mod schema;
pub mod session;
pub mod shell;
#[cfg(test)]
mod support_tests;
pub mod system;
#[cfg(test)]
mod tests;
pub mod time;
mod toolbox;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::agent::provider::ToolSpec;
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::Result;
use crate::domain::{Approval, CallResult, Standing};
use crate::store::Store;

pub use policy::Policy;
pub use toolbox::{ToolInfo, Toolbox};

/// Longest output of a call, in bytes; what is beyond is cut, and the model is told.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// How long a call may take where its tool says nothing else.
pub const CALL_WAIT: Duration = Duration::from_secs(30);
/// How long an approval is waited for.
pub const APPROVAL_WAIT: Duration = Duration::from_secs(600);

/// What is known of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// What the model is told.
    pub spec: Arc<ToolSpec>,
    /// Whether a call can be repeated without doing more than once; such a call is run again after a crash.
    pub idempotent: bool,
    /// Whether it changes or reveals something beyond the user's own conversation.
    pub dangerous: bool,
    /// Whether it is for everybody, senders that nobody vouches for included: it reads nothing but what the prompt holds anyway.
    pub safe: bool,
}

impl About {
    /// A tool that is neither idempotent nor dangerous nor safe.
    pub fn new(name: &str, description: &str, schema: Value) -> Self {
        let spec = ToolSpec { name: name.to_string(), wire: names::wire(name), description: description.to_string(), schema };
        About { spec: Arc::new(spec), idempotent: false, dangerous: false, safe: false }
    }
}

/// On whose behalf a call is made, as the gateway knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The agent.
    pub agent: String,
    /// The channel of the message.
    pub channel: String,
    /// Its author.
    pub user_id: String,
    /// How far the author is known.
    pub standing: Standing,
}

/// What a call runs in.
pub struct Context<'a> {
    /// On whose behalf.
    pub who: &'a Who,
    /// The session.
    pub session_id: &'a str,
    /// The message whose turn it is.
    pub message_id: &'a str,
    /// The key of this call, the same whenever it is run again: what it writes bears it, so that a repeat is harmless.
    pub key: String,
    /// When the call's time is over (`Clock::mono`); at the latest the turn's own end.
    pub deadline: Duration,
    /// Cuts it short.
    pub cancel: &'a Cancel,
    /// Time.
    pub clock: &'a Clock,
    /// What lasts.
    pub store: &'a dyn Store,
    /// The way out, for `message.send`.
    pub courier: &'a dyn Courier,
}

/// Who takes a message to a user; the flow does.
pub trait Courier: Send + Sync {
    /// Puts a message to the outbox and waits for the commit; a repeat with the same key is the same message. Gives the delivery's
    /// id.
    ///
    /// # Errors
    /// `Invalid` for a user never seen or a channel that can't send, `Transient` where the store can't write.
    fn send(&self, user_id: &str, channel: Option<&str>, text: &str, key: &str) -> Result<String>;

    /// Told that jobs in the store were changed, so that they run at their new times.
    fn jobs_changed(&self) {}
}

/// A tool.
pub trait Tool: Send + Sync {
    /// What it is.
    fn about(&self) -> &About;

    /// What an approval of this call is bound to beside its name and arguments (a program's identity, say); may be empty. What stands
    /// behind a NUL is bound and not shown.
    ///
    /// # Errors
    /// Where the call can't be made at all.
    fn binding(&self, arguments: &Map<String, Value>) -> Result<String> {
        let _ = arguments;
        Ok(String::new())
    }

    /// The argument by which this call reaches beyond the user's own, if it does: only a rule that has a pattern for that argument
    /// can allow the call; where another one would, a person is asked.
    fn reaches(&self, arguments: &Map<String, Value>, who: &Who) -> Option<&'static str> {
        let _ = (arguments, who);
        None
    }

    /// How long a call may take.
    fn wait(&self) -> Duration {
        CALL_WAIT
    }

    /// Does it. The arguments fit the schema. Blocks at most until the deadline, and ends soon where it is cancelled.
    ///
    /// # Errors
    /// Whose text the model is told. `Stopped` where it was cancelled.
    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String>;
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may run.
    Run,
    /// A person is to decide.
    Ask(Question),
    /// It may not, or it cannot; the model is told this.
    Refuse(String),
}

/// What a person is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The exact arguments.
    pub arguments: Value,
    /// What the person is shown.
    pub text: String,
    /// What the approval is bound to.
    pub digest: String,
}

/// What `invoke` came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Invoked {
    /// The call ran, or was refused.
    Done(CallResult),
    /// A person is to decide first; nothing was done.
    Ask(Question),
}

/// An approval that was given to this very call, if there is one.
pub type Permit<'a> = Option<&'a Approval>;

/// Tools that come and go: those of MCP servers.
pub trait Source: Send + Sync {
    /// Those that can be called now. It must not block.
    fn tools(&self) -> Vec<Arc<dyn Tool>>;
}

/// The tools that need nothing but the store, the clock and the courier.
pub fn built_in() -> Vec<Arc<dyn Tool>> {
    vec![
        Arc::new(time::Now::default()),
        Arc::new(memory::Save::default()),
        Arc::new(memory::Search::default()),
        Arc::new(memory::Forget::default()),
        Arc::new(session::History::default()),
        Arc::new(message::Send::default()),
        Arc::new(job::Create::default()),
        Arc::new(job::List::default()),
        Arc::new(job::Delete::default()),
    ]
}

/// The schema of arguments: these and no others.
pub fn object(properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// The text of an argument that the schema demands.
fn text<'a>(arguments: &'a Map<String, Value>, name: &str) -> &'a str {
    arguments.get(name).and_then(Value::as_str).unwrap_or_default()
}

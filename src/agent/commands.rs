//! What a user can ask of the gateway itself, in any chat and with any provider: how it is written, and the texts that need
//! nothing but what is known already.
//!
//! Invariant: a text is a command only when it is nothing else; everything else goes to the model as it is, since people write
//! paths. The texts show a user nothing but its own. Pure; what a command does is done in `flow/commands`.

use std::time::Duration;

use crate::domain::Decision;
use crate::store::Depths;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `/help`.
    Help,
    /// `/status`.
    Status,
    /// `/new`: ends the session.
    New,
    /// `/whoami`.
    Whoami,
    /// `/stop`: cuts short what runs in the session, and withdraws what waits in it.
    Stop,
    /// `/model`, `/model NAME`: shows the session's model, or switches it.
    Model(Option<String>),
    /// `/tools`: what the agent may call here.
    Tools,
    /// `/approve`, `/approve ID`, `/approve ID always`, `/deny`, `/deny ID`.
    Decide {
        /// Which approval; without it the only one that waits.
        id: Option<String>,
        /// What is decided.
        decision: Decision,
    },
    /// `/memory`: what is kept about the user.
    Memory,
    /// `/memory forget ID`.
    Forget(String),
}

/// What the texts are made of.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Ours.
    pub version: &'a str,
    /// The agent's name.
    pub agent: &'a str,
    /// Who answers for it: the name in `providers`, `detected …` or `builtin`.
    pub provider: &'a str,
    /// The model that is asked for.
    pub model: &'a str,
    /// The user.
    pub user_id: &'a str,
    /// The session.
    pub session_id: &'a str,
    /// The channel.
    pub channel: &'a str,
    /// Since the gateway started.
    pub uptime: Duration,
    /// What waits.
    pub depths: Depths,
}

/// The command that `text` is, if it is one: the word alone or with the words that it takes, in any case, perhaps with the name of
/// a bot behind it (`/help@bot`, as group chats send it).
pub fn command(text: &str) -> Option<Command> {
    let mut words = text.trim().strip_prefix('/')?.split_whitespace();
    let (word, bot) = words.next().map(|w| w.split_once('@').unwrap_or((w, "bot")))?;
    if bot.is_empty() || !bot.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    let rest: Vec<&str> = words.collect();
    let word = word.to_ascii_lowercase();
    match (word.as_str(), rest.as_slice()) {
        ("help", []) => Some(Command::Help),
        ("status", []) => Some(Command::Status),
        ("new", []) => Some(Command::New),
        ("whoami", []) => Some(Command::Whoami),
        ("stop", []) => Some(Command::Stop),
        ("tools", []) => Some(Command::Tools),
        ("memory", []) => Some(Command::Memory),
        ("memory", ["forget", id]) if is_id(id, "not_") => Some(Command::Forget((*id).to_string())),
        ("model", []) => Some(Command::Model(None)),
        ("model", [name]) if name.len() <= 256 => Some(Command::Model(Some((*name).to_string()))),
        ("approve", []) => Some(Command::Decide { id: None, decision: Decision::Allow }),
        ("approve", [id]) if is_id(id, "apr_") => decide(id, Decision::Allow),
        ("approve", [id, always]) if is_id(id, "apr_") && always.eq_ignore_ascii_case("always") => decide(id, Decision::Always),
        ("deny", []) => Some(Command::Decide { id: None, decision: Decision::Deny }),
        ("deny", [id]) if is_id(id, "apr_") => decide(id, Decision::Deny),
        _ => None,
    }
}

fn decide(id: &str, decision: Decision) -> Option<Command> {
    Some(Command::Decide { id: Some(id.to_string()), decision })
}

fn is_id(word: &str, prefix: &str) -> bool {
    word.len() <= 64 && word.starts_with(prefix) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl Command {
    /// Whether it is handled at once, beside the turns of its session.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Command::Stop | Command::Decide { .. })
    }

    /// What the command answers, where that is known already.
    pub fn answer(&self, facts: &Facts<'_>) -> Option<String> {
        Some(match self {
            Command::Help => "/stop stops what the agent does here\n\
                 /new ends this conversation and begins another\n\
                 /status shows how the gateway is\n\
                 /model shows the model; operators choose one with /model NAME\n\
                 /tools shows what the agent may use here\n\
                 /memory shows what it keeps about you; /memory forget ID forgets it\n\
                 /approve and /deny decide what waits for an operator\n\
                 /whoami shows who you are here\n\
                 /help shows this\n\
                 Anything else goes to the agent."
                .to_string(),
            Command::Status => format!(
                "gatelet {}, up {}\nAgent {}, provider {}, model {}\nWaiting: {} messages, {} approvals, {} deliveries; turns running: {}",
                facts.version,
                span(facts.uptime),
                facts.agent,
                facts.provider,
                facts.model,
                facts.depths.queued,
                facts.depths.waiting_approval,
                facts.depths.pending + facts.depths.unacknowledged,
                facts.depths.running,
            ),
            Command::New => "A new conversation begins with your next message.".to_string(),
            Command::Whoami => {
                format!("You are {} on {}, in session {}.", facts.user_id, facts.channel, facts.session_id)
            }
            _ => return None,
        })
    }

    /// Whether the session ends with it.
    pub fn ends_session(&self) -> bool {
        *self == Command::New
    }
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_words_alone() {
        for (text, expected) in [
            ("/help", Some(Command::Help)),
            (" /HELP\n", Some(Command::Help)),
            ("/status", Some(Command::Status)),
            ("/new", Some(Command::New)),
            ("/new@my_bot", Some(Command::New)),
            ("/whoami", Some(Command::Whoami)),
            ("/new file", None),
            ("/new@", None),
            ("/new@a b", None),
            ("/newer", None),
            ("/etc/passwd", None),
            ("/xyz", None),
            ("/", None),
            ("help", None),
            ("//help", None),
            ("please /help", None),
            ("", None),
            ("/stop", Some(Command::Stop)),
            ("/STOP now", None),
            ("/model", Some(Command::Model(None))),
            ("/model gpt-5", Some(Command::Model(Some("gpt-5".into())))),
            ("/model of a car", None),
            ("/tools", Some(Command::Tools)),
            ("/memory", Some(Command::Memory)),
            ("/memory forget not_1", Some(Command::Forget("not_1".into()))),
            ("/memory forget all", None),
            ("/approve", Some(Command::Decide { id: None, decision: Decision::Allow })),
            ("/approve the plan", None),
            ("/approve apr_1", decide("apr_1", Decision::Allow)),
            ("/approve apr_1 ALWAYS", decide("apr_1", Decision::Always)),
            ("/deny apr_1", decide("apr_1", Decision::Deny)),
            ("/deny apr_1 always", None),
            ("/deny apr_../x", None),
        ] {
            assert_eq!(command(text), expected, "{text:?}");
        }
    }

    #[test]
    fn texts() {
        let facts = Facts {
            version: "1.2.3",
            agent: "main",
            provider: "local",
            model: "auto",
            user_id: "ana",
            session_id: "ses_1",
            channel: "door",
            uptime: Duration::from_secs(3725),
            depths: Depths { queued: 3, running: 1, waiting_approval: 0, pending: 2, unacknowledged: 4 },
        };
        let status = Command::Status.answer(&facts).unwrap();
        for part in [
            "1.2.3",
            "1 h 2 min",
            "Agent main",
            "provider local",
            "model auto",
            "3 messages, 0 approvals, 6 deliveries",
            "running: 1",
        ] {
            assert!(status.contains(part), "{part}: {status}");
        }
        assert_eq!(Command::Whoami.answer(&facts).unwrap(), "You are ana on door, in session ses_1.");
        for name in ["/status", "/new", "/whoami", "/help", "/stop", "/approve", "/deny", "/memory", "/tools", "/model"] {
            assert!(Command::Help.answer(&facts).unwrap().contains(name));
        }
        assert!(Command::New.ends_session() && !Command::Help.ends_session());
        assert!(Command::Stop.is_urgent() && !Command::Status.is_urgent() && Command::Stop.answer(&facts).is_none());
    }

    #[test]
    fn spans() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}

//! What a user can ask of the gateway itself, in any chat and with any provider.
//!
//! Invariant: a text is a command only when it is nothing else; everything else goes to the model as it is, since people write
//! paths. The texts show a user nothing but its own. Pure.

use std::time::Duration;

use crate::store::Depths;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `/help`.
    Help,
    /// `/status`.
    Status,
    /// `/new`: ends the session.
    New,
    /// `/whoami`.
    Whoami,
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

/// The command that `text` is, if it is one: the word alone, in any case, perhaps with the name of a bot behind it
/// (`/help@bot`, as group chats send it).
pub fn command(text: &str) -> Option<Command> {
    let word = text.trim().strip_prefix('/')?;
    let (word, bot) = word.split_once('@').unwrap_or((word, "bot"));
    if bot.is_empty() || !bot.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    let all = [("help", Command::Help), ("status", Command::Status), ("new", Command::New), ("whoami", Command::Whoami)];
    all.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, command)| command)
}

impl Command {
    /// What the command answers.
    pub fn answer(self, facts: &Facts<'_>) -> String {
        match self {
            Command::Help => "/status shows how the gateway is\n\
                 /new ends this conversation and begins another\n\
                 /whoami shows who you are here\n\
                 /help shows this\n\
                 Anything else goes to the agent."
                .to_string(),
            Command::Status => format!(
                "gatelet {}, up {}\nAgent {}, provider {}, model {}\nWaiting: {} messages, {} deliveries; turns running: {}",
                facts.version,
                span(facts.uptime),
                facts.agent,
                facts.provider,
                facts.model,
                facts.depths.queued,
                facts.depths.pending + facts.depths.unacknowledged,
                facts.depths.running,
            ),
            Command::New => "A new conversation begins with your next message.".to_string(),
            Command::Whoami => {
                format!("You are {} on {}, in session {}.", facts.user_id, facts.channel, facts.session_id)
            }
        }
    }

    /// Whether the session ends with it.
    pub fn ends_session(self) -> bool {
        self == Command::New
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
        let status = Command::Status.answer(&facts);
        for part in ["1.2.3", "1 h 2 min", "Agent main", "provider local", "model auto", "3 messages, 6 deliveries", "running: 1"]
        {
            assert!(status.contains(part), "{part}: {status}");
        }
        assert_eq!(Command::Whoami.answer(&facts), "You are ana on door, in session ses_1.");
        for name in ["/status", "/new", "/whoami", "/help"] {
            assert!(Command::Help.answer(&facts).contains(name));
        }
        assert!(Command::New.ends_session() && !Command::Help.ends_session());
    }

    #[test]
    fn spans() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}

//! The prompt of a turn: as small as it can be.
//!
//! Invariant: system text, then history, then the new message, whole. The history is bounded in entries and bytes, oldest cut
//! first; it begins with the user, and roles alternate, as the templates of many models demand. What the gateway itself
//! answered (`/status`, say) is not in it. Pure.

use crate::agent::commands::command;
use crate::agent::provider::{ChatMessage, ChatRole};
use crate::domain::{Claim, Entry, Said};

/// Most text of the history, in bytes.
pub const HISTORY_BYTES_MAX: usize = 48 * 1024;

/// The messages for `claim`'s turn. `history` is oldest first; `now_ms` is the wall clock.
pub fn build(system: &str, max_history: usize, claim: &Claim, history: &[Entry], now_ms: i64) -> Vec<ChatMessage> {
    let mut messages = vec![ChatMessage::new(ChatRole::System, system_text(system, claim, now_ms))];
    for entry in kept(history, max_history) {
        let role = match entry.role {
            Said::User => ChatRole::User,
            Said::Assistant => ChatRole::Assistant,
        };
        push(&mut messages, role, &entry.text);
    }
    push(&mut messages, ChatRole::User, &claim.text);
    messages
}

/// Drops the older half of a prompt's history, at least one exchange; false where there is none left to drop.
pub fn forget_half(messages: &mut Vec<ChatMessage>) -> bool {
    let history = messages.len().saturating_sub(2);
    let mut dropped = history.div_ceil(2);
    // What is left begins with the user.
    dropped += messages.iter().skip(1 + dropped).take_while(|m| m.role != ChatRole::User).count();
    messages.drain(1..1 + dropped.min(history));
    history > 0
}

/// Adds to the last message where that is the same one's.
fn push(messages: &mut Vec<ChatMessage>, role: ChatRole, text: &str) {
    match messages.last_mut() {
        Some(last) if last.role == role => {
            last.text.push_str("\n\n");
            last.text.push_str(text);
        }
        _ => messages.push(ChatMessage::new(role, text)),
    }
}

fn system_text(system: &str, claim: &Claim, now_ms: i64) -> String {
    let line = format!("Channel: {}. User: {}. Date: {}.", claim.channel, claim.user_id, date(now_ms));
    // The day and no finer time: a prompt that begins alike is cheap for servers that keep its computed beginning.
    if system.trim().is_empty() { line } else { format!("{}\n{line}", system.trim_end()) }
}

fn kept(history: &[Entry], max_history: usize) -> Vec<&Entry> {
    let mut spoken = Vec::with_capacity(history.len());
    let mut ours = false;
    for entry in history {
        if entry.role == Said::User {
            ours = command(&entry.text).is_some();
        }
        if !ours {
            spoken.push(entry);
        }
    }
    let mut room = HISTORY_BYTES_MAX;
    let mut first = spoken.len();
    while first > 0 && spoken.len() - first < max_history && spoken[first - 1].text.len() <= room {
        first -= 1;
        room -= spoken[first].text.len();
    }
    let from_user = spoken[first..].iter().position(|e| e.role == Said::User).unwrap_or(spoken.len() - first);
    spoken.split_off(first + from_user)
}

/// `YYYY-MM-DD` in UTC.
fn date(unix_ms: i64) -> String {
    // Days in eras of 400 years that begin with March.
    let days = unix_ms.div_euclid(86_400_000) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let day_of_month = day_of_year - (153 * from_march + 2) / 5 + 1;
    format!("{:04}-{month:02}-{day_of_month:02}", era * 400 + year + i64::from(month <= 2))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::error::shorten;

    pub(crate) fn claim(text: &str) -> Claim {
        Claim {
            message_id: "msg_1".into(),
            session_id: "ses_1".into(),
            channel: "door".into(),
            user_id: "ana".into(),
            peer: "ana".into(),
            conversation: None,
            agent: "main".into(),
            text: text.into(),
            metadata: None,
            received_ms: 0,
            standing: Default::default(),
            model: None,
            attempts: 1,
            failures: 0,
            steps: Vec::new(),
            approvals: Vec::new(),
        }
    }

    fn entries(said: &[(&str, &str)]) -> Vec<Entry> {
        let role = |r| if r == "u" { Said::User } else { Said::Assistant };
        said.iter().map(|(r, t)| Entry { role: role(*r), text: t.to_string(), at_ms: 0, message_id: None, turn: 0 }).collect()
    }

    #[track_caller]
    fn check(max_history: usize, said: &[(&str, &str)], expected: &[&str]) {
        let built = build("Be kind.", max_history, &claim("now"), &entries(said), 0);
        let shown: Vec<_> = built[1..].iter().map(|m| format!("{}:{}", &m.role.as_str()[..1], m.text)).collect();
        let brief = |all: &[&str]| all.iter().map(|t| shorten(t, 20)).collect::<Vec<_>>();
        let shown: Vec<_> = shown.iter().map(String::as_str).collect();
        assert!(shown == expected, "{:?} for {:?}", brief(&shown), brief(expected));
    }

    #[test]
    fn histories() {
        let talk = [("u", "1"), ("a", "2"), ("u", "3"), ("a", "4")];
        check(40, &[], &["u:now"]);
        check(40, &talk, &["u:1", "a:2", "u:3", "a:4", "u:now"]);
        check(0, &talk, &["u:now"]);
        check(2, &talk, &["u:3", "a:4", "u:now"]);
        check(3, &talk, &["u:3", "a:4", "u:now"]);
        check(1, &talk, &["u:now"]);
        check(40, &[("a", "hello there"), ("u", "1")], &["u:1\n\nnow"]);
        check(40, &[("u", "1"), ("a", "2"), ("a", "3")], &["u:1", "a:2\n\n3", "u:now"]);
        check(
            40,
            &[("u", "1"), ("a", "2"), ("u", "/status"), ("a", "up"), ("u", "3"), ("a", "4")],
            &["u:1", "a:2", "u:3", "a:4", "u:now"],
        );
        check(2, &[("u", "1"), ("a", "2"), ("u", "/status"), ("a", "up")], &["u:1", "a:2", "u:now"]);
        let long = "x".repeat(HISTORY_BYTES_MAX - 1);
        check(40, &[("u", "1"), ("a", "2"), ("u", "3"), ("a", &format!("{long}x"))], &["u:now"]);
        check(40, &[("u", "1"), ("a", "2"), ("u", &long), ("a", "4")], &[&format!("u:{long}"), "a:4", "u:now"]);
        check(40, &[("u", &(long + "xxx")), ("a", "2")], &["u:now"]);
    }

    #[test]
    fn halves() {
        let talk: Vec<_> = (0..40).map(|i| (if i % 2 == 0 { "u" } else { "a" }, "x")).collect();
        let mut messages = build("s", 40, &claim("now"), &entries(&talk), 0);
        let mut sizes = Vec::new();
        while forget_half(&mut messages) {
            let roles: Vec<_> = messages.iter().map(|m| m.role).collect();
            assert!(roles.starts_with(&[ChatRole::System, ChatRole::User]), "{roles:?}");
            sizes.push(messages.len() - 2);
        }
        assert_eq!(sizes, [20, 10, 4, 2, 0]);
        assert_eq!(messages[1].text, "now");
    }

    #[test]
    fn hi_is_small() {
        let built = build("You are a helpful assistant. Answer briefly.", 40, &claim("hi"), &[], 1_790_000_000_000);
        let body: Vec<_> = built.iter().map(|m| serde_json::json!({"role": m.role.as_str(), "content": m.text})).collect();
        let size = serde_json::Value::from(body).to_string().len();
        assert!(size <= 2048 - 256, "{size} bytes, before the request's other fields");
        assert!(built[0].text.ends_with("\nChannel: door. User: ana. Date: 2026-09-21."), "{}", built[0].text);
        assert_eq!(build(" ", 1, &claim("hi"), &[], 0)[0].text, "Channel: door. User: ana. Date: 1970-01-01.");
    }

    #[test]
    fn dates() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_818, "2026-12-31"),
            (20_819, "2027-01-01"),
        ] {
            assert_eq!(date(days * 86_400_000), text);
        }
    }
}

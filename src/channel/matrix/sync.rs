//! The long poll: what happened since the last one, taken in order, its cursor committed behind it.
//!
//! Invariant: the homeserver's token goes on only after all that stood before it is on disk; a batch that was cut off comes again, and
//! each event's id makes that harmless. What a `/sync` leaves out is fetched. What was said before we were asked into a room, or before
//! this channel's first day, is never taken. Fails where the homeserver does, and is begun anew by the supervisor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::base::cancel::Cancel;
use crate::base::crash;
use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::matrix::Shared;
use crate::channel::matrix::api::{Failure, Verb, encoded};
use crate::channel::matrix::invites::{self, Waiting};
use crate::channel::matrix::read;
use crate::channel::matrix::wire::{self, Joined, Page, Sync, text};
use crate::channel::supervisor::{Connection, Line};
use crate::channel::{Incoming, NotNow, Taken};

/// Events of one room in one answer.
const LIMIT: u32 = 50;
/// Pages of events that were left out of an answer, and how many are in one.
const PAGES_MAX: u32 = 20;
const PAGE: u32 = 100;
/// An answer that came sooner, with nothing in it, was not held by the homeserver.
const SUSPICIOUS: Duration = Duration::from_millis(500);
/// How often a token behind which nothing was to be taken is committed all the same.
const COMMIT: Duration = Duration::from_secs(3600);

/// The connection.
pub(super) struct Poll {
    shared: Arc<Shared>,
    waiting: Waiting,
    /// When a token was last committed.
    committed: Duration,
    /// Events of one room in the next answer: fewer after one that was too long to be read.
    limit: u32,
}

impl Poll {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Poll { shared, waiting: Waiting::default(), committed: Duration::ZERO, limit: LIMIT }
    }
}

impl Connection for Poll {
    fn run(&mut self, line: &Line) -> Result<()> {
        let cancel = line.cancel();
        self.shared.api.check(&cancel)?;
        self.shared.rooms.forget_all();
        self.shared.load_direct(Some(&cancel))?;
        self.learn_name(&cancel)?;
        let mut since = match line.parts.inlet.cursor(&line.parts.name).map_err(not_now)? {
            Some(since) => since,
            None => self.begin(line, &cancel)?,
        };
        let mut hold = Duration::ZERO; // whether it works is told at once
        while !cancel.is_set() {
            let begun = line.parts.clock.mono();
            let sync = match self.sync(Some(&since), hold, &cancel) {
                Ok(sync) => sync,
                Err(f) if is_unknown_token(&f) => {
                    log::error!(channel = line.parts.name.as_str(); "the homeserver does not know where we were: what was said meanwhile is not taken");
                    since = self.begin(line, &cancel)?;
                    continue;
                }
                Err(f) if self.is_too_long(&f) => continue,
                Err(f) => return Err(f.error),
            };
            line.connected();
            let (empty, took) = (is_empty(&sync), line.parts.clock.mono().saturating_sub(begun));
            since = self.batch(line, &cancel, since, sync)?;
            self.limit = LIMIT;
            self.answer_invites(line, &cancel);
            if empty && took < SUSPICIOUS && !hold.is_zero() && line.pause(self.shared.pace.pause) {
                break;
            }
            hold = self.shared.pace.poll;
        }
        Ok(())
    }
}

impl Poll {
    fn sync(&self, since: Option<&str>, hold: Duration, cancel: &Cancel) -> Result<Sync, Failure> {
        let filter = encoded(&filter(self.limit).to_string());
        let mut path = format!("/sync?set_presence=offline&filter={filter}&timeout={}", hold.as_millis());
        if let Some(since) = since {
            path.push_str(&format!("&since={}", encoded(since)));
        }
        let sync: Sync = read_as(self.shared.api.events(&path, hold, cancel)?)?;
        if sync.next_batch.is_empty() {
            return Err(Error::new(ErrorKind::Transient, "the homeserver's answer to /sync has no next_batch").into());
        }
        Ok(sync)
    }

    /// The first day: from now on, whatever was said before. Only invitations are followed.
    fn begin(&mut self, line: &Line, cancel: &Cancel) -> Result<String> {
        self.limit = 1;
        let first = self.sync(None, Duration::ZERO, cancel)?;
        self.waiting.add(&first.rooms.invite, &self.shared.api.user_id);
        // A first answer may come from the homeserver's cache.
        let second = self.sync(Some(&first.next_batch), Duration::ZERO, cancel)?;
        self.waiting.add(&second.rooms.invite, &self.shared.api.user_id);
        self.limit = LIMIT;
        line.parts.inlet.set_cursor(&line.parts.name, &second.next_batch).map_err(not_now)?;
        Ok(second.next_batch)
    }

    /// Whether an answer had more than we read; the next one is asked for with less in it, and the rest comes in pages.
    fn is_too_long(&mut self, failure: &Failure) -> bool {
        let too_long = failure.status == 0 && failure.error.kind == ErrorKind::Permanent && self.limit > 1;
        if too_long {
            self.limit = 1;
        }
        too_long
    }

    fn learn_name(&self, cancel: &Cancel) -> Result<(), Failure> {
        let path = format!("/profile/{}/displayname", encoded(&self.shared.api.user_id));
        match self.shared.api.call(Verb::Get, &path, Some(cancel)) {
            Ok(said) => self.shared.rooms.set_display_name(text(&said, &["displayname"])),
            Err(f) if f.error.is_passing() || f.error.kind == ErrorKind::Denied => return Err(f),
            Err(_) => {} // it has none
        }
        Ok(())
    }

    /// Takes all of one answer; gives the token behind it.
    fn batch(&mut self, line: &Line, cancel: &Cancel, since: String, sync: Sync) -> Result<String> {
        let empty = is_empty(&sync);
        self.waiting.add(&sync.rooms.invite, &self.shared.api.user_id);
        sync.rooms.leave.keys().for_each(|room| self.shared.rooms.forget(room));
        let mut found = Vec::new();
        for (room, news) in sync.rooms.join {
            match self.room(&room, news, &since, cancel) {
                Ok(said) => found.extend(said),
                Err(f) if f.error.kind == ErrorKind::Permanent => {
                    log::warn!(channel = line.parts.name.as_str(), room = room.as_str(); "what was said in a room is not taken: {}", f.error);
                }
                Err(f) => return Err(f.error),
            }
        }
        let now = line.parts.clock.mono();
        let moved = sync.next_batch != since;
        match found.last_mut() {
            Some(last) => last.cursor = Some(sync.next_batch.clone()),
            None if moved && (!empty || now.saturating_sub(self.committed) >= COMMIT) => {
                line.parts.inlet.set_cursor(&line.parts.name, &sync.next_batch).map_err(not_now)?;
                self.committed = now;
            }
            None => {}
        }
        let has_taken = !found.is_empty();
        for incoming in found {
            self.take(line, cancel, incoming)?;
        }
        if has_taken {
            crash::point("channel.acknowledged"); // the next poll names the token behind it
        }
        Ok(sync.next_batch)
    }

    /// What was said in one room, in order.
    fn room(&self, room: &str, news: Joined, since: &str, cancel: &Cancel) -> Result<Vec<Incoming>, Failure> {
        let shared = &self.shared;
        shared.rooms.note(room, &news);
        if news.timeline.events.is_empty() && !news.timeline.limited {
            return Ok(Vec::new());
        }
        if shared.is_encrypted(room, Some(cancel))? {
            shared.tell_encrypted(room, cancel);
            return Ok(Vec::new());
        }
        let names = display_names(&news);
        let mut events = news.timeline.events;
        if let Some(from) = news.timeline.prev_batch.filter(|_| news.timeline.limited) {
            let mut missed = self.missed(room, from, since, cancel)?;
            missed.append(&mut events);
            events = missed;
        }
        let me = &shared.api.user_id;
        let own_name = shared.rooms.display_name();
        let begin = first_of_ours(&events, me);
        let mut said = Vec::new();
        for heard in events[begin..].iter().filter_map(|e| read::read(e, me, &own_name)) {
            let name = names.get(&heard.sender).cloned().unwrap_or_default();
            said.push(shared.incoming(room, heard, &name, cancel)?);
        }
        Ok(said)
    }

    /// What an answer left out of a room, oldest first.
    fn missed(&self, room: &str, mut from: String, since: &str, cancel: &Cancel) -> Result<Vec<Value>, Failure> {
        let filter = encoded(&json!({"types": TYPES}).to_string());
        let mut events = Vec::new();
        for _ in 0..PAGES_MAX {
            let path = format!(
                "/rooms/{}/messages?dir=b&from={}&to={}&limit={PAGE}&filter={filter}",
                encoded(room),
                encoded(&from),
                encoded(since)
            );
            let page: Page = read_as(self.shared.api.events(&path, Duration::ZERO, cancel)?)?;
            events.extend(page.chunk);
            match page.end {
                Some(end) if end != from => from = end,
                _ => {
                    events.reverse();
                    return Ok(events);
                }
            }
        }
        log::error!(channel = self.shared.parts.name.as_str(), room; "more was said in a room while we were away than we take: the oldest of it is left out");
        events.reverse();
        Ok(events)
    }

    /// Has one message taken, insisting while the gateway can't.
    fn take(&self, line: &Line, cancel: &Cancel, incoming: Incoming) -> Result<()> {
        let (conversation, event) = (incoming.conversation.clone().unwrap_or_default(), incoming.external_id.clone());
        let mut told = false;
        loop {
            match line.parts.inlet.take(&line.parts.name, incoming.clone()) {
                Ok(Taken::Tell(words)) => {
                    self.shared.tell(&conversation, &event, &words, cancel);
                    return Ok(());
                }
                Ok(Taken::Accepted(_)) => return Ok(()),
                Ok(Taken::Ignored(why)) => {
                    log::debug!(channel = line.parts.name.as_str(), event = event.as_str(); "not taken: {why}");
                    return Ok(());
                }
                Err(why) => {
                    if !std::mem::replace(&mut told, true) {
                        log::warn!(channel = line.parts.name.as_str(), event = event.as_str(); "a message can't be taken now and is tried again: {why}");
                    }
                }
            }
            if line.pause(self.shared.pace.pause) {
                return Err(Error::new(ErrorKind::Stopped, "the connection ends"));
            }
        }
    }

    fn answer_invites(&mut self, line: &Line, cancel: &Cancel) {
        while let Some(mut invite) = self.waiting.next(line.parts.clock.mono()) {
            let refusal = invites::refusal(&invite, &self.shared.common);
            let (room, inviter) = (invite.room.as_str(), invite.inviter.as_str());
            let verb = if refusal.is_none() { "join" } else { "leave" };
            let path = format!("/rooms/{}/{verb}", encoded(room));
            let mut result = self.shared.api.call(Verb::Post(json!({})), &path, Some(cancel)).map(|_| ());
            if result.is_ok() && refusal.is_none() && invite.is_direct {
                result = self.shared.keep_direct(room, Some(inviter), Some(cancel));
            }
            let channel = line.parts.name.as_str();
            match (result, refusal) {
                (Ok(()), None) => log::info!(channel, room, inviter; "joined a room"),
                (Ok(()), Some(why)) => log::warn!(channel, room, inviter; "an invitation was rejected: {why}"),
                (Err(f), _) if f.error.is_passing() => {
                    log::warn!(channel, room, inviter; "an invitation could not be answered yet: {}", f.error);
                    invite.tries += 1;
                    return self.waiting.again(invite); // at the next round
                }
                (Err(f), _) => log::warn!(channel, room, inviter; "an invitation could not be answered: {}", f.error),
            }
        }
    }
}

const TYPES: [&str; 4] = ["m.room.message", "m.room.member", "m.room.encryption", "m.room.encrypted"];

/// What a `/sync` is to tell: messages, memberships, encryption, and nothing else.
fn filter(limit: u32) -> Value {
    let none = json!({"types": [], "limit": 0});
    json!({
        "presence": none,
        "account_data": none,
        "room": {
            "account_data": none,
            "ephemeral": none,
            "state": {"types": ["m.room.member", "m.room.encryption"], "lazy_load_members": true},
            "timeline": {"types": TYPES, "limit": limit, "lazy_load_members": true},
        },
    })
}

fn read_as<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|_| {
        Error::new(ErrorKind::Transient, "the homeserver's answer is not what the specification says")
            .hint("see what stands at the homeserver's address")
    })
}

fn is_empty(sync: &Sync) -> bool {
    sync.rooms.join.is_empty() && sync.rooms.invite.is_empty() && sync.rooms.leave.is_empty()
}

fn not_now(why: NotNow) -> Error {
    Error::new(ErrorKind::Transient, format!("the gateway can't go on now: {why}"))
}

/// The homeserver was set up anew, say.
fn is_unknown_token(failure: &Failure) -> bool {
    failure.status == 400 && matches!(failure.code.as_str(), "M_INVALID_PARAM" | "M_UNKNOWN" | "M_UNKNOWN_POS")
}

/// How people in a room call themselves, as far as the answer tells.
fn display_names(news: &Joined) -> HashMap<String, String> {
    let all = news.state.events.iter().chain(&news.timeline.events);
    all.filter(|e| text(e, &["type"]) == "m.room.member")
        .map(|e| (text(e, &["state_key"]).to_string(), text(e, &["content", "displayname"]).to_string()))
        .collect()
}

/// Where what is meant for us begins: behind the invitation that brought us here, else behind our coming.
fn first_of_ours(events: &[Value], me: &str) -> usize {
    let (mut begin, mut was) = (0, String::new());
    for (i, event) in events.iter().enumerate().filter(|(_, e)| wire::is_member(e, me)) {
        let now = text(event, &["content", "membership"]).to_string();
        if was.is_empty() {
            was = text(event, &["unsigned", "prev_content", "membership"]).to_string();
        }
        // We came by an invitation, or only changed our name: nothing begins with that.
        if now != "join" || !matches!(was.as_str(), "invite" | "join") {
            begin = i + 1;
        }
        was = now;
    }
    begin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_we_were_asked_in_is_history() {
        let own =
            |membership: &str| json!({"type": "m.room.member", "state_key": "@bot:x", "content": {"membership": membership}});
        let renamed = |before: &str| {
            let mut event = own("join");
            event["unsigned"] = json!({"prev_content": {"membership": before}});
            event
        };
        let said = json!({"type": "m.room.message"});
        let other = json!({"type": "m.room.member", "state_key": "@ana:x", "content": {"membership": "join"}});
        for (events, begin) in [
            (vec![], 0),
            (vec![said.clone(), other], 0),
            (vec![said.clone(), own("invite"), said.clone(), own("join"), said.clone()], 2),
            (vec![said.clone(), own("join"), said.clone()], 2),
            (vec![said.clone(), renamed("join"), said.clone()], 0),
            (vec![said.clone(), renamed("invite"), said.clone()], 0),
            (vec![said.clone(), renamed("leave"), said.clone()], 2),
            (vec![own("invite"), own("join"), own("leave"), said.clone(), own("join"), said.clone()], 5),
            (vec![own("invite"), own("join"), own("join"), said.clone()], 1),
        ] {
            assert_eq!(first_of_ours(&events, "@bot:x"), begin, "{events:?}");
        }
    }

    #[test]
    fn names_are_read_where_they_are_told() {
        let news: Joined = serde_json::from_value(json!({"state": {"events": [
            {"type": "m.room.member", "state_key": "@ana:x", "content": {"displayname": "Ana"}}, 5]}}))
        .unwrap();
        assert_eq!(display_names(&news), HashMap::from([("@ana:x".to_string(), "Ana".to_string())]));
    }
}

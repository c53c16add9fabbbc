//! Taking in: long polls of `getUpdates`, each update to the inlet, and the next offset only behind what was taken.
//!
//! Invariant: an update is confirmed (by an offset behind it) only when it was taken, passed over as nothing for us, or logged as broken; what
//! could not be taken now comes again. Pending updates are never dropped. An offset is derived from the batch just received and from nothing
//! older, since Telegram begins anew with a random number after a quiet week: a new connection, and a poll behind an empty one, name
//! none, and what was taken before is known by its exact number (and by deduplication). Fails with the call's error kinds.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Api, result};
use super::update::{Kind, Me, read};
use super::{Target, send_hint};
use crate::base::crash;
use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::Taken;
use crate::channel::supervisor::{Connection, Line};

/// How long the service holds a poll that finds nothing.
const HELD: Duration = Duration::from_secs(50);
/// Updates in one answer.
const LIMIT: u32 = 100;
/// Polls of one update each behind an answer that can't be read.
const SINGLE: u32 = 100;
/// Pauses behind what can't be taken now.
const NOT_NOW_MIN: Duration = Duration::from_millis(500);
const NOT_NOW_MAX: Duration = Duration::from_secs(4);

/// The connection of one bot.
pub struct Poll {
    /// The service.
    pub api: Arc<Api>,
}

/// Where one connection stands.
#[derive(Default)]
struct State {
    me: Me,
    /// Behind what was taken of the last batch; `None` names none.
    offset: Option<i64>,
    /// What was committed last, for the first batch: all before it in the same batch was taken.
    known: Option<i64>,
    /// Whether a poll was answered.
    answered: bool,
    /// Polls to go that ask for one update alone.
    single: u32,
    /// Refusals of the inlet in a row.
    not_now: u32,
    /// The numbers of the last batch.
    last: Vec<i64>,
}

impl Connection for Poll {
    fn run(&mut self, line: &Line) -> Result<()> {
        let answer = self.api.call("getMe", &json!({}), Some(&line.cancel()))?;
        let me = Me::parse(&answer).ok_or_else(|| Error::new(ErrorKind::Transient, "getMe answered without a bot's number"))?;
        let cursor = loop {
            match line.parts.inlet.cursor(&line.parts.name) {
                Ok(cursor) => break cursor,
                Err(_) if line.pause(NOT_NOW_MAX) => return Ok(()),
                Err(_) => {}
            }
        };
        let known = cursor.and_then(|c| me.update_of(&c));
        let mut state = State { me, known, ..State::default() };
        while !line.cancel().is_set() {
            self.step(line, &mut state)?;
        }
        Ok(())
    }
}

impl Poll {
    /// One poll and all that it brought.
    fn step(&self, line: &Line, state: &mut State) -> Result<()> {
        // The first poll comes back at once, so that the channel is known to work.
        let held = if state.answered { HELD } else { Duration::ZERO };
        let mut ask = json!({
            "limit": if state.single > 0 { 1 } else { LIMIT },
            "timeout": held.as_secs(),
            "allowed_updates": ["message"],
        });
        if let Some(offset) = state.offset {
            ask["offset"] = offset.into();
        }
        let answer = self.api.poll(&ask, held, &line.cancel());
        let batch = match answer.map_err(Error::from).and_then(|bytes| batch(&bytes, state)) {
            Ok(batch) => batch,
            // One update that can't be read must not hold the others: from now on one by one.
            Err(e) if e.kind == ErrorKind::Permanent && state.single == 0 && is_unreadable(&e) => {
                log::warn!(channel = line.parts.name.as_str(); "a batch of updates can't be read; they are asked for one by one: {e}");
                state.single = SINGLE;
                return Ok(());
            }
            Err(e) if is_unreadable(&e) => return Err(Error { kind: ErrorKind::Transient, ..e }),
            Err(e) => return Err(e),
        };
        if state.offset.is_some() {
            crash::point("channel.acknowledged");
        }
        state.single = state.single.saturating_sub(1);
        state.answered = true;
        line.connected();
        self.take_all(line, state, batch)
    }

    fn take_all(&self, line: &Line, state: &mut State, batch: Vec<Value>) -> Result<()> {
        if batch.is_empty() {
            state.offset = None;
            return Ok(());
        }
        let ids: Vec<i64> = batch.iter().filter_map(number).collect();
        if ids.is_empty() {
            return Err(Error::new(ErrorKind::Transient, "the server gave updates without numbers").hint("check apiRoot"));
        }
        // What was confirmed and comes all the same must not make a storm.
        if ids == state.last && state.not_now == 0 && line.pause(NOT_NOW_MAX) {
            return Ok(());
        }
        state.last.clone_from(&ids);
        let known = state.known.take().filter(|known| ids.contains(known));
        let mut skipping = known.is_some();
        let mut behind = None; // a cursor that no message carried
        for (at, update) in batch.iter().enumerate() {
            let Some(id) = number(update) else {
                log::warn!(channel = line.parts.name.as_str(); "an update without a number was passed over");
                continue;
            };
            if skipping {
                skipping = Some(id) != known;
                continue;
            }
            if line.cancel().is_set() {
                return Ok(()); // the rest is not confirmed
            }
            match self.take(line, state, update, id) {
                Ok(true) => behind = None,
                Ok(false) => behind = Some(id),
                Err(why) => return self.not_now(line, state, &batch[at..], &why),
            }
        }
        if let Some(id) = behind
            && let Err(e) = line.parts.inlet.set_cursor(&line.parts.name, &state.me.cursor(id))
        {
            log::warn!(channel = line.parts.name.as_str(); "the cursor could not be kept; nothing is lost by it: {e}");
        }
        state.not_now = 0;
        state.offset = ids.iter().max().map(|id| id.saturating_add(1));
        Ok(())
    }

    /// Takes one; whether the inlet committed its cursor.
    fn take(&self, line: &Line, state: &State, update: &Value, id: i64) -> Result<bool, String> {
        let incoming = match read(update, id, &state.me) {
            Kind::Message(incoming) => *incoming,
            Kind::NotForUs => return Ok(false),
            Kind::Poison => {
                log::error!(channel = line.parts.name.as_str(), update_id = id; "update {id} is not as documented and was passed over");
                return Ok(false);
            }
        };
        let target = Target::of(&incoming.sender, incoming.conversation.as_deref());
        match line.parts.inlet.take(&line.parts.name, incoming) {
            Ok(Taken::Tell(text)) => {
                if let Ok(target) = target {
                    send_hint(&self.api, &target, &text);
                }
                Ok(true)
            }
            Ok(Taken::Accepted(_) | Taken::Ignored(_)) => Ok(true),
            Err(not_now) => Err(not_now.0),
        }
    }

    /// Confirms what was taken before `left`, and waits a moment.
    fn not_now(&self, line: &Line, state: &mut State, left: &[Value], why: &str) -> Result<()> {
        log::warn!(channel = line.parts.name.as_str(); "messages can't be taken now and wait at the service: {why}");
        // An offset confirms all below it: out of order, what is left may be below what was taken.
        state.offset = left.iter().filter_map(number).min();
        state.known = None;
        let pause = NOT_NOW_MIN.saturating_mul(1 << state.not_now.min(8)).min(NOT_NOW_MAX);
        state.not_now = state.not_now.saturating_add(1);
        line.pause(pause);
        Ok(())
    }
}

fn number(update: &Value) -> Option<i64> {
    update["update_id"].as_i64()
}

/// The updates of an answer. Of one that is no JSON and holds one update alone, that one is passed over.
fn batch(bytes: &[u8], state: &State) -> Result<Vec<Value>> {
    let unreadable = || Error::new(ErrorKind::Permanent, UNREADABLE).hint("check apiRoot");
    match result(bytes) {
        Ok(Value::Array(batch)) => Ok(batch),
        Ok(_) => Err(Error::new(ErrorKind::Transient, "getUpdates answered without a list").hint("check apiRoot")),
        Err(_) if state.single == 0 => Err(unreadable()),
        Err(_) => {
            let id = number_in(&String::from_utf8_lossy(bytes)).ok_or_else(unreadable)?;
            Ok(vec![json!({"update_id": id, "message": null})]) // read as poison
        }
    }
}

const UNREADABLE: &str = "what getUpdates answered can't be read";

fn is_unreadable(e: &Error) -> bool {
    e.text == UNREADABLE || e.text.contains("with more than")
}

/// The first `"update_id"` of a text that is no JSON.
fn number_in(text: &str) -> Option<i64> {
    let rest = text.split_once("\"update_id\"")?.1.trim_start().strip_prefix(':')?.trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

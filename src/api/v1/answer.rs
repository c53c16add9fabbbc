//! From a request that was understood to its answer, whole or in chunks: commit, deltas, the turn's end and the caller's going
//! meet here, in any order.
//!
//! Invariant: a 200 leaves after the commit alone; the caller is answered once. What was streamed is never taken back or doubled:
//! where a try fails after some of its text went out and the next one says something else, the stream ends with an error event.
//! Nothing here blocks, so all of it may run on the door's thread or a turn's. Fails with OpenAI's error shape, in an event where
//! the head is out already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::agent::tools::APPROVAL_WAIT;
use crate::api::error::ApiError;
use crate::api::v1::shape::{self, About};
use crate::api::v1::{PREFIX, Wish};
use crate::api::{Call, finish};
use crate::domain::Accepted;
use crate::flow::Flow;
use crate::flow::ingress::{Arrival, Refused};
use crate::flow::listeners::Heard;
use crate::flow::waiters::{Reply, Waited};
use crate::net::http::{Response, Stream};

/// What a caller waits beyond its agent's `turnTimeout`: for its session's turn, and for another try.
const MARGIN: Duration = Duration::from_secs(30);
/// The most of a streamed text that is remembered; what comes beyond is sent with the whole reply.
const SAID_MAX: usize = 1024 * 1024;
/// What proxies log for a caller that went before its answer.
const CLIENT_CLOSED: u16 = 499;

/// One request under way.
struct Answering {
    flow: Arc<Flow>,
    wish: Wish,
    deadline: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    about: About,
    /// The message that is waited for.
    id: String,
    /// Until it is answered or streamed to.
    call: Option<Call>,
    stream: Option<Stream>,
    accepted: Option<Accepted>,
    waited: Option<Waited>,
    /// The text that went out, or will with the head.
    said: String,
    /// Deltas are not passed on any more.
    is_muted: bool,
    /// A try failed after some of its text went out.
    is_anew: bool,
    is_gone: bool,
}

/// Puts the request to the inbox and sees it answered.
pub(super) fn take(flow: &Arc<Flow>, call: Call, arrival: Arrival, wish: Wish) {
    let agent = arrival.agent.clone().unwrap_or_default();
    let mut wait = flow.agents.get().turn_timeout(&agent) + MARGIN;
    if wish.stream {
        wait += APPROVAL_WAIT; // it is kept alive meanwhile
    }
    let about = About {
        id: String::new(),
        model: format!("{PREFIX}{agent}"),
        created: flow.clock.unix_ms() / 1000,
        include_usage: wish.include_usage,
    };
    let answering = Arc::new(Answering {
        flow: flow.clone(),
        wish,
        deadline: flow.clock.mono() + wait,
        state: Mutex::new(State { about, call: Some(call), ..State::default() }),
    });
    let parked = {
        let answering = answering.clone();
        move |id: &str| {
            answering.watch_caller();
            answering.wait_for(id);
        }
    };
    flow.accept(arrival, parked, move |result| answering.committed(result));
}

impl Answering {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch_caller(self: &Arc<Self>) {
        // Weak: what watches must not own the responder that it watches.
        let watcher: Weak<Self> = Arc::downgrade(self);
        if let Some(responder) = self.lock().call.as_ref().and_then(|c| c.responder.as_ref()) {
            responder.on_gone(move || {
                if let Some(answering) = watcher.upgrade() {
                    answering.gone();
                }
            });
        }
    }

    fn wait_for(self: &Arc<Self>, id: &str) {
        self.lock().id = id.to_string();
        let ended = self.clone();
        self.flow.waiters.park(id, self.deadline, Box::new(move |waited| ended.ended(waited)));
        if self.wish.stream {
            let listening = self.clone();
            let now = self.flow.clock.mono();
            self.flow.listeners.listen(id, now, Box::new(move |heard| listening.heard(heard)));
        }
        self.flow.nudge_timer();
    }

    fn committed(self: &Arc<Self>, result: Result<Accepted, Refused>) {
        match result {
            Err(e) => {
                let (call, id) = {
                    let mut state = self.lock();
                    (state.call.take(), std::mem::take(&mut state.id))
                };
                self.flow.waiters.forget(&id);
                self.flow.listeners.forget(&id);
                if let Some(call) = call {
                    call.answer(Err(e.into()));
                }
            }
            Ok(accepted) => {
                if accepted.duplicate {
                    // Its first one may be answered already, or be on its way: wait for that one.
                    let own = std::mem::take(&mut self.lock().id);
                    self.flow.waiters.forget(&own);
                    self.flow.listeners.forget(&own);
                    self.wait_for(&accepted.id);
                    self.flow.look_up_reply(&accepted.id);
                }
                self.begin(accepted);
            }
        }
    }

    /// The message is on disk.
    fn begin(&self, accepted: Accepted) {
        let mut state = self.lock();
        let id = accepted.id.clone();
        state.about.id = format!("chatcmpl-{id}");
        state.accepted = Some(accepted);
        if state.is_gone {
            drop(state);
            return self.give_up(&id, "the caller hung up");
        }
        if self.wish.stream
            && state.waited.is_none()
            && let Some((responder, head)) = state.call.take().and_then(|mut c| Some((c.responder.take()?, c.request.head)))
        {
            let events = Response::new(200, "text/event-stream; charset=utf-8", &b""[..]).with("X-Accel-Buffering", "no");
            let stream = responder.stream(finish(Ok(events), &head));
            stream.send(shape::first(&state.about) + &shape::piece(&state.about, &state.said));
            state.stream = Some(stream);
        }
        self.end_if_due(state);
    }

    fn ended(&self, waited: Waited) {
        let mut state = self.lock();
        state.waited.get_or_insert(waited);
        self.end_if_due(state);
    }

    fn heard(&self, heard: Heard<'_>) {
        let mut state = self.lock();
        match heard {
            Heard::Delta(text) if !state.is_muted && state.said.len() + text.len() <= SAID_MAX => {
                state.said.push_str(text);
                if let Some(stream) = &state.stream {
                    stream.send(shape::piece(&state.about, text));
                }
            }
            Heard::Delta(_) => state.is_muted = true,
            Heard::Anew if state.stream.is_none() => state.said.clear(),
            Heard::Anew => {
                state.is_anew |= !state.said.is_empty();
                state.is_muted |= state.is_anew;
            }
            Heard::Waiting => {
                if let Some(stream) = &state.stream {
                    stream.send(": waiting\n\n");
                }
            }
        }
    }

    /// Answers once the commit and the turn's end are both known.
    fn end_if_due(&self, mut state: MutexGuard<'_, State>) {
        if state.accepted.is_none() || state.is_gone {
            return;
        }
        let Some(waited) = state.waited.clone() else { return };
        let (stream, call) = (state.stream.take(), state.call.take());
        let timed_out = waited == Waited::TimedOut;
        let id = state.id.clone();
        if stream.is_none() && call.is_none() {
            return;
        }
        let result = self.outcome(&state, waited);
        if let Some(stream) = stream {
            stream.finish(match &result {
                Ok(reply) => match rest_of(&state, &reply.text) {
                    Some(rest) => shape::piece(&state.about, &rest) + &shape::last(&state.about, reply),
                    None => error_event(&ApiError::new(502, "The answer broke off and was begun anew; ask again")),
                },
                Err(e) => error_event(e),
            });
        } else if let Some(call) = call {
            let response = self.whole(&state.about, result, &call);
            call.answer(Ok(response));
        }
        drop(state);
        self.flow.listeners.forget(&id);
        if timed_out && self.wish.forget {
            self.give_up(&id, "nobody waits for it any more");
        }
    }

    fn outcome(&self, state: &State, waited: Waited) -> Result<Reply, ApiError> {
        let repeated = state.accepted.as_ref().is_some_and(|a| a.duplicate);
        match waited {
            Waited::Reply(reply) if repeated && self.wish.forget && reply.text.is_empty() => {
                Err(ApiError::new(409, "This Idempotency-Key was answered already, and nothing of it was kept"))
            }
            Waited::Reply(reply) => Ok(reply),
            Waited::Failed { timed_out, reason } => Err(ApiError::new(if timed_out { 504 } else { 502 }, reason)),
            Waited::TimedOut => Err(ApiError::new(504, format!("No reply in time; GET /api/messages/{} tells more", state.id))),
        }
    }

    /// A whole answer, for a caller that wants no chunks or whose turn ended before its stream began.
    fn whole(&self, about: &About, result: Result<Reply, ApiError>, call: &Call) -> Response {
        let head = &call.request.head;
        match result {
            Ok(reply) if self.wish.stream => {
                let events = shape::first(about) + &shape::piece(about, &reply.text) + &shape::last(about, &reply);
                Response::new(200, "text/event-stream; charset=utf-8", events.into_bytes())
            }
            Ok(reply) => Response::json(200, &shape::completion(about, &reply)),
            // The message was taken: OpenAI's clients would send it again by themselves, and have it handled twice.
            Err(e) => e.response(&head.path, &head.request_id).with("X-Should-Retry", "false"),
        }
    }

    /// The caller closed its connection.
    fn gone(&self) {
        let (call, stream, id, accepted) = {
            let mut state = self.lock();
            state.is_gone = true;
            (state.call.take(), state.stream.take(), state.id.clone(), state.accepted.is_some())
        };
        if call.is_none() && stream.is_none() {
            return; // answered just now
        }
        self.flow.listeners.forget(&id);
        drop(stream);
        if let Some(call) = call {
            call.answer(Err(ApiError::new(CLIENT_CLOSED, "The caller closed the connection")));
        }
        if accepted {
            self.give_up(&id, "the caller hung up");
        }
    }

    /// Nobody wants the answer. A message with a key may be asked for again, and is handled to its end.
    fn give_up(&self, id: &str, why: &str) {
        if !self.wish.keyed {
            self.flow.cancel_message(id, why);
        }
    }
}

/// What of the reply is still to be sent behind what was; `None` where that was the beginning of another text.
fn rest_of(state: &State, reply: &str) -> Option<String> {
    let said = state.said.as_str();
    if let Some(rest) = reply.strip_prefix(said) {
        return Some(rest.to_string());
    }
    if let Some(rest) = reply.trim_start().strip_prefix(said.trim()) {
        return Some(rest.trim_end().to_string());
    }
    match state.is_anew {
        true => None,
        // Rounds with tools: what was said before a call went out as well.
        false if said.trim_end().ends_with(reply.trim()) => Some(String::new()),
        false => Some(format!("\n\n{reply}")),
    }
}

fn error_event(error: &ApiError) -> String {
    shape::event(&error.openai_body())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(said: &str, is_anew: bool, reply: &str, rest: Option<&str>) {
        let state = State { said: said.into(), is_anew, ..State::default() };
        assert_eq!(rest_of(&state, reply).as_deref(), rest, "{said:?} {is_anew} {reply:?}");
    }

    #[test]
    fn what_was_streamed_is_neither_doubled_nor_taken_back() {
        check("", false, "hi there", Some("hi there"));
        check("hi ", false, "hi there", Some("there"));
        check("hi there", false, "hi there", Some(""));
        check(" hi there\n", false, "hi there", Some(""));
        check("hi th", true, "hi there", Some("ere"));
        check("half ", true, "hi there", None);
        check("Let me look. It is 5.", false, "It is 5.", Some(""));
        check("Let me look.", false, "It is 5.", Some("\n\nIt is 5."));
        check("", true, "hi", Some("hi"));
    }
}

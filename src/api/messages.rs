//! Messages over HTTP: the webhook, the gateway speaking first, the life of a message.
//!
//! Invariant: a 2xx on a message leaves only after its commit. An unknown channel and a wrong credential answer alike. Callers
//! who wait are parked, not held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::{Api, Call, body};
use crate::base::ids::new_id;
use crate::channel::Channel;
use crate::channel::webhook::Verdict;
use crate::domain::{Accepted, Delivery, MessageState, Role, Standing};
use crate::flow::ingress::{Arrival, Refused};
use crate::flow::outbound::Announcement;
use crate::flow::waiters::Waited;
use crate::net::http::{Head, Response};
use crate::store::{Listed, Page};
use crate::telemetry::metrics::Intake;

/// The longest that a caller can wait for a reply.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// The longest message, in bytes.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// `POST /webhook/:channel`.
pub fn webhook(api: &Arc<Api>, call: Call) {
    match arrival(api, &call) {
        Ok((arrival, _)) if is_deliver_only(api, &arrival.channel) => forward(api, call, arrival),
        Ok((arrival, wait)) => take(api, call, arrival, wait),
        Err(e) => call.answer(Err(e)),
    }
}

/// Checks the credential and reads the message.
fn arrival(api: &Arc<Api>, call: &Call) -> Result<(Arrival, Option<Duration>), ApiError> {
    let (head, name) = (&call.request.head, call.params[0].as_str());
    let channels = api.flow.channels.get();
    let Some(channel) = channels.webhook(name) else { return Err(refused(api, call)) };
    let verdict = channel.verify(|header| head.header(header), &call.request.body);
    match verdict {
        Verdict::Signed(_) | Verdict::Hub | Verdict::Token => {}
        Verdict::Unprotected if call.principal.is_some() => {}
        Verdict::Unprotected | Verdict::Refused => return Err(refused(api, call)),
    }
    let key = head.header("webhook-id").or(head.header("idempotency-key"));
    let message = channel
        .parse(&call.request.body, &verdict, key)
        .map_err(|problems| ApiError::invalid(problems.into_iter().map(|p| (p.path, p.message)).collect()))?;
    // Where the channel has no credential of its own, the gateway's token decides whose messages these may be.
    if verdict == Verdict::Unprotected
        && let Some(p) = &call.principal
        && p.role == Role::User
        && p.id != message.user_id
    {
        return Err(ApiError::forbidden("A user writes for itself alone"));
    }
    let user = api.flow.settings.get().routes.user(name, &message.user_id);
    if let Some(verdict) = api.flow.over_rate(&format!("webhook:{name}:{user}")) {
        return Err(ApiError::rate_limited(verdict));
    }
    let wait = wait_of(head)?;
    let arrival = Arrival {
        channel: name.to_string(),
        peer: message.user_id,
        user_id: Some(user),
        is_bare: false,
        conversation: message.conversation_id,
        external_id: message.external_id,
        text: message.message,
        metadata: message.metadata,
        standing: standing(&verdict, call),
        attachments: Vec::new(),
        cursor: None,
        agent: None,
    };
    Ok((arrival, wait))
}

/// How far a webhook's sender is known. Whoever holds the channel's credential names the user, so it vouches for a user at most.
fn standing(verdict: &Verdict, call: &Call) -> Standing {
    let by_token = call.principal.as_ref().is_some_and(|p| p.credential.is_some());
    match verdict {
        Verdict::Unprotected if !by_token => Standing::Unverified,
        _ => Standing::User,
    }
}

/// Whether a request brings anything that could be a channel's credential.
pub fn has_credential(head: &Head) -> bool {
    ["authorization", "webhook-signature", "x-hub-signature-256"].iter().any(|h| head.header(h).is_some())
}

/// 401, the same for an unknown channel and a wrong credential; whoever sent a credential has spent one try.
fn refused(api: &Api, call: &Call) -> ApiError {
    let head = &call.request.head;
    let login = if has_credential(head) { api.auth.failed(call.address) } else { crate::auth::Login::Missing };
    api.refused(login, call.address, &head.path)
}

/// How long the caller wants to wait: `?wait=MS`, or `Prefer: wait=S`.
fn wait_of(head: &Head) -> Result<Option<Duration>, ApiError> {
    let number = |text: &str, at: &str| {
        text.trim().parse::<u64>().map_err(|_| ApiError::invalid_at(at, "expected a whole number of at least 0"))
    };
    if let Some(ms) = head.query_value("wait") {
        return Ok(Some(Duration::from_millis(number(&ms, "?wait")?).min(WAIT_MAX)));
    }
    let preferred =
        head.header("prefer").into_iter().flat_map(|v| v.split([',', ';'])).find_map(|p| p.trim().strip_prefix("wait="));
    // A preference that can't be read is ignored (RFC 7240).
    Ok(preferred.and_then(|s| number(s, "Prefer").ok()).map(|s| Duration::from_secs(s).min(WAIT_MAX)))
}

/// What is known of a message when its caller's answer is due: the two sides (commit, wait) meet here.
struct Meeting {
    call: Option<Call>,
    /// The id under which the caller was parked.
    parked_as: Option<String>,
    accepted: Option<Accepted>,
    waited: Option<Waited>,
}

impl Meeting {
    /// Answers once both sides are there, or the commit failed, or nobody waits.
    fn answer_if_due(meeting: &Arc<Mutex<Meeting>>) {
        let mut m = lock(meeting);
        let (Some(accepted), Some(waited)) = (m.accepted.clone(), m.waited.clone()) else { return };
        let Some(call) = m.call.take() else { return };
        drop(m);
        call.answer(answer_of(&accepted, waited));
    }
}

fn lock(meeting: &Mutex<Meeting>) -> MutexGuard<'_, Meeting> {
    meeting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer_of(accepted: &Accepted, waited: Waited) -> Result<Response, ApiError> {
    let mut body = json!({
        "id": accepted.id,
        "sessionId": accepted.session_id,
        "status": if accepted.duplicate { "duplicate" } else { "accepted" },
    });
    match waited {
        Waited::TimedOut => Ok(Response::json(202, &body)),
        Waited::Reply(reply) => {
            body["reply"] = json!(reply.text);
            Ok(Response::json(200, &body))
        }
        Waited::Failed { timed_out, reason } => Err(ApiError::new(if timed_out { 504 } else { 502 }, reason)),
    }
}

fn take(api: &Arc<Api>, call: Call, arrival: Arrival, wait: Option<Duration>) {
    let wait = wait.filter(|w| !w.is_zero());
    let waited = if wait.is_none() { Some(Waited::TimedOut) } else { None };
    let meeting = Arc::new(Mutex::new(Meeting { call: Some(call), parked_as: None, accepted: None, waited }));
    let flow = api.flow.clone();
    let deadline = wait.map(|w| flow.clock.mono() + w);
    let park = {
        let (meeting, flow) = (meeting.clone(), flow.clone());
        move |id: &str| {
            let Some(deadline) = deadline else { return };
            lock(&meeting).parked_as = Some(id.to_string());
            let then = move |waited| {
                lock(&meeting).waited = Some(waited);
                Meeting::answer_if_due(&meeting);
            };
            flow.waiters.park(id, deadline, Box::new(then));
            flow.nudge_timer();
        }
    };
    let done_park = park.clone();
    let done_flow = flow.clone();
    let done = move |result: Result<Accepted, Refused>| match result {
        Err(e) => {
            let (call, parked_as) = {
                let mut m = lock(&meeting);
                (m.call.take(), m.parked_as.take())
            };
            parked_as.iter().for_each(|id| done_flow.waiters.forget(id));
            if let Some(call) = call {
                call.answer(Err(e.into()));
            }
        }
        Ok(accepted) => {
            let repeat = accepted.duplicate && deadline.is_some();
            let id = accepted.id.clone();
            let parked_as = {
                let mut m = lock(&meeting);
                m.accepted = Some(accepted);
                m.parked_as.take()
            };
            if repeat {
                parked_as.iter().for_each(|own| done_flow.waiters.forget(own));
                // Its first one may be answered already, or be on its way: wait for that one, and let the timer look.
                done_park(&id);
                done_flow.look_up_reply(&id);
            }
            Meeting::answer_if_due(&meeting);
        }
    };
    flow.accept(arrival, park, done);
}

fn is_deliver_only(api: &Api, channel: &str) -> bool {
    api.flow.channels.get().webhook(channel).is_some_and(|c| c.is_deliver_only())
}

/// What came in goes straight to its user, where they were last seen; the same message id is the same delivery. On the errands'
/// thread, since it reads the store.
fn forward(api: &Arc<Api>, call: Call, arrival: Arrival) {
    if let Some(why) = api.flow.refusal() {
        return call.answer(Err(ApiError::new(503, format!("Not now: {why}"))));
    }
    let flow = api.flow.clone();
    let (call, own_id) = (Arc::new(Mutex::new(Some(call))), new_id("dlv", flow.clock.unix_ms()));
    let answer = {
        let call = call.clone();
        move |result| {
            let call = call.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(call) = call {
                call.answer(result);
            }
        }
    };
    let refuse = answer.clone();
    let caller = format!("webhook:{}", arrival.channel);
    let work = move || {
        let what = Announcement {
            user_id: arrival.user_id.unwrap_or_default(),
            text: arrival.text,
            channel: None,
            key: arrival.external_id.map(|id| (caller, id)),
        };
        let (name, metrics, channels) = (arrival.channel, flow.metrics.clone(), flow.channels.get());
        flow.announce_as(own_id.clone(), what, move |result| {
            let is_repeat = result.as_ref().is_ok_and(|deliveries| deliveries.first().is_some_and(|d| d.id != own_id));
            let intake = match (&result, is_repeat) {
                (Err(_), _) => Intake::Rejected,
                (Ok(_), true) => Intake::Duplicate,
                (Ok(_), false) => Intake::Accepted,
            };
            metrics.message(&name, intake);
            if let (Intake::Accepted, Some(channel)) = (intake, channels.webhook(&name)) {
                channel.note_received();
            }
            let status = if is_repeat { "duplicate" } else { "accepted" };
            answer(result.map_err(ApiError::from).map(|deliveries| announced(&deliveries, Some(status))));
        });
    };
    if api.flow.errand(Box::new(work)).is_err() {
        refuse(Err(ApiError::new(503, "Too much at once. Nothing was taken; try again")));
    }
}

/// What was put to the outbox, as answers have it.
fn announced(deliveries: &[Delivery], status: Option<&str>) -> Response {
    let list: Vec<_> = deliveries.iter().map(|d| json!({"id": d.id, "channel": d.channel, "state": d.state})).collect();
    let mut body = json!({"id": deliveries.first().map(|d| &d.id), "deliveries": list});
    if let Some(status) = status {
        body["status"] = json!(status);
    }
    Response::json(202, &body)
}

/// `POST /api/message`.
pub fn announce(api: &Arc<Api>, call: Call) {
    match announcement(api, &call) {
        Err(e) => call.answer(Err(e)),
        Ok(what) => {
            api.flow.announce(what, move |result| {
                call.answer(result.map_err(ApiError::from).map(|deliveries| announced(&deliveries, None)));
            });
        }
    }
}

fn announcement(api: &Api, call: &Call) -> Result<Announcement, ApiError> {
    if api.flow.is_draining() {
        return Err(ApiError::new(503, "The gateway is stopping"));
    }
    let value = body::json(&call.request.body)?;
    let mut fields = body::Fields::of(&value);
    let (user_id, text) = (fields.id("userId"), fields.text("message", TEXT_BYTES_MAX));
    let channel = fields.optional_text("channel", 64);
    let key = fields.optional_text("idempotencyKey", 256);
    fields.end()?;
    if !call.may_see(&user_id) {
        return Err(ApiError::forbidden("A user writes to itself alone"));
    }
    if let Some(name) = channel.as_deref()
        && api.flow.channels.get().get(name).is_none()
    {
        return Err(ApiError::invalid_at("$.channel", format!("there is no channel {name}")));
    }
    let key = key.or_else(|| call.request.head.header("idempotency-key").map(str::to_string));
    Ok(Announcement { user_id, text, channel, key: key.map(|k| (call.actor(), k)) })
}

/// `GET /api/messages/:id`.
///
/// # Errors
/// 404, also for a message of somebody else's.
pub fn life(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let message = api.flow.store.message(&call.params[0])?;
    if !call.may_see(&message.user_id) {
        return Err(ApiError::not_found());
    }
    Ok(Response::json(200, &json!(message)))
}

/// `POST /api/messages/:id/retry`.
///
/// # Errors
/// 404; 409 where it isn't failed.
pub fn retry(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let id = &call.params[0];
    api.flow.retry_message(id)?;
    super::admin::note(api, call, "message.retried", json!({"messageId": id}));
    Ok(Response::json(200, &json!(api.flow.store.message(id)?)))
}

/// `GET /api/messages`.
///
/// # Errors
/// 400 for an unknown state or a bad cursor.
pub fn list(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let state = match call.request.head.query_value("state") {
        None => None,
        Some(name) => Some(MessageState::parse(&name).ok_or_else(|| ApiError::invalid_at("?state", "there is no such state"))?),
    };
    Ok(listed("messages", api.flow.store.messages(state, page(call)?)?))
}

/// The page that a list's query asks for.
///
/// # Errors
/// 400.
pub fn page(call: &Call) -> Result<Page, ApiError> {
    let limit = match call.request.head.query_value("limit") {
        None => 50,
        Some(text) => match text.parse::<usize>() {
            Ok(limit @ 1..=500) => limit,
            _ => return Err(ApiError::invalid_at("?limit", "expected a whole number from 1 to 500")),
        },
    };
    let cursor = call.request.head.query_value("cursor").filter(|c| !c.is_empty());
    if cursor.as_ref().is_some_and(|c| c.len() > 256) {
        return Err(ApiError::invalid_at("?cursor", "is not a cursor of ours"));
    }
    Ok(Page { cursor, limit })
}

/// A page of a list, as answers have it.
pub fn listed<T: serde::Serialize>(name: &str, list: Listed<T>) -> Response {
    let mut body = serde_json::Map::new();
    body.insert(name.to_string(), json!(list.items));
    body.insert("next".to_string(), list.next.map_or(Value::Null, Value::String));
    Response::json(200, &Value::Object(body))
}

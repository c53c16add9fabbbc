//! Memory: what agents keep about a user, as its owner and operators see and change it.
//!
//! Invariant: a user reaches its own notes alone; of others it learns nothing, not even that they exist. A change leaves a trace,
//! without the text.

use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::messages::{listed, page};
use crate::api::{Api, Call, body};
use crate::base::ids::new_id;
use crate::domain::{NOTE_BYTES_MAX, Note, WEBSOCKET_CHANNEL};
use crate::net::http::Response;

/// `GET /api/memory`: the caller's own notes, or those of `?userId=`; with one `?agent=` or all.
///
/// # Errors
/// 403 for somebody else's; 400 for a bad cursor.
pub fn list(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let head = &call.request.head;
    let user = owner(call, head.query_value("userId"))?;
    let agent = head.query_value("agent").filter(|a| !a.is_empty());
    Ok(listed("memory", api.flow.store.notes(&user, agent.as_deref(), page(call)?)?))
}

/// `POST /api/memory`: without an `agent`, the one that answers the user.
///
/// # Errors
/// 400; 403 for somebody else's; 409 where the user has too many.
pub fn add(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let value = body::json(&call.request.body)?;
    let mut fields = body::Fields::of(&value);
    let named = value.get("userId").is_some_and(|u| !u.is_null());
    let user = named.then(|| fields.id("userId"));
    let (agent, text) = (fields.optional_text("agent", 64), fields.text("text", NOTE_BYTES_MAX));
    fields.end()?;
    let user = owner(call, user)?;
    let agent = agent_of(api, &user, agent)?;
    let now_ms = api.flow.clock.unix_ms();
    let note = Note { id: new_id("not", now_ms), user_id: user, agent, text, created_ms: now_ms, updated_ms: now_ms };
    api.flow.store.add_note(note.clone())?;
    trace(api, call, "memory.added", &note);
    Ok(Response::json(201, &json!(note)))
}

/// `PUT /api/memory/:id`.
///
/// # Errors
/// 400; 404, also for somebody else's.
pub fn change(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let value: Value = body::json(&call.request.body)?;
    let mut fields = body::Fields::of(&value);
    let text = fields.text("text", NOTE_BYTES_MAX);
    fields.end()?;
    let note = own(api, call)?;
    let note = api.flow.store.change_note(&note.id, &text)?;
    trace(api, call, "memory.changed", &note);
    Ok(Response::json(200, &json!(note)))
}

/// `DELETE /api/memory/:id`.
///
/// # Errors
/// 404 likewise.
pub fn forget(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let note = own(api, call)?;
    api.flow.store.forget_note(&note.id)?;
    trace(api, call, "memory.forgotten", &note);
    Ok(Response::empty(204))
}

fn trace(api: &Api, call: &Call, action: &str, note: &Note) {
    super::admin::note(api, call, action, json!({"noteId": note.id, "userId": note.user_id, "agent": note.agent}));
}

/// Whose it is about: the named one, or the caller.
///
/// # Errors
/// 403.
pub(super) fn owner(call: &Call, named: Option<String>) -> Result<String, ApiError> {
    let own = call.principal.as_ref().map(|p| p.id.clone());
    let user = named.filter(|u| !u.is_empty()).or(own).ok_or_else(ApiError::unauthorized)?;
    if call.may_see(&user) { Ok(user) } else { Err(ApiError::forbidden("A user sees what is its own alone")) }
}

/// The note that the path names, if the caller may see it.
fn own(api: &Api, call: &Call) -> Result<Note, ApiError> {
    let note = api.flow.store.note(&call.params[0])?;
    if call.may_see(&note.user_id) { Ok(note) } else { Err(ApiError::not_found()) }
}

fn agent_of(api: &Api, user: &str, named: Option<String>) -> Result<String, ApiError> {
    let settings = api.flow.settings.get();
    let agent = named.or_else(|| settings.routes.agent(WEBSOCKET_CHANNEL, user).map(str::to_string));
    match agent {
        Some(agent) if api.flow.agents.get().has(&agent) => Ok(agent),
        Some(agent) => Err(ApiError::invalid_at("$.agent", format!("there is no agent {agent}"))),
        None => Err(ApiError::invalid_at("$.agent", "is missing")),
    }
}

//! The OpenAI-compatible face: agents as models, a request as an inbound message like any other.
//!
//! Invariant: same promise, same roles, same limits as everywhere: the head of a 2xx leaves after the commit, and `user` names
//! nobody whom the principal may not speak for. A caller, streaming or not, is parked and holds no thread. A session is kept only
//! where `user` is given; else the request's own messages are the history and nothing stays. Errors bear OpenAI's shape
//! (`api/error`).

mod answer;
mod ask;
mod shape;

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::api::error::ApiError;
use crate::api::v1::ask::Question;
use crate::api::{Api, Call, body};
use crate::base::ids::new_id;
use crate::domain::{ID_BYTES_MAX, OPENAI_CHANNEL, Principal, Role, Standing};
use crate::flow::ingress::Arrival;
use crate::net::http::Response;

/// What stands before an agent's name in a model's.
const PREFIX: &str = "gatelet/";

/// `POST /v1/chat/completions`.
pub fn chat(api: &Arc<Api>, call: Call) {
    match arrival(api, &call) {
        Ok((arrival, wish)) => answer::take(&api.flow, call, arrival, wish),
        Err(e) => call.answer(Err(e)),
    }
}

/// How a request is to be answered.
struct Wish {
    /// As chunks.
    stream: bool,
    /// With a chunk for the usage.
    include_usage: bool,
    /// Whether nothing of it is kept.
    forget: bool,
    /// Whether it has a key under which it may come again: then its caller's going changes nothing.
    keyed: bool,
}

fn arrival(api: &Api, call: &Call) -> Result<(Arrival, Wish), ApiError> {
    let principal = call.principal.as_deref().ok_or_else(ApiError::unauthorized)?;
    let question = ask::read(&body::json(&call.request.body)?)?;
    let user = user_of(&question, principal)?;
    let agent = agent_of(api, &question.model, &user)?;
    let key = key_of(call)?;
    let kept = question.user.is_some();
    let wish = Wish { stream: question.stream, include_usage: question.include_usage, forget: !kept, keyed: key.is_some() };
    let arrival = Arrival {
        channel: OPENAI_CHANNEL.into(),
        peer: user.clone(),
        is_bare: false,
        conversation: (!kept).then(|| conversation(api, principal, key.as_deref())),
        external_id: key,
        text: question.text,
        metadata: Some(question.asked.to_metadata()),
        // Whoever speaks for somebody else lends them no rights.
        attachments: Vec::new(),
        cursor: None,
        standing: if user == principal.id { principal.role.into() } else { Standing::User },
        user_id: Some(user),
        agent: Some(agent),
    };
    Ok((arrival, wish))
}

fn user_of(question: &Question, principal: &Principal) -> Result<String, ApiError> {
    match &question.user {
        Some(user) if principal.role == Role::User && *user != principal.id => {
            Err(ApiError::forbidden("user: a user speaks for itself alone"))
        }
        Some(user) => Ok(user.clone()),
        None => Ok(principal.id.clone()),
    }
}

fn agent_of(api: &Api, model: &str, user: &str) -> Result<String, ApiError> {
    let agents = api.flow.agents.get();
    let name = model.strip_prefix(PREFIX).unwrap_or(model);
    if agents.has(name) {
        return Ok(name.to_string());
    }
    let bound = matches!(name, "gatelet" | "default")
        .then(|| api.flow.settings.get().routes.agent(OPENAI_CHANNEL, user).map(str::to_string))
        .flatten();
    bound.filter(|agent| agents.has(agent)).ok_or_else(|| no_model(model))
}

fn no_model(model: &str) -> ApiError {
    let message = format!("The model `{model}` does not exist; GET /v1/models lists those that do");
    ApiError { is_model: true, ..ApiError::new(404, message) }
}

fn key_of(call: &Call) -> Result<Option<String>, ApiError> {
    match call.request.head.header("idempotency-key") {
        None => Ok(None),
        Some(key) if key.is_empty() || key.len() > ID_BYTES_MAX || key.chars().any(char::is_control) => {
            Err(ApiError::invalid_at("Idempotency-Key", format!("must have 1 to {ID_BYTES_MAX} printable bytes")))
        }
        Some(key) => Ok(Some(key.to_string())),
    }
}

/// The conversation of a request that keeps nothing: one of its own, and the same again for the same key.
fn conversation(api: &Api, principal: &Principal, key: Option<&str>) -> String {
    let Some(key) = key else { return new_id("once", api.flow.clock.unix_ms()) };
    let digest = Sha256::digest(format!("{}\0{key}", principal.id));
    digest.iter().take(16).fold("once_".to_string(), |id, byte| format!("{id}{byte:02x}"))
}

/// `GET /v1/models`.
///
/// # Errors
/// None of its own.
pub fn models(api: &Api, _: &Call) -> Result<Response, ApiError> {
    let agents = api.flow.agents.get();
    let data: Vec<_> = agents.names().into_iter().map(|name| model(api, name)).collect();
    Ok(Response::json(200, &json!({"object": "list", "data": data})))
}

/// `GET /v1/models/:model`.
///
/// # Errors
/// 404.
pub fn one_model(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let wanted = &call.params[0];
    let name = wanted.strip_prefix(PREFIX).unwrap_or(wanted);
    if !api.flow.agents.get().has(name) {
        return Err(no_model(wanted));
    }
    Ok(Response::json(200, &model(api, name)))
}

fn model(api: &Api, agent: &str) -> serde_json::Value {
    let started_s = (api.flow.clock.unix_ms() - api.flow.clock.mono().as_millis() as i64) / 1000;
    json!({"id": format!("{PREFIX}{agent}"), "object": "model", "created": started_s, "owned_by": "gatelet"})
}

//! What operators and admins look at and change: configuration, channels, agents, audit, logs.
//!
//! Invariant: a change leaves a trace in the audit trail; secrets are `"***"` in every answer.

use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::messages::{listed, page};
use crate::api::{Api, Call, Change};
use crate::config;
use crate::net::http::Response;
use crate::store::AuditEntry;

/// Leaves a trace.
pub fn note(api: &Api, call: &Call, action: &str, detail: Value) {
    let at_ms = api.flow.clock.unix_ms();
    api.flow.store.audit(AuditEntry { at_ms, actor: call.actor(), action: action.to_string(), detail });
}

/// `GET /api/config`.
///
/// # Errors
/// None of its own.
pub fn show_config(api: &Api, _: &Call) -> Result<Response, ApiError> {
    let (document, revision) = api.configurator.current();
    Ok(Response::json(200, &document).with("ETag", format!("\"{revision}\"")))
}

/// `PUT /api/config`.
///
/// # Errors
/// See [`crate::api::Configurator::change`].
pub fn put_config(api: &Api, call: &Call) -> Result<Response, ApiError> {
    change(api, call, Change::Replace)
}

/// `PATCH /api/config`.
///
/// # Errors
/// See [`crate::api::Configurator::change`].
pub fn patch_config(api: &Api, call: &Call) -> Result<Response, ApiError> {
    change(api, call, Change::Merge)
}

fn change(api: &Api, call: &Call, how: fn(Value) -> Change) -> Result<Response, ApiError> {
    // The configuration's own reader: it bounds the nesting, which everything behind it follows, and refuses a key given twice.
    let document = config::parse(&call.request.body)
        .map_err(|problems| ApiError::invalid(problems.into_iter().map(|p| (p.path, p.message)).collect()))?;
    let if_match = call.request.head.header("if-match").filter(|m| *m != "*");
    if is_dry_run(call)? {
        return Ok(Response::json(200, &api.configurator.preview(how(document), if_match)?));
    }
    let applied = api.configurator.change(how(document), if_match, &call.actor())?;
    let etag = format!("\"{}\"", applied["revision"].as_str().unwrap_or_default());
    Ok(Response::json(200, &applied).with("ETag", etag))
}

/// Whether the answer is wanted without the change.
fn is_dry_run(call: &Call) -> Result<bool, ApiError> {
    match call.request.head.query_value("dryRun").as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(ApiError::invalid_at("?dryRun", "expected true or false")),
    }
}

/// `GET /api/config/schema`.
///
/// # Errors
/// None.
pub fn config_schema(_: &Api, _: &Call) -> Result<Response, ApiError> {
    Ok(Response::json(200, &config::schema()))
}

/// `GET /api/channels`.
///
/// # Errors
/// None of its own.
pub fn channels(api: &Api, _: &Call) -> Result<Response, ApiError> {
    let list: Vec<_> = api.flow.channels.get().all().map(|(_, c)| c.status()).collect();
    Ok(Response::json(200, &json!({"channels": list, "next": null})))
}

/// `POST /api/channels/:name/reconnect`.
///
/// # Errors
/// 404.
pub fn reconnect(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let channels = api.flow.channels.get();
    let channel = channels.get(&call.params[0]).ok_or_else(ApiError::not_found)?;
    channel.reconnect();
    note(api, call, "channel.reconnected", json!({"channel": call.params[0]}));
    Ok(Response::json(202, &json!(channel.status())))
}

/// `GET /api/agents`.
///
/// # Errors
/// None of its own.
pub fn agents(api: &Api, _: &Call) -> Result<Response, ApiError> {
    let (agents, now) = (api.flow.agents.get(), api.flow.clock.mono());
    let (providers, servers) = (agents.provider_statuses(now), api.flow.mcp.get().status());
    let body = json!({"agents": agents.statuses(), "providers": providers, "mcp": servers, "next": null});
    Ok(Response::json(200, &body))
}

/// `GET /api/audit`.
///
/// # Errors
/// 400 for a bad cursor.
pub fn audit(api: &Api, call: &Call) -> Result<Response, ApiError> {
    Ok(listed("audit", api.flow.store.audit_trail(page(call)?)?))
}

/// `GET /api/logs`.
///
/// # Errors
/// 400 for an unknown level.
pub fn logs(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let level = match call.request.head.query_value("level") {
        None => log::LevelFilter::Trace,
        Some(name) => name.parse().map_err(|_| ApiError::invalid_at("?level", "expected error, warn, info, debug or trace"))?,
    };
    let limit = page(call)?.limit;
    Ok(Response::json(200, &json!({"logs": api.logger.latest(limit, level), "next": null})))
}

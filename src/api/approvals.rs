//! Approvals: the questions that turns wait for, and their decisions.
//!
//! Invariant: a decision goes through `Flow::decide` alone, wherever it came from; the first one counts.

use serde_json::json;

use crate::api::error::ApiError;
use crate::api::messages::{listed, page};
use crate::api::{Api, Call, body};
use crate::domain::{ApprovalState, Decision};
use crate::net::http::Response;

/// `GET /api/approvals`: those that are pending, of another state, or `all`.
///
/// # Errors
/// 400 for an unknown state or a bad cursor.
pub fn list(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let state = match call.request.head.query_value("state").as_deref() {
        None => Some(ApprovalState::Pending),
        Some("all") => None,
        Some(name) => Some(ApprovalState::parse(name).ok_or_else(|| ApiError::invalid_at("?state", "there is no such state"))?),
    };
    Ok(listed("approvals", api.flow.store.approvals(state, page(call)?)?))
}

/// `GET /api/approvals/:id`.
///
/// # Errors
/// 404.
pub fn show(api: &Api, call: &Call) -> Result<Response, ApiError> {
    Ok(Response::json(200, &json!(api.flow.store.approval(&call.params[0])?)))
}

/// `POST /api/approvals/:id`.
///
/// # Errors
/// 400 for what is no decision; 404; 409 where it is decided already.
pub fn decide(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let value = body::json(&call.request.body)?;
    let mut fields = body::Fields::of(&value);
    let word = fields.text("decision", 16);
    fields.end()?;
    let decision = decision(&word)?;
    Ok(Response::json(200, &json!(api.flow.decide(&call.params[0], decision, &call.actor())?)))
}

/// The decision of that name.
///
/// # Errors
/// 400.
pub fn decision(word: &str) -> Result<Decision, ApiError> {
    Decision::parse(word).ok_or_else(|| ApiError::invalid_at("$.decision", "expected allow, deny or always"))
}

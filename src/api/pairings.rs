//! Pairings: unknown senders who wait, and the decision on them.
//!
//! Invariant: a decision goes through `Flow::decide_pairing` alone; a code is good once, and a wrong one leaves a trace.

use serde_json::json;

use crate::api::error::ApiError;
use crate::api::messages::{listed, page};
use crate::api::{Api, Call, body};
use crate::net::http::Response;

/// `GET /api/pairings`: who waits, newest first.
///
/// # Errors
/// 400 for a bad cursor.
pub fn list(api: &Api, call: &Call) -> Result<Response, ApiError> {
    Ok(listed("pairings", api.flow.store.pairings(page(call)?)?))
}

/// `POST /api/pairings/:code`.
///
/// # Errors
/// 400 for what is no decision; 404 for a code that nobody waits under (any more).
pub fn decide(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let value = body::json(&call.request.body)?;
    let mut fields = body::Fields::of(&value);
    let word = fields.text("decision", 16);
    fields.end()?;
    let approve = match word.as_str() {
        "approve" => true,
        "reject" => false,
        _ => return Err(ApiError::invalid_at("$.decision", "expected approve or reject")),
    };
    let pairing = api.flow.decide_pairing(&call.params[0], approve, &call.actor())?;
    let mut answer = json!(pairing);
    answer["state"] = json!(if approve { "approved" } else { "rejected" });
    Ok(Response::json(200, &answer))
}

//! Usage: tokens by day, user, agent and provider.
//!
//! Invariant: a user sees its own alone.

use serde_json::json;

use crate::api::error::ApiError;
use crate::api::{Api, Call, memory};
use crate::domain::Role;
use crate::net::http::Response;

/// Milliseconds of a day in UTC.
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Days that are shown unless told otherwise, today included.
const DAYS: i64 = 30;
/// Days that can be shown.
const DAYS_MAX: i64 = 366;

/// `GET /api/usage`: the last `?days=`, of `?userId=`, or for operators of all.
///
/// # Errors
/// 400; 403 for somebody else's.
pub fn show(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let head = &call.request.head;
    let days = match head.query_value("days") {
        None => DAYS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|days| (1..=DAYS_MAX).contains(days))
            .ok_or_else(|| ApiError::invalid_at("?days", format!("expected a whole number from 1 to {DAYS_MAX}")))?,
    };
    let named = head.query_value("userId").filter(|u| !u.is_empty());
    let all = named.is_none() && call.principal.as_ref().is_some_and(|p| p.role >= Role::Operator);
    let user = if all { None } else { Some(memory::owner(call, named)?) };
    let first = api.flow.clock.unix_ms().div_euclid(DAY_MS) - (days - 1);
    let usage = api.flow.store.usage(first, user.as_deref())?;
    Ok(Response::json(200, &json!({"usage": usage, "next": null})))
}

//! Tools: which there are, with their policy, and the rules that operators' `always` made.
//!
//! Invariant: shows no secret: names, descriptions, schemas and rules alone.

use serde_json::json;

use crate::api::error::ApiError;
use crate::api::{Api, Call};
use crate::net::http::Response;

/// `GET /api/tools`.
///
/// # Errors
/// Those of the store.
pub fn list(api: &Api, _: &Call) -> Result<Response, ApiError> {
    let rules = api.flow.store.learned_rules()?;
    let (document, _) = api.configurator.current();
    let default = document["tools"]["default"].as_str().unwrap_or("ask");
    Ok(Response::json(200, &json!({"tools": api.flow.tools.get().list(), "rules": rules, "default": default, "next": null})))
}

/// `DELETE /api/tools/rules/:id`: calls like that one are asked about again.
///
/// # Errors
/// 404.
pub fn forget_rule(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let id = &call.params[0];
    api.flow.store.forget_rule(id)?;
    super::admin::note(api, call, "rule.forgotten", json!({"ruleId": id}));
    Ok(Response::empty(204))
}

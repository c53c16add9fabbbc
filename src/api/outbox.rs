//! The outbox: what is to be sent, what was, and the dead letters.

use serde_json::json;

use crate::api::error::ApiError;
use crate::api::messages::{listed, page};
use crate::api::{Api, Call};
use crate::domain::{DeliveryState, Handoff};
use crate::net::http::Response;

/// `GET /api/outbox`.
///
/// # Errors
/// 400 for an unknown state or a bad cursor.
pub fn list(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let state = match call.request.head.query_value("state") {
        None => None,
        Some(name) => Some(DeliveryState::parse(&name).ok_or_else(|| ApiError::invalid_at("?state", "there is no such state"))?),
    };
    Ok(listed("outbox", api.flow.store.deliveries(state, page(call)?)?))
}

/// `POST /api/outbox/:id/retry`.
///
/// # Errors
/// 404; 409 where it is neither dead nor unknown.
pub fn retry(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let delivery = api.flow.store.retry_delivery(&call.params[0])?;
    match api.flow.channels.get().get(&delivery.channel).and_then(|c| c.handoff()) {
        Some(Handoff::Receipt) => api.flow.hub.push(&delivery),
        _ => api.flow.nudge_deliveries(),
    }
    super::admin::note(api, call, "delivery.retried", json!({"deliveryId": delivery.id}));
    Ok(Response::json(200, &json!(delivery)))
}

/// `DELETE /api/outbox/:id`.
///
/// # Errors
/// 404; 409 while it is being sent.
pub fn remove(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let id = &call.params[0];
    api.flow.store.drop_delivery(id)?;
    super::admin::note(api, call, "delivery.removed", json!({"deliveryId": id}));
    Ok(Response::empty(204))
}

//! Sessions: lists, one user's transcripts, erasing them.
//!
//! Invariant: a user sees and erases its own alone; of others it learns nothing, not even that they exist.

use serde_json::json;

use crate::api::error::ApiError;
use crate::api::messages::{listed, page};
use crate::api::{Api, Call};
use crate::domain::Role;
use crate::net::http::Response;

/// Entries of each transcript that an answer holds.
const ENTRIES: usize = 200;

/// `GET /api/sessions`: all for operators, a user's own for a user.
///
/// # Errors
/// 400 for a bad cursor.
pub fn list(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let page = page(call)?;
    let list = match &call.principal {
        Some(p) if p.role == Role::User => api.flow.store.sessions_of(&p.id, 0, page)?,
        _ => api.flow.store.sessions(page)?,
    };
    Ok(listed("sessions", list))
}

/// `GET /api/sessions/:userId`.
///
/// # Errors
/// 404 for another user without sessions, and for a user, for another one's.
pub fn of_user(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let user = &call.params[0];
    if !call.may_see(user) {
        return Err(ApiError::not_found());
    }
    let page = page(call)?;
    let first = page.cursor.is_none();
    let list = api.flow.store.sessions_of(user, ENTRIES, page)?;
    // Who asks for its own has none yet, which is no mistake.
    let is_own = call.principal.as_ref().is_some_and(|p| p.id == *user);
    if list.items.is_empty() && first && !is_own {
        return Err(ApiError::not_found());
    }
    Ok(listed("sessions", list))
}

/// `DELETE /api/sessions/:userId`.
///
/// # Errors
/// 404 likewise.
pub fn erase(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let user = &call.params[0];
    if !call.may_see(user) {
        return Err(ApiError::not_found());
    }
    if api.flow.store.erase_user(user)? == 0 {
        return Err(ApiError::not_found());
    }
    super::admin::note(api, call, "sessions.erased", json!({"userId": user}));
    Ok(Response::empty(204))
}

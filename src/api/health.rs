//! What monitors, browsers and tools ask: alive, ready, metrics, the API described, the console.

use serde_json::json;

use crate::api::error::ApiError;
use crate::api::{Api, Call};
use crate::channel::ChannelState;
use crate::console;
use crate::domain::Role;
use crate::net::door::DoorStats;
use crate::net::http::Response;
use crate::telemetry::metrics::External;

/// `GET /health`: the process lives and its door answers.
///
/// # Errors
/// None.
pub fn health(_: &Api, _: &Call) -> Result<Response, ApiError> {
    const BODY: &[u8] = concat!("{\"status\":\"ok\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}").as_bytes();
    Ok(Response::new(200, "application/json", BODY))
}

/// `GET /ready`.
///
/// # Errors
/// None: what is wrong is the answer.
pub fn ready(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let flow = &api.flow;
    let store = flow.store.health(false);
    let complaint = api.configurator.complaint();
    let down: Vec<String> = flow
        .channels
        .get()
        .all()
        .filter(|(_, c)| matches!(c.status().state, ChannelState::Degraded | ChannelState::Misconfigured))
        .map(|(name, _)| name.to_string())
        .collect();
    let (status, word) = match () {
        () if flow.is_draining() => (503, "draining"),
        () if store.is_err() || flow.is_overloaded() || flow.is_full() => (503, "unavailable"),
        () if complaint.is_some() || !down.is_empty() || flow.is_over_write_budget() => (200, "degraded"),
        () => (200, "ready"),
    };
    let mut body = json!({"status": word});
    if call.principal.as_ref().is_some_and(|p| p.role >= Role::Operator) {
        body["checks"] = json!({
            "store": store.err().map_or_else(|| "ok".to_string(), |e| e.to_string()),
            "configuration": complaint.unwrap_or_else(|| "ok".to_string()),
            "memory": if flow.is_overloaded() { "over gateway.limits.maxMemory" } else { "ok" },
            "space": if flow.is_full() { "store.maxBytes is reached, and nothing more may go" } else { "ok" },
            "written": if flow.is_over_write_budget() { "more than store.writeBudget in 24 hours" } else { "ok" },
            "channelsDown": down,
        });
    }
    let response = Response::json(status, &body);
    Ok(if status == 503 { response.with("Retry-After", "1") } else { response })
}

/// `GET /openapi.json`.
///
/// # Errors
/// None.
pub fn openapi(api: &Api, _: &Call) -> Result<Response, ApiError> {
    Ok(Response::new(
        200,
        "application/json",
        api.document.get_or_init(|| crate::api::openapi::document().to_string().into_bytes()).clone(),
    ))
}

/// `GET /`.
///
/// # Errors
/// None.
pub fn console(_: &Api, call: &Call) -> Result<Response, ApiError> {
    Ok(console::page(call.request.head.header("if-none-match")))
}

/// `GET /console/:version/:file`.
///
/// # Errors
/// 404, also for a file of another version: the page of that one has to be read again.
pub fn console_file(_: &Api, call: &Call) -> Result<Response, ApiError> {
    let if_none_match = call.request.head.header("if-none-match");
    console::file(&call.params[0], &call.params[1], if_none_match).ok_or_else(ApiError::not_found)
}

/// `GET /api/me`.
///
/// # Errors
/// None of its own.
pub fn me(_: &Api, call: &Call) -> Result<Response, ApiError> {
    let Some(p) = &call.principal else { return Err(ApiError::unauthorized()) };
    Ok(Response::json(200, &json!({"userId": p.id, "role": p.role, "version": env!("CARGO_PKG_VERSION")})))
}

/// `GET /ws` without an upgrade.
///
/// # Errors
/// Always 426.
pub fn upgrade_required(_: &Api, call: &Call) -> Result<Response, ApiError> {
    let error = ApiError::new(426, "This is a WebSocket: connect with an upgrade");
    Ok(error.response("/ws", &call.request.head.request_id).with("Upgrade", "websocket").with("Sec-WebSocket-Version", "13"))
}

fn external(api: &Api) -> External {
    let (depths, space, door): (_, _, DoorStats) = (api.flow.store.depths(), api.flow.store.space(), (api.door)());
    External {
        http_connections: door.open as u64,
        evicted: door.evicted,
        queued: depths.queued,
        running: depths.running,
        pending: depths.pending,
        unacknowledged: depths.unacknowledged,
        store_bytes: space.used,
        store_bytes_max: space.max,
        panics: api.flow.threads.panics(),
        log_dropped: api.logger.dropped(),
        log_left_out: api.logger.left_out(),
    }
}

/// `GET /api/metrics`.
///
/// # Errors
/// None.
pub fn metrics_json(api: &Api, _: &Call) -> Result<Response, ApiError> {
    Ok(Response::json(200, &api.flow.metrics.render_json(&external(api))))
}

/// `GET /metrics`.
///
/// # Errors
/// None.
pub fn metrics_text(api: &Api, _: &Call) -> Result<Response, ApiError> {
    let text = api.flow.metrics.render_prometheus(&external(api));
    Ok(Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes()))
}

//! Errors become answers here, once: one shape, one table of codes.
//!
//! Invariant: no answer holds a stack trace, a path of this machine or a secret; a 500 says nothing but its fixed sentence.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::limit::Verdict;
use crate::flow::ingress::Refused;
use crate::net::http::Response;
use crate::store::StoreError;

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The status.
    pub status: u16,
    /// For people.
    pub message: String,
    /// For 400: every problem, with its path.
    pub errors: Vec<(String, String)>,
    /// For 405.
    pub allow: Option<String>,
    /// For 429: the limit's own headers.
    pub verdict: Option<Verdict>,
    /// For 404: what is not there is a model, for which OpenAI's clients know a code.
    pub is_model: bool,
}

/// The code that goes with a status.
pub fn code(status: u16) -> &'static str {
    match status {
        400 | 411 | 417 => "validation_failed",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        408 => "request_timeout",
        409 => "conflict",
        412 => "precondition_failed",
        413 => "payload_too_large",
        414 => "uri_too_long",
        415 => "unsupported_media_type",
        426 => "upgrade_required",
        429 => "rate_limited",
        431 => "headers_too_large",
        501 => "not_implemented",
        502 => "upstream_failed",
        503 => "unavailable",
        504 => "upstream_timeout",
        505 => "http_version_not_supported",
        _ => "internal",
    }
}

impl ApiError {
    /// An error of that status with that sentence.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), errors: Vec::new(), allow: None, verdict: None, is_model: false }
    }

    /// 400 with every problem.
    pub fn invalid(errors: Vec<(String, String)>) -> Self {
        let message = match errors.as_slice() {
            [(path, message)] => format!("{path}: {message}"),
            many => format!("{} problems; errors lists them", many.len()),
        };
        ApiError { errors, ..ApiError::new(400, message) }
    }

    /// 400 with one problem.
    pub fn invalid_at(path: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![(path.to_string(), message.into())])
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized")
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::new(404, "Not found")
    }

    /// 429.
    pub fn rate_limited(verdict: Verdict) -> Self {
        let message = format!("Rate limit exceeded. Reset in {}ms", verdict.reset.as_millis());
        ApiError { verdict: Some(verdict), ..Self::new(429, message) }
    }

    /// 500.
    pub fn internal() -> Self {
        Self::new(500, "Internal server error")
    }

    /// The JSON that stands for it.
    pub fn body(&self, request_id: &str) -> Value {
        let mut body =
            json!({"status": self.status, "code": code(self.status), "message": self.message, "requestId": request_id});
        if !self.errors.is_empty() {
            body["errors"] = self.errors.iter().map(|(path, message)| json!({"path": path, "message": message})).collect();
        }
        body
    }

    /// The JSON that stands for it under `/v1`, as OpenAI's clients expect it.
    pub fn openai_body(&self) -> Value {
        let kind = match self.status {
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let own = match self.status {
            400 => None,
            401 => Some("invalid_api_key"),
            404 if self.is_model => Some("model_not_found"),
            429 => Some("rate_limit_exceeded"),
            status => Some(code(status)),
        };
        let param = self.errors.first().and_then(|(path, _)| path.strip_prefix("$.")).filter(|_| self.errors.len() == 1);
        let message = match self.errors.as_slice() {
            [] | [_] => self.message.clone(),
            many => many.iter().map(|(path, message)| format!("{path}: {message}")).collect::<Vec<_>>().join("; "),
        };
        json!({"error": {"message": message, "type": kind, "param": param, "code": own}})
    }

    /// The answer to a request for that path.
    pub fn response(&self, path: &str, request_id: &str) -> Response {
        let openai = path == "/v1" || path.starts_with("/v1/");
        let body = if openai { self.openai_body() } else { self.body(request_id) };
        let mut response = Response::json(self.status, &body);
        if let Some(allow) = &self.allow {
            response = response.with("Allow", allow.clone());
        }
        if let Some(v) = self.verdict {
            let seconds = seconds_up(v.reset).to_string();
            response = response
                .with("Retry-After", seconds.clone())
                .with("RateLimit-Limit", v.limit.to_string())
                .with("RateLimit-Remaining", v.remaining.to_string())
                .with("RateLimit-Reset", seconds);
        }
        match self.status {
            401 => response.with("WWW-Authenticate", "Bearer"),
            503 => response.with("Retry-After", "1"),
            _ => response,
        }
    }
}

/// Whole seconds, rounded up, at least one: what `Retry-After` takes.
fn seconds_up(d: Duration) -> u64 {
    (d.as_millis() as u64).div_ceil(1000).max(1)
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::NotFound => ApiError::not_found(),
            StoreError::Conflict(why) => ApiError::new(409, why),
            StoreError::Unavailable(_) => ApiError::new(503, "The store can't write now. Nothing was taken; try again later"),
            StoreError::Busy => ApiError::new(503, "Too much at once. Nothing was taken; try again"),
            StoreError::BadCursor => ApiError::invalid_at("?cursor", "is not a cursor that a list gave"),
            StoreError::Stopped => ApiError::new(503, "The gateway is stopping"),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(e: Refused) -> Self {
        match e {
            Refused::Unavailable(why) => ApiError::new(503, format!("Not now: {why}")),
            Refused::NoAgent(why) => ApiError::new(409, why),
            Refused::Store(e) => e.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shape() {
        let verdict = Verdict { allowed: false, limit: 100, remaining: 0, reset: Duration::from_millis(812) };
        let limited = ApiError::rate_limited(verdict).response("/api/message", "r1");
        let body: Value = serde_json::from_slice(&limited.body).unwrap();
        let expected =
            json!({"status": 429, "code": "rate_limited", "message": "Rate limit exceeded. Reset in 812ms", "requestId": "r1"});
        assert_eq!(body, expected);
        let headers: Vec<_> =
            ["Retry-After", "RateLimit-Limit", "RateLimit-Remaining"].map(|h| limited.header(h).unwrap()).into();
        assert_eq!(headers, ["1", "100", "0"]);
        assert_eq!(ApiError::unauthorized().response("", "r").header("WWW-Authenticate"), Some("Bearer"));
        assert!(ApiError::from(StoreError::Busy).response("", "r").header("Retry-After").is_some());
        let two = ApiError::invalid(vec![("$.a".into(), "x".into()), ("$.b".into(), "y".into())]).body("r");
        assert_eq!(two["errors"], json!([{"path": "$.a", "message": "x"}, {"path": "$.b", "message": "y"}]));
    }

    fn check_openai(error: ApiError, expected: Value) {
        let answer = error.response("/v1/chat/completions", "r1");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, body), (error.status, json!({"error": expected})));
    }

    #[test]
    fn openais_shape_under_v1() {
        let shape = |message: &str, kind: &str, param: Value, code: Value| json!({"message": message, "type": kind, "param": param, "code": code});
        let request = "invalid_request_error";
        check_openai(ApiError::unauthorized(), shape("Unauthorized", request, Value::Null, json!("invalid_api_key")));
        check_openai(ApiError::forbidden("no"), shape("no", "permission_error", Value::Null, json!("forbidden")));
        check_openai(ApiError::invalid_at("$.n", "one"), shape("$.n: one", request, json!("n"), Value::Null));
        let two = ApiError::invalid(vec![("$.a".into(), "x".into()), ("$.b".into(), "y".into())]);
        check_openai(two, shape("$.a: x; $.b: y", request, Value::Null, Value::Null));
        check_openai(ApiError::new(504, "late"), shape("late", "server_error", Value::Null, json!("upstream_timeout")));
        let unknown = ApiError { is_model: true, ..ApiError::not_found() };
        check_openai(unknown, shape("Not found", request, Value::Null, json!("model_not_found")));
        let other = ApiError::not_found().response("/v12", "r1");
        assert_eq!(serde_json::from_slice::<Value>(&other.body).unwrap()["code"], "not_found");
    }
}

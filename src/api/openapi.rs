//! `/openapi.json`, made from the route table.
//!
//! Invariant: a route that is served is described, with its roles, its parameters and its errors; nothing else is.

use serde_json::{Map, Value, json};

use crate::api::routes::{Access, ROUTES, Route};
use crate::domain::{ApprovalState, DeliveryState, MessageState};

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in described() {
        let path: Vec<_> =
            route.path.split('/').map(|s| s.strip_prefix(':').map_or(s.to_string(), |n| format!("{{{n}}}"))).collect();
        let entry = paths.entry(path.join("/")).or_insert_with(|| json!({}));
        entry[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "gatelet",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A gateway between the places where people write and the AI agents that answer them.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    })
}

/// All routes but those of the console's files: what a page loads is no interface.
fn described() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| !route.path.starts_with("/console/"))
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<_> = route
        .path
        .split('/')
        .filter_map(|s| s.strip_prefix(':'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1, "maxLength": 256}}))
        .collect();
    for name in route.query {
        let schema = match *name {
            "limit" => json!({"type": "integer", "minimum": 1, "maximum": 500}),
            "wait" => json!({"type": "integer", "minimum": 0}),
            "dryRun" => json!({"type": "boolean"}),
            "days" => json!({"type": "integer", "minimum": 1, "maximum": 366}),
            "level" => json!({"enum": ["error", "warn", "info", "debug", "trace"]}),
            "state" => json!({"enum": states(route.path)}),
            "cursor" => json!({"type": "string", "maxLength": 256, "description": "The `next` of the page before"}),
            _ => json!({"type": "string"}),
        };
        parameters.push(json!({"name": name, "in": "query", "required": false, "schema": schema}));
    }
    let id: Vec<_> = route.path.split(['/', ':']).filter(|s| !s.is_empty()).collect();
    let mut operation = json!({
        "operationId": format!("{}_{}", route.method.to_ascii_lowercase(), id.join("_").replace('.', "_")),
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses(route),
    });
    operation["security"] = match route.access {
        Access::Public => json!([]),
        _ => json!([{"token": []}]),
    };
    operation["x-role"] = match route.access {
        Access::Public => json!("public"),
        Access::Channel => json!("channel"),
        Access::Owner => json!("user"),
        Access::Role(role) => json!(role),
    };
    if route.body {
        let schema = json!({"$ref": format!("#/components/schemas/{}", route.schemas.0)});
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

/// The states that a list can be asked for.
fn states(path: &str) -> Vec<&'static str> {
    match path {
        "/api/messages" => MessageState::ALL.iter().map(|s| s.as_str()).collect(),
        "/api/outbox" => DeliveryState::ALL.iter().map(|s| s.as_str()).collect(),
        _ => ApprovalState::ALL.iter().map(|s| s.as_str()).chain(["all"]).collect(),
    }
}

fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    let content = |kind: &str, schema: Value| json!({kind: {"schema": schema}});
    let reference = json!({"$ref": format!("#/components/schemas/{}", route.schemas.1)});
    let ok = match (route.path, route.method) {
        ("/", _) => json!({"description": "The page", "content": content("text/html", json!({"type": "string"}))}),
        ("/metrics", _) => json!({"description": "Metrics", "content": content("text/plain", json!({"type": "string"}))}),
        ("/v1/chat/completions", _) => json!({"description": "The answer; with `stream` as events", "content": {
            "application/json": {"schema": reference.clone()},
            "text/event-stream": {"schema": {"$ref": "#/components/schemas/ChatChunk"}},
        }}),
        _ => json!({"description": "Done", "content": content("application/json", reference.clone())}),
    };
    let statuses: &[&str] = match (route.path, route.method) {
        ("/ws", _) => &[],
        ("/webhook/:channel", _) => &["200", "202"],
        ("/api/message", _) | ("/api/channels/:name/reconnect", _) | ("/api/jobs/:id/run", _) => &["202"],
        (_, "DELETE") => &["204"],
        ("/api/memory" | "/api/jobs", "POST") => &["201"],
        _ => &["200"],
    };
    for status in statuses {
        responses.insert(status.to_string(), if *status == "204" { json!({"description": "Done"}) } else { ok.clone() });
    }
    if route.path == "/ready" {
        responses.insert("503".into(), json!({"description": "Not ready", "content": content("application/json", reference)}));
    }
    if route.path == "/ws" {
        responses.insert("101".into(), json!({"description": "The WebSocket is open"}));
    }
    let shape = if route.path.starts_with("/v1/") { "OpenAiError" } else { "Error" };
    let shape = json!({"$ref": format!("#/components/schemas/{shape}")});
    let problem = json!({"description": "An error", "content": content("application/json", shape)});
    responses.insert("default".into(), problem);
    Value::Object(responses)
}

/// The schemas, as text: built by code they took four times the room.
fn schemas() -> Value {
    serde_json::from_str(include_str!("schemas.json")).unwrap_or_default() // a test reads it
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        let operations: usize = document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(operations, described().count());
        for reference in document.to_string().split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "no schema {name:?}");
        }
    }
}

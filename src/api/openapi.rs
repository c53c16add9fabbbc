//! `/openapi.json`, made from the route table.
//!
//! Invariant: a route that is served is described, with its roles, its parameters and its errors; nothing else is.

use serde_json::{Map, Value, json};

use crate::api::routes::{Access, ROUTES, Route};

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

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn list(name: &str, item: Value) -> Value {
    object(&[name, "next"], json!({name: {"type": "array", "items": item}, "next": {"type": ["string", "null"]}}))
}

/// The schemas of what agents do: tools, approvals, memory, usage, and OpenAI's face.
fn agents_schemas() -> Value {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer"});
    let any = json!({"type": "object"});
    let flag = json!({"type": "boolean"});
    let id = json!({"type": "string", "minLength": 1, "maxLength": 256});
    let note = json!({"type": "string", "minLength": 1, "maxLength": 2000});
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let usage = object(
        &["prompt_tokens", "completion_tokens", "total_tokens"],
        json!({
            "prompt_tokens": number, "completion_tokens": number, "total_tokens": number,
        }),
    );
    let said = object(
        &["role"],
        json!({
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]}, "content": {"type": ["string", "array", "null"]},
        }),
    );
    let head = json!({"id": text, "object": text, "created": number, "model": text, "choices": {"type": "array", "items": any}, "usage": usage});
    json!({
        "Tools": object(&["tools", "rules", "default", "next"], json!({
            "tools": {"type": "array", "items": any}, "rules": {"type": "array", "items": any},
            "default": {"enum": ["allow", "ask", "deny"]}, "next": {"type": ["string", "null"]},
        })),
        "Approval": object(&["id", "state", "tool", "arguments", "question"], json!({
            "id": text, "state": {"enum": ["pending", "allowed", "denied", "expired", "cancelled"]}, "tool": text, "arguments": {},
            "question": text, "digest": text, "agent": text, "channel": text, "userId": text, "messageId": text, "sessionId": text,
            "createdMs": number, "expiresMs": number, "decidedBy": text, "decidedMs": number,
        })),
        "Approvals": list("approvals", reference("Approval")),
        "Decision": object(&["decision"], json!({"decision": {"enum": ["allow", "deny", "always"]}})),
        "Pairing": object(&["code", "channel", "userId", "name", "createdMs", "expiresMs"], json!({
            "code": text, "channel": text, "userId": text, "name": text, "createdMs": number, "expiresMs": number,
            "state": {"enum": ["approved", "rejected"]},
        })),
        "Pairings": list("pairings", reference("Pairing")),
        "PairingDecision": object(&["decision"], json!({"decision": {"enum": ["approve", "reject"]}})),
        "Note": object(&["id", "userId", "agent", "text"], json!({
            "id": text, "userId": text, "agent": text, "text": text, "createdMs": number, "updatedMs": number,
        })),
        "Memory": list("memory", reference("Note")),
        "NewNote": object(&["text"], json!({"userId": id, "agent": id, "text": note})),
        "NoteText": object(&["text"], json!({"text": note})),
        "UsageList": list("usage", object(&["day", "userId", "agent", "provider", "tokensIn", "tokensOut", "calls"], json!({
            "day": number, "userId": text, "agent": text, "provider": text, "tokensIn": number, "tokensOut": number, "calls": number,
        }))),
        "ChatRequest": object(&["model", "messages"], json!({
            "model": text, "messages": {"type": "array", "minItems": 1, "items": said}, "user": id, "stream": flag,
            "stream_options": object(&[], json!({"include_usage": flag})), "max_completion_tokens": number, "max_tokens": number,
            "temperature": {"type": "number", "minimum": 0, "maximum": 2}, "top_p": {"type": "number", "minimum": 0, "maximum": 1},
            "stop": {"type": ["string", "array", "null"]}, "response_format": any,
        })),
        "ChatCompletion": object(&["id", "object", "created", "model", "choices", "usage"], head.clone()),
        "ChatChunk": object(&["id", "object", "created", "model", "choices"], head),
        "Model": object(&["id", "object", "created", "owned_by"], json!({
            "id": text, "object": {"const": "model"}, "created": number, "owned_by": text,
        })),
        "ModelList": object(&["object", "data"], json!({
            "object": {"const": "list"}, "data": {"type": "array", "items": reference("Model")},
        })),
        "OpenAiError": object(&["error"], json!({"error": object(&["message", "type", "param", "code"], json!({
            "message": text, "type": text, "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]},
        }))})),
    })
}

fn schemas() -> Value {
    let mut all = own_schemas();
    if let (Value::Object(into), Value::Object(more)) = (&mut all, agents_schemas()) {
        into.extend(more);
    }
    if let (Value::Object(into), Value::Object(more)) = (&mut all, jobs_schemas()) {
        into.extend(more);
    }
    all
}

fn jobs_schemas() -> Value {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer"});
    let flag = json!({"type": "boolean"});
    let id = json!({"type": "string", "minLength": 1, "maxLength": 64});
    let long = json!({"type": "string", "minLength": 1, "maxLength": 65536});
    let written = json!({
        "id": id, "at": {"type": "string", "format": "date-time"}, "every": {"type": "integer", "minimum": 1000},
        "cron": text, "timezone": text, "agent": text, "prompt": long, "message": long, "channel": text,
        "userId": {"type": "string", "minLength": 1, "maxLength": 256}, "catchUp": flag, "enabled": flag,
    });
    let mut kept = written.clone();
    for (name, schema) in [("by", &text), ("nextMs", &number), ("updatedMs", &number)] {
        kept[name] = schema.clone();
    }
    json!({
        "NewJob": object(&["userId"], written),
        "Job": object(&["id", "by", "userId", "catchUp", "enabled", "updatedMs"], kept),
        "Jobs": list("jobs", json!({"$ref": "#/components/schemas/Job"})),
        "JobRun": object(&["jobId", "dueMs", "atMs", "outcome", "detail"], json!({
            "jobId": text, "dueMs": number, "atMs": number, "outcome": {"enum": ["ran", "skipped", "failed"]}, "detail": text,
        })),
        "JobRuns": list("runs", json!({"$ref": "#/components/schemas/JobRun"})),
    })
}

fn own_schemas() -> Value {
    let text = json!({"type": "string"});
    let any = json!({"type": "object"});
    let id = json!({"type": "string", "minLength": 1, "maxLength": 256});
    json!({
        "Object": any,
        "Error": object(&["status", "code", "message", "requestId"], json!({
            "status": {"type": "integer"}, "code": text, "message": text, "requestId": text,
            "errors": {"type": "array", "items": object(&["path", "message"], json!({"path": text, "message": text}))},
        })),
        "Health": object(&["status", "version"], json!({"status": {"const": "ok"}, "version": text})),
        "Me": object(&["userId", "role", "version"], json!({
            "userId": text, "role": {"enum": ["admin", "operator", "user"]}, "version": text,
        })),
        "Ready": object(&["status"], json!({"status": {"enum": ["ready", "degraded", "draining", "unavailable"]}, "checks": any})),
        "WebhookMessage": object(&["message", "userId"], json!({
            "message": {"type": "string", "minLength": 1}, "userId": id, "messageId": id, "conversationId": id, "metadata": any,
        })),
        "Taken": object(&["id", "status"], json!({
            "id": text, "sessionId": text, "status": {"enum": ["accepted", "duplicate"]}, "reply": text,
            "deliveries": {"type": "array", "items": any},
        })),
        "Announcement": object(&["userId", "message"], json!({
            "userId": id, "message": {"type": "string", "minLength": 1}, "channel": text, "idempotencyKey": id,
        })),
        "Announced": object(&["id", "deliveries"], json!({"id": text, "deliveries": {"type": "array", "items": any}})),
        "Message": object(&["id", "state", "userId", "sessionId", "message"], json!({
            "id": text, "state": {"enum": ["queued", "running", "waiting_approval", "answered", "failed", "cancelled"]},
            "userId": text, "sessionId": text, "message": text, "reply": text, "error": text,
            "attachments": {"type": "array", "items": {"$ref": "#/components/schemas/Attachment"}},
            "deliveries": {"type": "array", "items": {"$ref": "#/components/schemas/Delivery"}}, "timeline": {"type": "array", "items": any},
        })),
        "Attachment": object(&["name", "mediaType", "state"], json!({
            "name": text, "mediaType": text, "bytes": {"type": "integer"}, "state": {"enum": ["waiting", "stored", "failed", "removed"]},
        })),
        "Messages": list("messages", json!({"$ref": "#/components/schemas/Message"})),
        "Delivery": object(&["id", "state", "channel", "userId"], json!({
            "id": text, "state": {"enum": ["pending", "sending", "sent", "dead", "unknown"]}, "channel": text, "userId": text,
            "attempts": {"type": "integer"}, "lastError": text,
            "unclearMs": {"type": "integer", "description": "since when a try may have arrived without our knowing"},
        })),
        "Outbox": list("outbox", json!({"$ref": "#/components/schemas/Delivery"})),
        "Sessions": list("sessions", any.clone()),
        "Channels": list("channels", any.clone()),
        "Agents": list("agents", any.clone()),
        "Audit": list("audit", any.clone()),
        "Logs": list("logs", any.clone()),
        "Applied": object(&["revision", "applied", "restartRequired"], json!({
            "revision": text, "applied": {"type": "array", "items": text}, "restartRequired": {"type": "array", "items": text},
        })),
    })
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

//! The one route table: routing, roles, `Allow` and `/openapi.json` all come from it.
//!
//! Invariant: a path that is not here does not exist; a route says who may use it or it does not compile. Matching is by
//! whole segments, each percent-decoded once; it cannot fail otherwise than by not matching.

use crate::api::{Api, ApiError};
use crate::api::{Call, admin, approvals, health, jobs, memory, messages, outbox, pairings, sessions, tools, usage, v1};
use crate::domain::Role;
use crate::net::http::{Lane, Response, percent_decode};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// Who has the channel's own credential; the handler checks it.
    Channel,
    /// That role and those above it.
    Role(Role),
    /// Any principal for what is its own, operators for all; the handler checks whose it is.
    Owner,
}

/// How a route answers.
#[derive(Clone, Copy)]
pub enum Handler {
    /// At once.
    Answer(fn(&Api, &Call) -> Result<Response, ApiError>),
    /// Later, or at once: it keeps the responder.
    Later(fn(&std::sync::Arc<Api>, Call)),
}

/// One route.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; `:name` stands for one segment.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Where it is handled.
    pub lane: Lane,
    /// Whether it takes a body.
    pub body: bool,
    /// What it does, for the OpenAPI document.
    pub summary: &'static str,
    /// The schemas of request and answer, by name in the OpenAPI document; "" for none.
    pub schemas: (&'static str, &'static str),
    /// The query parameters that it knows.
    pub query: &'static [&'static str],
    /// How it answers.
    pub handler: Handler,
}

const PAGE: &[&str] = &["limit", "cursor"];
const DRY_RUN: &[&str] = &["dryRun"];

/// A route without a body or a query; the rest is changed where it differs.
const fn get(path: &'static str, access: Access, summary: &'static str, answer: &'static str, handler: Handler) -> Route {
    Route { method: "GET", path, access, lane: Lane::Work, body: false, summary, schemas: ("", answer), query: &[], handler }
}

const OPERATOR: Access = Access::Role(Role::Operator);
const ADMIN: Access = Access::Role(Role::Admin);
const USER: Access = Access::Role(Role::User);

/// All routes. `/ws` is here for its documentation and its access; the upgrade itself is `api/socket`.
pub static ROUTES: &[Route] = &[
    Route { lane: Lane::Quick, ..get("/health", Access::Public, "Alive", "Health", Handler::Answer(health::health)) },
    Route {
        lane: Lane::Quick,
        ..get("/ready", Access::Public, "Ready to serve; checks for operators", "Ready", Handler::Answer(health::ready))
    },
    Route {
        lane: Lane::Quick,
        ..get("/openapi.json", Access::Public, "This document", "Object", Handler::Answer(health::openapi))
    },
    Route { lane: Lane::Quick, ..get("/", Access::Public, "The console", "", Handler::Answer(health::console)) },
    Route {
        lane: Lane::Quick,
        ..get("/console/:version/:file", Access::Public, "A file of the console", "", Handler::Answer(health::console_file))
    },
    Route { lane: Lane::Quick, ..get("/api/me", USER, "Who the caller is", "Me", Handler::Answer(health::me)) },
    Route { lane: Lane::Quick, ..get("/ws", Access::Owner, "The WebSocket", "", Handler::Answer(health::upgrade_required)) },
    Route {
        method: "POST",
        body: true,
        lane: Lane::Quick,
        schemas: ("WebhookMessage", "Taken"),
        query: &["wait"],
        ..get("/webhook/:channel", Access::Channel, "A message comes in", "", Handler::Later(messages::webhook))
    },
    Route {
        method: "POST",
        body: true,
        schemas: ("Announcement", "Announced"),
        ..get("/api/message", Access::Owner, "The gateway speaks first", "", Handler::Later(messages::announce))
    },
    Route {
        query: &["limit", "cursor", "state"],
        ..get("/api/messages", OPERATOR, "Inbound messages, newest first", "Messages", Handler::Answer(messages::list))
    },
    get("/api/messages/:id", Access::Owner, "The life of an inbound message", "Message", Handler::Answer(messages::life)),
    Route {
        method: "POST",
        ..get("/api/messages/:id/retry", OPERATOR, "Queues a failed message again", "Message", Handler::Answer(messages::retry))
    },
    Route {
        query: PAGE,
        ..get("/api/sessions", Access::Owner, "Sessions, the latest used first", "Sessions", Handler::Answer(sessions::list))
    },
    Route {
        query: PAGE,
        ..get(
            "/api/sessions/:userId",
            Access::Owner,
            "One user's sessions with transcripts",
            "Sessions",
            Handler::Answer(sessions::of_user),
        )
    },
    Route {
        method: "DELETE",
        ..get("/api/sessions/:userId", Access::Owner, "Ends and erases a user's sessions", "", Handler::Answer(sessions::erase))
    },
    get("/api/config", ADMIN, "The running configuration, secrets as \"***\"", "Object", Handler::Answer(admin::show_config)),
    Route {
        method: "PUT",
        body: true,
        schemas: ("Object", "Applied"),
        query: DRY_RUN,
        ..get("/api/config", ADMIN, "Replaces the configuration", "", Handler::Answer(admin::put_config))
    },
    Route {
        method: "PATCH",
        body: true,
        schemas: ("Object", "Applied"),
        query: DRY_RUN,
        ..get("/api/config", ADMIN, "Merges into the configuration (RFC 7396)", "", Handler::Answer(admin::patch_config))
    },
    get("/api/config/schema", ADMIN, "The JSON Schema of the configuration", "Object", Handler::Answer(admin::config_schema)),
    get("/api/channels", OPERATOR, "Channels and how they are", "Channels", Handler::Answer(admin::channels)),
    Route {
        method: "POST",
        ..get(
            "/api/channels/:name/reconnect",
            OPERATOR,
            "Starts a channel's connection anew",
            "Object",
            Handler::Answer(admin::reconnect),
        )
    },
    get("/api/agents", OPERATOR, "Agents and how they are", "Agents", Handler::Answer(admin::agents)),
    get("/api/tools", OPERATOR, "Tools, their policy, and the rules that were learned", "Tools", Handler::Answer(tools::list)),
    Route {
        method: "DELETE",
        ..get("/api/tools/rules/:id", OPERATOR, "Forgets a learned rule", "", Handler::Answer(tools::forget_rule))
    },
    Route {
        query: &["limit", "cursor", "state"],
        ..get(
            "/api/approvals",
            OPERATOR,
            "Approvals, newest first; pending ones unless told otherwise",
            "Approvals",
            Handler::Answer(approvals::list),
        )
    },
    get("/api/approvals/:id", OPERATOR, "One approval", "Approval", Handler::Answer(approvals::show)),
    Route {
        method: "POST",
        body: true,
        schemas: ("Decision", "Approval"),
        ..get("/api/approvals/:id", OPERATOR, "Decides a pending approval", "", Handler::Answer(approvals::decide))
    },
    Route {
        query: PAGE,
        ..get("/api/pairings", OPERATOR, "Unknown senders who wait to be let in", "Pairings", Handler::Answer(pairings::list))
    },
    Route {
        method: "POST",
        body: true,
        schemas: ("PairingDecision", "Pairing"),
        ..get("/api/pairings/:code", OPERATOR, "Lets a sender in, or not", "", Handler::Answer(pairings::decide))
    },
    Route {
        query: &["limit", "cursor", "userId", "agent"],
        ..get("/api/memory", Access::Owner, "A user's notes, newest first", "Memory", Handler::Answer(memory::list))
    },
    Route {
        method: "POST",
        body: true,
        schemas: ("NewNote", "Note"),
        ..get("/api/memory", Access::Owner, "Keeps a note", "", Handler::Answer(memory::add))
    },
    Route {
        method: "PUT",
        body: true,
        schemas: ("NoteText", "Note"),
        ..get("/api/memory/:id", Access::Owner, "Changes a note", "", Handler::Answer(memory::change))
    },
    Route { method: "DELETE", ..get("/api/memory/:id", Access::Owner, "Forgets a note", "", Handler::Answer(memory::forget)) },
    Route {
        query: &["days", "userId"],
        ..get("/api/usage", Access::Owner, "Tokens by day, user, agent and provider", "UsageList", Handler::Answer(usage::show))
    },
    Route {
        query: &["limit", "cursor", "state"],
        ..get("/api/outbox", OPERATOR, "Deliveries, newest first", "Outbox", Handler::Answer(outbox::list))
    },
    Route {
        method: "POST",
        ..get("/api/outbox/:id/retry", OPERATOR, "Revives a dead or unknown delivery", "Delivery", Handler::Answer(outbox::retry))
    },
    Route { method: "DELETE", ..get("/api/outbox/:id", OPERATOR, "Removes a delivery", "", Handler::Answer(outbox::remove)) },
    get("/api/jobs", ADMIN, "Scheduled turns and messages, by id", "Jobs", Handler::Answer(jobs::list)),
    Route {
        method: "POST",
        body: true,
        schemas: ("NewJob", "Job"),
        ..get("/api/jobs", ADMIN, "Makes a job", "", Handler::Answer(jobs::add))
    },
    Route {
        method: "PUT",
        body: true,
        schemas: ("NewJob", "Job"),
        ..get("/api/jobs/:id", ADMIN, "Replaces a job that the configuration doesn't have", "", Handler::Answer(jobs::replace))
    },
    Route {
        method: "DELETE",
        ..get("/api/jobs/:id", ADMIN, "Removes a job that the configuration doesn't have", "", Handler::Answer(jobs::remove))
    },
    Route {
        method: "POST",
        ..get("/api/jobs/:id/run", ADMIN, "Runs a job now, beside its schedule", "JobRun", Handler::Later(jobs::run))
    },
    Route {
        query: PAGE,
        ..get("/api/jobs/:id/runs", ADMIN, "Runs of a job, newest first", "JobRuns", Handler::Answer(jobs::runs))
    },
    Route { query: PAGE, ..get("/api/audit", ADMIN, "The audit trail, newest first", "Audit", Handler::Answer(admin::audit)) },
    Route {
        query: &["limit", "level"],
        ..get("/api/logs", ADMIN, "The latest log records", "Logs", Handler::Answer(admin::logs))
    },
    Route {
        lane: Lane::Work,
        ..get("/api/metrics", OPERATOR, "Metrics in JSON", "Object", Handler::Answer(health::metrics_json))
    },
    Route {
        lane: Lane::Work,
        ..get("/metrics", OPERATOR, "Metrics in Prometheus text format", "", Handler::Answer(health::metrics_text))
    },
    Route {
        method: "POST",
        body: true,
        lane: Lane::Quick,
        schemas: ("ChatRequest", "ChatCompletion"),
        ..get("/v1/chat/completions", USER, "OpenAI-compatible: an agent answers", "", Handler::Later(v1::chat))
    },
    Route {
        lane: Lane::Quick,
        ..get("/v1/models", USER, "OpenAI-compatible: agents as models", "ModelList", Handler::Answer(v1::models))
    },
    Route {
        lane: Lane::Quick,
        ..get("/v1/models/:model", USER, "OpenAI-compatible: one agent as a model", "Model", Handler::Answer(v1::one_model))
    },
];

/// What a path and a method come to.
pub enum Matched {
    /// That route, with the decoded values of its `:name` segments.
    Route(&'static Route, Vec<String>),
    /// The path exists, not with this method: the `Allow` header, and the route of another method for its access.
    Method(String, &'static Route),
    /// No such path.
    Nothing,
}

/// Finds the route of a request.
pub fn find(method: &str, path: &str) -> Matched {
    let wanted = if method == "HEAD" { "GET" } else { method };
    let mut allowed: Vec<&str> = Vec::new();
    let mut other = None;
    for route in ROUTES {
        let Some(params) = matches(route.path, path) else { continue };
        if route.method == wanted {
            return Matched::Route(route, params);
        }
        allowed.push(route.method);
        if route.method == "GET" {
            allowed.push("HEAD");
        }
        other = Some(route);
    }
    match other {
        Some(route) => Matched::Method(allowed.join(", "), route),
        None => Matched::Nothing,
    }
}

fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    if !pattern.contains(':') {
        return (pattern == path).then(Vec::new);
    }
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut params = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(params),
            (Some(w), Some(g)) if w.starts_with(':') => {
                let value = percent_decode(g).filter(|v| !v.is_empty() && v.len() <= 256)?;
                params.push(value);
            }
            (Some(w), Some(g)) if w == g => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, expected: &str) {
        let found = match find(method, path) {
            Matched::Route(route, params) => format!("{} {} {}", route.method, route.path, params.join(",")),
            Matched::Method(allow, _) => format!("405 {allow}"),
            Matched::Nothing => "404".into(),
        };
        assert_eq!(found.trim_end(), expected, "{method} {path}");
    }

    #[test]
    fn paths() {
        check("GET", "/health", "GET /health");
        check("HEAD", "/health", "GET /health");
        check("PUT", "/health", "405 GET, HEAD");
        check("DELETE", "/api/config", "405 GET, HEAD, PUT, PATCH");
        check("POST", "/webhook/door", "POST /webhook/:channel door");
        check("POST", "/webhook/door/", "404");
        check("POST", "/webhook/", "404");
        check("GET", "/api/sessions/%E4%BD%A0%20x", "GET /api/sessions/:userId 你 x");
        check("GET", "/api/sessions/a%2Fb", "GET /api/sessions/:userId a/b");
        check("GET", "/api/sessions/%00", "404");
        check("POST", "/api/outbox/d1/retry", "POST /api/outbox/:id/retry d1");
        check("GET", "/metrics/x", "404");
        check("GET", "/v1/models/gatelet%2Fmain", "GET /v1/models/:model gatelet/main");
        check("GET", "/v1/models/gatelet/main", "404");
        check("PATCH", "/api/memory/not_1", "405 PUT, DELETE");
        check("POST", "/api/jobs/a/run", "POST /api/jobs/:id/run a");
        check("GET", "/api/jobs/a", "405 PUT, DELETE");
        check("GET", "//health", "404");
        check("get", "/health", "405 GET, HEAD");
    }
}

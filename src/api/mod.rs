//! The API: every request passes the same stack (log, host and origin, authentication, role, rate limit, body, route, error),
//! whichever way it came in.
//!
//! Invariant: what is decided before the body is decided in `plan`, from memory alone. A handler sees only requests that may
//! reach it. All errors become answers in `api/error`. A panic is caught by the door and answered with 500.

pub mod admin;
pub mod approvals;
pub mod body;
pub mod error;
pub mod feed;
pub mod health;
pub mod jobs;
mod login;
pub mod memory;
pub mod messages;
pub mod openapi;
pub mod outbox;
pub mod pairings;
pub mod routes;
pub mod sessions;
pub mod socket;
pub mod tools;
pub mod usage;
pub mod v1;

use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::routes::{Access, Matched, Route};
use crate::auth::address::{Block, client_address};
use crate::auth::{Authenticator, Login, admin as local_admin, bearer};
use crate::base::clock::Clock;
use crate::base::limit::address_key;
use crate::base::live::Live;
use crate::base::secret::Secret;
use crate::channel::chat::Chat;
use crate::config::Config;
use crate::domain::{Principal, Role};
use crate::flow::Flow;
use crate::net::door::DoorStats;
use crate::net::hosts::{HostCheck, origin_allowed};
use crate::net::http::{Head, Lane, Peer, Plan, Request, Responder, Response, Served, Service};
use crate::net::websocket::{Slot, Sockets};
use crate::telemetry::logging::Logger;

/// The largest body that is read where none is needed.
const IGNORED_BODY_MAX: usize = 16 * 1024;

/// What of the configuration the API goes by.
pub struct Settings {
    hosts: HostCheck,
    origins: Vec<String>,
    proxies: Vec<Block>,
    body_max: usize,
}

impl Settings {
    /// The settings of a configuration.
    pub fn new(config: &Config, clock: &Clock) -> Self {
        let gateway = &config.gateway;
        Settings {
            hosts: HostCheck::new(gateway.listen, &gateway.allowed_hosts, clock.clone()),
            origins: gateway.allowed_origins.clone(),
            proxies: gateway.trusted_proxies.iter().filter_map(|p| Block::parse(p)).collect(),
            body_max: gateway.limits.max_body_bytes,
        }
    }
}

/// The configuration as the API changes it; `gateway/reload` stands behind it.
pub trait Configurator: Send + Sync {
    /// The running configuration with secrets as `"***"`, and its revision.
    fn current(&self) -> (Value, String);
    /// Replaces the document, or merges into it, if `if_match` still holds; `actor` is for the audit trail.
    ///
    /// # Errors
    /// 400 with all problems, 403, 412, 503.
    fn change(&self, change: Change, if_match: Option<&str>, actor: &str) -> Result<Value, ApiError>;
    /// What [`Self::change`] would answer, errors included; changes nothing.
    ///
    /// # Errors
    /// As there.
    fn preview(&self, change: Change, if_match: Option<&str>) -> Result<Value, ApiError>;
    /// Why a person should look: an invalid file, a last good configuration in use.
    fn complaint(&self) -> Option<String>;
}

/// A change of the configuration.
pub enum Change {
    /// PUT.
    Replace(Value),
    /// PATCH.
    Merge(Value),
}

/// The API over its parts.
pub struct Api {
    /// The way of a message.
    pub flow: Arc<Flow>,
    /// Credentials.
    pub auth: Arc<Authenticator>,
    /// What the configuration says; replaced by a reload.
    pub settings: Live<Settings>,
    /// The configuration.
    pub configurator: Arc<dyn Configurator>,
    /// The WebSocket chat as a channel, for its counters.
    pub chat: Arc<Chat>,
    /// The WebSockets.
    pub sockets: Sockets,
    /// The log, for its latest records.
    pub logger: Logger,
    /// The door's counts.
    pub door: Box<dyn Fn() -> DoorStats + Send + Sync>,
    /// What `/openapi.json` answers, made when it is first asked for.
    pub document: OnceLock<Vec<u8>>,
    /// Requests whose bearer an identity provider is being asked about.
    pub asking: AtomicUsize,
}

/// One request on its way to its handler.
pub struct Call {
    /// The request.
    pub request: Request,
    /// The route.
    pub route: &'static Route,
    /// The decoded values of the route's `:name` segments.
    pub params: Vec<String>,
    /// Who asks; `None` on public and channel routes without a gateway credential.
    pub principal: Option<Arc<Principal>>,
    /// The address that the request counts for.
    pub address: IpAddr,
    /// The way back; taken by handlers that answer later.
    pub responder: Option<Responder>,
}

impl Call {
    /// The principal's id, or its address, for the audit trail.
    pub fn actor(&self) -> String {
        self.principal.as_ref().map_or_else(|| self.address.to_string(), |p| p.id.clone())
    }

    /// Whether the caller may see what belongs to `user_id`.
    pub fn may_see(&self, user_id: &str) -> bool {
        self.principal.as_ref().is_some_and(|p| p.role >= Role::Operator || p.id == user_id)
    }

    /// Answers a call whose handler answers later.
    pub fn answer(mut self, result: Result<Response, ApiError>) {
        let response = finish(result, &self.request.head);
        if let Some(responder) = self.responder.take() {
            responder.send(response);
        }
    }
}

/// What `plan` found out.
pub enum Context {
    /// A request for a route.
    Route {
        /// The route.
        route: &'static Route,
        /// Its segments.
        params: Vec<String>,
        /// Who asks.
        principal: Option<Arc<Principal>>,
        /// The address it counts for.
        address: IpAddr,
    },
    /// A request for a route, whose bearer an identity provider is to be asked about.
    Asking(login::Asking),
    /// A WebSocket.
    Socket(socket::Opening),
}

/// Errors become answers, and every answer gets the headers that protect a browser.
fn finish(result: Result<Response, ApiError>, head: &Head) -> Response {
    finish_at(result, &head.path, &head.request_id)
}

fn finish_at(result: Result<Response, ApiError>, path: &str, request_id: &str) -> Response {
    let response = result.unwrap_or_else(|e| e.response(path, request_id));
    let response = response.with("X-Content-Type-Options", "nosniff");
    // What is the same for everybody says itself how long it may be kept.
    if response.header("cache-control").is_some() { response } else { response.with("Cache-Control", "no-store") }
}

impl Api {
    fn decide(&self, head: &Head) -> Result<Plan<Context>, ApiError> {
        let settings = self.settings.get();
        check_browser(head, &settings)?;
        let address = client_address(head, &settings.proxies).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let matched = routes::find(&head.method, &head.path);
        let access = match &matched {
            Matched::Route(route, _) | Matched::Method(_, route) => route.access,
            Matched::Nothing => Access::Public,
        };
        let caller = self.caller(head, access, address)?;
        let (route, params) = match matched {
            Matched::Route(route, params) => (route, params),
            Matched::Method(allow, _) => {
                return Err(ApiError { allow: Some(allow), ..ApiError::new(405, "Method not allowed") });
            }
            Matched::Nothing => {
                self.limit_rate(None, address)?;
                return Err(ApiError::not_found());
            }
        };
        let (principal, unknown) = match caller {
            Caller::Known(principal) => (principal, None),
            Caller::Unknown(bearer) => (None, Some(bearer)),
        };
        check_role(route, principal.as_deref())?;
        if route.path == "/ws" && head.header("upgrade").is_some() {
            return self.open_socket(head, principal, address);
        }
        // What says that the process lives must not depend on who else asked from that address; the console's files come many at a
        // time, and cost no more than a refusal does.
        if !matches!(route.path, "/health" | "/ready" | "/" | "/console/:version/:file") && route.access != Access::Channel {
            self.limit_rate(principal.as_deref(), address)?;
        }
        if route.access == Access::Channel && principal.is_none() && !messages::has_credential(head) {
            return Err(self.refused(Login::Missing, address, &head.path)); // before its body is read
        }
        // Before its body takes the memory that is short. What puts things right (decisions, erasure, configuration) gets through.
        if matches!(route.path, "/webhook/:channel" | "/api/message" | "/v1/chat/completions") {
            self.check_room()?;
        }
        if route.body {
            body::check_type(head)?;
        }
        // Some clients send a body with everything; where none is needed, a small one is read and ignored.
        let body_max = if route.body { settings.body_max } else { settings.body_max.min(IGNORED_BODY_MAX) };
        if let Some(bearer) = unknown {
            // To be handed over by the door's thread, not to be waited for by it.
            let context = Context::Asking(login::Asking { route, params, bearer, address });
            return Ok(Plan::Read { context, body_max, lane: Lane::Quick });
        }
        Ok(Plan::Read { context: Context::Route { route, params, principal, address }, body_max, lane: route.lane })
    }

    /// Who asks. A route that needs somebody refuses nobody and strangers; a public one ignores a wrong credential.
    fn caller(&self, head: &Head, access: Access, address: IpAddr) -> Result<Caller, ApiError> {
        if head.peer == Peer::Local {
            return Ok(Caller::Known(Some(Arc::new(local_admin("local")))));
        }
        let credential = head.header("authorization").map(|v| bearer(v).unwrap_or(""));
        match access {
            Access::Public => Ok(Caller::Known(self.auth.recognise_all(credential))),
            // A channel's own credential looks like ours: whether it is wrong is for the handler to say, and no identity provider
            // ever sees it.
            Access::Channel => Ok(Caller::Known(self.auth.recognise(credential))),
            Access::Owner if head.path == "/ws" => Ok(Caller::Known(None)), // `open_socket` has more ways to find one
            Access::Role(_) | Access::Owner => match self.auth.login(credential, address) {
                Login::Principal(principal) => Ok(Caller::Known(Some(principal))),
                Login::Unknown => Ok(Caller::Unknown(Secret::new(credential.unwrap_or_default()))),
                other => Err(self.refused(other, address, &head.path)),
            },
        }
    }

    /// The answer to a login that failed; one that was wrong leaves a trace.
    pub fn refused(&self, login: Login, address: IpAddr, at: &str) -> ApiError {
        match login {
            Login::TooMany(verdict) => {
                self.flow.metrics.failed_login();
                ApiError::rate_limited(verdict)
            }
            Login::Wrong => {
                self.flow.metrics.failed_login();
                let at_ms = self.flow.clock.unix_ms();
                let detail = serde_json::json!({"path": crate::base::error::shorten(at, 128)});
                self.flow.store.audit(crate::store::AuditEntry {
                    at_ms,
                    actor: address.to_string(),
                    action: "login.failed".into(),
                    detail,
                });
                ApiError::unauthorized()
            }
            Login::Unavailable => ApiError::new(503, "The identity provider can't be asked now; try again"),
            // `Unknown` is asked about before it comes here.
            Login::Missing | Login::Principal(_) | Login::Unknown => match self.limit_rate(None, address) {
                Ok(()) => ApiError::unauthorized(),
                Err(e) => e,
            },
        }
    }

    /// Hands a call to its handler.
    fn run(self: &Arc<Self>, mut call: Call) {
        match call.route.handler {
            routes::Handler::Answer(handler) => {
                let responder = call.responder.take();
                let response = finish(handler(self, &call), &call.request.head);
                if let Some(responder) = responder {
                    responder.send(response);
                }
            }
            routes::Handler::Later(handler) => handler(self, call),
        }
    }

    fn limit_rate(&self, principal: Option<&Principal>, address: IpAddr) -> Result<(), ApiError> {
        let key = principal.map_or_else(|| address_key(address), |p| format!("principal:{}", p.id));
        self.flow.over_rate(&key).map_or(Ok(()), |verdict| Err(ApiError::rate_limited(verdict)))
    }

    /// Whether anything new may be taken now.
    fn check_room(&self) -> Result<(), ApiError> {
        self.flow.refusal().map_or(Ok(()), |why| Err(ApiError::new(503, format!("Not now: {why}"))))
    }

    /// A place for one more WebSocket.
    fn slot(&self) -> Result<Slot, ApiError> {
        // A full store keeps nobody out: a receipt is what gives room.
        if self.flow.is_draining() || self.flow.is_overloaded() {
            self.check_room()?;
        }
        self.sockets.reserve().ok_or_else(|| ApiError::new(503, "Too many WebSockets"))
    }
}

/// What the head tells about who asks.
enum Caller {
    /// All that is to be known.
    Known(Option<Arc<Principal>>),
    /// A bearer that an identity provider can tell about.
    Unknown(Secret),
}

fn check_role(route: &Route, principal: Option<&Principal>) -> Result<(), ApiError> {
    match (route.access, principal) {
        (Access::Role(least), Some(p)) if p.role < least => {
            Err(ApiError::forbidden(format!("This needs the role {}", least.as_str())))
        }
        _ => Ok(()),
    }
}

/// A foreign `Host` or `Origin` is a page or a name that tricks a browser on this network.
fn check_browser(head: &Head, settings: &Settings) -> Result<(), ApiError> {
    let Peer::Tcp { local, .. } = head.peer else { return Ok(()) };
    let host = head.header("host").unwrap_or("");
    // HTTP/1.0 may come without a Host; it is no browser.
    if !host.is_empty() && !settings.hosts.allows(host, local) {
        return Err(ApiError::forbidden("This Host is not served here; gateway.allowedHosts lists further ones"));
    }
    match head.header("origin") {
        Some(origin) if !origin_allowed(origin, host, &settings.origins) => {
            Err(ApiError::forbidden("This Origin is not allowed; gateway.allowedOrigins lists further ones"))
        }
        None if head.header("sec-fetch-site") == Some("cross-site") && !matches!(head.method.as_str(), "GET" | "HEAD") => {
            Err(ApiError::forbidden("A foreign page may not change anything here"))
        }
        _ => Ok(()),
    }
}

/// The service that the door and the local socket serve.
pub struct Front(pub Arc<Api>);

impl Service for Front {
    type Context = Context;

    fn plan(&self, head: &Head) -> Plan<Context> {
        self.0.decide(head).unwrap_or_else(|e| Plan::Answer(finish(Err(e), head)))
    }

    fn call(&self, context: Context, request: Request, responder: Responder) {
        let responder = Some(responder);
        match context {
            Context::Route { route, params, principal, address } => {
                self.0.run(Call { request, route, params, principal, address, responder });
            }
            Context::Asking(login::Asking { route, params, bearer, address }) => {
                self.0.ask_first(Call { request, route, params, principal: None, address, responder }, bearer);
            }
            Context::Socket(_) => {}
        }
    }

    fn upgrade(&self, context: Context, head: Head, stream: TcpStream, rest: Vec<u8>) {
        if let Context::Socket(opening) = context {
            socket::open(&self.0, opening, &head, stream, rest);
        }
    }

    fn refusal(&self, status: u16, path: &str, request_id: &str) -> Response {
        let message = match status {
            400 => "The request is malformed",
            408 => "The request took too long",
            411 => "A body needs Content-Length or chunked coding",
            413 => "The body is too large; gateway.limits.maxBodyBytes is the bound",
            414 => "The address is too long",
            417 => "This expectation can't be met",
            431 => "The head is too large; gateway.limits.maxHeaderBytes is the bound",
            501 => "This is not implemented",
            503 => "Too many connections",
            505 => "HTTP/1.0 and HTTP/1.1 are served",
            _ => return finish_at(Err(ApiError::internal()), path, request_id),
        };
        let error = ApiError::new(status, message);
        let error = if status == 400 { ApiError { errors: vec![("$".into(), message.into())], ..error } } else { error };
        finish_at(Err(error), path, request_id)
    }

    fn served(&self, served: &Served<'_>) {
        self.0.flow.metrics.request(served.method, served.status, served.took);
        let (id, us) = (served.request_id, served.took.as_micros() as u64);
        let path = crate::base::error::shorten(served.path, 200);
        // What monitors and the console ask all day is no news.
        let is_routine = matches!(served.path, "/health" | "/ready" | "/metrics" | "/api/metrics" | "/api/logs")
            || served.path.starts_with("/console/");
        let level = if is_routine && served.status < 400 { log::Level::Debug } else { log::Level::Info };
        let cut = if served.whole { "" } else { ", broken off" };
        log::log!(target: "gatelet::request", level, request_id = id, method = served.method, path = path.as_str(), status = served.status, took_us = us; "{} {} {}{cut}", served.method, path, served.status);
    }
}

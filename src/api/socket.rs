//! The WebSocket chat: its opening and its frames.
//!
//! Invariant: `accepted` is sent after the commit; a message without its `ack` comes again at the user's next connection. What
//! a client says about itself (scopes, user ids) counts for nothing: the credential decides. Errors of a frame are frames;
//! errors of the connection are close codes.

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::approvals;
use crate::api::body::Fields;
use crate::api::error::{ApiError, code};
use crate::api::feed::Feed;
use crate::api::messages::TEXT_BYTES_MAX;
use crate::api::{Api, Context};
use crate::auth::{Login, bearer};
use crate::base::secret::Secret;
use crate::domain::{Principal, Role, WEBSOCKET_CHANNEL};
use crate::flow::frames;
use crate::flow::hub::{Client, Line};
use crate::flow::ingress::Arrival;
use crate::net::http::{Head, Plan};
use crate::net::websocket::{Handler, Handshake, QUEUE_BYTES, Slot, Socket, handshake};
use crate::telemetry::metrics::OpenWebSocket;

/// The protocol that we speak, where the client offers it.
const PROTOCOL: &str = "gatelet.v1";
/// How long a connection may stay without saying who it is.
const AUTH_WITHIN: Duration = Duration::from_secs(5);
/// Frames over the rate limit that are answered before the connection is closed.
const OVER_RATE_MAX: u32 = 16;

/// A WebSocket that may open.
pub struct Opening {
    handshake: Handshake,
    principal: Option<Arc<Principal>>,
    /// A bearer that an identity provider is to be asked about, by the socket's own thread.
    unknown: Option<Secret>,
    address: IpAddr,
    slot: Slot,
}

impl Api {
    /// Decides on an upgrade of `/ws`: by header, by subprotocol, or later by the first frame.
    ///
    /// # Errors
    /// 400, 401, 426, 429, 503, before the upgrade.
    pub(super) fn open_socket(
        &self,
        head: &Head,
        principal: Option<Arc<Principal>>,
        address: IpAddr,
    ) -> Result<Plan<Context>, ApiError> {
        let handshake = handshake(head).map_err(|e| ApiError::new(e.status(), e.to_string()))?;
        let credential = head.header("authorization").map(|v| bearer(v).unwrap_or("")).or(handshake.bearer());
        let (principal, unknown) = match principal {
            Some(principal) => (Some(principal), None),
            None => match self.auth.login(credential, address) {
                Login::Principal(principal) => (Some(principal), None),
                Login::Missing => (None, None),
                Login::Unknown => (None, credential.map(Secret::new)),
                other => return Err(self.refused(other, address, &head.path)),
            },
        };
        self.limit_rate(principal.as_deref(), address)?;
        let slot = self.slot()?;
        Ok(Plan::Upgrade(Context::Socket(Opening { handshake, principal, unknown, address, slot })))
    }
}

/// Takes the connection over: the answer to the handshake and everything after it is the socket thread's.
pub fn open(api: &Arc<Api>, opening: Opening, head: &Head, stream: TcpStream, rest: Vec<u8>) {
    let Opening { handshake, principal, unknown, address, slot } = opening;
    let selected = handshake.protocols().iter().any(|p| p == PROTOCOL).then_some(PROTOCOL);
    let answer = handshake.response(selected, &head.request_id);
    let chat = Chat {
        api: api.clone(),
        address,
        waiting: principal,
        unknown,
        socket: None,
        feed: None,
        over_rate: 0,
        _open: api.flow.metrics.open_websocket(),
    };
    if let Err(e) = api.sockets.start(slot, stream, rest, answer, Box::new(chat)) {
        log::warn!("a WebSocket could not be opened: {e}");
    }
}

impl Line for Socket {
    fn send(&self, frame: Arc<str>) -> bool {
        Socket::send(self, frame)
    }

    fn hint(&self, frame: Arc<str>) {
        // The latter half of its room is for what must arrive.
        if self.room() > QUEUE_BYTES / 2 {
            Socket::send(self, frame);
        }
    }

    fn close(&self, code: u16, reason: &'static str) {
        Socket::close(self, code, reason);
    }
}

/// One connection.
struct Chat {
    api: Arc<Api>,
    address: IpAddr,
    /// Who it is, known before the upgrade.
    waiting: Option<Arc<Principal>>,
    /// Or still to be asked about.
    unknown: Option<Secret>,
    socket: Option<Socket>,
    feed: Option<Arc<Feed>>,
    over_rate: u32,
    /// Counts it as open for as long as it is there.
    _open: OpenWebSocket,
}

impl Handler for Chat {
    fn opened(&mut self, socket: &Socket) {
        self.socket = Some(socket.clone());
        match (self.waiting.take(), self.unknown.take()) {
            (Some(principal), _) => self.greet(principal),
            (None, Some(token)) => self.login(token.reveal()),
            (None, None) => socket.expect_within(AUTH_WITHIN, 1008),
        }
    }

    fn text(&mut self, text: &str) {
        let frame: Value = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(e) => return self.error(&ApiError::invalid_at("$", format!("the frame is not valid JSON: {e}"))),
        };
        let kind = frame.get("type").and_then(Value::as_str).unwrap_or("");
        match (&self.feed, kind) {
            (None, "auth") => self.auth(&frame),
            (None, _) => self.close(1008, "the first frame must be auth"),
            (Some(_), "message") => self.message(&frame),
            (Some(_), "ack") => self.ack(&frame),
            (Some(_), "auth") => {} // said once already: by the header, say
            (Some(_), "approve") => self.approve(&frame),
            (Some(_), "stop") => self.stop(),
            (Some(_), _) => self.error(&ApiError::invalid_at("$.type", "expected message, ack, approve or stop")),
        }
    }

    fn drained(&mut self) {
        if let Some(feed) = &self.feed {
            feed.go_on();
        }
    }

    fn closed(&mut self) {
        if let Some(feed) = self.feed.take() {
            self.api.flow.hub.leave(&feed.client);
        }
    }
}

impl Chat {
    fn send(&self, frame: &Value) {
        if let Some(socket) = &self.socket {
            socket.send(frame.to_string());
        }
    }

    fn close(&self, code: u16, reason: &'static str) {
        if let Some(socket) = &self.socket {
            socket.close(code, reason);
        }
    }

    fn error(&self, error: &ApiError) {
        let mut frame = frames::error(error.status, code(error.status), &error.message);
        if !error.errors.is_empty() {
            frame["errors"] = error.errors.iter().map(|(path, message)| json!({"path": path, "message": message})).collect();
        }
        self.send(&frame);
    }

    /// The first frame of a connection that came without a credential.
    fn auth(&mut self, frame: &Value) {
        self.login(frame.get("token").and_then(Value::as_str).unwrap_or(""));
    }

    /// Finds out who it is; this thread is the connection's own, and may wait for an identity provider.
    fn login(&mut self, token: &str) {
        match self.api.auth.ask(token, self.address) {
            Login::Principal(principal) => self.greet(principal),
            other => {
                let error = self.api.refused(other, self.address, "/ws");
                self.error(&error);
                // 1013: the same credential may be good a moment later.
                let (code, reason) = if error.status == 503 { (1013, "try again later") } else { (1008, "unauthorized") };
                self.close(code, reason);
            }
        }
    }

    /// Says hello, and sends what waits for the user's receipt.
    fn greet(&mut self, principal: Arc<Principal>) {
        let Some(socket) = &self.socket else { return };
        socket.settled();
        if let Some(grant) = &principal.grant {
            socket.end_within(grant.until.saturating_sub(self.api.flow.clock.mono()), 4401, "credential expired");
        }
        let flow = &self.api.flow;
        let line: Arc<dyn Line> = Arc::new(socket.clone());
        let client = flow.hub.join(principal.clone(), line);
        if !self.api.auth.still_good(&principal) {
            // Revoked between the login and the join: whoever revokes from here on finds this client in the hub.
            self.close(4401, "credential revoked");
        }
        client.send(
            &json!({"type": "ready", "userId": principal.id, "role": principal.role, "version": env!("CARGO_PKG_VERSION")}),
        );
        let feed = Arc::new(Feed::new(flow.clone(), client, socket.clone()));
        self.feed = Some(feed.clone());
        if let Err(work) = flow.errand(Box::new(move || feed.begin())) {
            work();
        }
    }

    fn message(&mut self, frame: &Value) {
        let Some(client) = self.feed.as_ref().map(|f| f.client.clone()) else { return };
        let mut fields = Fields::of(frame);
        let (id, text, agent) =
            (fields.optional_text("id", 256), fields.text("message", TEXT_BYTES_MAX), fields.optional_text("agent", 64));
        if let Err(e) = fields.end() {
            return self.error(&e);
        }
        let user = client.principal().id.clone();
        if self.is_over_rate(&client, id.as_deref()) {
            return;
        }
        let arrival = Arrival {
            channel: WEBSOCKET_CHANNEL.into(),
            peer: user.clone(),
            user_id: Some(user),
            external_id: id.clone(),
            text,
            standing: client.principal().role.into(),
            agent,
            ..Arrival::default()
        };
        let flow = &self.api.flow;
        flow.accept(
            arrival,
            |_| {},
            move |result| {
                let mut frame = match result {
                    Ok(accepted) => json!({"type": "accepted", "id": id, "messageId": accepted.id}),
                    Err(e) => {
                        let e = ApiError::from(e);
                        frames::error(e.status, code(e.status), &e.message)
                    }
                };
                frame["id"] = json!(id);
                client.send(&frame);
            },
        );
    }

    /// Decides an approval, on a thread that may wait for the commit. Whether the principal still may is asked at that moment: a
    /// credential that was revoked a moment ago has its socket closed a moment from now.
    fn approve(&mut self, frame: &Value) {
        let Some(client) = self.feed.as_ref().map(|f| f.client.clone()) else { return };
        let mut fields = Fields::of(frame);
        let (id, word) = (fields.id("id"), fields.text("decision", 16));
        let decision = match fields.end().and_then(|()| approvals::decision(&word)) {
            Ok(decision) => decision,
            Err(e) => return self.error(&e),
        };
        if self.is_over_rate(&client, Some(&id)) {
            return;
        }
        let api = self.api.clone();
        let decide = move || {
            let principal = client.principal();
            let result = if principal.role < Role::Operator || !api.auth.still_good(principal) {
                Err(ApiError::forbidden("This needs the role operator"))
            } else {
                api.flow.decide(&id, decision, &principal.id).map_err(ApiError::from)
            };
            match result {
                Ok(_) => {} // the hub has shown it to all operators
                Err(e) => {
                    let mut frame = frames::error(e.status, code(e.status), &e.message);
                    frame["id"] = json!(id);
                    client.send(&frame);
                }
            }
        };
        if self.api.flow.errand(Box::new(decide)).is_err() {
            self.error(&ApiError::new(503, "Too much at once; try again"));
        }
    }

    /// Ends what of the user's runs or waits.
    fn stop(&self) {
        let Some(client) = self.feed.as_ref().map(|f| f.client.clone()) else { return };
        let flow = self.api.flow.clone();
        // A thread that may wait for the store does it.
        if self
            .api
            .flow
            .errand(Box::new(move || {
                flow.stop_user(&client.principal().id);
            }))
            .is_err()
        {
            self.error(&ApiError::new(503, "Too much at once; try again"));
        }
    }

    /// Whether the user sends too fast; says so, and closes the connection where it does for long.
    fn is_over_rate(&mut self, client: &Client, id: Option<&str>) -> bool {
        let Some(verdict) = self.api.flow.over_rate(&format!("principal:{}", client.principal().id)) else {
            self.over_rate = 0;
            return false;
        };
        self.over_rate += 1;
        let mut refusal = frames::error(429, "rate_limited", &ApiError::rate_limited(verdict).message);
        refusal["id"] = json!(id);
        client.send(&refusal);
        if self.over_rate > OVER_RATE_MAX {
            self.close(1008, "rate limit");
        }
        true
    }

    fn ack(&self, frame: &Value) {
        let Some(feed) = self.feed.clone() else { return };
        let mut fields = Fields::of(frame);
        let id = fields.text("messageId", 256);
        if let Err(e) = fields.end() {
            return self.error(&e);
        }
        match self.api.flow.store.acknowledge(WEBSOCKET_CHANNEL, &feed.client.principal().id, &id) {
            Ok(0) => {}
            Ok(_) => {
                self.api.chat.note_settled();
                feed.acknowledged(&id);
            }
            Err(e) => log::warn!("a receipt was not recorded: {e}; the message comes again"),
        }
    }
}

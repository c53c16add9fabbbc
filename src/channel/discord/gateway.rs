//! Discord's gateway protocol (version 10) as a value: frames and time in, what is to be done out.
//!
//! Invariant: a session is resumed wherever Discord allows it, from the last event that was taken; it is begun anew where Discord
//! says that it is over, never without need. A connection whose heartbeat isn't answered is given up. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::error::{Error, ErrorKind};
use crate::base::secret::Secret;

/// DIRECT_MESSAGES, GUILD_MESSAGES and MESSAGE_CONTENT.
pub const INTENTS: u64 = 1 << 12 | 1 << 9 | 1 << 15;
/// The longest that `hello` is waited for.
const HELLO_WAIT: Duration = Duration::from_secs(30);
/// Bounds of the heartbeat's interval, whatever Discord says.
const BEAT_MIN: Duration = Duration::from_secs(1);
const BEAT_MAX: Duration = Duration::from_secs(300);

/// A session that can be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Where to resume it.
    pub url: String,
    /// The last event that was taken.
    pub seq: u64,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Send this frame.
    Send(String),
    /// The session stands, with our user id; `resumed` says whether it is the former one.
    Ready {
        /// Whether nothing was missed.
        resumed: bool,
    },
    /// An event of this sequence number: once it is taken, [`Gateway::taken`] is to be told.
    Event {
        /// Its type.
        kind: String,
        /// Its data.
        data: Value,
        /// Its number.
        seq: u64,
    },
    /// Leave this connection; what is known of the session says how the next one begins.
    Leave(&'static str),
}

/// One connection.
#[derive(Debug)]
pub struct Gateway {
    token: Secret,
    session: Option<Session>,
    /// The last event that came, for heartbeats.
    last_seq: Option<u64>,
    /// Our user id, once it is known.
    me: String,
    beat: Option<Beat>,
    begun: Duration,
}

#[derive(Debug)]
struct Beat {
    interval: Duration,
    next: Duration,
    is_answered: bool,
}

impl Gateway {
    /// A connection that begins now, to resume `session` if there is one.
    pub fn new(token: Secret, session: Option<Session>, me: String, now: Duration) -> Self {
        Gateway { token, last_seq: session.as_ref().map(|s| s.seq), session, me, beat: None, begun: now }
    }

    /// What is known of the session now.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Our user id; empty where it isn't known yet.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// An event was taken: a resumption begins behind it.
    pub fn taken(&mut self, seq: u64) {
        if let Some(session) = &mut self.session {
            session.seq = session.seq.max(seq);
        }
    }

    /// A frame came. `jitter` is a number in 0..1000: where in the first interval the first heartbeat stands.
    pub fn frame(&mut self, text: &str, now: Duration, jitter: u64) -> Vec<Step> {
        let Ok(mut frame) = serde_json::from_str::<Value>(text) else { return Vec::new() };
        match frame["op"].as_u64() {
            Some(0) => self.dispatch(&mut frame),
            Some(1) => vec![self.heartbeat(now)],
            Some(7) => vec![Step::Leave("Discord asks for a new connection")],
            Some(9) => {
                if frame["d"] != true {
                    self.session = None;
                }
                vec![Step::Leave("Discord does not know the session any more")]
            }
            Some(10) if self.beat.is_none() => {
                let interval =
                    Duration::from_millis(frame["d"]["heartbeat_interval"].as_u64().unwrap_or(41_250)).clamp(BEAT_MIN, BEAT_MAX);
                let first = interval.mul_f64(jitter.min(1000) as f64 / 1000.0);
                self.beat = Some(Beat { interval, next: now + first, is_answered: true });
                vec![Step::Send(self.opening())]
            }
            Some(11) => {
                if let Some(beat) = &mut self.beat {
                    beat.is_answered = true;
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// What is due at this time.
    pub fn due(&mut self, now: Duration) -> Option<Step> {
        let Some(beat) = &self.beat else {
            return (now.saturating_sub(self.begun) >= HELLO_WAIT).then_some(Step::Leave("Discord did not say hello in time"));
        };
        if now < beat.next {
            return None;
        }
        if !beat.is_answered {
            return Some(Step::Leave("Discord fell silent: a heartbeat was not answered"));
        }
        Some(self.heartbeat(now))
    }

    /// How long nothing is due, if nothing comes.
    pub fn wait(&self, now: Duration) -> Duration {
        self.beat.as_ref().map_or(self.begun + HELLO_WAIT, |b| b.next).saturating_sub(now)
    }

    /// Discord closed the connection with this code: what is left of the session, and what that means for the next connection.
    /// `None` where it may begin at once.
    pub fn closed(&mut self, code: u16) -> Option<Error> {
        let error = |kind, text: &str, hint: &str| Some(Error::new(kind, text).hint(hint));
        match code {
            4004 => error(ErrorKind::Denied, "Discord refused the bot's token", "copy it anew from the developer portal"),
            4010 | 4011 => error(ErrorKind::Permanent, "Discord wants this bot to be sharded: it is in too many guilds", ""),
            4012 => error(
                ErrorKind::Permanent,
                "Discord does not speak version 10 of its gateway any more",
                "a newer gatelet is needed",
            ),
            4013 => error(ErrorKind::Permanent, "Discord does not know these intents", "a newer gatelet is needed"),
            4014 => error(
                ErrorKind::Denied,
                "Discord does not let this bot read messages",
                "switch on the Message Content intent for the bot in the developer portal",
            ),
            // The session is over: not authenticated, an impossible number, timed out; or ended in the plain way.
            4003 | 4005 | 4007 | 4009 | 1000 | 1001 => {
                self.session = None;
                None
            }
            _ => None,
        }
    }

    fn dispatch(&mut self, frame: &mut Value) -> Vec<Step> {
        let Some(seq) = frame["s"].as_u64() else { return Vec::new() };
        self.last_seq = self.last_seq.max(Some(seq));
        let (kind, data) = (frame["t"].as_str().unwrap_or_default().to_string(), frame["d"].take());
        match kind.as_str() {
            "READY" => {
                let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
                self.me = text(&data["user"]["id"]);
                self.last_seq = Some(seq);
                self.session = Some(Session { id: text(&data["session_id"]), url: text(&data["resume_gateway_url"]), seq });
                vec![Step::Ready { resumed: false }]
            }
            "RESUMED" => {
                self.taken(seq);
                vec![Step::Ready { resumed: true }]
            }
            // A repeat, too: which messages were taken is told by their ids.
            _ => vec![Step::Event { kind, data, seq }],
        }
    }

    fn heartbeat(&mut self, now: Duration) -> Step {
        if let Some(beat) = &mut self.beat {
            beat.next = now + beat.interval;
            beat.is_answered = false;
        }
        Step::Send(json!({"op": 1, "d": self.last_seq}).to_string())
    }

    fn opening(&self) -> String {
        let token = self.token.reveal();
        match &self.session {
            Some(s) => json!({"op": 6, "d": {"token": token, "session_id": s.id, "seq": s.seq}}).to_string(),
            None => json!({"op": 2, "d": {"token": token, "intents": INTENTS,
                "properties": {"os": "linux", "browser": "gatelet", "device": "gatelet"}}})
            .to_string(),
        }
    }
}

//! Any OpenAI-compatible server: chat completions, streamed.
//!
//! Invariant: the key goes to the configured origin alone; no wait is beyond the provider's deadlines and the turn's; an answer
//! counts only when the server said that it is whole. Nothing is asked twice but what the server refused for a field that it
//! does not know. Fails as [`Provider`] says.

mod chunks;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::provider::sse::{Event, Sse};
use crate::agent::provider::{Answer, Completion, Failure, Provider};
use crate::base::cache::Cache;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::base::secret::{REDACTED, Secret};
use crate::config;
use crate::net::client::{Call, Client, Deadlines, Refused, Reply, origin};

use chunks::Gathered;

/// The model name that stands for the server's first.
const AUTO: &str = "auto";
/// How long the account (`usage`) that follows a whole text is waited for.
const TAIL_WAIT: Duration = Duration::from_secs(2);
/// For the list of models.
const MODELS_WAIT: Duration = Duration::from_secs(10);
const MODELS_BYTES_MAX: usize = 4 * 1024 * 1024;
const MODELS_MAX: usize = 1000;
/// An answer that is not streamed: 1 MiB of text may take a good deal more as JSON.
const WHOLE_BYTES_MAX: usize = 4 * 1024 * 1024;
const SENDING: Duration = Duration::from_secs(30);

/// One server.
pub struct OpenAi {
    config: config::Provider,
    client: Arc<Client>,
    clock: Clock,
    models_ttl: Duration,
    first_model: Cache<String>,
    /// The server knows `stream_options`.
    stream_options: AtomicBool,
    /// The server wants `max_completion_tokens` for `max_tokens`.
    completion_tokens: AtomicBool,
}

impl OpenAi {
    /// The server at `config.base_url`. `models_ttl` is how long the choice of `auto` is kept.
    pub fn new(config: config::Provider, client: Arc<Client>, clock: Clock, models_ttl: Duration) -> Self {
        OpenAi {
            config,
            client,
            first_model: Cache::new(1, clock.clone()),
            clock,
            models_ttl,
            stream_options: AtomicBool::new(true),
            completion_tokens: AtomicBool::new(false),
        }
    }

    fn call(&self, path: &str, body: Option<Value>, deadlines: Deadlines) -> Call {
        let url = format!("{}{path}", self.config.base_url);
        let call = match body {
            Some(body) => Call::post_json(url, body.to_string(), deadlines),
            None => Call::get(url, deadlines),
        };
        match &self.config.api_key {
            Some(key) => call.bearer(key),
            None => call,
        }
    }

    fn model(&self, ask: &Completion) -> Result<String> {
        if ask.model != AUTO {
            return Ok(ask.model.clone());
        }
        let left = ask.deadline.saturating_sub(self.clock.mono());
        self.first_model.get(AUTO, || {
            let first = self.list(MODELS_WAIT.min(left))?.into_iter().next();
            let first = first.ok_or_else(|| {
                Error::new(ErrorKind::Permanent, format!("{} offers no model", self.origin())).hint("load one there")
            })?;
            Ok((first, self.models_ttl))
        })
    }

    fn list(&self, within: Duration) -> Result<Vec<String>> {
        let deadlines = Deadlines::within(self.config.connect_timeout, within);
        let mut reply = self.client.send(&self.call("/models", None, deadlines))?.accepted()?;
        let body = reply.read_all(MODELS_BYTES_MAX)?;
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        let Some(data) = json.as_ref().and_then(|j| j.get("data")?.as_array()) else {
            return Err(Error::new(ErrorKind::Permanent, format!("{} gave no list of models", self.origin()))
                .hint("check baseUrl: it usually ends in /v1"));
        };
        Ok(data.iter().filter_map(|m| m.get("id")?.as_str()).take(MODELS_MAX).map(str::to_string).collect())
    }

    fn origin(&self) -> String {
        origin(&self.config.base_url)
    }

    fn body(&self, model: &str, ask: &Completion) -> Value {
        let messages: Vec<_> = ask.messages.iter().map(|m| json!({"role": m.role.as_str(), "content": m.text})).collect();
        let mut body = json!({"model": model, "messages": messages, "stream": true});
        if self.stream_options.load(Ordering::Relaxed) {
            body["stream_options"] = json!({"include_usage": true});
        }
        if let Some(max) = ask.max_output_tokens {
            let key = if self.completion_tokens.load(Ordering::Relaxed) { "max_completion_tokens" } else { "max_tokens" };
            body[key] = max.into();
        }
        body
    }

    /// Whether the server refused a field that we can do without, which from now on we do.
    fn adapts(&self, refused: &Refused) -> bool {
        if !matches!(refused.status, 400 | 422) {
            return false;
        }
        if refused.body.contains("max_completion_tokens") && !self.completion_tokens.swap(true, Ordering::Relaxed) {
            return true;
        }
        refused.body.contains("stream_options") && self.stream_options.swap(false, Ordering::Relaxed)
    }

    fn converse(&self, model: &str, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer> {
        loop {
            let left = self.left(ask)?;
            let deadlines = Deadlines {
                connect: self.config.connect_timeout,
                send: SENDING,
                first_byte: self.config.first_byte_timeout,
                read: self.config.chunk_timeout,
                total: Some(left),
            };
            match self.client.send(&self.call("/chat/completions", Some(self.body(model, ask)), deadlines))?.accepted() {
                Ok(reply) => return self.gather(reply, ask, on_delta)?.answer(model),
                Err(refused) if self.adapts(&refused) => {} // at most once for each field
                Err(refused) => return Err(refused.error),
            }
        }
    }

    fn left(&self, ask: &Completion) -> Result<Duration> {
        match ask.deadline.saturating_sub(self.clock.mono()) {
            Duration::ZERO => Err(Error::new(ErrorKind::Timeout, "the turn's time was over before the answer was whole")
                .hint("a shorter answer (maxOutputTokens) or a longer turnTimeout would do")),
            left => Ok(left),
        }
    }

    fn gather(&self, mut reply: Reply, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Gathered> {
        let (mut gathered, mut sse, mut events) = (Gathered::default(), Sse::default(), Vec::new());
        let mut buffer = [0u8; 8192];
        let mut begun = false;
        if reply.content_type() == "text/html" {
            return Err(self.web_page());
        }
        while !gathered.is_done() {
            let read = if gathered.is_whole() {
                reply.read_within(&mut buffer, TAIL_WAIT.min(self.config.chunk_timeout))
            } else {
                self.left(ask)?;
                reply.read(&mut buffer)
            };
            let part = match read {
                Ok(0) => break,
                Ok(n) => &buffer[..n],
                Err(_) if gathered.is_whole() => return Ok(gathered),
                Err(e) => return Err(e),
            };
            // Some servers stream nothing whatever they are asked, and name any type; the first character tells.
            let first = part.iter().find(|b| !b.is_ascii_whitespace()).filter(|_| !begun);
            match first {
                Some(b'<') => return Err(self.web_page()),
                Some(b'{') => {
                    let mut body = part.to_vec();
                    body.extend_from_slice(&reply.read_all(WHOLE_BYTES_MAX)?);
                    gathered.whole(&String::from_utf8_lossy(&body), on_delta)?;
                    return Ok(gathered);
                }
                Some(_) => begun = true,
                None => {}
            }
            sse.feed(part, &mut events).map_err(|_| self.too_long())?;
            take_events(&mut gathered, &mut events, on_delta)?;
        }
        if gathered.is_done() {
            reply.settle();
        } else {
            sse.finish(&mut events).map_err(|_| self.too_long())?;
            take_events(&mut gathered, &mut events, on_delta)?;
        }
        Ok(gathered)
    }

    fn web_page(&self) -> Error {
        Error::new(ErrorKind::Permanent, format!("{} answered with a web page (HTML)", self.origin()))
            .hint("check baseUrl: it usually ends in /v1")
    }

    fn too_long(&self) -> Error {
        Error::new(ErrorKind::Permanent, format!("{} sent an event beyond its bound", self.origin()))
    }

    /// No peer's words may carry our key on, wherever it put them.
    fn blot(&self, mut error: Error) -> Error {
        if let Some(key) = self.config.api_key.as_ref().map(Secret::reveal).filter(|k| !k.is_empty()) {
            error.text = error.text.replace(key, REDACTED);
        }
        error
    }
}

fn take_events(gathered: &mut Gathered, events: &mut Vec<Event>, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
    for event in events.drain(..) {
        if gathered.is_done() {
            break;
        }
        if event.name == "error" && !event.data.trim_start().starts_with('{') {
            let text = format!("the model's server reports: {}", shorten(event.data.trim(), 200));
            return Err(Error::new(ErrorKind::Transient, text));
        }
        gathered.event(&event.data, on_delta)?;
    }
    Ok(())
}

impl Provider for OpenAi {
    fn complete(&self, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        let mut after_first_byte = false;
        let mut pass_on = |delta: &str| {
            after_first_byte = true;
            on_delta(delta);
        };
        let answer = self.model(ask).and_then(|model| self.converse(&model, ask, &mut pass_on));
        answer.map_err(|error| {
            if error.kind == ErrorKind::Permanent {
                self.first_model.forget(AUTO); // the server may have another model by now
            }
            Failure { error: self.blot(error), after_first_byte }
        })
    }

    fn models(&self) -> Result<Vec<String>> {
        self.list(MODELS_WAIT).map_err(|e| self.blot(e))
    }
}

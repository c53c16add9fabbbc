//! A server that answers in a provider's wire format: the calls, deadlines and tolerance that all formats share.
//!
//! Invariant: the key goes to the configured origin alone; no wait is beyond the provider's deadlines and the turn's; an answer
//! counts only when the server said that it is whole. Nothing is asked twice but what the server refused for a field that it
//! does not know. Fails as [`Provider`] says.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::agent::provider::draft::Draft;
use crate::agent::provider::images::{self, IMAGES, Verdict};
use crate::agent::provider::refusals::Refusals;
use crate::agent::provider::reported::{parse, reported};
use crate::agent::provider::sse::{Event, Sse};
use crate::agent::provider::{Answer, Completion, Failure, Provider};
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::base::secret::{REDACTED, Secret};
use crate::config;
use crate::net::client::{Call, Client, Deadlines, Refused, Reply, origin};

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
const PEER_TEXT_MAX: usize = 200;

/// A wire format.
pub trait Format: Default + Send + Sync {
    /// What reads the pieces of one answer.
    type Reader: Reader;
    /// Where answers are asked for, below the base.
    const ASK: &'static str;
    /// Where the list of models is, below the base.
    const MODELS: &'static str;
    /// What to do where the server speaks something else.
    const HINT: &'static str;

    /// The base of all addresses, made of `baseUrl`.
    fn base(base_url: &str) -> &str;

    /// Adds the credential, and what else each request bears.
    fn sign(call: Call, key: Option<&Secret>) -> Call;

    /// The body of a request.
    fn body(&self, model: &str, ask: &Completion) -> Value;

    /// What was learnt of the server's models.
    fn refusals(&self) -> &Refusals;

    /// Whether the server refused a field of `sent` that we can do without, which for that model we do from now on.
    fn adapts(&self, model: &str, sent: &Value, refused: &Refused) -> bool;
}

/// Reads the pieces of one answer.
pub trait Reader: Default {
    /// Takes the JSON of one event of a stream; `name` is what `event:` called it.
    ///
    /// # Errors
    /// A bound.
    fn piece(&mut self, name: &str, json: &Value, draft: &mut Draft, on_delta: &mut dyn FnMut(&str)) -> Result<()>;

    /// Takes a whole answer, as a server gives it that does not stream; false where it is none.
    ///
    /// # Errors
    /// A bound.
    fn whole(&mut self, json: &Value, draft: &mut Draft, on_delta: &mut dyn FnMut(&str)) -> Result<bool>;
}

/// One server.
pub struct Server<F> {
    format: F,
    config: config::Provider,
    client: Arc<Client>,
    clock: Clock,
    models_ttl: Duration,
    /// The choice of `auto`, and until when it holds. Nobody waits for another's question: a turn must be able to stop.
    first_model: Mutex<Option<(String, Duration)>>,
}

impl<F: Format> Server<F> {
    /// The server at `config.base_url`. `models_ttl` is how long the choice of `auto` is kept.
    pub fn new(config: config::Provider, client: Arc<Client>, clock: Clock, models_ttl: Duration) -> Self {
        Server { format: F::default(), config, client, clock, models_ttl, first_model: Mutex::new(None) }
    }

    fn call(&self, path: &str, body: Option<&Value>, deadlines: Deadlines, cancel: &Cancel) -> Call {
        let url = format!("{}{path}", F::base(&self.config.base_url));
        let call = match body {
            Some(body) => Call::post_json(url, body.to_string(), deadlines),
            None => Call::get(url, deadlines),
        };
        F::sign(call, self.config.api_key.as_ref()).cancel(cancel)
    }

    fn model(&self, ask: &Completion) -> Result<String> {
        if ask.model != AUTO {
            return Ok(ask.model.clone());
        }
        let known = self.first_model.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((model, _)) = known.filter(|(_, until)| *until > self.clock.mono()) {
            return Ok(model);
        }
        let first = self.list(MODELS_WAIT.min(self.left(ask)?), &ask.cancel)?.into_iter().next();
        let first = first.ok_or_else(|| {
            Error::new(ErrorKind::Permanent, format!("{} offers no model", self.origin())).hint("load one there")
        })?;
        self.choose(Some((first.clone(), self.clock.mono() + self.models_ttl)));
        Ok(first)
    }

    fn choose(&self, choice: Option<(String, Duration)>) {
        *self.first_model.lock().unwrap_or_else(PoisonError::into_inner) = choice;
    }

    fn list(&self, within: Duration, cancel: &Cancel) -> Result<Vec<String>> {
        let deadlines = Deadlines::within(self.config.connect_timeout, within);
        let mut reply = self.client.send(&self.call(F::MODELS, None, deadlines, cancel))?.accepted()?;
        let body = reply.read_all(MODELS_BYTES_MAX)?;
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        let Some(data) = json.as_ref().and_then(|j| j.get("data")?.as_array()) else {
            let text = format!("{} gave no list of models", self.origin());
            return Err(Error::new(ErrorKind::Permanent, text).hint(F::HINT));
        };
        Ok(data.iter().filter_map(|m| m.get("id")?.as_str()).take(MODELS_MAX).map(str::to_string).collect())
    }

    fn origin(&self) -> String {
        origin(&self.config.base_url)
    }

    fn converse(&self, model: &str, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer> {
        let mut ask = Cow::Borrowed(ask);
        if images::has_images(&ask) && self.format.refusals().of(model).contains(IMAGES) {
            images::take_out(ask.to_mut());
        }
        loop {
            let asked = &*ask;
            let left = self.left(asked)?;
            let deadlines = Deadlines {
                connect: self.config.connect_timeout,
                send: SENDING,
                first_byte: self.config.first_byte_timeout,
                read: self.config.chunk_timeout,
                total: Some(left),
            };
            let body = self.format.body(model, asked);
            match self.client.send(&self.call(F::ASK, Some(&body), deadlines, &asked.cancel))?.accepted() {
                Ok(reply) => {
                    let offered = if body.get("tools").is_some() { asked.tools.as_slice() } else { &[] };
                    return self.gather(reply, asked, on_delta)?.answer(model, offered);
                }
                Err(refused) if self.format.adapts(model, &body, &refused) => {} // at most once for each field
                Err(refused) if self.goes_without_images(model, &mut ask, &refused) => {} // at most once
                Err(refused) => return Err(refused.error),
            }
        }
    }

    /// Takes the images out of a question that was refused, where they may be why.
    fn goes_without_images(&self, model: &str, ask: &mut Cow<'_, Completion>, refused: &Refused) -> bool {
        if !images::has_images(ask) {
            return false;
        }
        match images::verdict(refused) {
            Verdict::Unrelated => return false,
            Verdict::Blind => drop(self.format.refusals().note(model, IMAGES)),
            Verdict::Perhaps => {
                log::warn!(model = model; "a question with images was refused, and is asked without them: {}", refused.error);
            }
        }
        images::take_out(ask.to_mut())
    }

    fn left(&self, ask: &Completion) -> Result<Duration> {
        match ask.deadline.saturating_sub(self.clock.mono()) {
            Duration::ZERO => Err(Error::new(ErrorKind::Timeout, "the turn's time was over before the answer was whole")
                .hint("a shorter answer (maxOutputTokens) or a longer turnTimeout would do")),
            left => Ok(left),
        }
    }

    fn gather(&self, mut reply: Reply, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Draft> {
        let (mut gathered, mut sse, mut events) = (Gathered::<F::Reader>::default(), Sse::default(), Vec::new());
        let mut buffer = [0u8; 8192];
        let mut begun = false;
        if reply.content_type() == "text/html" {
            return Err(self.web_page());
        }
        while !gathered.draft.done {
            let read = if gathered.draft.is_whole() {
                reply.read_within(&mut buffer, TAIL_WAIT.min(self.config.chunk_timeout))
            } else {
                self.left(ask)?;
                reply.read(&mut buffer)
            };
            let part = match read {
                Ok(0) => break,
                Ok(n) => &buffer[..n],
                Err(_) if gathered.draft.is_whole() => return Ok(gathered.draft),
                Err(e) => return Err(e),
            };
            // Some servers stream nothing whatever they are asked, and name any type; the first character tells.
            let first = part.iter().find(|b| !b.is_ascii_whitespace()).filter(|_| !begun);
            match first {
                Some(b'<') => return Err(self.web_page()),
                Some(b'{') => {
                    let mut body = part.to_vec();
                    body.extend_from_slice(&reply.read_all(WHOLE_BYTES_MAX)?);
                    return gathered.whole::<F>(&String::from_utf8_lossy(&body), on_delta);
                }
                Some(_) => begun = true,
                None => {}
            }
            sse.feed(part, &mut events).map_err(|_| self.too_long())?;
            gathered.take(&mut events, on_delta)?;
        }
        if gathered.draft.done {
            reply.settle();
        } else {
            sse.finish(&mut events).map_err(|_| self.too_long())?;
            gathered.take(&mut events, on_delta)?;
        }
        Ok(gathered.draft)
    }

    fn web_page(&self) -> Error {
        Error::new(ErrorKind::Permanent, format!("{} answered with a web page (HTML)", self.origin())).hint(F::HINT)
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

/// The pieces of one answer.
#[derive(Default)]
struct Gathered<R> {
    draft: Draft,
    reader: R,
}

impl<R: Reader> Gathered<R> {
    fn take(&mut self, events: &mut Vec<Event>, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
        for event in events.drain(..) {
            if self.draft.done {
                break;
            }
            self.draft.count_piece()?;
            match event.data.trim() {
                "" => {}
                "[DONE]" => self.draft.done = true,
                words if event.name == "error" && !words.starts_with('{') => {
                    let text = format!("the model's server reports: {}", shorten(words, PEER_TEXT_MAX));
                    return Err(Error::new(ErrorKind::Transient, text));
                }
                data => {
                    let json = parse(data)?;
                    check_error(&json)?;
                    self.reader.piece(&event.name, &json, &mut self.draft, on_delta)?;
                }
            }
        }
        Ok(())
    }

    fn whole<F: Format>(mut self, body: &str, on_delta: &mut dyn FnMut(&str)) -> Result<Draft> {
        let json = parse(body.trim())?;
        check_error(&json)?;
        if !self.reader.whole(&json, &mut self.draft, on_delta)? {
            let text = "the answer is JSON, but not what was asked for";
            return Err(Error::new(ErrorKind::Permanent, text).hint(F::HINT));
        }
        self.draft.done = true;
        Ok(self.draft)
    }
}

/// What a stream's events come to.
#[cfg(fuzzing)]
pub(super) fn drafted<F: Format>(events: &mut Vec<Event>, on_delta: &mut dyn FnMut(&str)) -> Result<Draft> {
    let mut gathered = Gathered::<F::Reader>::default();
    gathered.take(events, on_delta).map(|()| gathered.draft)
}

/// What an answer comes to that is no stream.
#[cfg(fuzzing)]
pub(super) fn whole<F: Format>(body: &str, on_delta: &mut dyn FnMut(&str)) -> Result<Draft> {
    Gathered::<F::Reader>::default().whole::<F>(body, on_delta)
}

fn check_error(json: &Value) -> Result<()> {
    match json.get("error").filter(|e| !e.is_null()) {
        Some(error) => Err(reported(error)),
        None => Ok(()),
    }
}

impl<F: Format> Provider for Server<F> {
    fn complete(&self, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        let mut after_first_byte = false;
        let mut pass_on = |delta: &str| {
            after_first_byte = true;
            on_delta(delta);
        };
        let answer = self.model(ask).and_then(|model| self.converse(&model, ask, &mut pass_on));
        answer.map_err(|error| {
            if error.kind == ErrorKind::Permanent {
                self.choose(None); // the server may have another model by now
            }
            Failure { error: self.blot(error), after_first_byte }
        })
    }

    fn models(&self) -> Result<Vec<String>> {
        self.list(MODELS_WAIT, &Cancel::new()).map_err(|e| self.blot(e))
    }
}

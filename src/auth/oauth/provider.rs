//! One identity provider: what it is asked about a token, and what its answers mean.
//!
//! Invariant: a token goes to this provider's own addresses and nowhere else; no answer is read beyond its bound, no question takes
//! longer than the asker's deadline; only an answer that is understood lets anybody in. Neither token, secret nor a body is part of
//! any text. Fails as [`Answer::Down`], after which a provider that can't be reached is left alone for a moment.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::auth::oauth::claims::{self, Person};
use crate::auth::oauth::jwt::{Keys, Unverified};
use crate::base::clock::Clock;
use crate::base::error::ErrorKind;
use crate::base::secret::{Fingerprint, Secret};
use crate::config::OauthProvider;
use crate::net::client::{Call, Client, Deadlines};

/// Connecting, of the deadline of all.
const CONNECT: Duration = Duration::from_secs(3);
/// The bound of an answer about a token.
const CLAIMS_BYTES_MAX: usize = 64 * 1024;
/// The bound of a document: discovery, keys.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// How long endpoints and keys are believed.
const LEARNED_FOR: Duration = Duration::from_secs(3600);
/// The pause between two looks for a key that is not there.
const KEYS_PAUSE: Duration = Duration::from_secs(60);
/// How long a provider that can't be reached is left alone.
pub const DOWN_PAUSE: Duration = Duration::from_secs(2);

/// What a provider says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is good, and this one's.
    Person(Person),
    /// It is not good, or not this provider's.
    Refused,
    /// That could not be found out.
    Down,
}

/// Why there is no answer.
struct Trouble {
    what: String,
    /// Whether it is the provider's, and not this one token's.
    is_whole: bool,
}

impl Trouble {
    fn whole(what: impl Into<String>) -> Self {
        Trouble { what: what.into(), is_whole: true }
    }
}

type Outcome<T> = Result<T, Trouble>;

/// The provider.
pub struct Provider {
    /// What is configured of it.
    pub config: OauthProvider,
    /// Of all that is configured of it, secrets included.
    pub fingerprint: Fingerprint,
    learned: Mutex<Option<Learned>>,
    down: Mutex<Option<Duration>>,
}

/// What its documents told.
struct Learned {
    introspection: Option<String>,
    userinfo: Option<String>,
    jwks: Option<String>,
    keys: Keys,
    at: Duration,
    keys_at: Duration,
}

/// With whom and until when it is asked.
pub struct Asker<'a> {
    /// The way out.
    pub client: &'a Client,
    /// The time.
    pub clock: &'a Clock,
    /// When the asker no longer waits (`Clock::mono`).
    pub until: Duration,
}

impl Provider {
    /// The provider of a configuration; nothing is asked yet.
    pub fn new(config: OauthProvider) -> Self {
        let secret = config.client_secret.as_ref().map_or("", Secret::reveal);
        let fingerprint = Fingerprint::of(&format!("{config:?}\n{secret}"));
        Provider { config, fingerprint, learned: Mutex::default(), down: Mutex::default() }
    }

    /// Whether it issued that token, as the token says.
    pub fn issued(&self, token: &Unverified<'_>) -> bool {
        self.config.issuer.is_some() && self.config.issuer.as_deref() == token.issuer()
    }

    /// Whether it is to be asked about tokens that it didn't sign itself: opaque ones, and with explicit endpoints others', too.
    pub fn tells_of(&self, is_signed: bool) -> bool {
        let explicit = self.config.introspection_url.is_some() || self.config.userinfo_url.is_some();
        explicit || (self.config.issuer.is_some() && !is_signed)
    }

    /// What it says of `token`; `signed` is the token where it is this provider's JWT.
    pub fn ask(&self, token: &str, signed: Option<Unverified<'_>>, asker: &Asker<'_>) -> Answer {
        let now = asker.clock.mono();
        let lock = || self.down.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().is_some_and(|until| until > now) {
            return Answer::Down;
        }
        let found = match signed {
            Some(signed) if self.audience().is_some() => self.verify(signed, asker),
            // Nothing here can tell whom a signed token is for, either: its provider is asked about it.
            _ => self.inquire(token, asker),
        };
        match found {
            Ok(claims) => {
                if lock().take().is_some() {
                    log::info!("the identity provider {} answers again", self.config.name);
                }
                let person = claims.and_then(|c| claims::person(&c, &self.config, asker.clock.unix_ms()));
                person.map_or(Answer::Refused, Answer::Person)
            }
            Err(trouble) => {
                let was_up = !trouble.is_whole || lock().replace(asker.clock.mono() + DOWN_PAUSE).is_none();
                if was_up {
                    log::warn!("the identity provider {}: {}", self.config.name, trouble.what);
                }
                Answer::Down
            }
        }
    }

    /// Whom its tokens have to be for.
    fn audience(&self) -> Option<&String> {
        self.config.audience.as_ref().or(self.config.client_id.as_ref())
    }

    /// A JWT, by the provider's keys.
    fn verify(&self, token: Unverified<'_>, asker: &Asker<'_>) -> Outcome<Option<Map<String, Value>>> {
        let Some(audience) = self.audience().filter(|_| token.is_possible()) else { return Ok(None) };
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.learn(&mut learned, asker)?;
        let now = asker.clock.mono();
        let age = now.saturating_sub(known.keys_at);
        let is_new = known.keys_at == Duration::MAX;
        if is_new || age >= LEARNED_FOR || (!known.keys.know(token.kid.as_deref()) && age >= KEYS_PAUSE) {
            let url = known.jwks.clone().ok_or_else(|| Trouble::whole("its discovery document names no jwks_uri"))?;
            let document = fetch(Call::get(url, asker.deadlines()?), DOCUMENT_BYTES_MAX, asker)?;
            known.keys = Keys::read(&Value::Object(document)).ok_or_else(|| Trouble::whole("its keys are no JWKS"))?;
            known.keys_at = now;
        }
        Ok(token.verified(&known.keys).filter(|claims| claims.contains_key("exp") && claims::is_for(claims, audience)))
    }

    /// An opaque token, by introspection or userinfo.
    fn inquire(&self, token: &str, asker: &Asker<'_>) -> Outcome<Option<Map<String, Value>>> {
        let (mut introspection, mut userinfo) = (self.config.introspection_url.clone(), self.config.userinfo_url.clone());
        if introspection.is_none() && userinfo.is_none() {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            let known = self.learn(&mut learned, asker)?;
            (introspection, userinfo) = (known.introspection.clone(), known.userinfo.clone());
        }
        // One that discovery found wants a client; one that the configuration names may want none.
        let has_client = self.config.client_id.is_some() && self.config.client_secret.is_some();
        if let Some(url) = introspection.filter(|_| has_client || self.config.introspection_url.is_some()) {
            return self.introspect(url, token, asker);
        }
        match userinfo.filter(|_| self.config.audience.is_none()) {
            Some(url) => {
                let call = Call::get(url, asker.deadlines()?).bearer(&Secret::new(token)).header("Accept", "application/json");
                match fetch_or_refused(call, CLAIMS_BYTES_MAX, asker, &[400, 401, 403])? {
                    Some(claims) => Ok(Some(claims)),
                    None => Ok(None),
                }
            }
            // Nothing here can tell whom it is for.
            None => Ok(None),
        }
    }

    fn introspect(&self, url: String, token: &str, asker: &Asker<'_>) -> Outcome<Option<Map<String, Value>>> {
        let fields = format!("token={}&token_type_hint=access_token", form(token));
        let mut call = Call::post_form(url, fields, asker.deadlines()?);
        if let (Some(id), Some(secret)) = (&self.config.client_id, &self.config.client_secret) {
            let pair = format!("{}:{}", form(id), form(secret.reveal()));
            call = call.key("Authorization", &Secret::new(format!("Basic {}", STANDARD.encode(pair))));
        }
        let claims = fetch(call.header("Accept", "application/json"), CLAIMS_BYTES_MAX, asker)?;
        let is_ours = self.config.audience.as_deref().is_none_or(|audience| claims::is_for(&claims, audience));
        let issuer = self.config.issuer.as_deref().zip(claims.get("iss").map(Value::as_str));
        let is_issued = issuer.is_none_or(|(ours, said)| said == Some(ours));
        Ok(Some(claims).filter(|c| c.get("active") == Some(&Value::Bool(true)) && is_ours && is_issued))
    }

    /// What the discovery document says, read anew where it is old.
    fn learn<'l>(&self, learned: &'l mut Option<Learned>, asker: &Asker<'_>) -> Outcome<&'l mut Learned> {
        let now = asker.clock.mono();
        if learned.as_ref().is_none_or(|l| now.saturating_sub(l.at) >= LEARNED_FOR) {
            let issuer = self.config.issuer.as_deref().ok_or_else(|| Trouble::whole("no issuer is configured"))?;
            let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            let document = fetch(Call::get(url, asker.deadlines()?), DOCUMENT_BYTES_MAX, asker)?;
            if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
                return Err(Trouble::whole("its discovery document is another issuer's"));
            }
            let here = is_here(issuer);
            let endpoint = |name: &str| {
                let url = document.get(name).and_then(Value::as_str)?;
                (url.starts_with("https://") || (here && is_here(url))).then(|| url.to_string())
            };
            let former = learned.take();
            let (keys, keys_at) = former.map_or((Keys::default(), Duration::MAX), |l| (l.keys, l.keys_at));
            *learned = Some(Learned {
                introspection: endpoint("introspection_endpoint"),
                userinfo: endpoint("userinfo_endpoint"),
                jwks: endpoint("jwks_uri"),
                keys,
                at: now,
                keys_at,
            });
        }
        learned.as_mut().ok_or_else(|| Trouble::whole("nothing was learned of it"))
    }
}

impl Asker<'_> {
    fn deadlines(&self) -> Outcome<Deadlines> {
        let left = self.until.saturating_sub(self.clock.mono());
        if left.is_zero() { Err(Trouble::whole("it took too long")) } else { Ok(Deadlines::within(CONNECT, left)) }
    }
}

fn fetch(call: Call, max: usize, asker: &Asker<'_>) -> Outcome<Map<String, Value>> {
    fetch_or_refused(call, max, asker, &[])?.ok_or_else(|| Trouble::whole("no answer"))
}

/// The JSON object of a 200; nothing where the status is one of `refusals`.
fn fetch_or_refused(call: Call, max: usize, asker: &Asker<'_>, refusals: &[u16]) -> Outcome<Option<Map<String, Value>>> {
    // The client's errors name the origin alone.
    let mut reply = asker.client.send(&call).map_err(|e| Trouble::whole(e.to_string()))?;
    match reply.status() {
        200 => {}
        status if refusals.contains(&status) => return Ok(None),
        status @ (401 | 403) => {
            return Err(Trouble::whole(format!("it answered {status}: are clientId and clientSecret right?")));
        }
        status => return Err(Trouble::whole(format!("it answered {status}"))),
    }
    let body = reply.read_all(max).map_err(|e| Trouble { what: e.to_string(), is_whole: e.kind != ErrorKind::Permanent })?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        _ => Err(Trouble { what: "its answer is no JSON object".into(), is_whole: false }),
    }
}

/// Whether an address is this machine's own: what it carries crosses no network.
fn is_here(url: &str) -> bool {
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A value of a form (`application/x-www-form-urlencoded`).
fn form(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*');
    let each = |b: u8| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(each).collect()
}

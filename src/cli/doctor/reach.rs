//! What doctor looks at beyond the machine: names, model servers, the services of channels.
//!
//! Invariant: a credential goes to the address that the configuration gives it for, in the service's own way of asking who one is, which costs
//! nothing and changes nothing. Each question has a deadline; they are asked at the same time. No finding holds a credential.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{DEADLINE, Finding, within};
use crate::agent::detect::Detector;
use crate::agent::provider::Provider as _;
use crate::agent::provider::anthropic::Anthropic;
use crate::agent::provider::openai::OpenAi;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind};
use crate::base::threads::{STACK, Threads};
use crate::cli::output::field;
use crate::config::{ChannelKind, Config, Provider, ProviderKind};
use crate::net::client::{Call, Client, Deadlines, Refused, origin};

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
const ANSWER_MAX: usize = 256 * 1024;

/// Does several things at a time, each within the deadline; in order.
fn each<T: Send + 'static>(items: Vec<T>, look: fn(T) -> Finding, late: fn() -> Finding) -> Vec<Finding> {
    let threads = Threads::new();
    let asked = items.into_iter().map(|item| {
        let (tx, rx) = crossbeam_channel::bounded(1);
        let tell = move || {
            let _ = tx.send(look(item)); // too late: nobody waits any more
        };
        let _ = threads.spawn_once("look", STACK, tell); // refused: then it is late
        rx
    });
    let asked: Vec<_> = asked.collect();
    let clock = Clock::system();
    asked.into_iter().map(|rx| rx.recv_timeout(DEADLINE.saturating_sub(clock.mono())).unwrap_or_else(|_| late())).collect()
}

/// Hosts that the configuration names.
fn hosts(config: &Config) -> BTreeSet<String> {
    let url = |url: &str| {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.split(']').next())
            .unwrap_or_else(|| host.split(':').next().unwrap_or_default());
        host.to_string()
    };
    let of_channels = config.channels.values().filter(|c| c.enabled).filter_map(|c| match &c.kind {
        ChannelKind::Telegram(t) => Some(url(&t.api_root)),
        ChannelKind::Discord(d) => Some(url(&d.api_root)),
        ChannelKind::Slack(s) => Some(url(&s.api_root)),
        ChannelKind::Matrix(m) => Some(url(&m.homeserver)),
        ChannelKind::Mqtt(m) => Some(m.host.clone()),
        ChannelKind::Webhook(w) => w.reply_url.as_deref().map(url),
        ChannelKind::Off(_) => None,
    });
    let of_providers = config.providers.values().filter(|p| p.kind != ProviderKind::Builtin).map(|p| url(&p.base_url));
    let all = of_providers.chain(of_channels);
    all.filter(|h| !h.is_empty() && h.parse::<std::net::IpAddr>().is_err()).collect()
}

/// Whether names are found.
pub fn names(config: &Config) -> Vec<Finding> {
    let look = |host: String| match (host.as_str(), 443).to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(address)) => Finding::ok("name", format!("{host} is {}", address.ip())),
        Ok(None) => Finding::fail("name", format!("{host} has no address"), "look at the name's spelling"),
        Err(e) => Finding::fail(
            "name",
            format!("{host} is not found: {e}"),
            "look at the network and /etc/resolv.conf: getent hosts, ping",
        ),
    };
    let late = || Finding::fail("name", "the resolver does not answer", "look at the network and /etc/resolv.conf");
    each(hosts(config).into_iter().collect(), look, late)
}

/// Whether model servers answer, and take the key.
pub fn providers(config: &Config) -> Vec<Finding> {
    if config.providers.is_empty() {
        let port = config.gateway.listen.port();
        let found = within(DEADLINE, move || Detector::new(Arc::new(Client::new(1)), Clock::system(), port).find());
        return vec![match found.flatten() {
            Some(address) => Finding::ok("model", format!("none is configured; a server answers at {address}, and is taken")),
            None => Finding::warn(
                "model",
                "none is configured, and no server answers on this machine: the built-in one only repeats",
                "start Ollama or llama.cpp here, or name a server: gatelet init --force --provider openai --base-url …",
            ),
        }];
    }
    let all: Vec<(String, Provider)> = config.providers.iter().map(|(name, p)| (name.clone(), p.clone())).collect();
    let late = || {
        Finding::fail(
            "model",
            format!("no answer within {} s", DEADLINE.as_secs()),
            "look at the server, and at the network between",
        )
    };
    each(all, provider, late)
}

fn provider((name, provider): (String, Provider)) -> Finding {
    let check = format!("model {name}");
    let (client, clock, ttl) = (Arc::new(Client::new(1)), Clock::system(), Duration::ZERO);
    let where_ = origin(&provider.base_url);
    let models = match provider.kind {
        ProviderKind::Builtin => return Finding::ok(check, "the built-in one"),
        ProviderKind::OpenAi => OpenAi::new(provider, client, clock, ttl).models(),
        ProviderKind::Anthropic => Anthropic::new(provider, client, clock, ttl).models(),
    };
    match models {
        Ok(models) if models.is_empty() => {
            Finding::fail(check, format!("{where_} answers, and offers no model"), "load one there")
        }
        Ok(models) => Finding::ok(check, format!("{where_} answers; {} models, the first is {}", models.len(), models[0])),
        Err(e) => failed(check, &where_, &e),
    }
}

fn failed(check: String, where_: &str, e: &Error) -> Finding {
    let hint = match e.kind {
        ErrorKind::Denied => "the credential is refused: give a new one",
        ErrorKind::Transient | ErrorKind::Timeout => "is it running, and is the address right?",
        _ if e.hint.is_empty() => "look at the address",
        _ => &e.hint,
    };
    let text = if e.text.contains(where_) { e.text.clone() } else { format!("{where_}: {}", e.text) };
    Finding::fail(check, text, hint)
}

/// The channels as the running gateway has them.
pub fn channels_of(answer: &Value) -> Vec<Finding> {
    let all = answer["channels"].as_array().into_iter().flatten();
    all.map(|channel| {
        let check = format!("channel {}", field(channel, "name"));
        let why = channel["lastError"].as_str().map_or(String::new(), |e| format!(": {e}"));
        let (state, kind) = (field(channel, "state"), field(channel, "type"));
        let message = format!("{kind}, {state}{why}");
        match state.as_str() {
            "connected" | "stopped" => Finding::ok(check, message),
            "connecting" => Finding::warn(check, message, "look again in a minute"),
            "misconfigured" => Finding::fail(check, message, "mend its configuration: gatelet config get channels"),
            _ => Finding::fail(check, message, format!("gatelet logs; gatelet channels reconnect {}", field(channel, "name"))),
        }
    })
    .collect()
}

/// The channels as their services have them, where no gateway runs.
pub fn channels(config: &Config) -> Vec<Finding> {
    let all = config.channels.iter().filter(|(_, c)| c.enabled).map(|(name, c)| (name.clone(), c.kind.clone())).collect();
    let late = || Finding::fail("channel", format!("no answer within {} s", DEADLINE.as_secs()), "look at the network");
    each(all, channel, late)
}

fn channel((name, kind): (String, ChannelKind)) -> Finding {
    let check = format!("channel {name}");
    let deadlines = Deadlines::within(CONNECT, ANSWER);
    let get = |url: String| Call::get(url, deadlines);
    match kind {
        ChannelKind::Telegram(t) => {
            let answer = ask(get(format!("{}/bot{}/getMe", t.api_root, t.token.reveal())), &t.api_root);
            known(check, "telegram", answer, |me| me["result"]["username"].as_str().map(|n| format!("@{n}")))
        }
        ChannelKind::Discord(d) => {
            let call = get(format!("{}/users/@me", d.api_root)).header("Authorization", format!("Bot {}", d.token.reveal()));
            known(check, "discord", ask(call, &d.api_root), |me| me["username"].as_str().map(str::to_string))
        }
        ChannelKind::Slack(s) => {
            let call = Call::post_json(format!("{}/auth.test", s.api_root), "{}", deadlines).bearer(&s.bot_token);
            known(check, "slack", ask(call, &s.api_root), |me| {
                me["ok"].as_bool().filter(|ok| *ok).and(me["user"].as_str()).map(str::to_string)
            })
        }
        ChannelKind::Matrix(m) => {
            let root = format!("{}/_matrix/client", m.homeserver);
            match &m.access_token {
                Some(token) => {
                    known(check, "matrix", ask(get(format!("{root}/v3/account/whoami")).bearer(token), &m.homeserver), |me| {
                        me["user_id"].as_str().map(str::to_string)
                    })
                }
                None => known(check, "matrix", ask(get(format!("{root}/versions")), &m.homeserver), |v| {
                    v["versions"].is_array().then(|| "the homeserver; the password is tried at the start".to_string())
                }),
            }
        }
        ChannelKind::Mqtt(m) => {
            let reached = (m.host.as_str(), m.port).to_socket_addrs().and_then(|mut all| {
                let address = all.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
                std::net::TcpStream::connect_timeout(&address, CONNECT)
            });
            match reached {
                Ok(_) => Finding::ok(check, format!("mqtt, {}:{} answers; the credential is tried at the start", m.host, m.port)),
                Err(e) => Finding::fail(
                    check,
                    format!("mqtt, {}:{}: {e}", m.host, m.port),
                    "is the broker running, and is the address right?",
                ),
            }
        }
        ChannelKind::Webhook(_) => Finding::ok(check, "webhook"),
        ChannelKind::Off(kind) => Finding::ok(check, format!("{kind}, switched off")),
    }
}

/// An answer of a service's; no text of a failure holds more of the address than its origin.
fn ask(call: Call, root: &str) -> Result<Value, (String, Error)> {
    let where_ = origin(root);
    let answered = || -> Result<Value, Error> {
        let mut reply = Client::new(1)
            .send(&call)?
            .accepted()
            .map_err(|Refused { status, error, .. }| Error::new(error.kind, format!("the service refuses it ({status})")))?;
        let bytes = reply.read_all(ANSWER_MAX)?;
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    };
    answered().map_err(|e| (where_, e))
}

fn known(check: String, kind: &str, answer: Result<Value, (String, Error)>, who: impl Fn(&Value) -> Option<String>) -> Finding {
    match answer {
        Ok(answer) => match who(&answer) {
            Some(who) => Finding::ok(check, format!("{kind}, {who}")),
            None => Finding::fail(check, format!("{kind}: the service does not know this credential"), "give a new one"),
        },
        // Telegram says 404 to a token that never was one.
        Err((where_, e)) if e.kind == ErrorKind::Permanent && kind == "telegram" => {
            failed(check, &where_, &Error { kind: ErrorKind::Denied, ..e })
        }
        Err((where_, e)) => failed(check, &where_, &e),
    }
}

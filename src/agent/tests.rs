//! The registry and the turn, with scripted providers and injected detection.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::agent::turn::TurnReply;
use crate::agent::turn::tests::Desk;
use crate::net::scripted::{Scripted, answer};

const MINUTE: Duration = Duration::from_secs(60);

/// A provider that does the same at every call, and counts them.
struct Fake {
    outcome: Result<&'static str, ErrorKind>,
    delta: &'static str,
    takes: Duration,
    clock: Clock,
    calls: AtomicU64,
    models: &'static [&'static str],
}

impl Provider for Fake {
    fn complete(&self, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.clock.advance(self.takes);
        if !self.delta.is_empty() {
            on_delta(self.delta);
        }
        match self.outcome {
            Ok(text) => {
                let text = format!("{text} from {}", ask.model);
                Ok(Answer { text, calls: vec![], tokens_in: 5, tokens_out: 2, finish: "stop".into(), model: ask.model.clone() })
            }
            Err(kind) => {
                Err(Failure { error: Error::new(kind, format!("it {kind:?}")), after_first_byte: !self.delta.is_empty() })
            }
        }
    }

    fn models(&self) -> Result<Vec<String>> {
        Ok(self.models.iter().map(|m| m.to_string()).collect())
    }
}

fn fake(clock: &Clock, outcome: Result<&'static str, ErrorKind>) -> Fake {
    Fake { outcome, delta: "", takes: Duration::ZERO, clock: clock.clone(), calls: AtomicU64::new(0), models: &["m"] }
}

pub(crate) fn agent(provider: Option<&str>, fallbacks: &[&str]) -> config::Agent {
    config::Agent {
        enabled: true,
        provider: provider.map(str::to_string),
        model: "m".into(),
        fallbacks: fallbacks.iter().map(|f| f.to_string()).collect(),
        system_prompt: "Be kind.".into(),
        max_history: 40,
        images: true,
        turn_timeout: 5 * MINUTE,
        max_output_tokens: None,
        max_rounds: 8,
        tokens_per_turn: None,
        tokens_per_day: None,
        tokens_per_user_day: None,
        tools: None,
    }
}

fn agents(clock: &Clock, main: config::Agent, providers: &[(&str, Arc<Fake>)], at: &[SocketAddr]) -> Agents {
    let client = Arc::new(Client::new(1));
    let detector = Detector::at(at.to_vec(), client.clone(), clock.clone(), 1);
    let local = Local::new(detector, client, clock.clone(), MINUTE);
    let providers = providers.iter().map(|(n, p)| (n.to_string(), p.clone() as Arc<dyn Provider>)).collect();
    Agents::of(BTreeMap::from([("main".to_string(), main)]), providers, local, None)
}

/// Agents of which `main` asks that one provider, `p`.
pub(crate) fn agents_of(clock: &Clock, main: config::Agent, provider: Arc<dyn Provider>) -> Agents {
    let client = Arc::new(Client::new(1));
    let local = Local::new(Detector::at(vec![], client.clone(), clock.clone(), 1), client, clock.clone(), MINUTE);
    let providers = BTreeMap::from([("p".to_string(), provider)]);
    Agents::of(BTreeMap::from([("main".to_string(), main)]), providers, local, None)
}

/// Runs one turn of a new session whose message is `text`.
fn run(agents: &Agents, clock: &Clock, text: &str) -> Result<TurnReply, turn::Failed> {
    Desk::new(clock).reply(agents, text)
}

#[test]
fn the_first_configured_provider_else_a_found_one_else_the_built_in() {
    let clock = Clock::manual(0);
    let server = Scripted::new(|_, seen, s| {
        use std::io::Write;
        let body = if seen.line.starts_with("GET") {
            answer("200 OK", "application/json", r#"{"data":[{"id":"m"}]}"#)
        } else {
            answer("500 Oops", "text/plain", "dead")
        };
        s.write_all(body.as_bytes()).is_ok()
    });
    let (a, b) = (Arc::new(fake(&clock, Ok("a"))), Arc::new(fake(&clock, Ok("b"))));
    let both = [("a", a), ("b", b)];
    let detected = format!("detected {}", server.addr);
    for (own, configured, at, label) in [
        (Some("b"), &both[..], vec![server.addr], "b"),
        (None, &both[..], vec![server.addr], "a"),
        (None, &[], vec![server.addr], detected.as_str()),
        (None, &[], vec![], "builtin"),
        (Some("builtin"), &[], vec![server.addr], "builtin"),
    ] {
        let agents = agents(&clock, agent(own, &[]), configured, &at);
        assert_eq!(agents.resolve("main").unwrap().candidates[0].label, label);
        assert_eq!(agents.statuses()[0].provider, label);
    }
    // A call to what was found fails: the search begins anew, once.
    let agents = agents(&clock, agent(None, &[]), &[], &[server.addr]);
    let searches = |n| assert_eq!(server.seen().iter().filter(|s| s.line.starts_with("GET")).count(), n);
    let before = server.seen().iter().filter(|s| s.line.starts_with("GET")).count();
    assert!(run(&agents, &clock, "hi").is_err());
    searches(before + 1);
    agents.resolve("main").unwrap();
    agents.resolve("main").unwrap();
    searches(before + 2);
}

#[test]
fn unknown_and_disabled_agents() {
    let clock = Clock::manual(0);
    let off = config::Agent { enabled: false, ..agent(None, &[]) };
    let agents = agents(&clock, off, &[], &[]);
    for (name, says) in [("main", "is disabled"), ("other", "does not exist")] {
        let error = agents.resolve(name).err().unwrap();
        assert!(error.kind == ErrorKind::Permanent && error.text.contains(says), "{error}");
    }
    assert!(agents.names().is_empty());
    let agents = self::agents(&clock, agent(Some("gone"), &[]), &[], &[]);
    assert_eq!(agents.resolve("main").err().unwrap().kind, ErrorKind::Permanent);
}

#[test]
fn fallbacks_are_asked_while_nothing_was_shown() {
    use ErrorKind::{Denied, Permanent, Stopped, Throttled, Timeout, Transient};
    let wait = Throttled(Some(MINUTE));
    let clock = Clock::manual(0);
    for (first, second, expected, calls) in [
        (Ok("a"), Ok("b"), Ok("a from m"), (1, 0)),
        (Err(Transient), Ok("b"), Ok("b from m"), (1, 1)),
        (Err(Denied), Ok("b"), Ok("b from m"), (1, 1)),
        (Err(Denied), Err(Transient), Err(Transient), (1, 1)),
        (Err(wait), Err(Permanent), Err(wait), (1, 1)),
        (Err(Permanent), Err(Denied), Err(Permanent), (1, 1)),
        (Err(Stopped), Ok("b"), Err(Stopped), (1, 0)),
        (Err(Timeout), Err(Stopped), Err(Stopped), (1, 1)),
    ] {
        let (a, b) = (Arc::new(fake(&clock, first)), Arc::new(fake(&clock, second)));
        let agents = agents(&clock, agent(Some("a"), &["b"]), &[("a", a.clone()), ("b", b.clone())], &[]);
        let result = run(&agents, &clock, "hi").map(|r| r.text).map_err(|f| f.error.kind);
        assert_eq!(result, expected.map(str::to_string));
        assert_eq!((a.calls.load(Ordering::SeqCst), b.calls.load(Ordering::SeqCst)), calls);
    }
    for (delta, takes) in [("He", Duration::ZERO), ("", 5 * MINUTE)] {
        let a = Arc::new(Fake { delta, takes, ..fake(&clock, Err(Transient)) });
        let b = Arc::new(fake(&clock, Ok("b")));
        let agents = agents(&clock, agent(Some("a"), &["b"]), &[("a", a), ("b", b.clone())], &[]);
        assert!(run(&agents, &clock, "hi").is_err());
        assert_eq!(b.calls.load(Ordering::SeqCst), 0, "after {delta:?} and {takes:?}");
    }
}

#[test]
fn a_fallback_without_the_agents_model_is_asked_for_its_own() {
    let clock = Clock::manual(0);
    for (models, text) in [(&["x", "m"][..], "b from m"), (&["x"], "b from auto"), (&[], "b from auto")] {
        let (a, b) = (fake(&clock, Err(ErrorKind::Transient)), Fake { models, ..fake(&clock, Ok("b")) });
        let agents = agents(&clock, agent(Some("a"), &["b"]), &[("a", a.into()), ("b", b.into())], &[]);
        assert_eq!(run(&agents, &clock, "hi").unwrap().text, text);
    }
}

/// A provider whose model takes four messages at most.
struct Small(AtomicU64);

impl Provider for Small {
    fn complete(&self, ask: &Completion, _: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        if ask.messages.len() > 4 {
            let text = "answered 400: request (20041 tokens) exceeds the available context size (8192 tokens)";
            return Err(Error::new(ErrorKind::Permanent, text).into());
        }
        let text = ask.messages.iter().map(|m| m.text.as_str()).skip(1).collect::<Vec<_>>().join(" ");
        Ok(Answer { text, calls: vec![], tokens_in: 0, tokens_out: 0, finish: "stop".into(), model: "m".into() })
    }

    fn models(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

#[test]
fn a_history_too_long_for_the_model_is_cut() {
    let clock = Clock::manual(0);
    let agents = agents(&clock, agent(Some("a"), &[]), &[], &[]);
    let small = Arc::new(Small(AtomicU64::new(0)));
    let agents = Agents { providers: BTreeMap::from([("a".to_string(), small.clone() as Arc<dyn Provider>)]), ..agents };
    let desk = Desk::new(&clock);
    for i in 0..4 {
        let claim = desk.claim(&(2 * i).to_string());
        desk.finish(&claim, &(2 * i + 1).to_string());
    }
    assert_eq!((desk.reply(&agents, "hi").unwrap().text.as_str(), small.0.load(Ordering::SeqCst)), ("6 7 hi", 3));
}

#[test]
fn statuses_tell_how_it_goes_and_live_through_a_reload() {
    let clock = Clock::manual(1000);
    let (bad, good) = (Arc::new(fake(&clock, Err(ErrorKind::Denied))), Arc::new(fake(&clock, Ok("x"))));
    let before = agents(&clock, agent(Some("a"), &[]), &[("a", bad)], &[]);
    for _ in 0..2 {
        let _ = run(&before, &clock, "hi");
        clock.advance(MINUTE);
    }
    let status = &before.statuses()[0];
    assert_eq!((status.state, status.since_ms, status.turns, status.failures), (AgentState::Failing, Some(1000), 0, 2));
    assert!(status.last_error.as_ref().unwrap().contains("provider a: it Denied"));
    let after = agents(&clock, agent(Some("a"), &[]), &[("a", good)], &[]);
    let members = after.members.into_iter().map(|(n, m)| (n, m.config)).collect();
    let after = Agents::of(members, after.providers, after.local, Some(&before));
    run(&after, &clock, "hi").unwrap();
    let status = &after.statuses()[0];
    assert_eq!((status.state, status.since_ms, status.turns, status.failures), (AgentState::Ok, Some(121_000), 1, 2));
    assert_eq!(status.last_error, None);
}

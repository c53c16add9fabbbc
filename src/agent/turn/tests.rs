//! Turns over a real store, with a scripted provider and tools that count their runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::*;
use crate::agent::provider::{Answer, Provider, ToolSpec};
use crate::agent::tools::policy::Policy;
use crate::agent::tools::{About, Context, Tool};
use crate::base::ids::new_id;
use crate::base::threads::Threads;
use crate::config;
use crate::domain::{ApprovalState, Decision, FinishedTurn, NewInbound, ToolCall};
use crate::store::sqlite::SqliteStore;

/// A store with one session, and a courier that sends nothing.
pub(crate) struct Desk {
    pub(crate) store: Arc<SqliteStore>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

struct Nobody;

impl Courier for Nobody {
    fn send(&self, _: &str, _: Option<&str>, _: &str, _: &str) -> Result<String> {
        Err(Error::new(ErrorKind::Invalid, "nobody is there"))
    }
}

impl Desk {
    pub(crate) fn new(clock: &Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("t.db"), clock.clone(), &Threads::new()).unwrap();
        Desk { store, clock: clock.clone(), _folder: folder }
    }

    /// A message of ana's, taken by a worker.
    pub(crate) fn claim(&self, text: &str) -> Claim {
        let (told, outcome) = crossbeam_channel::bounded(1);
        let message = NewInbound {
            id: new_id("msg", 0),
            channel: "door".into(),
            user_id: "ana".into(),
            is_bare: false,
            peer: "ana".into(),
            conversation: None,
            external_id: None,
            agent: "main".into(),
            text: text.into(),
            metadata: None,
            received_ms: self.clock.unix_ms(),
            standing: Standing::User,
            urgent: false,
            collect: false,
            cursor: None,
            attachments: Vec::new(),
        };
        self.store.accept(message, Box::new(move |r| told.send(r).unwrap()));
        outcome.recv().unwrap().unwrap();
        self.store.claim_turn().unwrap().unwrap()
    }

    pub(crate) fn finish(&self, claim: &Claim, reply: &str) {
        let turn = FinishedTurn {
            message_id: claim.message_id.clone(),
            reply: reply.into(),
            ends_session: false,
            outbound: vec![],
            took: Duration::ZERO,
            spent: vec![],
            forget: false,
        };
        self.store.finish_turn(turn).unwrap();
    }

    pub(crate) fn run(&self, agents: &Agents, tools: &Toolbox, claim: &Claim) -> Result<Outcome, Failed> {
        let cancel = Cancel::new();
        let (store, courier, clock) = (&*self.store, &Nobody, &self.clock);
        Turn { claim, agents, tools, store, courier, clock, cancel: &cancel }.run(&mut |_| {})
    }

    /// The reply to `text`, without tools.
    pub(crate) fn reply(&self, agents: &Agents, text: &str) -> Result<TurnReply, Failed> {
        let claim = self.claim(text);
        match self.run(agents, &toolbox(config::Action::Deny, &[]), &claim)? {
            Outcome::Replied(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    /// Has the turn of `claim` cut off, as a drain would, and taken again.
    fn again(&self, claim: &Claim) -> Claim {
        self.store.release_turn(&claim.message_id).unwrap();
        self.store.claim_turn().unwrap().unwrap()
    }
}

/// A tool that counts its runs.
struct Counted {
    about: About,
    runs: AtomicUsize,
}

fn counted(name: &str, idempotent: bool) -> Arc<Counted> {
    let spec =
        ToolSpec { name: name.into(), wire: name.replace('.', "_"), description: "x".into(), schema: json!({"type": "object"}) };
    Arc::new(Counted {
        about: About { spec: Arc::new(spec), idempotent, dangerous: true, safe: false },
        runs: AtomicUsize::new(0),
    })
}

impl Counted {
    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

impl Tool for Counted {
    fn about(&self) -> &About {
        &self.about
    }

    fn run(&self, _: &Map<String, Value>, _: &Context<'_>) -> Result<String> {
        Ok(format!("run {}", self.runs.fetch_add(1, Ordering::SeqCst) + 1))
    }
}

fn toolbox(default: config::Action, tools: &[&Arc<Counted>]) -> Toolbox {
    let config =
        config::Tools { default, rules: vec![], mcp: BTreeMap::new(), shell: BTreeMap::new(), shell_dir: "/nowhere".into() };
    Toolbox::new(Policy::new(&config), tools.iter().map(|t| (*t).clone() as Arc<dyn Tool>).collect())
}

/// A provider that calls what its script says in each round, then tells what the last results were.
struct Scripted {
    rounds: Vec<Vec<(&'static str, &'static str)>>,
    asked: Mutex<Vec<Completion>>,
}

impl Provider for Scripted {
    fn complete(&self, ask: &Completion, _: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        self.asked.lock().unwrap().push(ask.clone());
        let round = ask.messages.iter().filter(|m| !m.calls.is_empty()).count();
        let calls = self.rounds.get(round).cloned().unwrap_or_default();
        let text =
            ask.messages.iter().filter(|m| m.role == ChatRole::Tool).map(|m| m.text.as_str()).collect::<Vec<_>>().join("|");
        let call =
            |(name, arguments): (&str, &str)| ToolCall { id: "same".into(), name: name.into(), arguments: arguments.into() };
        let calls = calls.into_iter().map(call).collect();
        Ok(Answer { text, calls, tokens_in: 10, tokens_out: 1, finish: "stop".into(), model: "m".into() })
    }

    fn models(&self) -> Result<Vec<String>> {
        Ok(vec!["m".into()])
    }
}

fn scripted(clock: &Clock, rounds: &[&[(&'static str, &'static str)]], max_rounds: usize) -> (Agents, Arc<Scripted>) {
    let provider = Arc::new(Scripted { rounds: rounds.iter().map(|r| r.to_vec()).collect(), asked: Mutex::default() });
    let main = config::Agent { max_rounds, ..crate::agent::tests::agent(Some("p"), &[]) };
    (crate::agent::tests::agents_of(clock, main, provider.clone()), provider)
}

fn replied(outcome: Result<Outcome, Failed>) -> String {
    match outcome {
        Ok(Outcome::Replied(reply)) => reply.text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_turn_that_was_cut_off_goes_on_from_its_last_step() {
    let clock = Clock::manual(0);
    let (agents, provider) = scripted(&clock, &[&[("a.b", "{}"), ("c.d", "{}")]], 8);
    let (first, second) = (counted("a.b", false), counted("c.d", true));
    let tools = toolbox(config::Action::Allow, &[&first, &second]);
    let desk = Desk::new(&clock);
    let claim = desk.claim("go");
    assert_eq!(replied(desk.run(&agents, &tools, &claim)), "run 1|run 1");
    // The reply was not committed: the next start goes on, and asks for the last answer alone.
    let claim = desk.again(&claim);
    assert_eq!(replied(desk.run(&agents, &tools, &claim)), "run 1|run 1");
    assert_eq!((first.runs(), second.runs(), provider.asked.lock().unwrap().len()), (1, 1, 3));
    // A call that had begun and left no result.
    for (idempotent, runs, says) in [(false, 0, "unknown"), (true, 1, "run 1")] {
        let desk = Desk::new(&clock);
        let tool = counted("a.b", idempotent);
        let claim = desk.claim("go");
        let asked = Asked {
            text: String::new(),
            calls: vec![ToolCall { id: "c1".into(), name: "a.b".into(), arguments: "{}".into() }],
            provider: "p".into(),
            tokens_in: 1,
            tokens_out: 1,
        };
        let step = |kind, data| Step { kind, detail: "x".into(), data, at_ms: 0 };
        desk.store.record_step(&claim.message_id, step(StepKind::Asked, serde_json::to_string(&asked).unwrap())).unwrap();
        if !idempotent {
            desk.store.record_step(&claim.message_id, step(StepKind::Called, "c1".into())).unwrap();
        }
        let claim = desk.again(&claim);
        let said = replied(desk.run(&agents, &toolbox(config::Action::Allow, &[&tool]), &claim));
        assert!(said.contains(says) && tool.runs() == runs, "{idempotent}: {said}");
    }
}

#[test]
fn a_turn_waits_for_people_and_goes_on_with_what_they_said() {
    for (decision, runs, says) in [
        (Some(Decision::Allow), 1, "run 1"),
        (Some(Decision::Always), 1, "run 1"),
        (Some(Decision::Deny), 0, "refused"),
        (None, 0, "in time"),
    ] {
        let clock = Clock::manual(1_000_000);
        let (agents, _) = scripted(&clock, &[&[("a.b", "{}"), ("c.d", "{\"x\":1}")]], 8);
        let (free, asked) = (counted("a.b", false), counted("c.d", false));
        let rule = config::ToolRule {
            tool: "a.*".into(),
            action: config::Action::Allow,
            agent: None,
            channel: None,
            user: None,
            role: None,
            arguments: vec![],
        };
        let policy = Policy::new(&config::Tools {
            default: config::Action::Ask,
            rules: vec![rule],
            mcp: BTreeMap::new(),
            shell: BTreeMap::new(),
            shell_dir: "/nowhere".into(),
        });
        let tools = Toolbox::new(policy, vec![free.clone(), asked.clone()]);
        let desk = Desk::new(&clock);
        let claim = desk.claim("go");
        let Ok(Outcome::Parked { approvals, step }) = desk.run(&agents, &tools, &claim) else { panic!() };
        assert_eq!((approvals.len(), approvals[0].tool.as_str(), asked.runs()), (1, "c.d", 0));
        desk.store.park_turn(&claim.message_id, approvals.clone(), step).unwrap();
        assert!(desk.store.claim_turn().unwrap().is_none());
        match decision {
            Some(decision) => drop(desk.store.decide_approval(&approvals[0].id, decision, "op").unwrap()),
            None => {
                clock.advance(crate::agent::tools::APPROVAL_WAIT - Duration::from_millis(1));
                assert!(desk.store.expire_approvals().unwrap().is_empty());
                clock.advance(Duration::from_millis(1));
                assert_eq!(desk.store.expire_approvals().unwrap()[0].state, ApprovalState::Expired);
            }
        }
        let claim = desk.store.claim_turn().unwrap().unwrap();
        let said = replied(desk.run(&agents, &tools, &claim));
        assert!(said.starts_with("run 1|") && said.contains(says), "{decision:?}: {said}");
        assert_eq!((free.runs(), asked.runs()), (1, runs));
    }
}

#[test]
fn rounds_and_repeats_are_bounded() {
    let clock = Clock::manual(0);
    let tool = counted("a.b", true);
    let tools = toolbox(config::Action::Allow, &[&tool]);
    let same: &[(&str, &str)] = &[("a.b", "{\"x\": 1, \"y\": 2}")];
    let turned: &[(&str, &str)] = &[("a.b", "{\"y\":2,\"x\":1}")];
    let desk = Desk::new(&clock);
    let (agents, _) = scripted(&clock, &[same, turned, same, turned], 8);
    let claim = desk.claim("go");
    let said = replied(desk.run(&agents, &tools, &claim));
    assert!(said.contains("very call 2 times") && said.contains("very call 3 times") && tool.runs() == 2, "{said}");
    let desk = Desk::new(&clock);
    let endless: Vec<&[(&str, &str)]> = vec![&[("no.such", "{}")]; 9];
    let (agents, provider) = scripted(&clock, &endless, 3);
    let claim = desk.claim("go");
    // Its last answer has text beside the calls: that is its answer.
    assert!(replied(desk.run(&agents, &tools, &claim)).contains("no further tool calls"));
    assert_eq!(provider.asked.lock().unwrap().len(), 3);
    let (agents, provider) = scripted(&clock, &endless, 1);
    let desk = Desk::new(&clock);
    let claim = desk.claim("go");
    let failed = desk.run(&agents, &tools, &claim).unwrap_err();
    assert_eq!(failed.error.kind, ErrorKind::Permanent, "{:?}", failed.error);
    assert!(provider.asked.lock().unwrap()[0].tools.is_empty(), "one round leaves no room for tools");
}

#[test]
fn what_a_turn_used_is_told_however_it_ends() {
    let clock = Clock::manual(0);
    let tool = counted("a.b", true);
    let tools = toolbox(config::Action::Allow, &[&tool]);
    let (agents, _) = scripted(&clock, &[&[("a.b", "{}")]], 8);
    let desk = Desk::new(&clock);
    let claim = desk.claim("go");
    let Ok(Outcome::Replied(reply)) = desk.run(&agents, &tools, &claim) else { panic!() };
    assert_eq!(reply.spent, [Spent { provider: "p".into(), tokens_in: 20, tokens_out: 2, calls: 2 }]);
    let endless: Vec<&[(&str, &str)]> = vec![&[("a.b", "[]")]; 9];
    let (agents, _) = scripted(&clock, &endless, 1);
    let claim = desk.again(&claim);
    let outcome = desk.run(&agents, &tools, &claim);
    assert!(matches!(&outcome, Ok(Outcome::Replied(r)) if r.spent[0].calls == 2) || outcome.is_err(), "{outcome:?}");
}

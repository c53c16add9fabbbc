//! The flow with its real store, a manual clock and a channel of the tests' own.

mod doubt;
mod retention;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::agent::tools::policy::Policy as ToolPolicy;
use crate::base::error::Result;
use crate::channel::repeats::Repeats;
use crate::channel::{Channel, ChannelState, ChannelStatus, Incoming, Inlet, Place, Progress, Taken};
use crate::config;
use crate::domain::{Claim, Delivery, Handoff, MessageState, Standing};
use crate::store::sqlite::SqliteStore;
use crate::store::{Page, StoreError};

const NOW_MS: i64 = 1_800_000_000_000;

/// A channel that notes what it is asked to show.
struct Chat {
    name: &'static str,
    kind: &'static str,
    typed: Mutex<Vec<String>>,
}

impl Channel for Chat {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Worker)
    }
    fn repeats(&self) -> Repeats {
        Repeats::KNOWN
    }
    fn deliver(&self, _: &Delivery, _: &Progress<'_>) -> Result<()> {
        Ok(())
    }
    fn typing(&self, peer: &str, conversation: Option<&str>) {
        self.typed.lock().unwrap().push(format!("{peer} {}", conversation.unwrap_or("-")));
    }
    fn status(&self) -> ChannelStatus {
        ChannelStatus {
            name: self.name.into(),
            kind: self.kind,
            state: ChannelState::Connected,
            since_ms: 0,
            last_error: None,
            received: 0,
            sent: 0,
            failed: 0,
            last_received_ms: None,
            last_sent_ms: None,
            last_heard_ms: None,
            reconnects: 0,
        }
    }
    fn note_received(&self) {}
    fn reconnect(&self) {}
}

/// A flow with the chats `tg` and `mx`, whose workers don't run: what they would do is done by the test.
struct Home {
    flow: Arc<Flow>,
    clock: Clock,
    tg: Arc<Chat>,
    threads: Threads,
    stop: Stop,
    _folder: tempfile::TempDir,
}

impl Home {
    /// `tg` is configured with the defaults and `more`; the rest of the document is `rest`.
    fn new(more: Value, rest: Value) -> Home {
        let folder = tempfile::tempdir().unwrap();
        let mut document = rest;
        document["channels"]["tg"] = json!({"type": "telegram", "token": "1:x"});
        document["channels"]["tg"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document["channels"]["mx"] = json!({"type": "matrix", "homeserver": "https://h.example", "userId": "@b:h.example",
            "accessToken": "x", "dmPolicy": "open", "groupPolicy": "open"});
        if document["providers"].is_null() {
            document["providers"] = json!({"off": {"type": "builtin"}});
        }
        let env = config::Env {
            data_dir: folder.path(),
            passed: None,
            var: &|_| None,
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let config = config::resolve(&document, &env).unwrap().config;
        let (clock, threads, stop) = (Clock::manual(NOW_MS), Threads::new(), Stop::new());
        let store = SqliteStore::open(&folder.path().join("gatelet.db"), clock.clone(), &threads).unwrap();
        let chat = |name, kind| Arc::new(Chat { name, kind, typed: Mutex::default() });
        let tg = chat("tg", "telegram");
        let client = Arc::new(Client::new(1));
        let mcp = Arc::new(Servers::new(&config.tools.mcp, None, &client, &clock, &threads));
        let parts = Parts {
            store,
            clock: clock.clone(),
            metrics: Metrics::new(clock.clone()),
            channels: Registry::default().with("tg", tg.clone()).with("mx", chat("mx", "matrix")),
            agents: Agents::new(&config, &client, &clock, None),
            tools: Toolbox::new(ToolPolicy::new(&config.tools), Vec::new()),
            mcp,
            client: client.clone(),
            delivery_client: client,
            auth: Arc::new(Authenticator::new(&config.gateway.auth, clock.clone())),
            threads: threads.clone(),
        };
        let flow = Arc::new(Flow::new(parts, &config));
        let (answers, end) = (flow.answers.1.clone(), stop.clone());
        threads.spawn("answers", STACK, &stop, move || run_errands(&answers, &end)).unwrap();
        Home { flow, clock, tg, threads, stop, _folder: folder }
    }

    fn take(&self, incoming: Incoming) -> Taken {
        self.flow.take("tg", incoming).unwrap()
    }

    /// Does what the errands' thread has to do.
    fn errands(&self) {
        while let Ok(errand) = self.flow.errands.1.try_recv() {
            errand();
        }
    }

    /// The message that is to be answered next.
    fn claim(&self) -> Claim {
        self.flow.store.claim_turn().unwrap().expect("a message")
    }

    fn outbox(&self) -> Vec<(String, String, String)> {
        self.flow.store.health(true).unwrap(); // a write behind those that are on their way
        let page = Page { cursor: None, limit: 100 };
        let mut all = self.flow.store.deliveries(None, page).unwrap().items;
        all.reverse();
        all.into_iter().map(|d| (d.channel, d.peer, d.message)).collect()
    }

    fn state(&self, taken: &Taken) -> MessageState {
        let Taken::Accepted(accepted) = taken else { panic!("{taken:?}") };
        self.flow.store.message(&accepted.id).unwrap().state
    }

    fn counted(&self, channel: &str, intake: &str) -> Value {
        self.flow.metrics.render_json(&Default::default())["messages"]["byChannel"][channel][intake].clone()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.stop.set();
        self.flow.store.close();
        assert!(self.threads.join(Duration::from_secs(10)).is_empty());
    }
}

fn direct(sender: &str, id: &str) -> Incoming {
    Incoming {
        sender: sender.into(),
        sender_name: "Ana".into(),
        place: Place::Direct,
        conversation: Some(format!("chat-{sender}")),
        external_id: id.into(),
        text: "hi".into(),
        metadata: None,
        written_ms: NOW_MS,
        attachments: Vec::new(),
        cursor: Some(id.into()),
    }
}

fn in_group(sender: &str, group: &str, id: &str) -> Incoming {
    let place = Place::Group { id: group.into(), mentioned: true };
    Incoming { place, conversation: Some(group.into()), ..direct(sender, id) }
}

fn linked() -> Value {
    let token = |n: u8| format!("token-0123456789-{n:04}");
    json!({
        "users": {"ana": {"tg": "1", "door": "1"}, "bob": {"tg": "2"}, "carl": {"tg": "3"}},
        "gateway": {"auth": {"token": token(0), "tokens": [
            {"name": "ana", "role": "operator", "token": token(1)}, {"name": "bob", "role": "user", "token": token(2)}]}}
    })
}

/// C11, E15: a stranger gets a code of their own, once an hour; the operator's word lets them in, and them alone.
#[test]
fn a_stranger_is_let_in_by_an_operator() {
    let home = Home::new(json!({}), json!({}));
    let Taken::Tell(text) = home.take(direct("7", "u1")) else { panic!("a code") };
    let page = || Page { cursor: None, limit: 10 };
    let waiting = home.flow.store.pairings(page()).unwrap().items;
    let code = waiting[0].code.clone();
    assert!(text.contains(&code) && code.len() == 8, "{text}");
    assert_eq!((waiting[0].user_id.as_str(), waiting[0].name.as_str()), ("7", "Ana"));
    assert_eq!(home.flow.cursor("tg").unwrap().as_deref(), Some("u1"), "it does not come again");
    for id in ["u2", "u3"] {
        assert_eq!(home.take(direct("7", id)), Taken::Ignored("its sender waits to be let in"));
    }
    assert_eq!(home.flow.cursor("tg").unwrap().as_deref(), Some("u3"));
    assert_eq!(home.counted("tg", "ignored"), 3);
    assert_eq!(home.flow.store.depths().queued, 0);

    assert_eq!(home.flow.decide_pairing("AAAAAAAA", true, "op"), Err(StoreError::NotFound));
    let typed = format!(" {} ", code.to_lowercase());
    assert_eq!(home.flow.decide_pairing(&typed, true, "op").unwrap().user_id, "7");
    assert_eq!(home.flow.decide_pairing(&code, true, "op"), Err(StoreError::NotFound), "it is good once");
    assert_eq!(home.outbox(), [("tg".into(), "7".into(), "You were let in. Write to me now.".into())]);
    assert!(matches!(home.take(direct("7", "u4")), Taken::Accepted(_)));
    assert_eq!(home.claim().standing, Standing::User);
    assert!(matches!(home.take(direct("8", "u5")), Taken::Tell(_)), "another one is as unknown as before");
    // E3: nothing of it counts in a group, nor on another channel.
    assert!(matches!(home.take(in_group("7", "-5", "u6")), Taken::Ignored(_)));
    let trail: Vec<_> = home.flow.store.audit_trail(page()).unwrap().items.into_iter().rev().map(|e| e.action).collect();
    assert_eq!(trail, ["pairing.asked", "pairing.refused", "pairing.approved", "pairing.refused", "pairing.asked"]);
}

#[test]
fn who_is_sent_away_stays_away() {
    let home = Home::new(json!({}), json!({}));
    assert!(matches!(home.take(direct("7", "u1")), Taken::Tell(_)));
    let code = home.flow.store.pairings(Page { cursor: None, limit: 10 }).unwrap().items[0].code.clone();
    home.flow.decide_pairing(&code, false, "op").unwrap();
    assert!(matches!(home.take(direct("7", "u2")), Taken::Ignored(_)));
    assert_eq!(home.outbox(), []);
    home.clock.advance(Duration::from_secs(3601));
    assert!(matches!(home.take(direct("7", "u3")), Taken::Tell(_)), "they may ask again after an hour");
}

/// A flood of strangers: three wait, the rest is silence, and everybody known gets through.
#[test]
fn a_flood_of_strangers() {
    let home = Home::new(json!({"allowFrom": ["1"]}), json!({}));
    let told = (0..50).filter(|i| matches!(home.take(direct(&format!("9{i}"), &format!("f{i}"))), Taken::Tell(_))).count();
    assert_eq!(told, 3);
    assert_eq!(home.flow.store.pairings(Page { cursor: None, limit: 100 }).unwrap().items.len(), 3);
    assert!(matches!(home.take(direct("1", "u")), Taken::Accepted(_)));
}

/// E1, E2, E5, E9, E13: rights go by the link of an immutable id alone.
#[test]
fn rights_come_by_the_link_alone() {
    let home = Home::new(json!({"dmPolicy": "open", "groupPolicy": "open"}), linked());
    for (n, (incoming, user, standing)) in [
        (direct("1", ""), "ana", Standing::Operator),
        (direct("2", ""), "bob", Standing::User),
        (direct("3", ""), "carl", Standing::User), // linked, and no principal
        // Ids that read like a principal's, another channel's sender's, or a user's whom the configuration names.
        (direct("admin", ""), "tg:admin", Standing::User),
        (direct("ana", ""), "tg:ana", Standing::User),
        (direct("carl", ""), "tg:carl", Standing::User),
        (direct("tg:ana", ""), "tg:tg:ana", Standing::User),
        (Incoming { sender_name: "ana".into(), ..direct("4", "") }, "4", Standing::User),
        (in_group("1", "-5", ""), "ana", Standing::Operator),
        (in_group("4", "-5", ""), "4", Standing::User),
    ]
    .into_iter()
    .enumerate()
    {
        let shown = format!("{} at {:?}", incoming.sender, incoming.place);
        let taken = home.take(Incoming { external_id: format!("u{n}"), ..incoming });
        assert!(matches!(taken, Taken::Accepted(_)), "{shown}");
        let claim = home.claim();
        assert_eq!((claim.user_id.as_str(), claim.standing), (user, standing), "{shown}");
        home.flow.store.cancel_turn(&claim.message_id, "done", Vec::new()).unwrap();
    }
}

/// In mode `none` everybody at this machine is admin, not everybody who writes.
#[test]
fn mode_none_makes_nobody_an_operator_from_afar() {
    let rest = json!({"gateway": {"auth": {"mode": "none"}}, "users": {"ana": {"tg": "1"}}});
    let home = Home::new(json!({"dmPolicy": "open"}), rest);
    home.take(direct("1", "u1"));
    assert_eq!(home.claim().standing, Standing::User);
}

#[test]
fn what_is_too_old_is_not_taken_in() {
    let home = Home::new(json!({"dmPolicy": "open", "maxAge": 60_000}), json!({}));
    for (n, (written_ms, taken)) in
        [(NOW_MS, true), (NOW_MS - 60_000, true), (NOW_MS - 60_001, false), (1, false), (0, true), (NOW_MS + 999_999, true)]
            .into_iter()
            .enumerate()
    {
        let found = home.take(Incoming { written_ms, ..direct("1", &format!("u{n}")) });
        assert_eq!(matches!(found, Taken::Accepted(_)), taken, "{written_ms}: {found:?}");
    }
    assert_eq!((home.counted("tg", "accepted"), home.counted("tg", "ignored")), (json!(4), json!(2)));
}

/// A sender who is too fast is told once; others are not held.
#[test]
fn a_sender_who_is_too_fast() {
    let rest = json!({"gateway": {"rateLimit": {"maxRequests": 2, "window": 60_000}}});
    let home = Home::new(json!({"dmPolicy": "open"}), rest);
    let kinds: Vec<_> = (0..6)
        .map(|n| match home.take(direct("1", &format!("u{n}"))) {
            Taken::Accepted(_) => 'A',
            Taken::Tell(text) => {
                assert!(text.contains("61 s"), "{text}");
                'T'
            }
            Taken::Ignored(_) => '-',
        })
        .collect();
    assert_eq!(kinds, ['A', 'A', 'T', '-', '-', '-']);
    assert!(matches!(home.take(direct("2", "v1")), Taken::Accepted(_)));
    home.clock.advance(Duration::from_secs(60));
    assert!(matches!(home.take(direct("1", "u9")), Taken::Accepted(_)));
    assert!(matches!(home.take(direct("2", "v1")), Taken::Accepted(a) if a.duplicate), "a repeat is the same message");
}

/// Where it can't be taken now nothing is committed: it comes again.
#[test]
fn not_now_commits_nothing() {
    let home = Home::new(json!({"dmPolicy": "open"}), json!({}));
    assert!(home.flow.take("gone", direct("1", "u1")).is_err(), "a channel that was taken out of the configuration");
    home.flow.drain();
    assert!(home.flow.take("tg", direct("1", "u1")).is_err());
    assert_eq!((home.flow.cursor("tg"), home.flow.cursor("gone")), (Ok(None), Ok(None)));
}

/// E8: a newer message takes the place of its own sender's, never of another's.
#[test]
fn an_interrupting_message() {
    let home = Home::new(json!({"dmPolicy": "open", "groupPolicy": "open", "queue": "interrupt"}), json!({}));
    let first = home.take(in_group("1", "-5", "u1"));
    let other = home.take(in_group("2", "-5", "u2"));
    let (claim, others) = (home.claim(), home.claim());
    let (cancel, others_cancel) = (home.flow.running.begin(&claim), home.flow.running.begin(&others));
    let second = home.take(in_group("1", "-5", "u3"));
    assert!(matches!(home.take(in_group("1", "-5", "u3")), Taken::Accepted(a) if a.duplicate));
    let command = home.take(Incoming { text: "/help".into(), ..in_group("1", "-5", "u4") });
    let third = home.take(in_group("1", "-5", "u5"));
    home.errands();
    assert!(cancel.is_set() && !others_cancel.is_set());
    assert_eq!(home.flow.running.end(&claim.message_id).as_deref(), Some("superseded by a newer message"));
    let states = [&first, &other, &second, &command, &third].map(|t| home.state(t));
    use MessageState::{Cancelled, Queued, Running};
    assert_eq!(states, [Running, Running, Cancelled, Cancelled, Queued], "the newest one is what counts");
}

/// The store can't say what runs: what is known here is stopped all the same.
#[test]
fn a_stop_without_the_store() {
    let home = Home::new(json!({"dmPolicy": "open"}), json!({}));
    home.take(direct("1", "u1"));
    let claim = home.claim();
    let cancel = home.flow.running.begin(&claim);
    home.flow.store.close();
    let stopped = home.flow.stop_session(&claim.session_id, "msg_stop", "stopped by its user");
    assert_eq!((stopped.running, stopped.waiting, cancel.is_set()), (1, 0, true));
}

/// A stop in the moment between a claim and its worker's first look at it.
#[test]
fn what_was_just_claimed_is_stopped_too() {
    for queue in ["followup", "interrupt"] {
        let home = Home::new(json!({"dmPolicy": "open", "queue": queue}), json!({}));
        home.take(direct("1", "u1"));
        let claim = home.claim();
        let newer = home.take(direct("1", "u2"));
        if queue == "followup" {
            let Taken::Accepted(newer) = newer else { panic!("it was not taken") };
            let stopped = home.flow.stop_session(&newer.session_id, &newer.id, "stopped by its user");
            assert_eq!((stopped.running, stopped.waiting), (1, 0));
        }
        home.errands();
        assert!(home.flow.running.begin(&claim).is_set(), "{queue}");
        home.flow.store.cancel_turn(&claim.message_id, "stopped", vec![]).unwrap();
        let newer = home.claim();
        assert!(!home.flow.running.begin(&newer).is_set(), "{queue}: what came after goes on");
    }
}

#[test]
fn a_channel_that_follows_up_interrupts_nothing() {
    let home = Home::new(json!({"dmPolicy": "open"}), json!({}));
    home.take(direct("1", "u1"));
    let cancel = home.flow.running.begin(&home.claim());
    let second = home.take(direct("1", "u2"));
    home.errands();
    assert_eq!((cancel.is_set(), home.state(&second)), (false, MessageState::Queued));
}

/// One notice when it has been down for a minute and one when it is back, by another channel than the one that is down.
#[test]
fn operators_are_told_of_channels() {
    let home = Home::new(json!({"dmPolicy": "open"}), json!({"gateway": {"notify": ["1", "never-seen"]}}));
    home.flow.take("mx", direct("1", "m1")).unwrap();
    home.clock.advance(Duration::from_secs(1));
    home.take(direct("1", "u1"));
    let tick = |s: u64| {
        home.clock.advance(Duration::from_secs(s));
        home.flow.tell_of_channels(home.clock.mono());
        home.errands();
    };
    home.flow.changed("tg", ChannelState::Degraded, "no route to host");
    for _ in 0..5 {
        tick(11);
        home.flow.changed("tg", ChannelState::Connecting, "");
        home.flow.changed("tg", ChannelState::Degraded, "no route to host");
    }
    assert_eq!(home.outbox(), []);
    (0..5).for_each(|_| tick(11));
    home.flow.changed("tg", ChannelState::Connected, "");
    tick(0);
    let notice = |text: &str| ("mx".to_string(), "1".to_string(), text.to_string());
    assert_eq!(
        home.outbox(),
        [
            notice("The channel tg has been down for 66 s: no route to host"),
            notice("The channel tg is back; it was down for 110 s."),
        ]
    );
}

#[test]
fn typing_is_shown_where_people_read() {
    let home = Home::new(json!({"dmPolicy": "open"}), json!({}));
    home.take(direct("1", "u1"));
    let claim = home.claim();
    home.flow.show_typing(&claim);
    let shown = |n: usize| {
        home.flow.tick_typing(home.clock.mono());
        let (mut left, wait) = (500, crossbeam_channel::never::<()>());
        while home.tg.typed.lock().unwrap().len() < n && left > 0 {
            let _ = wait.recv_timeout(Duration::from_millis(10));
            left -= 1;
        }
        home.tg.typed.lock().unwrap().clone()
    };
    assert_eq!(shown(1), ["1 chat-1"]);
    home.clock.advance(Duration::from_secs(4));
    assert_eq!(shown(2).len(), 2);
    home.flow.hide_typing(&claim.message_id);
    home.clock.advance(Duration::from_secs(4));
    assert_eq!(home.flow.tick_typing(home.clock.mono()), None);
    let webhook = Chat { name: "door", kind: "webhook", typed: Mutex::default() };
    assert!(typing::is_chat(home.tg.as_ref()) && !typing::is_chat(&webhook));
}

/// A message that fails for good is told to its author, without the reason.
#[test]
fn a_failure_is_told_where_people_read() {
    let rest = json!({
        "providers": {"gone": {"type": "openai", "baseUrl": "http://127.0.0.1:1/v1"}}, "gateway": {"retry": {"maxRetries": 0}}
    });
    let home = Home::new(json!({"dmPolicy": "open"}), rest);
    let taken = home.take(direct("1", "u1"));
    turns::run(&home.flow, home.claim(), &home.stop);
    assert_eq!(home.state(&taken), MessageState::Failed);
    let outbox = home.outbox();
    assert_eq!((outbox.len(), outbox[0].1.as_str()), (1, "1"));
    assert!(outbox[0].2.starts_with("I could not answer that") && !outbox[0].2.contains("127.0.0.1"), "{outbox:?}");
    assert!(home.flow.running.end("x").is_none() && home.flow.tick_typing(home.clock.mono()).is_none());
}

//! Deliveries of which it is not known whether they arrived.

use std::collections::VecDeque;

use super::*;
use crate::base::error::{Error, ErrorKind};
use crate::channel::supervisor::Patience;
use crate::config::{ChannelCommon, OnUnknown};
use crate::domain::{DeliveryState, NewOutbound};
use crate::flow::delivery;

/// A channel whose tries end as the test says; afterwards all arrive.
struct Post {
    chat: Chat,
    repeats: Repeats,
    ends: Mutex<VecDeque<End>>,
    /// Why nothing can be sent by it, while it is down.
    down: Mutex<Option<&'static str>>,
    /// Per try: the text, the parts done before, whether it may be a repeat.
    tries: Mutex<Vec<(String, u32, bool)>>,
}

/// Parts that are confirmed, then the error.
type End = (u32, ErrorKind);

impl Channel for Post {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Worker)
    }
    fn repeats(&self) -> Repeats {
        self.repeats
    }
    fn deliver(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        self.tries.lock().unwrap().push((delivery.message.clone(), progress.done, progress.may_repeat));
        let Some((parts, kind)) = self.ends.lock().unwrap().pop_front() else { return Ok(()) };
        (progress.done + 1..=progress.done + parts).for_each(|n| (progress.record)(n));
        Err(Error::new(kind, "no answer"))
    }
    fn status(&self) -> ChannelStatus {
        let down = *self.down.lock().unwrap();
        let state = if down.is_some() { ChannelState::Degraded } else { ChannelState::Connected };
        ChannelStatus { state, last_error: down.map(str::to_string), ..self.chat.status() }
    }
    fn note_received(&self) {}
    fn reconnect(&self) {}
}

fn held() -> ChannelCommon {
    ChannelCommon { on_unknown: OnUnknown::Hold, ..crate::channel::memory::common() }
}

fn resent() -> ChannelCommon {
    crate::channel::memory::common()
}

const MINUTE: Duration = Duration::from_secs(60);

/// A flow whose channel is this, with the texts in its outbox, to one user.
fn posting(repeats: Repeats, ends: &[End], texts: &[&str]) -> (Home, Arc<Post>) {
    let home = Home::new(json!({}), json!({"gateway": {"retry": {"maxRetries": 2, "delay": 1000}, "notify": ["op"]}}));
    let chat = Chat { name: "tg", kind: "telegram", typed: Mutex::default() };
    let mx = Arc::new(Chat { name: "mx", kind: "matrix", typed: Mutex::default() });
    let ends = Mutex::new(ends.iter().copied().collect());
    let post = Arc::new(Post { chat, repeats, ends, down: Mutex::default(), tries: Mutex::default() });
    home.flow.channels.set(Registry::default().with("tg", post.clone()).with("mx", mx));
    let outbound = |(n, text): (usize, &&str)| NewOutbound {
        id: format!("dlv_{n}"),
        channel: "tg".into(),
        handoff: Handoff::Worker,
        user_id: "ana".into(),
        peer: "7".into(),
        conversation: None,
        session_id: None,
        in_reply_to: None,
        text: text.to_string(),
        metadata: None,
    };
    let (told, done) = crossbeam_channel::bounded(1);
    let all = texts.iter().enumerate().map(outbound).collect();
    home.flow.store.enqueue(all, None, Box::new(move |r| told.send(r).unwrap()));
    done.recv().unwrap().unwrap();
    (home, post)
}

/// Delivers until nothing is left, a minute between two tries.
fn run(home: &Home) {
    for _ in 0..10 {
        while delivery::step(&home.flow, &home.stop) {}
        home.clock.advance(MINUTE);
    }
}

fn states(home: &Home) -> Vec<DeliveryState> {
    (0..).map_while(|n| home.flow.store.delivery(&format!("dlv_{n}")).ok()).map(|d| d.state).collect()
}

/// What it is about; the channel, how tries end; the state in the end, and which tries were marked.
type Row<'a> = (&'a str, Repeats, &'a [End], DeliveryState, &'a [bool]);

#[test]
fn what_may_have_arrived_follows_its_channel() {
    use DeliveryState::{Dead, Sent, Unknown};
    use ErrorKind::{Permanent, Timeout, Transient, Unclear};
    let (hold, resend) = (Repeats::unknown(&held()), Repeats::unknown(&resent()));
    let (known, half) = (Repeats::KNOWN, |common| Repeats::known_for(MINUTE / 2, common));
    let long = |common| Repeats::known_for(10 * MINUTE, common);
    let once = [(0, Unclear)];
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("hold: never again by itself", hold, &once, Unknown, &[false]),
        ("hold: what never left is tried again", hold, &[(0, Transient), (0, Timeout)], Sent, &[false, false, false]),
        ("hold: left at the second try", hold, &[(0, Transient), (0, Unclear)], Unknown, &[false, false]),
        ("hold: refused", hold, &[(0, Permanent)], Dead, &[false]),
        ("resend: marked from then on", resend, &[(0, Unclear), (0, Transient)], Sent, &[false, true, true]),
        ("resend: given up in doubt", resend, &[(0, Unclear); 3], Unknown, &[false, true, true]),
        ("known by its id: not marked", known, &[(0, Unclear), (0, Unclear)], Sent, &[false, false, false]),
        ("known for longer than that, hold", long(&held()), &[(0, Unclear), (0, Unclear)], Sent, &[false, false, false]),
        ("forgotten by then, hold", half(&held()), &once, Unknown, &[false]),
        ("forgotten by then, resend", half(&resent()), &once, Sent, &[false, true]),
        ("the doubt is about the second part alone", resend, &[(1, Unclear), (1, Transient)], Sent, &[false, true, false]),
        ("a new doubt about a later part", long(&held()), &[(1, Unclear), (1, Unclear)], Sent, &[false, false, false]),
    ];
    for (what, repeats, ends, state, marks) in rows {
        let (home, post) = posting(*repeats, ends, &["one", "two"]);
        run(&home);
        assert_eq!(states(&home), [*state, Sent], "{what}");
        let tries = post.tries.lock().unwrap().clone();
        let of_first: Vec<bool> = tries.iter().filter(|t| t.0 == "one").map(|t| t.2).collect();
        assert_eq!(of_first, *marks, "{what}");
        let parts: u32 = ends.iter().map(|e| e.0).sum();
        let last = tries.iter().rfind(|t| t.0 == "one").unwrap().1;
        assert!(*state != Sent || last == parts, "{what}: {tries:?}");
        let second: Vec<_> = tries.iter().filter(|t| t.0 == "two").collect();
        assert_eq!(second.len(), 1, "{what}: the recipient's next message flows");
        assert_eq!(tries.last().unwrap().0, "two", "{what}: in order");
        let shown = home.flow.store.delivery("dlv_0").unwrap();
        assert_eq!(shown.unclear_ms.is_some(), ends.iter().any(|e| e.1 == Unclear), "{what}");
    }
}

#[test]
fn a_person_who_looked_may_send_it_again() {
    let (home, post) = posting(Repeats::unknown(&held()), &[(2, ErrorKind::Unclear)], &["one"]);
    run(&home);
    assert_eq!(states(&home), [DeliveryState::Unknown]);
    let listed = home.flow.store.deliveries(Some(DeliveryState::Unknown), Page { cursor: None, limit: 5 }).unwrap().items;
    assert!(listed.len() == 1 && listed[0].last_error.as_deref() == Some("no answer"), "{listed:?}");
    home.flow.store.retry_delivery("dlv_0").unwrap();
    run(&home);
    assert_eq!((states(&home), post.tries.lock().unwrap()[1].clone()), (vec![DeliveryState::Sent], ("one".into(), 2, false)));
}

/// Ten minutes without a network, as the supervisor lives them: it tries again and again, the timer looks at what is down, workers find
/// the outbox held back; then it is back.
#[test]
fn ten_minutes_without_a_network() {
    let texts: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (home, post) = posting(Repeats::unknown(&held()), &[], &texts);
    home.flow.take("mx", direct("op", "m1")).unwrap(); // who is to be told, and where
    let (why, begun) = ("no route to host", home.clock.mono());
    *post.down.lock().unwrap() = Some(why);
    let (mut patience, mut connections) = (Patience::default(), 0);
    let mut next = begun;
    while home.clock.mono() - begun < 10 * MINUTE {
        if home.clock.mono() >= next {
            connections += 1;
            home.flow.changed("tg", ChannelState::Connecting, "");
            home.flow.changed("tg", ChannelState::Degraded, why);
            next = home.clock.mono() + patience.failed(Duration::ZERO, ErrorKind::Transient);
        }
        while delivery::step(&home.flow, &home.stop) {}
        home.flow.tell_of_channels(home.clock.mono());
        home.errands();
        home.clock.advance(Duration::from_secs(1));
    }
    assert!((8..=12).contains(&connections), "{connections} connections in ten minutes");
    assert!(post.tries.lock().unwrap().is_empty(), "nothing was tried");
    *post.down.lock().unwrap() = None;
    home.flow.changed("tg", ChannelState::Connecting, "");
    home.flow.changed("tg", ChannelState::Connected, "");
    home.errands();
    run(&home);
    let told: Vec<String> = home.outbox().into_iter().filter(|o| o.0 == "mx").map(|o| o.2).collect();
    assert!(matches!(told.as_slice(), [down, back] if down.contains("down for 60 s") && back.contains("is back")), "{told:?}");
    let sent: Vec<String> = post.tries.lock().unwrap().iter().map(|t| t.0.clone()).collect();
    assert_eq!(sent, texts, "drained in order, each once");
    let attempts = home.flow.store.delivery("dlv_19").unwrap().attempts;
    assert_eq!((states(&home), attempts), (vec![DeliveryState::Sent; 20], 1), "no try was spent on the wait");
}

//! Previews as a machine: what is called when, and what becomes of them.

use super::*;
use crate::base::error::Error;
use crate::channel::repeats::Repeats;
use crate::channel::{ChannelStatus, Progress};
use crate::domain::Handoff;

/// A channel that notes what it is asked to show.
#[derive(Default)]
struct Tape(Mutex<Vec<String>>);

impl Channel for Tape {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Worker)
    }
    fn repeats(&self) -> Repeats {
        Repeats::KNOWN
    }
    fn deliver(&self, _: &Delivery, _: &Progress<'_>) -> Result<()> {
        Ok(())
    }
    fn preview(&self, preview: &Preview<'_>) -> Result<Value> {
        let verb = if preview.message.is_some() { "edit" } else { "send" };
        self.0.lock().unwrap().push(format!("{verb} {}", preview.text));
        Ok(json!(9))
    }
    fn unpreview(&self, _: &str, _: Option<&str>, message: &Value) {
        self.0.lock().unwrap().push(format!("delete {message}"));
    }
    fn status(&self) -> ChannelStatus {
        unreachable!()
    }
    fn note_received(&self) {}
    fn reconnect(&self) {}
}

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

struct Bench {
    previews: Previews,
    tape: Arc<Tape>,
}

impl Bench {
    /// With the turn `m` begun.
    fn new() -> Bench {
        let bench = Bench { previews: Previews::default(), tape: Arc::default() };
        bench.begin("m");
        bench
    }

    fn begin(&self, id: &str) {
        let shown = Shown {
            channel: self.tape.clone(),
            peer: "7".into(),
            conversation: None,
            metadata: None,
            every: s(1),
            text: String::new(),
            is_news: false,
            next: s(0),
            message: None,
            is_calling: false,
            is_doubtful: false,
            state: State::Open,
        };
        self.previews.begin(id, shown);
    }

    /// What the thread does at `now`, from beginning to end.
    fn work(&self, now: u64) {
        if self.previews.start(s(now)) {
            self.go_on(now);
        }
    }

    fn go_on(&self, now: u64) {
        while let Some(task) = self.previews.take(s(now)) {
            let result = task.run();
            self.previews.returned(&task, result, s(now));
        }
    }

    /// Takes the one call that is due, to be answered later.
    fn call(&self, now: u64) -> Task {
        assert!(self.previews.start(s(now)));
        self.previews.take(s(now)).unwrap()
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.tape.0.lock().unwrap())
    }

    fn left(&self) -> usize {
        self.previews.lock().shown.len()
    }
}

#[test]
fn the_text_is_shown_at_its_pace_and_adopted() {
    let bench = Bench::new();
    assert!(!bench.previews.add("m", " \n"), "nothing to see yet");
    assert!(bench.previews.add("m", "one") && !bench.previews.add("m", " two"), "the timer is told once");
    assert!(!bench.previews.add("other", "x"));
    bench.work(0);
    assert_eq!(bench.seen(), ["send  \none two"]);
    assert_eq!(bench.previews.next(), None, "nothing new");
    bench.previews.add("m", " three");
    assert_eq!(bench.previews.next(), Some(s(1)));
    bench.work(0);
    assert!(bench.seen().is_empty(), "not yet");
    bench.work(1);
    assert_eq!(bench.seen(), ["edit  \none two three"]);
    bench.previews.add("m", &"é".repeat(TEXT_MAX));
    bench.work(2);
    assert!(bench.seen()[0].len() <= "edit ".len() + TEXT_MAX);
    bench.previews.add("m", "the last byte");
    bench.work(3);
    assert!(!bench.previews.add("m", "more") && bench.previews.next().is_none(), "the bound is reached");
    bench.seen();
    assert_eq!(bench.previews.adopt("m"), Some(json!(9)));
    assert!(!bench.previews.end("m") && bench.left() == 0);
    bench.work(9);
    assert!(bench.seen().is_empty(), "nothing changes it any more");
    assert!(bench.previews.settled("m", s(0)));
}

#[test]
fn what_no_answer_takes_over_is_taken_away() {
    let bench = Bench::new();
    assert!(!bench.previews.end("m") && bench.left() == 0, "nothing was shown");
    bench.begin("m");
    bench.previews.add("m", "a");
    bench.work(0);
    assert!(bench.previews.end("m"));
    bench.begin("m");
    bench.previews.add("m", "of the next try");
    bench.work(0);
    assert_eq!((bench.seen(), bench.left()), (vec!["send a".to_string(), "delete 9".into()], 0));
    // One that is being sent while its turn ends has no name yet.
    bench.begin("m");
    bench.previews.add("m", "a");
    let task = bench.call(0);
    assert_eq!(bench.previews.adopt("m"), None);
    assert!(bench.previews.end("m"));
    assert_eq!(bench.previews.next(), None, "it is not known what to take away");
    bench.previews.returned(&task, Ok(Some(json!(9))), s(0));
    bench.go_on(0);
    assert_eq!((bench.seen(), bench.left()), (vec!["delete 9".to_string()], 0));
}

#[test]
fn a_delivery_waits_for_the_edit_that_is_under_way() {
    for (outcome, sound) in [
        (Ok(Some(json!(9))), true),
        (Err(Error::new(ErrorKind::Throttled(None), "slower")), true),
        (Err(Error::new(ErrorKind::Timeout, "perhaps")), false),
    ] {
        let bench = Bench::new();
        bench.previews.add("m", "a");
        bench.work(0);
        bench.previews.add("m", "b");
        let task = bench.call(1);
        assert_eq!(bench.previews.adopt("m"), Some(json!(9)));
        bench.previews.end("m");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| bench.previews.settled("m", s(20)));
            bench.previews.returned(&task, outcome.clone(), s(1));
            assert_eq!(waiting.join().unwrap(), sound, "{outcome:?}");
        });
        bench.seen();
        bench.go_on(2);
        let wanted: &[&str] = if sound { &[] } else { &["delete 9"] };
        assert_eq!((bench.seen(), bench.left()), (wanted.iter().map(|s| s.to_string()).collect(), 0), "{outcome:?}");
    }
    // One that never returns is given up.
    let bench = Bench::new();
    bench.previews.add("m", "a");
    bench.work(0);
    bench.previews.add("m", "b");
    let task = bench.call(1);
    bench.previews.adopt("m");
    assert!(!bench.previews.settled("m", Duration::from_millis(1)));
    bench.previews.returned(&task, Ok(Some(json!(9))), s(9));
    bench.go_on(9);
    assert_eq!((bench.seen().pop().unwrap().as_str(), bench.left()), ("delete 9", 0));
}

#[test]
fn failures_end_the_showing_and_pauses_are_obeyed() {
    let bench = Bench::new();
    bench.previews.add("m", "a");
    let task = bench.call(0);
    bench.previews.returned(&task, Err(Error::new(ErrorKind::Throttled(Some(s(30))), "slower")), s(0));
    assert!(bench.previews.take(s(29)).is_none());
    bench.work(30);
    assert_eq!(bench.seen(), ["send a"]);
    bench.previews.add("m", "b");
    let task = bench.call(31);
    bench.previews.returned(&task, Err(Error::new(ErrorKind::Transient, "broke off")), s(31));
    bench.previews.add("m", "c");
    bench.go_on(99);
    assert!(bench.seen().is_empty(), "nobody knows what is there");
    assert_eq!(bench.previews.adopt("m"), None);
    bench.previews.end("m");
    bench.work(99);
    assert_eq!((bench.seen(), bench.left()), (vec!["delete 9".to_string()], 0));
}

#[test]
fn there_are_so_many_and_no_more() {
    let bench = Bench::new();
    (0..2 * SHOWN_MAX).for_each(|n| bench.begin(&n.to_string()));
    assert_eq!(bench.left(), SHOWN_MAX);
    bench.previews.lock().shown.values_mut().for_each(|s| s.state = State::Adopted);
    bench.begin("new");
    assert_eq!(bench.left(), 1, "those that wait for a delivery make room");
}

#[test]
fn the_row_names_the_preview() {
    for (metadata, wanted) in [
        (None, json!({"preview": 9})),
        (Some(json!({"messageId": 7})), json!({"messageId": 7, "preview": 9})),
        (Some(json!("odd")), json!({"preview": 9})),
    ] {
        assert_eq!(naming(&metadata, Some(json!(9))), Some(wanted));
        assert_eq!(naming(&metadata, None), metadata);
    }
}

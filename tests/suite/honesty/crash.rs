//! Death at every point between a poll and the record of a send, over each adapter: lost 0; doubled 0 outside of the window between the
//! send and its record on a service that knows no repeats; and there the repeat is marked, or held as unknown where that is asked for.

use std::process::ExitStatus;
use std::time::Instant;

use serde_json::{Value, json};

use super::counterpart::{Arrived, CHANNEL, Counterpart, Hook, Matrix, Mqtt};
use crate::support::discord::Discord;
use crate::support::gateway::{Gateway, code_of};
use crate::support::model::{Act, Model};
use crate::support::slack::Slack;
use crate::support::telegram::Telegram;
use crate::support::{eventually, figure, merged, pause};

/// What is to be found after a death at a point, on a service that knows no repeats.
struct Point {
    name: &'static str,
    of: Of,
    /// With `onUnknown: resend`: parts that come twice; whether the one after the death is marked.
    resend: (usize, bool),
    /// With `onUnknown: hold`: parts that arrived before a person looked, and once they sent it again; `None` where nothing is in
    /// doubt.
    hold: Option<(usize, usize)>,
}

/// Which services pass the point with what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// All that are polled: a short text.
    Polled,
    /// All: a short text.
    All,
    /// Those that confirm no parts: a short text.
    Whole,
    /// Those that confirm parts: a short text, one of several parts.
    Part,
    Parts,
}

/// Parts of the long text on any service here.
const PARTS: usize = 3;

#[rustfmt::skip]
const POINTS: &[Point] = &[
    Point { name: "channel.polled:1", of: Of::Polled, resend: (0, false), hold: None },
    Point { name: "channel.taken:1", of: Of::Polled, resend: (0, false), hold: None },
    Point { name: "channel.acknowledged:1", of: Of::Polled, resend: (0, false), hold: None },
    Point { name: "delivery.sending:1", of: Of::All, resend: (0, true), hold: Some((0, 1)) },
    Point { name: "delivery.sent:1", of: Of::Whole, resend: (1, true), hold: Some((1, 2)) },
    Point { name: "delivery.part:1", of: Of::Part, resend: (1, true), hold: Some((1, 2)) },
    Point { name: "delivery.sent:1", of: Of::Part, resend: (0, false), hold: Some((1, 1)) },
    Point { name: "delivery.marked:1", of: Of::All, resend: (0, false), hold: None },
    Point { name: "delivery.part:2", of: Of::Parts, resend: (1, true), hold: Some((2, PARTS + 1)) },
    Point { name: "delivery.part_marked:2", of: Of::Parts, resend: (0, true), hold: Some((2, PARTS)) },
];

struct World<'a> {
    service: &'a dyn Counterpart,
    /// Answers slowly where the death is to come before the answer.
    model: Model,
    gateway: Gateway,
    number: usize,
}

impl World<'_> {
    fn config(&self, on_unknown: &str) -> Value {
        let channel = merged(self.service.channel(), json!({"onUnknown": on_unknown}));
        let own = json!({"channels": {CHANNEL: channel}, "gateway": {"retry": {"maxRetries": 5, "delay": 20}}});
        crate::support::gateway::with_defaults(merged(self.model.config(), own), self.gateway.port)
    }

    /// What arrived since `from` of the conversation `key`.
    fn since(&self, from: usize, key: &str) -> Vec<Arrived> {
        self.service.arrived().into_iter().skip(from).filter(|a| a.text.contains(key)).collect()
    }

    fn outbox(&self, state: &str) -> Vec<Value> {
        let all = self.gateway.get(&format!("/api/outbox?state={state}")).expect(200).json();
        all["outbox"].as_array().cloned().unwrap_or_default()
    }

    /// Says one thing more and waits for its answer: what stood before it is settled by then, for the order is kept.
    fn settle(&mut self) {
        self.number += 1;
        let key = format!("barrier {}", self.number);
        self.service.say(&self.gateway, &key);
        eventually(&format!("the answer to {key}"), 20, || (!self.since(0, &key).is_empty()).then_some(()));
        eventually("an empty outbox", 10, || {
            (self.outbox("pending").is_empty() && self.outbox("sending").is_empty()).then_some(())
        });
    }

    fn connected(&self) {
        eventually("the channel to be connected", 20, || {
            let all = self.gateway.get("/api/channels").expect(200).json();
            all["channels"].as_array()?.iter().any(|c| c["name"] == CHANNEL && c["state"] == "connected").then_some(())
        });
    }
}

fn text(key: &str, point: &Point, parts: usize) -> String {
    if point.of != Of::Parts {
        return key.to_string();
    }
    // Lines of one length that all bear the key, so that each part does.
    let line = format!("{key} {}\n", "a word and another one ".repeat(12));
    line.repeat(parts)
}

/// Waits for the death; gives its status, and how much was said. A poll that is held tells of the acknowledgement in it only when
/// something more comes.
fn until_death(world: &mut World<'_>, from: usize, key: &str, point: &str) -> (ExitStatus, usize) {
    let mut said = 1;
    let status = eventually(&format!("a death at {point}"), 20, || {
        if said == 1 && point.starts_with("channel.acknowledged") && !world.since(from, key).is_empty() {
            pause(200); // the record of that answer is no part of this
            world.service.say(&world.gateway, &format!("{key} more"));
            said = 2;
        }
        world.gateway.exited()
    });
    (status, said)
}

fn check(world: &mut World<'_>, lines: usize, point: &Point, on_unknown: &str) {
    let what = format!("{} with {on_unknown}", point.name);
    world.number += 1;
    let slow = if point.of == Of::Polled { "slow " } else { "" };
    let key = format!("case {} {slow}:", world.number);
    world.gateway.write_config(&world.config(on_unknown).to_string());
    world.gateway.set_env("GATELET_CRASH_AT", point.name);
    world.gateway.restart();
    world.connected();
    let from = world.service.arrived().len();
    world.service.say(&world.gateway, &text(&key, point, lines));
    let (status, said) = until_death(world, from, &key, point.name);
    assert_ne!(code_of(status), 0, "{what}: it should have died there");
    world.gateway.set_env("GATELET_CRASH_AT", "");
    world.gateway.restart();
    world.settle();
    let parts = if point.of == Of::Parts { PARTS } else { said };
    let got = world.since(from, &key);
    let unknown = world.outbox("unknown");
    let doubt = point.hold.filter(|_| on_unknown == "hold" && !world.service.knows_repeats());
    if let Some((before, again)) = doubt {
        assert_eq!((got.len(), unknown.len()), (before, 1), "{what}: {got:?} {unknown:?}");
        assert!(unknown[0]["message"].as_str().unwrap_or_default().contains(&key), "{what}: {unknown:?}");
        assert!(unknown[0]["unclearMs"].is_i64() && unknown[0]["lastError"].is_string(), "{what}: {unknown:?}");
        let id = unknown[0]["id"].as_str().expect("an id");
        world.gateway.post(&format!("/api/outbox/{id}/retry"), json!({})).expect(200);
        world.settle();
        let (got, left) = (world.since(from, &key), world.outbox("unknown").len());
        assert_eq!((got.len(), left), (again, 0), "{what}, once somebody looked: {got:?}");
        return;
    }
    let (twice, is_marked) = if world.service.knows_repeats() { (0, false) } else { point.resend };
    assert_eq!(
        (got.len(), unknown.len()),
        (parts + twice, 0),
        "{what}: lost or doubled: {got:?} from {from} of {:?}",
        world.service.arrived()
    );
    let marks = got.iter().filter(|a| a.is_marked).count();
    assert_eq!(marks, usize::from(is_marked), "{what}: {got:?}");
    assert_eq!(world.outbox("dead").len(), 0, "{what}");
}

/// All points over one service, under both policies where they differ. `lines` are those of the long text that make [`PARTS`] parts.
fn all_points(name: &str, service: &dyn Counterpart, lines: usize) {
    let gateway = Gateway::prepare(json!({}));
    let model = Model::scripted(|q| {
        let said = Act::Say(format!("echo: {}", q.text));
        if q.text.contains("slow") { Act::After(300, Box::new(said)) } else { said }
    });
    let mut world = World { service, model, gateway, number: 0 };
    world.gateway.write_config(&world.config("resend").to_string());
    world.gateway.restart();
    world.connected();
    world.settle();
    let (mut cases, began) = (0, Instant::now());
    for point in POINTS {
        let applies = match point.of {
            Of::All => true,
            Of::Polled => service.is_polled(),
            Of::Whole => !service.has_parts(),
            Of::Part | Of::Parts => service.has_parts(),
        };
        for on_unknown in ["resend", "hold"] {
            if applies && (on_unknown == "resend" || point.hold.is_some()) {
                world.gateway.kill9();
                check(&mut world, lines, point, on_unknown);
                cases += 1;
            }
        }
    }
    // Killed once more: nothing of all that comes again.
    let count = service.arrived().len();
    world.gateway.kill9();
    world.gateway.restart();
    world.connected();
    world.settle();
    pause(100);
    assert_eq!(service.arrived().len(), count + 1, "a restart repeats nothing");
    figure(&format!(
        "crash points over {name}: {cases} deaths, lost 0, doubled in the marked window alone, {:?}",
        began.elapsed()
    ));
}

#[test]
fn telegram_at_every_point() {
    all_points("Telegram", &Telegram::new(), 34);
}

#[test]
fn slack_at_every_point() {
    all_points("Slack", &Slack::new(), 34);
}

#[test]
fn discord_at_every_point() {
    all_points("Discord", &Discord::new(), 17);
}

#[test]
fn mqtt_at_every_point() {
    if let Some(mqtt) = Mqtt::start() {
        all_points("MQTT", &mqtt, 0);
    }
}

#[test]
fn matrix_at_every_point() {
    if let Some(matrix) = Matrix::start() {
        all_points("Matrix", &matrix, 170);
    }
}

#[test]
fn webhook_at_every_point() {
    all_points("webhooks", &Hook::start(), 0);
}

//! Message in → reply out with an instant model, over the webhook and over the WebSocket, beside the disk's own fsync.

use std::time::Instant;

use serde_json::json;

use super::Scenario;
use crate::Outcome;
use crate::gateway::{Gateway, ONE, Setting, TOKEN};
use crate::group;
use crate::http::{self, Connection};
use crate::model::{Manner, Model};
use crate::socket::Socket;
use crate::stats::{Spread, Times};
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "reply",
    title: "Message in → reply out, a model that answers at once",
    note: "One message at a time: `POST /webhook/default?wait=10000` until its 200, and a WebSocket `message` until the reply's `message` frame \
(acknowledged). The model is a stub in the bench process that streams its answer in one write. *fsync* is 4 KiB written over an existing \
file, then fdatasync, on the same disk, taken in turns with the messages. The budget is 2 fsync + 2 ms: the message on disk before the \
model is asked, the reply on disk before it is given.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (blocks, each) = setting.pick((2, 20), (8, 50));
    let model = Model::start(Manner::Instant)?;
    let gateway = Gateway::start(setting, &model.config())?;
    let (mut http, mut socket) = (Connection::open(gateway.address)?, Socket::open(gateway.address, ONE)?);
    let (mut fsyncs, mut by_webhook, mut by_socket) = (Times::default(), Times::default(), Times::default());
    // The first turn connects to the model; that isn't what is asked here.
    webhook(&mut http, "warm-up", "sender-0")?;
    spoken(&mut socket, "warm-up")?;
    for block in 0..blocks {
        fsyncs.join(group::fsyncs(&setting.folder, each)?);
        for n in 0..each {
            by_webhook.add(webhook(&mut http, &format!("w-{block}-{n}"), &format!("sender-{}", n % 10))?);
        }
        for n in 0..each {
            by_socket.add(spoken(&mut socket, &format!("s-{block}-{n}"))?);
        }
    }
    let bound = 2.0 * fsyncs.at(0.5) / 1e3 + 2.0;
    for (name, times) in [("webhook", &by_webhook), ("WebSocket", &by_socket)] {
        for (quantile, label) in [(0.5, "p50"), (0.99, "p99")] {
            let (own, twice) = (times.at(quantile) / 1e3, 2.0 * fsyncs.at(quantile) / 1e3);
            let row = Row::one(format!("{name}, {label}"), "ms", own).beside("2 fsync", twice, Spread::of(&[own / twice]));
            table.add(SCENARIO.name, if quantile == 0.5 { row.budget(Budget::AtMost(bound)) } else { row });
        }
    }
    Ok(())
}

/// Says "hi" over the webhook and waits for the reply.
pub(super) fn greet(connection: &mut Connection) -> Outcome<()> {
    let mut request = Vec::new();
    let body = json!({"userId": "ana", "message": "hi"}).to_string();
    http::post(&mut request, "/webhook/default?wait=10000", TOKEN, &body);
    match connection.exchange(&request)? {
        (200, _) => Ok(()),
        (status, body) => Err(format!("answered {status}: {}", String::from_utf8_lossy(&body)).into()),
    }
}

/// One message over the webhook: microseconds until its reply.
pub(super) fn webhook(connection: &mut Connection, id: &str, user: &str) -> Outcome<f64> {
    let mut request = Vec::new();
    let body = json!({"messageId": id, "userId": user, "message": "hello there"}).to_string();
    http::post(&mut request, "/webhook/default?wait=10000", TOKEN, &body);
    let begin = Instant::now();
    let (status, body) = connection.exchange(&request)?;
    let micros = begin.elapsed().as_nanos() as f64 / 1e3;
    let reply = http::member(&body, "reply")?;
    if status == 200 && reply == "Here is the answer." { Ok(micros) } else { Err(format!("answered {status}: {reply}").into()) }
}

/// One message over the socket: microseconds until the reply's frame.
fn spoken(socket: &mut Socket, id: &str) -> Outcome<f64> {
    let begin = Instant::now();
    socket.send(&json!({"type": "message", "id": id, "message": "hello there"}))?;
    let frame = socket.until("message")?;
    let micros = begin.elapsed().as_nanos() as f64 / 1e3;
    socket.send(&json!({"type": "ack", "messageId": frame["messageId"]}))?;
    Ok(micros)
}

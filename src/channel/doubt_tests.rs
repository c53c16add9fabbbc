//! Every adapter that sends by HTTP, against services that fail in the middle of a send: what never left is told from what may have
//! arrived.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::counters::Counters;
use super::memory::{MemoryInlet, common, delivery, fresh, parts};
use super::{Channel, ChannelState, discord, matrix, slack, telegram};
use crate::base::clock::Clock;
use crate::base::error::ErrorKind::{self, Throttled, Transient, Unclear};
use crate::base::secret::Secret;
use crate::config;
use crate::domain::Delivery;
use crate::net::scripted::{Scripted, answer, reset};

const ADAPTERS: [&str; 4] = ["telegram", "slack", "discord", "matrix"];

fn opened(adapter: &str, root: String) -> Arc<dyn Channel> {
    let parts = parts("c", &Arc::new(MemoryInlet::default()), &Clock::system());
    let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
    let secret = |text: &str| Secret::new(text);
    match adapter {
        "telegram" => telegram::open(
            parts,
            config::Telegram { token: secret("42:abcdef"), api_root: root, preview: false },
            &common(),
            counters,
        ),
        "slack" => {
            let config = config::Slack { app_token: secret("xapp-1"), bot_token: secret("xoxb-1"), api_root: root };
            slack::open(parts, config, &common(), counters)
        }
        "discord" => discord::open(parts, config::Discord { token: secret("t"), api_root: root }, &common(), counters),
        _ => {
            let config =
                config::Matrix { homeserver: root, user_id: "@bot:x".into(), access_token: Some(secret("t")), password: None };
            matrix::open(parts, config, &common(), counters)
        }
    }
}

fn is_send(line: &str) -> bool {
    ["/sendMessage", "/chat.postMessage", "/messages", "/send/m.room.message"].iter().any(|part| line.contains(part))
}

fn at(adapter: &str) -> Delivery {
    let place = if adapter == "matrix" { "!room:x" } else { "77" };
    Delivery { conversation_id: Some(place.into()), ..delivery("7", "hi") }
}

type Does = fn(&mut TcpStream) -> bool;

fn says(stream: &mut TcpStream, status: &str, body: &str) -> bool {
    stream.write_all(answer(status, "application/json", body).as_bytes()).is_ok()
}

#[test]
fn what_never_left_is_told_from_what_may_have_arrived() {
    const REFUSED: &str =
        r#"{"ok":false,"error_code":500,"description":"Internal Server Error","error":"x","errcode":"M_UNKNOWN"}"#;
    #[rustfmt::skip]
    let table: &[(&str, Does, [ErrorKind; 4])] = &[
        ("reset", |s| { reset(s); false }, [Unclear; 4]),
        ("closed", |_| false, [Unclear; 4]),
        ("cut off in a 200", |s| s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"ok\":").is_err(), [Unclear; 4]),
        ("a web page for an answer", |s| says(s, "200 OK", "<html>"), [Unclear; 4]),
        ("a proxy that gave up", |s| says(s, "504 Gateway Timeout", "<html>"), [Unclear; 4]),
        ("a proxy in the service's words", |s| says(s, "502 Bad Gateway", REFUSED), [Unclear; 4]),
        // Telegram's own refusal is its verdict; of the others none is documented.
        ("a 500 in the service's words", |s| says(s, "500 X", REFUSED), [Transient, Unclear, Unclear, Unclear]),
        ("overloaded", |s| says(s, "503 X", "{}"), [Transient; 4]),
        ("too fast", |s| says(s, "429 X", "{}"), [Throttled(None), Throttled(None), Throttled(Some(std::time::Duration::from_secs(1))), Throttled(None)]),
    ];
    for (what, does, kinds) in table {
        for (adapter, kind) in ADAPTERS.iter().zip(kinds) {
            let (does, sends) = (*does, Arc::new(AtomicUsize::new(0)));
            let counted = sends.clone();
            let peer = Scripted::new(move |_, seen, stream| {
                if is_send(&seen.line) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    return does(stream);
                }
                if seen.line.contains("/state/m.room.encryption") {
                    return says(stream, "404 X", r#"{"errcode":"M_NOT_FOUND"}"#);
                }
                says(stream, "500 X", "{}") // the connection itself is not what this is about
            });
            let channel = opened(adapter, peer.url(""));
            let error = channel.deliver(&at(adapter), &fresh()).unwrap_err();
            channel.stop();
            assert_eq!(error.kind, *kind, "{adapter}, {what}: {error}");
            assert_eq!(sends.load(Ordering::SeqCst), 1, "{adapter}, {what}: sent by the adapter itself");
        }
    }
    for adapter in ADAPTERS {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let channel = opened(adapter, format!("http://127.0.0.1:{port}"));
        let error = channel.deliver(&at(adapter), &fresh()).unwrap_err();
        channel.stop();
        assert_eq!(error.kind, Transient, "{adapter}, nobody listens: {error}");
    }
}

//! `gatelet channels`, `outbox`, `messages` and `sessions`: what there is and how it is, and the little that can be done about it.
//!
//! Invariant: texts from elsewhere are shown with their control characters escaped. A list shows its first page and says so where
//! there is more.

use serde_json::{Value, json};
use ureq::http::Method;

use crate::base::error::shorten;
use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, field, styled, text};
use crate::cli::remote::{Remote, escaped};

/// Longest text that a list shows of one entry, in bytes.
const SHOWN: usize = 100;

/// `gatelet channels [list | reconnect NAME]`.
///
/// # Errors
/// `Usage`; what the gateway answers.
pub fn channels(options: &Options) -> Result<(), Failure> {
    match options.words().as_slice() {
        ["list"] => {
            let answer = Remote::find(options, false)?.call("/api/channels", None)?;
            document(options.json, &answer, |a| each(a, "channels", "there are no channels", channel));
        }
        ["reconnect", name] => {
            let path = format!("/api/channels/{}/reconnect", escaped(name));
            let answer = Remote::find(options, false)?.call(&path, Some(&json!({})))?;
            document(options.json, &answer, channel);
        }
        _ => return Err(Failure::Usage("channels takes list, or reconnect with a name".into())),
    }
    Ok(())
}

/// `gatelet outbox [list [STATE] | retry ID | drop ID]`.
///
/// # Errors
/// `Usage`; what the gateway answers.
pub fn outbox(options: &Options) -> Result<(), Failure> {
    match options.words().as_slice() {
        ["list"] => listed(options, "/api/outbox?limit=100", "outbox", delivery)?,
        ["list", state] => listed(options, &format!("/api/outbox?limit=100&state={}", escaped(state)), "outbox", delivery)?,
        ["retry", id] => {
            let path = format!("/api/outbox/{}/retry", escaped(id));
            document(options.json, &Remote::find(options, false)?.call(&path, Some(&json!({})))?, delivery);
        }
        ["drop", id] => {
            Remote::find(options, false)?.request(Method::DELETE, &format!("/api/outbox/{}", escaped(id)), None)?;
            document(options.json, &json!({"id": id, "dropped": true}), |_| text(&format!("{id} dropped")));
        }
        _ => return Err(Failure::Usage("outbox takes list, list STATE, retry ID or drop ID".into())),
    }
    Ok(())
}

/// `gatelet messages [list [STATE] | show ID | retry ID]`.
///
/// # Errors
/// `Usage`; what the gateway answers.
pub fn messages(options: &Options) -> Result<(), Failure> {
    match options.words().as_slice() {
        ["list"] => listed(options, "/api/messages?limit=100", "messages", message)?,
        ["list", state] => listed(options, &format!("/api/messages?limit=100&state={}", escaped(state)), "messages", message)?,
        ["show", id] => {
            let answer = Remote::find(options, false)?.call(&format!("/api/messages/{}", escaped(id)), None)?;
            document(options.json, &answer, life);
        }
        ["retry", id] => {
            let path = format!("/api/messages/{}/retry", escaped(id));
            document(options.json, &Remote::find(options, false)?.call(&path, Some(&json!({})))?, message);
        }
        _ => return Err(Failure::Usage("messages takes list, list STATE, show ID or retry ID".into())),
    }
    Ok(())
}

/// `gatelet sessions [list | show USER | erase USER]`.
///
/// # Errors
/// `Usage`; what the gateway answers.
pub fn sessions(options: &Options) -> Result<(), Failure> {
    match options.words().as_slice() {
        ["list"] => listed(options, "/api/sessions?limit=100", "sessions", session)?,
        ["show", user] => listed(options, &format!("/api/sessions/{}?limit=20", escaped(user)), "sessions", transcript)?,
        ["erase", user] => {
            Remote::find(options, false)?.request(Method::DELETE, &format!("/api/sessions/{}", escaped(user)), None)?;
            document(options.json, &json!({"userId": user, "erased": true}), |_| text(&format!("{user}: erased")));
        }
        _ => return Err(Failure::Usage("sessions takes list, show USER or erase USER".into())),
    }
    Ok(())
}

fn listed(options: &Options, path: &str, name: &str, show: fn(&Value)) -> Result<(), Failure> {
    let answer = Remote::find(options, false)?.call(path, None)?;
    document(options.json, &answer, |a| each(a, name, "there is nothing", show));
    Ok(())
}

fn each(answer: &Value, name: &str, none: &str, show: fn(&Value)) {
    let items = answer[name].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().for_each(show);
    if items.is_empty() {
        text(none);
    }
    if answer["next"].is_string() {
        text("there are more; --json shows where the list goes on");
    }
}

fn short(document: &Value, key: &str) -> String {
    shorten(&field(document, key).replace(['\n', '\t'], " "), SHOWN)
}

/// `: why` where something went wrong.
fn why(document: &Value, key: &str) -> String {
    document[key].as_str().map_or(String::new(), |_| format!(": {}", field(document, key)))
}

fn channel(c: &Value) {
    let head = styled("1", &field(c, "name"));
    let counts = format!("in {}, out {}, failed {}, reconnects {}", c["received"], c["sent"], c["failed"], c["reconnects"]);
    text(&format!("{head} ({}): {}{}; {counts}", field(c, "type"), field(c, "state"), why(c, "lastError")));
}

fn delivery(d: &Value) {
    let head = format!("{} to {} by {}", styled("1", &field(d, "id")), field(d, "userId"), field(d, "channel"));
    text(&format!("{head}: {}{}; {}", field(d, "state"), why(d, "lastError"), short(d, "message")));
}

fn message(m: &Value) {
    let head = format!("{} from {} by {}", styled("1", &field(m, "id")), field(m, "userId"), field(m, "channel"));
    text(&format!("{head}: {}{}; {}", field(m, "state"), why(m, "error"), short(m, "message")));
}

fn life(m: &Value) {
    message(m);
    for event in m["timeline"].as_array().into_iter().flatten() {
        text(&format!(
            "  {} {} {}",
            event["atMs"],
            field(event, "event"),
            event["detail"].as_str().map_or(String::new(), |_| field(event, "detail"))
        ));
    }
    m["deliveries"].as_array().into_iter().flatten().for_each(delivery);
    if m["reply"].is_string() {
        text(&field(m, "reply"));
    }
}

fn session(s: &Value) {
    let head = format!("{} of {} by {}", styled("1", &field(s, "id")), field(s, "userId"), field(s, "channel"));
    text(&format!("{head}, agent {}: {} turns", field(s, "agent"), s["turns"]));
}

fn transcript(s: &Value) {
    session(s);
    for entry in s["transcript"].as_array().into_iter().flatten() {
        text(&format!("  {}: {}", field(entry, "role"), field(entry, "text")));
    }
}

//! `gatelet channels`, `outbox`, `messages` and `sessions`: what there is and how it is, and the little that can be done about it.
//!
//! Invariant: texts from elsewhere are shown with their control characters escaped. A list shows its first page and says so where
//! there is more.

use serde_json::{Value, json};
use ureq::http::Method;

use crate::base::clock::Clock;
use crate::base::error::shorten;
use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, field, styled, text, time_of_day};
use crate::cli::remote::{Remote, escaped};
use crate::cli::table::{Table, age};
use crate::telemetry::rfc3339;

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
            document(options.json, &answer, |a| {
                table(a["channels"].as_array().map_or(&[][..], Vec::as_slice), &a["next"], CHANNELS, channel)
            });
        }
        ["reconnect", name] => {
            let path = format!("/api/channels/{}/reconnect", escaped(name));
            let answer = Remote::find(options, false)?.call(&path, Some(&json!({})))?;
            document(options.json, &answer, |c| one(c, CHANNELS, channel));
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
        ["list"] => listed(options, "/api/outbox?limit=100", "outbox", OUTBOX, delivery)?,
        ["list", state] => {
            listed(options, &format!("/api/outbox?limit=100&state={}", escaped(state)), "outbox", OUTBOX, delivery)?
        }
        ["retry", id] => {
            let path = format!("/api/outbox/{}/retry", escaped(id));
            document(options.json, &Remote::find(options, false)?.call(&path, Some(&json!({})))?, |d| one(d, OUTBOX, delivery));
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
        ["list"] => listed(options, "/api/messages?limit=100", "messages", MESSAGES, message)?,
        ["list", state] => {
            listed(options, &format!("/api/messages?limit=100&state={}", escaped(state)), "messages", MESSAGES, message)?
        }
        ["show", id] => {
            let answer = Remote::find(options, false)?.call(&format!("/api/messages/{}", escaped(id)), None)?;
            document(options.json, &answer, life);
        }
        ["retry", id] => {
            let path = format!("/api/messages/{}/retry", escaped(id));
            document(options.json, &Remote::find(options, false)?.call(&path, Some(&json!({})))?, |m| one(m, MESSAGES, message));
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
        ["list"] => listed(options, "/api/sessions?limit=100", "sessions", SESSIONS, session)?,
        ["show", user] => {
            let path = format!("/api/sessions/{}?limit=20", escaped(user));
            document(options.json, &Remote::find(options, false)?.call(&path, None)?, transcripts);
        }
        ["erase", user] => {
            Remote::find(options, false)?.request(Method::DELETE, &format!("/api/sessions/{}", escaped(user)), None)?;
            document(options.json, &json!({"userId": user, "erased": true}), |_| text(&format!("{user}: erased")));
        }
        _ => return Err(Failure::Usage("sessions takes list, show USER or erase USER".into())),
    }
    Ok(())
}

/// Asks for a list and shows it as a table of these headings, a row for each entry.
fn listed(options: &Options, path: &str, name: &str, heads: Heads, row: Row) -> Result<(), Failure> {
    let answer = Remote::find(options, false)?.call(path, None)?;
    document(options.json, &answer, |a| table(a[name].as_array().map_or(&[][..], Vec::as_slice), &a["next"], heads, row));
    Ok(())
}

type Heads = &'static [&'static str];
type Row = fn(&Value, i64) -> Vec<String>;

fn table(items: &[Value], next: &Value, heads: Heads, row: Row) {
    let (mut table, now_ms) = (Table::new(heads), Clock::system().unix_ms());
    items.iter().for_each(|item| table.row(row(item, now_ms)));
    table.show("there is nothing");
    if next.is_string() {
        text("there are more; --json shows where the list goes on");
    }
}

fn one(item: &Value, heads: Heads, row: Row) {
    table(std::slice::from_ref(item), &Value::Null, heads, row);
}

fn when(document: &Value, key: &str, now_ms: i64) -> String {
    age(document[key].as_i64(), now_ms)
}

fn short(document: &Value, key: &str) -> String {
    shorten(&field(document, key), SHOWN)
}

/// What went wrong, and behind it the text.
fn trouble(document: &Value, key: &str, text: &str) -> String {
    match document[key].as_str() {
        Some(_) => format!("{}: {}", short(document, key), short(document, text)),
        None => short(document, text),
    }
}

const CHANNELS: Heads = &["NAME", "TYPE", "STATE", "SINCE", "IN", "OUT", "FAILED", "LAST ERROR"];

fn channel(c: &Value, now_ms: i64) -> Vec<String> {
    let error = c["lastError"].as_str().map_or(String::new(), |_| field(c, "lastError"));
    let count = |key: &str| c[key].to_string();
    let since = when(c, "sinceMs", now_ms);
    vec![field(c, "name"), field(c, "type"), field(c, "state"), since, count("received"), count("sent"), count("failed"), error]
}

const OUTBOX: Heads = &["ID", "AGE", "STATE", "TO", "BY", "MESSAGE"];

fn delivery(d: &Value, now_ms: i64) -> Vec<String> {
    let (text, age) = (trouble(d, "lastError", "message"), when(d, "createdMs", now_ms));
    vec![field(d, "id"), age, field(d, "state"), field(d, "userId"), field(d, "channel"), text]
}

const MESSAGES: Heads = &["ID", "AGE", "STATE", "FROM", "BY", "MESSAGE"];

fn message(m: &Value, now_ms: i64) -> Vec<String> {
    let (text, age) = (trouble(m, "error", "message"), when(m, "receivedMs", now_ms));
    vec![field(m, "id"), age, field(m, "state"), field(m, "userId"), field(m, "channel"), text]
}

fn life(m: &Value) {
    table(std::slice::from_ref(m), &Value::Null, MESSAGES, message);
    text(&styled("2", "timeline"));
    for event in m["timeline"].as_array().into_iter().flatten() {
        let time = event["atMs"].as_i64().map_or("-".into(), |ms| time_of_day(&rfc3339(ms)));
        let detail = event["detail"].as_str().map_or(String::new(), |_| short(event, "detail"));
        text(format!("  {time}  {:<18} {detail}", field(event, "event")).trim_end());
    }
    let deliveries = m["deliveries"].as_array().map_or(&[][..], Vec::as_slice);
    if !deliveries.is_empty() {
        table(deliveries, &Value::Null, OUTBOX, delivery);
    }
    if m["reply"].is_string() {
        text(&styled("2", "reply"));
        text(&field(m, "reply"));
    }
}

const SESSIONS: Heads = &["ID", "USED", "TURNS", "USER", "BY", "AGENT"];

fn session(s: &Value, now_ms: i64) -> Vec<String> {
    let used = when(s, "updatedMs", now_ms);
    vec![field(s, "id"), used, s["turns"].to_string(), field(s, "userId"), field(s, "channel"), field(s, "agent")]
}

fn transcripts(answer: &Value) {
    let sessions = answer["sessions"].as_array().map_or(&[][..], Vec::as_slice);
    for one in sessions {
        table(std::slice::from_ref(one), &Value::Null, SESSIONS, session);
        for entry in one["transcript"].as_array().into_iter().flatten() {
            text(&format!("  {} {}", styled("1", &format!("{}:", field(entry, "role"))), field(entry, "text")));
        }
    }
    if sessions.is_empty() {
        text("there is nothing");
    }
}

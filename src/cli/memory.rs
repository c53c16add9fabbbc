//! `gatelet memory`: what agents keep about a user.

use serde_json::{Value, json};
use ureq::http::Method;

use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, field, text};
use crate::cli::remote::{Remote, escaped};
use crate::cli::table::Table;

/// Pages that are asked for: all notes of a user with a hundred agents.
const PAGES_MAX: usize = 200;

/// Runs it.
///
/// # Errors
/// `Usage`; what the gateway answers.
pub fn run(options: &Options) -> Result<(), Failure> {
    let remote = || Remote::find(options, false);
    match options.words().as_slice() {
        ["list", user] => {
            let agent = options.value("agent").map_or(String::new(), |a| format!("&agent={}", escaped(a)));
            let answer = all(&remote()?, &format!("/api/memory?userId={}{agent}", escaped(user)))?;
            document(options.json, &answer, list);
        }
        ["add", user, note] => {
            let mut body = json!({"userId": user, "text": note});
            if let Some(agent) = options.value("agent") {
                body["agent"] = json!(agent);
            }
            document(options.json, &remote()?.call("/api/memory", Some(&body))?, one);
        }
        ["edit", id, note] => {
            let path = format!("/api/memory/{}", escaped(id));
            document(options.json, &remote()?.request(Method::PUT, &path, Some(&json!({"text": note})))?, one);
        }
        ["forget", id] => {
            remote()?.request(Method::DELETE, &format!("/api/memory/{}", escaped(id)), None)?;
            document(options.json, &json!({"id": id, "forgotten": true}), |_| text(&format!("{id} forgotten")));
        }
        _ => return Err(Failure::Usage("memory takes list USER, add USER TEXT, edit ID TEXT or forget ID".into())),
    }
    Ok(())
}

/// All pages of a list, as one.
fn all(remote: &Remote, path: &str) -> Result<Value, Failure> {
    let mut notes = Vec::new();
    let mut cursor = String::new();
    for _ in 0..PAGES_MAX {
        let mut page = remote.call(&format!("{path}&limit=500{cursor}"), None)?;
        notes.extend(page["memory"].as_array_mut().map(std::mem::take).into_iter().flatten());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", escaped(next)),
            None => break,
        }
    }
    Ok(json!({"memory": notes, "next": null}))
}

fn one(note: &Value) {
    table(std::slice::from_ref(note));
}

fn table(notes: &[Value]) {
    let mut table = Table::new(&["ID", "AGENT", "NOTE"]);
    notes.iter().for_each(|note| table.row([field(note, "id"), field(note, "agent"), field(note, "text")]));
    table.show("nothing is kept");
}

fn list(answer: &Value) {
    table(answer["memory"].as_array().map_or(&[][..], Vec::as_slice));
}

//! `gatelet jobs`: scheduled turns and messages.

use serde_json::{Value, json};
use ureq::http::Method;

use crate::base::clock::Clock;
use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, field, harmless, text};
use crate::cli::remote::{Remote, escaped};
use crate::cli::table::{Table, age};
use crate::telemetry::rfc3339;

/// Runs it.
///
/// # Errors
/// `Usage`; what the gateway answers.
pub fn run(options: &Options) -> Result<(), Failure> {
    let remote = || Remote::find(options, false);
    match options.words().as_slice() {
        ["list"] => document(options.json, &remote()?.call("/api/jobs", None)?, list),
        ["add", user] => {
            let body = wanted(options, user)?;
            document(options.json, &remote()?.call("/api/jobs", Some(&body))?, one);
        }
        ["remove", id] => {
            remote()?.request(Method::DELETE, &format!("/api/jobs/{}", escaped(id)), None)?;
            document(options.json, &json!({"id": id, "removed": true}), |_| text(&format!("{} removed", harmless(id))));
        }
        ["run", id] => {
            let answer = remote()?.request(Method::POST, &format!("/api/jobs/{}/run", escaped(id)), None)?;
            document(options.json, &answer, shown);
        }
        ["runs", id] => {
            let answer = remote()?.call(&format!("/api/jobs/{}/runs?limit=100", escaped(id)), None)?;
            document(options.json, &answer, runs);
        }
        _ => return Err(Failure::Usage("jobs takes list, add USER, remove ID, run ID or runs ID".into())),
    }
    Ok(())
}

/// The job that the options describe, for the API to judge.
fn wanted(options: &Options, user: &str) -> Result<Value, Failure> {
    let mut body = json!({"userId": user});
    for (name, value) in options.given() {
        match name {
            "every" => {
                let ms =
                    pause(value).ok_or_else(|| Failure::Usage(format!("--every {value:?} is no time, as 90s, 15m, 2h or 1d")))?;
                body["every"] = json!(ms);
            }
            "catch-up" => body["catchUp"] = json!(true),
            name => body[name] = json!(value),
        }
    }
    Ok(body)
}

/// A pause in ms.
fn pause(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(ms)
}

fn list(answer: &Value) {
    table(answer["jobs"].as_array().map_or(&[][..], Vec::as_slice));
}

fn one(job: &Value) {
    table(std::slice::from_ref(job));
}

fn table(jobs: &[Value]) {
    let (mut table, now_ms) = (Table::new(&["ID", "WHEN", "NEXT", "FOR", "BY", "WHAT"]), Clock::system().unix_ms());
    for job in jobs {
        let when = ["at", "every", "cron"].into_iter().find_map(|key| match &job[key] {
            Value::String(text) => Some(harmless(text)),
            Value::Number(ms) => Some(format!("every {}", spelled(ms.as_u64().unwrap_or(0)))),
            _ => None,
        });
        let next = job["nextMs"].as_i64().map_or("never".into(), |ms| age(Some(ms), now_ms));
        let work = if job["prompt"].is_string() {
            format!("{}: {}", field(job, "agent"), field(job, "prompt"))
        } else {
            field(job, "message")
        };
        table.row([field(job, "id"), when.unwrap_or_default(), next, field(job, "userId"), field(job, "by"), work]);
    }
    table.show("no jobs");
}

/// A pause as `--every` takes it.
fn spelled(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let (unit, name) = units.into_iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)).unwrap_or((1, "ms"));
    format!("{}{name}", ms / unit)
}

fn runs(answer: &Value) {
    let runs = answer["runs"].as_array().map_or(&[][..], Vec::as_slice);
    runs.iter().for_each(shown);
    if runs.is_empty() {
        text("no runs yet");
    }
}

fn shown(run: &Value) {
    let at = run["atMs"].as_i64().map_or("-".into(), rfc3339);
    text(&format!("{at} {} {}", field(run, "outcome"), field(run, "detail")));
}

#[cfg(test)]
mod tests {
    #[test]
    fn pauses() {
        for (text, ms) in [
            ("90s", Some(90_000)),
            ("1500ms", Some(1500)),
            ("2h", Some(7_200_000)),
            ("1d", Some(86_400_000)),
            ("5", None),
            ("s", None),
            ("5y", None),
        ] {
            assert_eq!(super::pause(text), ms, "{text}");
            assert!(ms.is_none_or(|ms| super::pause(&super::spelled(ms)) == Some(ms)), "{text}");
        }
    }
}

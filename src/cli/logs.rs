//! `gatelet logs`: the latest log records, and with `-f` what comes.
//!
//! Invariant: following asks again after a pause and shows each record once; what came and went between two questions (the gateway keeps
//! 500 records) is told as a gap, not passed over. A gateway that restarts is waited for. Fails as the gateway answers.

use std::time::Duration;

use serde_json::Value;

use crate::base::stop::Stop;
use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{field, harmless, styled, text, time_of_day};
use crate::cli::remote::Remote;

/// Records that are shown where nothing else is said.
const LINES: usize = 50;
/// Records that the gateway keeps.
const KEPT: usize = 500;
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(700);
/// Questions in a row without an answer after which it gives up: about two minutes.
const TRIES: u32 = 170;

/// Runs it.
///
/// # Errors
/// `Usage` for a number that is none; what the gateway answers.
pub fn run(options: &Options) -> Result<(), Failure> {
    let lines = match options.value("lines") {
        None => LINES,
        Some(n) => n
            .parse()
            .ok()
            .filter(|n| *n <= KEPT)
            .ok_or_else(|| Failure::Usage(format!("--lines takes 0 to {KEPT}, not {n:?}")))?,
    };
    let remote = Remote::find(options, false)?;
    let level = options.value("level").map_or(String::new(), |l| format!("&level={l}"));
    let ask = |limit: usize| remote.call(&format!("/api/logs?limit={}{level}", limit.max(1)), None).map(oldest_first);
    let mut last = ask(if options.has("follow") { KEPT } else { lines })?;
    last.iter().skip(last.len().saturating_sub(lines)).for_each(|record| show(record, options.json));
    let (stop, mut failures) = (Stop::new(), 0);
    while options.has("follow") && !stop.wait(PAUSE) {
        match ask(KEPT) {
            Ok(now) => {
                failures = 0;
                let (fresh, is_gap) = fresh(&last, &now);
                if is_gap && !options.json {
                    text(&styled("33", "… records are missing here: they came too fast, or the gateway started anew"));
                }
                fresh.iter().for_each(|record| show(record, options.json));
                last = now;
            }
            Err(Failure::Unreachable(why)) if failures >= TRIES => return Err(Failure::Unreachable(why)),
            Err(Failure::Unreachable(_)) => failures += 1,
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn oldest_first(mut answer: Value) -> Vec<Value> {
    let mut records = answer["logs"].as_array_mut().map(std::mem::take).unwrap_or_default();
    records.reverse();
    records
}

/// The records that came after `last`, and whether some may have come between.
fn fresh<'a>(last: &[Value], now: &'a [Value]) -> (&'a [Value], bool) {
    let Some(newest) = last.last() else { return (now, false) };
    // Equal records in a row are told apart by what stands before them.
    let follows = |at: &usize| {
        let (a, b) = (&now[..=*at], last);
        a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b)
    };
    match (0..now.len()).rev().filter(|&i| now[i] == *newest).find(follows) {
        Some(at) => (&now[at + 1..], false),
        None => (now, true),
    }
}

fn show(record: &Value, json: bool) {
    if json {
        return text(&record.to_string());
    }
    let level = field(record, "level");
    let colour = match level.as_str() {
        "error" => "31",
        "warn" => "33",
        "info" => "32",
        _ => "2",
    };
    let line = field(record, "message").replace('\n', " ");
    let fields = record["fields"].as_object().into_iter().flatten().filter_map(|(name, value)| {
        let value = harmless(&value.as_str().map_or_else(|| value.to_string(), str::to_string));
        // What the sentence says already is not said twice.
        (!line.split(' ').any(|word| word == value)).then(|| format!(" {}={value}", harmless(name)))
    });
    let fields: String = fields.collect();
    text(&format!(
        "{} {} {line}{}",
        styled("2", &time_of_day(record["time"].as_str().unwrap_or_default())),
        styled(colour, &format!("{level:<5}")),
        styled("2", &fields.replace('\n', " "))
    ));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn each_record_is_shown_once() {
        let list = |text: &str| text.chars().map(|c| json!(c.to_string())).collect::<Vec<Value>>();
        for (last, now, expected, gap) in [
            ("", "abc", "abc", false),
            ("abc", "abc", "", false),
            ("abc", "abcd", "d", false),
            ("abc", "bcde", "de", false),
            ("abc", "xyz", "xyz", true),
            ("aaa", "aaaa", "", false), // beyond what can be told apart
            ("aba", "babax", "x", false),
            ("ba", "baba", "", false),
            ("abc", "", "", true),
        ] {
            let (last, now) = (list(last), list(now));
            let (fresh, is_gap) = super::fresh(&last, &now);
            let fresh: String = fresh.iter().filter_map(Value::as_str).collect();
            assert_eq!((fresh.as_str(), is_gap), (expected, gap), "{last:?} {now:?}");
        }
    }
}

//! `gatelet config`: the running configuration, shown and changed.
//!
//! Invariant: a change goes through the gateway (`PATCH /api/config`), which refuses it whole where it has a problem, and only where nobody
//! else changed the configuration since it was read (`If-Match`). Secrets are `"***"`. Fails as the gateway answers; `Configuration` with every
//! problem of a change.

use serde_json::{Map, Value, json};
use ureq::http::Method;

use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, harmless, text};
use crate::cli::remote::Remote;
use crate::config;

/// Runs it.
///
/// # Errors
/// `Usage` for a path that is none; `Failed` for one that is not there; what the gateway answers.
pub fn run(options: &Options) -> Result<(), Failure> {
    match options.words().as_slice() {
        ["schema"] => {
            text(&pretty(&config::schema()));
            return Ok(());
        }
        ["path"] => {
            let places = options.places()?;
            let said = json!({"file": places.file, "target": places.target, "dataDir": places.data_dir});
            document(options.json, &said, |_| match &places.file {
                Some(file) => text(&file.display().to_string()),
                None => text(&format!("there is none; the first change would be written to {}", places.target.display())),
            });
            return Ok(());
        }
        ["reload"] => {
            if !super::remote::reload(&options.places()?) {
                return Err(Failure::Unreachable("no gateway runs on this data directory that this user may signal".into()));
            }
            document(options.json, &json!({"reload": "asked"}), |_| {
                text("the gateway reads its configuration again; see: gatelet logs")
            });
            return Ok(());
        }
        _ => {}
    }
    let remote = Remote::find(options, false)?;
    let (current, etag) = remote.tagged("/api/config")?;
    match options.words().as_slice() {
        ["get", path] => {
            let found = current
                .pointer(&pointer(path)?)
                .ok_or_else(|| Failure::Failed(format!("there is no {path} in the configuration")))?;
            document(options.json, found, |found| text(&found.as_str().map_or_else(|| pretty(found), harmless)));
        }
        ["set", path, value] => {
            let value: Value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            let patch = nested(&steps(path)?, value);
            let applied = remote.request_if(Method::PATCH, "/api/config", &patch, &etag)?;
            document(options.json, &applied, outcome);
        }
        _ => document(options.json, &current, |c| text(&pretty(c))),
    }
    Ok(())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// The names along a path: `$.a.b`, `a.b`, or a JSON Pointer `/a/b` where a name has a dot in it.
fn steps(path: &str) -> Result<Vec<String>, Failure> {
    let steps: Vec<String> = match path.strip_prefix('/') {
        Some(pointer) => pointer.split('/').map(|s| s.replace("~1", "/").replace("~0", "~")).collect(),
        None => path.strip_prefix("$.").unwrap_or(path).split('.').map(str::to_string).collect(),
    };
    if steps.iter().any(String::is_empty) {
        return Err(Failure::Usage(format!("{path:?} is no path; it looks like gateway.listen or agents.main.model")));
    }
    Ok(steps)
}

fn pointer(path: &str) -> Result<String, Failure> {
    // bindings[0].agent, as problems name it
    let dotted = path.replace('[', ".").replace(']', "");
    let path = if path.starts_with('/') { path } else { &dotted };
    Ok(steps(path)?.iter().map(|s| format!("/{}", s.replace('~', "~0").replace('/', "~1"))).collect())
}

/// A merge patch that sets one value.
fn nested(steps: &[String], value: Value) -> Value {
    steps.iter().rev().fold(value, |inner, name| Value::Object(Map::from_iter([(name.clone(), inner)])))
}

fn outcome(answer: &Value) {
    let list = |key: &str| -> Vec<String> {
        answer[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(harmless).collect()
    };
    let (applied, restart) = (list("applied"), list("restartRequired"));
    if applied.is_empty() && restart.is_empty() {
        text("nothing changed");
    }
    applied.iter().for_each(|path| text(&format!("applied: {path}")));
    restart.iter().for_each(|path| text(&format!("written, counts after a restart: {path}")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("gateway.listen", "/gateway/listen"),
            ("$.gateway.listen", "/gateway/listen"),
            ("/users/a.b", "/users/a.b"),
            ("bindings[0].agent", "/bindings/0/agent"),
            ("a~b", "/a~0b"),
        ] {
            assert_eq!(super::pointer(path).unwrap(), expected);
        }
        for path in ["", ".", "a..b", "$.", "/"] {
            assert!(super::steps(path).is_err(), "{path:?}");
        }
        let patch = super::nested(&super::steps("agents.main.model").unwrap(), json!("x"));
        assert_eq!(patch, json!({"agents": {"main": {"model": "x"}}}));
    }
}

//! `gatelet token`: the admin's token: where it comes from, the token itself, another one.
//!
//! Invariant: the token is printed by `show` and `new` alone. `new` replaces the file whole (atomically, mode 0600), and tells the running
//! gateway, so that the old one counts no more. One that the configuration gives is not changed here. Fails with a sentence.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::invalid;
use crate::cli::options::Options;
use crate::cli::output::{document, field, text};
use crate::config::files::{self, Places, TOKEN_FILE};

/// Where the token comes from.
enum Source {
    /// A file that gatelet keeps itself.
    Own(PathBuf),
    /// Another file.
    File(PathBuf),
    /// A variable of the gateway's process.
    Variable(String),
    /// It stands in the configuration.
    Literal(PathBuf),
    /// There is none: everybody is admin.
    Nobody,
}

/// Runs it.
///
/// # Errors
/// `Configuration` where the file is no JSON; `Failed` where there is no token, or it is not ours to change.
pub fn run(options: &Options) -> Result<(), Failure> {
    let places = options.places()?;
    let doc = files::written(&places).map_err(|problems| invalid(&places, &problems))?;
    let source = source(&doc, &places);
    match options.words().as_slice() {
        ["new"] => renew(options, &places, &source),
        ["show"] => {
            let token = match &source {
                Source::Own(path) | Source::File(path) => read(path, &places)?,
                Source::Variable(name) => std::env::var(name).map_err(|_| {
                    Failure::Failed(format!(
                        "the token is in the variable {name} of the gateway's process, which is not set here"
                    ))
                })?,
                Source::Literal(_) => doc["gateway"]["auth"]["token"].as_str().unwrap_or_default().to_string(),
                Source::Nobody => return Err(Failure::Failed("there is no token: gateway.auth.mode is none".into())),
            };
            document(options.json, &json!({"token": token}), |said| text(&field(said, "token")));
            Ok(())
        }
        _ => {
            let (kind, place, sentence) = told(&source);
            document(options.json, &json!({"source": kind, "place": place}), |_| text(&sentence));
            Ok(())
        }
    }
}

fn source(doc: &Value, places: &Places) -> Source {
    let own = places.data_dir.join(TOKEN_FILE);
    let auth = &doc["gateway"]["auth"];
    if auth["mode"] == "none" {
        return Source::Nobody;
    }
    match &auth["token"] {
        Value::String(_) => Source::Literal(places.target.clone()),
        Value::Object(token) => match (token.get("env").and_then(Value::as_str), token.get("file").and_then(Value::as_str)) {
            (Some(name), _) => Source::Variable(name.into()),
            (None, Some(file)) => {
                let path = places.data_dir.join(file);
                if path == own { Source::Own(path) } else { Source::File(path) }
            }
            _ => Source::Own(own),
        },
        _ => Source::Own(own),
    }
}

fn told(source: &Source) -> (&'static str, String, String) {
    match source {
        Source::Own(path) | Source::File(path) => {
            let is_there = if path.exists() { "" } else { " (not there yet: the first start makes it)" };
            ("file", path.display().to_string(), format!("The admin's token is in {}{is_there}", path.display()))
        }
        Source::Variable(name) => {
            ("env", name.clone(), format!("The admin's token is in the variable {name} of the gateway's process"))
        }
        Source::Literal(path) => (
            "configuration",
            path.display().to_string(),
            format!("The admin's token stands in {} (gateway.auth.token)", path.display()),
        ),
        Source::Nobody => ("none", String::new(), "There is no token: gateway.auth.mode is none, and everybody is admin".into()),
    }
}

fn read(path: &Path, places: &Places) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(|e| {
        let hint = places.or_the_service().unwrap_or_else(|| match e.kind() {
            std::io::ErrorKind::NotFound => "the first start makes it (gatelet serve)".into(),
            _ => "run this as the gateway's user, or as root".into(),
        });
        Failure::Failed(format!("{} can't be read: {e}; {hint}", path.display()))
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_string())
}

fn renew(options: &Options, places: &Places, source: &Source) -> Result<(), Failure> {
    let (Source::Own(path) | Source::File(path)) = source else {
        return Err(Failure::Failed(format!("{}; change it there", told(source).2)));
    };
    places.make_data_dir().map_err(|e| Failure::Failed(e.to_string()))?;
    let token = files::renew_token(path).map_err(|e| Failure::Failed(e.to_string()))?;
    let runs = super::remote::reload(places);
    let said = json!({"token": token.reveal(), "place": path, "applied": runs});
    document(options.json, &said, |said| {
        text(&field(said, "token"));
        if !runs {
            super::output::note("kept; a gateway that runs takes it up at its next start or SIGHUP");
        }
    });
    Ok(())
}

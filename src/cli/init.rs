//! `gatelet init`: a first configuration, from a few questions or from options.
//!
//! Invariant: what is written passes `check`, and nothing that is there is overwritten without `--force`; file and secrets have mode 0600.
//! Secrets stand in files of their own in the data directory (`secrets/`), never in the configuration. Fails with `Configuration` and every
//! problem where the answers come to none; nothing is then written but secrets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::agent::detect::Detector;
use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::cli::backup::SECRETS;
use crate::cli::options::Options;
use crate::cli::output::{document, styled, text};
use crate::cli::{Failure, ask};
use crate::config::files::{self, Places};
use crate::net::client::Client;

const LISTEN: &str = "127.0.0.1:8787";
const OPENAI: &str = "https://api.openai.com/v1";
const TYPES: [&str; 4] = ["auto", "openai", "anthropic", "builtin"];

/// What the configuration is made of.
#[derive(Clone, Debug, Default)]
struct Answers {
    listen: String,
    provider: String,
    base_url: Option<String>,
    model: Option<String>,
    api_key: Option<Secret>,
    telegram: Option<Secret>,
}

/// Runs it.
///
/// # Errors
/// `Failed` where a configuration is there; `Configuration` where the answers come to none; `Usage` for options that don't go together.
pub fn run(options: &Options) -> Result<(), Failure> {
    let places = options.places()?;
    if !options.has("force") && places.target.exists() {
        return Err(Failure::Failed(format!(
            "{} is there already; change it (gatelet config set), or write a new one with --force",
            places.target.display()
        )));
    }
    let mut answers = given(options)?;
    if !options.has("yes") && !options.json && ask::is_possible() {
        asked(options, &mut answers, &places)?;
    }
    let told = |e: crate::base::error::Error| Failure::Failed(e.to_string());
    places.make_data_dir().map_err(told)?;
    let mut secrets = Vec::new();
    let doc = written(&answers, &mut |name, secret| {
        let path = files::keep_secret(&places.data_dir.join(SECRETS), name, secret).map_err(told)?;
        secrets.push(path);
        Ok(json!({"file": format!("{SECRETS}/{name}")}))
    })?;
    files::resolve_here(&doc, &places, &files::system_var).map_err(|problems| {
        Failure::Configuration("what was asked for".into(), problems.iter().map(ToString::to_string).collect())
    })?;
    if options.has("force") {
        files::save(&places, &doc).map_err(told)?;
    } else if !files::create(&places, &doc).map_err(told)? {
        return Err(Failure::Failed(format!("{} came to be just now", places.target.display())));
    }
    let said = json!({"file": places.target, "secrets": secrets, "listen": answers.listen, "dataDir": places.data_dir});
    document(options.json, &said, |_| done(options, &places, &secrets));
    Ok(())
}

/// What options and variables say.
fn given(options: &Options) -> Result<Answers, Failure> {
    let secret = |option: &str, variable: &str| {
        let found = options.value(option).map(str::to_string).or_else(|| std::env::var(variable).ok());
        found.map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).map(Secret::new)
    };
    let text = |option: &str| options.value(option).map(str::to_string);
    let (base_url, api_key) = (text("base-url"), secret("api-key", "GATELET_INIT_API_KEY"));
    let provider =
        text("provider").unwrap_or_else(|| if base_url.is_some() || api_key.is_some() { "openai" } else { "auto" }.into());
    if base_url.is_some() && matches!(provider.as_str(), "auto" | "builtin") {
        return Err(Failure::Usage(format!("--base-url belongs to the provider openai or anthropic, not {provider}")));
    }
    Ok(Answers {
        listen: text("listen").unwrap_or_else(|| LISTEN.into()),
        provider,
        base_url,
        model: text("model"),
        api_key,
        telegram: secret("telegram-token", "GATELET_INIT_TELEGRAM_TOKEN"),
    })
}

/// Asks for what no option named.
fn asked(options: &Options, answers: &mut Answers, places: &Places) -> Result<(), Failure> {
    text(&format!("The configuration will be {}; Enter takes what is in brackets.\n", places.target.display()));
    if options.value("listen").is_none() {
        text("Where to listen: 127.0.0.1 is for this machine alone, 0.0.0.0 for the network.");
        answers.listen = ask::line("Address and port", LISTEN, |a| match a.parse::<SocketAddr>() {
            Ok(_) => Ok(a.to_string()),
            Err(_) => Err("an address and a port, as 127.0.0.1:8787".into()),
        })?;
    }
    if options.value("provider").is_none() && options.value("base-url").is_none() && answers.api_key.is_none() {
        let port = answers.listen.parse::<SocketAddr>().map_or(0, |a| a.port());
        match Detector::new(Arc::new(Client::new(1)), Clock::system(), port).find() {
            Some(address) => text(&format!("\nA model server answers at {address}; auto takes it.")),
            None => text("\nNo model server answers on this machine now; auto takes one as soon as it does."),
        }
        text("openai is any server of that API (Ollama, llama.cpp, vLLM, a service).");
        answers.provider = ask::line("Model server: auto, openai, anthropic or builtin", "auto", |a| {
            if TYPES.contains(&a) { Ok(a.to_string()) } else { Err(format!("one of {}", TYPES.join(", "))) }
        })?;
    }
    let takes_key = matches!(answers.provider.as_str(), "openai" | "anthropic");
    if answers.provider == "openai" && answers.base_url.is_none() {
        answers.base_url = Some(ask::line("Its address, up to /v1", OPENAI, |a| Ok(a.to_string()))?);
    }
    if takes_key && answers.api_key.is_none() {
        answers.api_key = Some(ask::secret("Its key")?).filter(|k| !k.is_empty()).map(Secret::new);
    }
    if takes_key && answers.model.is_none() {
        answers.model = Some(ask::line("Model", "auto", |a| Ok(a.to_string()))?).filter(|m| m != "auto");
    }
    if answers.telegram.is_none() && ask::yes("\nConnect a Telegram bot?", false)? {
        text("Write to @BotFather: /newbot, and take the token that it gives.");
        answers.telegram = Some(ask::secret("The bot's token")?).filter(|t| !t.is_empty()).map(Secret::new);
    }
    Ok(())
}

/// The document; `keep` puts a secret where the document then refers to.
fn written(answers: &Answers, keep: &mut dyn FnMut(&str, &Secret) -> Result<Value, Failure>) -> Result<Value, Failure> {
    let mut doc = json!({"gateway": {"listen": answers.listen}});
    if answers.provider != "auto" {
        let mut provider = json!({"type": answers.provider});
        let base = answers.base_url.clone().or_else(|| (answers.provider == "openai").then(|| OPENAI.to_string()));
        if let Some(base) = base {
            provider["baseUrl"] = json!(base);
        }
        if let Some(key) = &answers.api_key {
            provider["apiKey"] = keep("model-key", key)?;
        }
        doc["providers"] = Value::Object(Map::from_iter([("model".to_string(), provider)]));
        doc["agents"] = json!({"main": {"provider": "model", "model": answers.model.as_deref().unwrap_or("auto")}});
    } else if let Some(model) = &answers.model {
        doc["agents"] = json!({"main": {"model": model}});
    }
    if let Some(token) = &answers.telegram {
        doc["channels"] = json!({"telegram": {"type": "telegram", "token": keep("telegram-token", token)?}});
    }
    Ok(doc)
}

fn done(options: &Options, places: &Places, secrets: &[std::path::PathBuf]) {
    text(&format!("\n{} {}", styled("32", "written:"), places.target.display()));
    secrets.iter().for_each(|path: &std::path::PathBuf| text(&format!("secret kept in {} (mode 0600)", shown(path))));
    // The words with which the other commands find the same places.
    let mut more = String::new();
    for (name, path) in [("config", &options.config), ("data-dir", &options.data_dir)] {
        if let Some(path) = path {
            more.push_str(&format!(" --{name} {}", shown(path)));
        }
    }
    text(&format!(
        "\nNext:\n  gatelet serve{more}\n  gatelet chat{more}      in another terminal\n  gatelet doctor{more}    if something does not work"
    ));
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, resolve};

    fn check(answers: Answers, expected: Value) {
        let doc = written(&answers, &mut |name, _| Ok(json!({"file": format!("/s/{name}")}))).unwrap();
        assert_eq!(doc, expected);
        let read = |_: &Path| Ok(b"123456:AAbbccddeeffgghhiijjkkllmmnnooppqqr\n".to_vec());
        let env = Env { data_dir: Path::new("/d"), passed: None, var: &|_| None, read: &read };
        assert!(resolve(&doc, &env).is_ok(), "{doc}: {:?}", resolve(&doc, &env).err());
    }

    #[test]
    fn what_is_written_is_a_configuration_without_secrets() {
        let plain = Answers { listen: "0.0.0.0:9000".into(), provider: "auto".into(), ..Answers::default() };
        check(plain.clone(), json!({"gateway": {"listen": "0.0.0.0:9000"}}));
        let key = Some(Secret::new("sk-canary-0123456789"));
        check(
            Answers { provider: "openai".into(), api_key: key.clone(), telegram: key.clone(), ..plain.clone() },
            json!({"gateway": {"listen": "0.0.0.0:9000"},
                "providers": {"model": {"type": "openai", "baseUrl": OPENAI, "apiKey": {"file": "/s/model-key"}}},
                "agents": {"main": {"provider": "model", "model": "auto"}},
                "channels": {"telegram": {"type": "telegram", "token": {"file": "/s/telegram-token"}}}}),
        );
        check(
            Answers { provider: "anthropic".into(), model: Some("m".into()), ..plain.clone() },
            json!({"gateway": {"listen": "0.0.0.0:9000"}, "providers": {"model": {"type": "anthropic"}},
                "agents": {"main": {"provider": "model", "model": "m"}}}),
        );
        check(
            Answers { model: Some("m".into()), ..plain },
            json!({"gateway": {"listen": "0.0.0.0:9000"}, "agents": {"main": {"model": "m"}}}),
        );
    }
}

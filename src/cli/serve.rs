//! `gatelet serve`: from the words to a gateway that serves.

use std::path::Path;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::ids;
use crate::cli::options::Options;
use crate::cli::{Failure, invalid, name, output};
use crate::config::LogFormat;
use crate::config::files;
use crate::gateway::{Gateway, Start, is_configuration};
use crate::net::door;
use crate::telemetry::logging::{self, Format, Logger};

/// How long the last log lines may take to be written.
const LOG_END: Duration = Duration::from_secs(1);

/// Runs it, until it is told to end.
///
/// # Errors
/// Where it can't start: `Configuration`, or `Failed` with a sentence.
pub fn run(options: &Options) -> Result<(), Failure> {
    let failed = |e: crate::base::error::Error| Failure::Failed(e.to_string());
    ids::check_randomness().map_err(failed)?; // before anything asks for some and can only panic: every hash map does
    let clock = Clock::system();
    let began = clock.mono();
    let passed = door::adopt().map_err(failed)?;
    let mut places = options.places()?;
    places.passed = passed.as_ref().and_then(|listener| listener.local_addr().ok());
    places.make_data_dir().map_err(failed)?;
    let loaded = files::load(&places, &files::system_var).map_err(|problems| invalid(&places, &problems))?;
    let log = loaded.resolved.config.log;
    let format = match log.format {
        LogFormat::Auto => Format::Auto,
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let logger = Logger::init(log.level, format, clock.clone()).map_err(failed)?;
    logging::install_panic_hook();
    let source = name(&places);
    let data_dir = places.data_dir.clone();
    let gateway = Gateway::start(Start { loaded, places, logger: logger.clone(), clock: clock.clone(), began, passed });
    let gateway = match gateway {
        Ok(gateway) => gateway,
        Err(e) => {
            logger.stop(LOG_END);
            return Err(if is_configuration(&e) { Failure::Configuration(source, vec![e.to_string()]) } else { failed(e) });
        }
    };
    let address = gateway.address();
    log::info!(configuration = source.as_str(), data_dir = data_dir.display().to_string().as_str(), took_us = (clock.mono() - began).as_micros() as u64; "gatelet {} serves on http://{address}", env!("CARGO_PKG_VERSION"));
    if !address.ip().is_loopback() {
        log::warn!(
            "it speaks plain HTTP, so who can read along on {} reads tokens: put a proxy with TLS before it and leave it on 127.0.0.1",
            address.ip()
        );
    }
    if let Some(token) = &gateway.made_token {
        greet(&address.to_string(), token, &data_dir);
    }
    let all_ended = gateway.run();
    logger.stop(LOG_END);
    if !all_ended {
        std::process::exit(0); // a thread hangs in a call: all is on disk, the process need not wait for it
    }
    Ok(())
}

/// Printed once, at the start that made the token. Not to a journal, which keeps it and shows it to more people than the file does.
fn greet(address: &str, token: &str, data_dir: &Path) {
    let file = data_dir.join("token");
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        return log::info!("a token was made; it is kept in {}: the console asks for it at http://{address}/", file.display());
    }
    output::text(&format!(
        "\nA token was made; it is kept in {}. The console (the token is in the link's fragment and is not sent):\n\n  \
         http://{address}/#token={token}\n\nSay something:\n\n  \
         curl -sS 'http://{address}/webhook/default?wait=60000' -H 'Authorization: Bearer {token}' \\\n    \
         -H 'Content-Type: application/json' -d '{{\"userId\":\"me\",\"message\":\"hello\"}}'\n",
        file.display()
    ));
}

//! The words of the command line.
//!
//! Invariant: an unknown word is refused with what is known. Fails with a sentence.

use std::path::PathBuf;

/// What is printed for `--help` and after a wrong word.
pub const USAGE: &str = "\
Measures the built gateway on this machine, beside baselines, in one run.

  cargo run --release -p gatelet-bench -- [OPTIONS]

  --only NAME          only this part; may be repeated: health accept reply tools start idle sockets growth waiting slow allocators profile
  --quick              short rounds, for a check that everything runs (figures are rough)
  --json               the figures as JSON
  --markdown           writes docs/PERFORMANCE.md and its plots, docs/images/performance-*.svg
  --out FOLDER         writes them there instead of to docs
  --allocators FOLDER  measure the static gatelet-own of that folder, and in the part allocators gatelet-mimalloc beside it
                       (.ci/allocators builds both)
  --symbols PATH       a build with symbols, for the part profile; needs perf, nm and size
  --binary PATH        measure this binary instead of building one
  --help

  cargo run --release -p gatelet-bench -- drive ADDRESS SENDERS SECONDS

loads POST /webhook/default of a gateway that runs already, for a profiler beside it; its auth.token has to be
bench-admin-token-0123456789.";

/// How the figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A table for a terminal.
    Text,
    /// `docs/PERFORMANCE.md`.
    Markdown,
    /// For programs.
    Json,
}

/// What is to be measured, and how it is shown.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of scenarios; all where empty.
    pub only: Vec<String>,
    /// Short rounds.
    pub quick: bool,
    /// How the figures are printed.
    pub form: Form,
    /// Where the programs of the part `allocators` are.
    pub allocators: Option<PathBuf>,
    /// A build with symbols, for the part `profile`.
    pub symbols: Option<PathBuf>,
    /// Where the document is written.
    pub out: PathBuf,
    /// A binary to measure instead of building one.
    pub binary: Option<PathBuf>,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub enum Command {
    /// The usage.
    Help,
    /// Be the bare blocking responder (this program runs itself so).
    Bare,
    /// Be the axum server (likewise).
    Axum,
    /// Load a gateway that runs, for a profiler beside it.
    Drive(Vec<String>),
    /// Measure.
    Measure(Options),
}

/// Reads the words after the program's name.
pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = Options {
        only: Vec::new(),
        quick: false,
        form: Form::Text,
        out: documents(),
        allocators: None,
        symbols: None,
        binary: None,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "serve-bare" => return Ok(Command::Bare),
            "serve-axum" => return Ok(Command::Axum),
            "drive" => return Ok(Command::Drive(words.collect())),
            "--help" | "-h" => return Ok(Command::Help),
            "--quick" => options.quick = true,
            "--json" => options.form = Form::Json,
            "--markdown" => options.form = Form::Markdown,
            "--only" => {
                let name = words.next().ok_or("--only needs a name")?;
                if !crate::scenario::ALL.iter().any(|known| known.name == name) {
                    return Err(format!("no part is named '{name}'"));
                }
                options.only.push(name);
            }
            "--allocators" => options.allocators = Some(words.next().ok_or("--allocators needs a folder")?.into()),
            "--symbols" => options.symbols = Some(words.next().ok_or("--symbols needs a path")?.into()),
            "--out" => options.out = words.next().ok_or("--out needs a folder")?.into(),
            "--binary" => options.binary = Some(words.next().ok_or("--binary needs a path")?.into()),
            other => return Err(format!("'{other}' is not known")),
        }
    }
    Ok(Command::Measure(options))
}

/// `docs` of the workspace that cargo started this program from, else of the working directory.
fn documents() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    package.parent().map(|root| root.join("docs")).unwrap_or_else(|| "docs".into())
}

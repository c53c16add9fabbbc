//! `gatelet backup DIR`: all that lasts, as it is at one moment, while the gateway runs or not.
//!
//! What is taken: the database, the files of the attachments that it names, the configuration file, and what else stands in the data directory. What is not: the last configuration
//! that worked (a start makes it anew), older backups, and, without `--with-secrets`, every secret: those written in the configuration
//! become `"***"`, which `restore` fills from the configuration that it finds.
//!
//! Invariant: the gateway is not held up (a reader among its readers), and nothing of its own is changed. The database is taken first: what
//! it refers to in files was there when it was. A file that goes meanwhile (its session is erased, say) is left out, and is to the restored
//! gateway what a missing file is to any start. Fails with a sentence, and leaves nothing behind.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::base::clock::Clock;
use crate::cli::bundle::{self, ATTACHMENTS, CONFIGURATION, DATA, DATABASE, Draft, FORMAT, Manifest};
use crate::cli::options::Options;
use crate::cli::output::{Progress, document, size, text};
use crate::cli::{Failure, invalid};
use crate::config;
use crate::config::files::{self, LAST_GOOD_FILE, Places, TOKEN_FILE};
use crate::store::sqlite::backup;
use crate::telemetry::rfc3339;

/// The folder of secrets in the data directory, as `init` makes it.
pub const SECRETS: &str = "secrets";
/// What `restore` calls the folder of what was there before.
pub const ASIDE: &str = "before-restore-";

/// Runs it.
///
/// # Errors
/// `Configuration` where the file is no JSON; `Failed`.
pub fn run(options: &Options) -> Result<(), Failure> {
    let target = PathBuf::from(&options.arguments[0]);
    let places = options.places()?;
    let doc = files::written(&places).map_err(|problems| invalid(&places, &problems))?;
    let database = files::store_path(&doc, &places.data_dir);
    if !database.is_file() {
        let service = places.or_the_service().map(|hint| format!("; {hint}")).unwrap_or_default();
        return Err(Failure::Failed(format!("there is nothing to back up yet: {} is not there{service}", database.display())));
    }
    let with_secrets = options.has("with-secrets");
    let mut draft = Draft::begin(&target)?;
    let made_ms = Clock::system().unix_ms();
    let mut progress = Progress::new(options.json);
    backup::copy(&database, &draft.folder.join(DATABASE), &mut |done, of| progress.show("database", done, of))
        .map_err(|e| Failure::Failed(e.to_string()))?;
    draft.noted(DATABASE)?;
    let attachments = take_attachments(&mut draft, &database, &mut progress)?;
    progress.end();
    if places.file.is_some() {
        let kept = if with_secrets { doc.clone() } else { config::without_secrets(&doc) };
        draft.put(CONFIGURATION, &config::text(&kept))?;
    }
    let taken = Taken { places: &places, database: &database, doc: &doc, with_secrets, target: &target };
    for name in taken.files()? {
        draft.take(&places.data_dir.join(&name), &format!("{DATA}/{name}"))?;
    }
    let made_at = rfc3339(made_ms);
    let version = env!("CARGO_PKG_VERSION").to_string();
    let manifest = Manifest { format: FORMAT, version, made_ms, made_at: made_at.clone(), with_secrets, files: Vec::new() };
    let bytes = draft.finish(manifest)?;
    let elsewhere = taken.elsewhere();
    let said = json!({"backup": target, "bytes": bytes, "madeAt": made_at, "withSecrets": with_secrets, "attachments": attachments,
        "elsewhere": elsewhere});
    document(options.json, &said, |_| {
        text(&format!("{}: {}, checked", target.display(), size(bytes)));
        if !with_secrets {
            text("Secrets are not in it (--with-secrets takes them along).");
        }
        for path in &elsewhere {
            text(&format!("Not in it either, since it stands elsewhere: {path}"));
        }
        text(&format!("To put it back: stop the gateway, then gatelet restore {}", target.display()));
    });
    Ok(())
}

/// Takes the files that the copied database names; gives how many.
fn take_attachments(draft: &mut Draft, database: &Path, progress: &mut Progress) -> Result<u64, Failure> {
    let named = backup::attachments(&draft.folder.join(DATABASE)).map_err(|e| Failure::Failed(e.to_string()))?;
    let from = backup::attachments_folder(database);
    let of = named.iter().map(|file| file.bytes).sum();
    let (mut taken, mut done) = (0, 0);
    for file in &named {
        taken += u64::from(draft.take_kept(&from.join(&file.name), &format!("{ATTACHMENTS}/{}", file.name), file.bytes)?);
        done += file.bytes;
        progress.show("attachments", done, of);
    }
    Ok(taken)
}

/// What of the data directory is taken along.
struct Taken<'a> {
    places: &'a Places,
    database: &'a Path,
    doc: &'a Value,
    with_secrets: bool,

    target: &'a Path,
}

impl Taken<'_> {
    fn files(&self) -> Result<Vec<String>, Failure> {
        let data = &self.places.data_dir;
        let mut left: Vec<PathBuf> = vec![self.database.into(), data.join(LAST_GOOD_FILE)];
        left.extend(backup::companions(self.database));
        left.push(backup::attachments_folder(self.database)); // taken by what the copy names
        left.extend(self.places.file.clone());
        left.extend(std::path::absolute(self.target).ok());
        if !self.with_secrets {
            left.extend([data.join(TOKEN_FILE), data.join(SECRETS)]);
            left.extend(config::secret_files(self.doc).iter().map(|path| data.join(path)));
        }
        bundle::files_below(data, &|path| {
            let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
            let is_passing =
                name.starts_with(ASIDE) || (name.starts_with('.') && (name.ends_with(".tmp") || name.ends_with(".partial")));
            !is_passing && !left.iter().any(|l| l == path) && !bundle::is_one(path)
        })
    }

    /// Files that the configuration names outside of the data directory.
    fn elsewhere(&self) -> Vec<String> {
        let named = config::secret_files(self.doc).into_iter().map(|path| self.places.data_dir.join(path));
        named.filter(|path| !path.starts_with(&self.places.data_dir)).map(|path| path.display().to_string()).collect()
    }
}

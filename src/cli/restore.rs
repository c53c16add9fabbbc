//! `gatelet restore DIR`: a backup in the place of what is here.
//!
//! Invariant: it holds the database's lock, so no gateway runs meanwhile. What is here is kept aside, never overwritten: the database with
//! its log and the files of its attachments, the configuration, every file that the backup has, too. The copy is made fit beside the database and takes its place by one
//! rename. What waited when the backup was made neither is sent nor answered by itself (`store::sqlite::backup`). Cut off in between, it can
//! be run again. Fails with a sentence that names what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::base::clock::Clock;
use crate::cli::backup::ASIDE;
use crate::cli::bundle::{self, ATTACHMENTS, CONFIGURATION, DATA, DATABASE, Manifest, failed};
use crate::cli::options::Options;
use crate::cli::output::{document, text};
use crate::cli::{Failure, invalid};
use crate::config;
use crate::config::files::{self, Places};
use crate::store::sqlite::backup::{self, HeldBack};
use crate::telemetry::rfc3339;

/// Channel types whose services give again, by themselves, only what was not confirmed to them.
const GO_ON: [&str; 2] = ["telegram", "mqtt"];

/// Runs it.
///
/// # Errors
/// `Failed` where a gateway runs, or the backup is damaged; `Configuration` where the one in the backup is no JSON.
pub fn run(options: &Options) -> Result<(), Failure> {
    let folder = PathBuf::from(&options.arguments[0]);
    let places = options.places()?;
    let manifest = bundle::open(&folder)?;
    let here = files::written(&places).ok();
    let (doc, missing) = configuration(&folder, &manifest, options, here.as_ref())?;
    let database = files::store_path(&doc, &places.data_dir);
    places.make_data_dir().map_err(|e| Failure::Failed(e.to_string()))?;
    let told = |e: crate::base::error::Error| Failure::Failed(e.to_string());
    if let Some(user) = backup::user_of(&database) {
        let stop = "stop it first (systemctl stop gatelet), then restore";
        return Err(Failure::Failed(format!("a gateway (process {user}) runs on {}; {stop}", database.display())));
    }
    let _lock = backup::lock(&database).map_err(told)?;
    // A gateway may run on the database that the present configuration names.
    let former =
        here.as_ref().map(|here| files::store_path(here, &places.data_dir)).filter(|path| *path != database && path.exists());
    let _former = former.map(|path| backup::lock(&path)).transpose().map_err(told)?;

    let clock = Clock::system();
    let fresh = beside(&database, ".restoring");
    let held = prepare(&folder, &fresh, &manifest, &doc, &clock).inspect_err(|_| {
        let _ = fs::remove_file(&fresh); // what is wrong is told already
    })?;
    let aside = aside(&database, &clock)?;
    let changed = Some(&doc) != here.as_ref() && bundled(&manifest, CONFIGURATION) && !options.has("keep-config");
    if changed {
        keep(places.file.as_deref(), &aside.join(CONFIGURATION))?;
        files::save(&places, &doc).map_err(told)?;
    }
    put_files(&folder, &manifest, &places, &aside)?;
    let attachments = put_attachments(&folder, &manifest, &fresh, &database, &aside)?;
    take_place(&fresh, &database, &aside)?;
    let _ = fs::remove_dir(&aside); // stays where something is in it
    say(options, &places, &Outcome { manifest, held, attachments, aside, missing, doc, folder });
    Ok(())
}

/// The document that will count, and the secrets that are missing in it.
fn configuration(
    folder: &Path,
    manifest: &Manifest,
    options: &Options,
    here: Option<&Value>,
) -> Result<(Value, Vec<String>), Failure> {
    let empty = json!({});
    if options.has("keep-config") || !bundled(manifest, CONFIGURATION) {
        return Ok((here.unwrap_or(&empty).clone(), Vec::new()));
    }
    let path = folder.join(CONFIGURATION);
    let bytes = fs::read(&path).map_err(|e| failed(&path, "can't be read", &e))?;
    let places = Places { file: Some(path.clone()), target: path, data_dir: PathBuf::new(), passed: None };
    let doc = config::parse(&bytes).map_err(|problems| invalid(&places, &problems))?;
    let (doc, problems) = config::restore_known(&doc, here.unwrap_or(&empty));
    Ok((doc, problems.into_iter().map(|p| p.path).collect()))
}

fn bundled(manifest: &Manifest, name: &str) -> bool {
    manifest.files.iter().any(|f| f.path == name)
}

/// Copies the database beside its place, and makes it fit for it.
fn prepare(folder: &Path, fresh: &Path, manifest: &Manifest, doc: &Value, clock: &Clock) -> Result<HeldBack, Failure> {
    let _ = fs::remove_file(fresh); // of a restore that was cut off
    bundle::copy_file(&folder.join(DATABASE), fresh)?;
    let goes_on = |channel: &str| doc["channels"][channel]["type"].as_str().is_some_and(|kind| GO_ON.contains(&kind));
    let told = |e: crate::base::error::Error| Failure::Failed(e.to_string());
    let held = backup::hold_back(fresh, clock, &manifest.made_at, &goes_on).map_err(told)?;
    backup::check(fresh).map_err(told)?;
    Ok(held)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder for what is here now, on the database's own file system.
fn aside(database: &Path, clock: &Clock) -> Result<PathBuf, Failure> {
    let parent = database.parent().unwrap_or(Path::new("/"));
    let time: String = rfc3339(clock.unix_ms()).chars().filter(char::is_ascii_alphanumeric).collect();
    let aside = parent.join(format!("{ASIDE}{time}"));
    bundle::make_folder(&aside)?;
    Ok(aside)
}

/// Keeps a copy of a file, where there is one.
fn keep(file: Option<&Path>, to: &Path) -> Result<(), Failure> {
    match file.filter(|f| f.is_file()) {
        Some(file) => bundle::copy_file(file, to).map(drop),
        None => Ok(()),
    }
}

/// Puts the files of the data directory back; those that are there and differ are kept aside.
fn put_files(folder: &Path, manifest: &Manifest, places: &Places, aside: &Path) -> Result<(), Failure> {
    for file in &manifest.files {
        let Some(name) = file.path.strip_prefix(DATA).and_then(|p| p.strip_prefix('/')) else { continue };
        let to = places.data_dir.join(name);
        if to.is_file() && fs::read(&to).ok() == fs::read(folder.join(&file.path)).ok() {
            continue;
        }
        if let Some(parent) = to.parent() {
            bundle::make_folder(parent)?;
        }
        if to.is_file() {
            let kept = aside.join(name);
            kept.parent().map_or(Ok(()), bundle::make_folder)?;
            bundle::copy_file(&to, &kept)?;
        }
        let fresh = beside(&to, ".restoring");
        let _ = fs::remove_file(&fresh);
        bundle::copy_file(&folder.join(&file.path), &fresh)?;
        fs::rename(&fresh, &to).map_err(|e| failed(&to, "can't be written", &e))?;
    }
    Ok(())
}

/// Puts the files beside the database that it names, and gives how many; those that are here are kept aside, too. None goes before the
/// new database is in its place: whichever database the next start finds has its files, and it removes the others'.
fn put_attachments(folder: &Path, manifest: &Manifest, fresh: &Path, database: &Path, aside: &Path) -> Result<u64, Failure> {
    let to = backup::attachments_folder(database);
    let mut wanted = Vec::new();
    for file in backup::attachments(fresh).map_err(|e| Failure::Failed(e.to_string()))? {
        let path = format!("{ATTACHMENTS}/{}", file.name);
        wanted.extend(manifest.files.iter().find(|entry| entry.path == path).map(|entry| (to.join(&file.name), entry)));
    }
    let kept = aside.join(to.file_name().unwrap_or_default());
    let mut is_here = BTreeSet::new();
    for here in fs::read_dir(&to).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_file())) {
        let path = here.path();
        let same = wanted.iter().find(|(to, _)| *to == path);
        if same.is_some_and(|(_, entry)| bundle::is_as_written(&path, entry).unwrap_or(false)) {
            is_here.insert(path);
        } else {
            bundle::make_folder(&kept)?;
            keep_linked(&path, &kept.join(here.file_name()))?;
        }
    }
    for (to, entry) in wanted.iter().filter(|(to, _)| !is_here.contains(to)) {
        to.parent().map_or(Ok(()), bundle::make_folder)?;
        let fresh = beside(to, ".restoring");
        let _ = fs::remove_file(&fresh); // of a restore that was cut off
        bundle::copy_file(&folder.join(&entry.path), &fresh)?;
        fs::rename(&fresh, to).map_err(|e| failed(to, "can't be written", &e))?;
    }
    if !wanted.is_empty() {
        fs::File::open(&to).and_then(|f| f.sync_all()).map_err(|e| failed(&to, "can't be written", &e))?;
    }
    Ok(wanted.len() as u64)
}

/// Keeps a file under a second name, or its copy where the file system has no such thing.
fn keep_linked(path: &Path, to: &Path) -> Result<(), Failure> {
    fs::hard_link(path, to).or_else(|_| fs::copy(path, to).map(drop)).map_err(|e| failed(path, "can't be kept aside", &e))
}

/// The database's files go aside, and the new one takes their place.
fn take_place(fresh: &Path, database: &Path, aside: &Path) -> Result<(), Failure> {
    let place = |path: &Path| aside.join(path.file_name().unwrap_or_default());
    if database.exists() {
        keep_linked(database, &place(database))?;
    }
    // A log that stayed would be carried into the database that comes.
    let [log, index, _] = backup::companions(database);
    for path in [log, index] {
        if path.exists() {
            fs::rename(&path, place(&path)).map_err(|e| failed(&path, "can't be kept aside", &e))?;
        }
    }
    let parent = database.parent().unwrap_or(Path::new("/"));
    fs::rename(fresh, database)
        .and_then(|()| fs::File::open(parent)?.sync_all())
        .map_err(|e| failed(database, "can't be replaced", &e))
}

struct Outcome {
    manifest: Manifest,
    held: HeldBack,
    attachments: u64,
    aside: PathBuf,
    missing: Vec<String>,
    doc: Value,
    folder: PathBuf,
}

fn say(options: &Options, places: &Places, o: &Outcome) {
    let problems: Vec<String> =
        files::resolve_here(&o.doc, places, &files::system_var).err().into_iter().flatten().map(|p| p.to_string()).collect();
    let aside = o.aside.is_dir().then_some(&o.aside);
    let said = json!({"restored": o.folder, "madeAt": o.manifest.made_at, "heldBack": o.held,
        "attachments": o.attachments, "aside": aside, "missingSecrets": o.missing, "problems": problems});
    document(options.json, &said, |_| {
        text(&format!("restored: the backup of {}, into {}", o.manifest.made_at, places.data_dir.display()));
        if let Some(aside) = aside {
            text(&format!("What was here is kept in {}", aside.display()));
        }
        let held = [
            (o.held.deliveries, "deliveries waited then; they may have arrived since: gatelet outbox list unknown"),
            (o.held.messages, "messages waited then; they may have been answered: gatelet messages list failed"),
            (o.held.jobs, "jobs fell due since then; they may have run: gatelet jobs"),
        ];
        held.iter().filter(|(n, _)| *n > 0).for_each(|(n, what)| text(&format!("{n} {what}")));
        o.missing.iter().for_each(|path| text(&format!("This secret is not in the backup, and has to be given again: {path}")));
        if o.missing.is_empty() && !problems.is_empty() {
            text("The configuration has problems here:");
            problems.iter().for_each(|p| text(&format!("  {p}")));
        }
        text("Next: start the gateway (gatelet serve, or systemctl start gatelet)");
    });
}

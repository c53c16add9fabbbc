//! What most rows begin with: a gateway between an echoing model and a receiver, with the oracle around it, and looks at its health.
//!
//! Invariant: its configuration and its log stand outside of its data folder, so that nothing but the gateway's own writes count there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::power::integrity;
use crate::row::Trials;
use crate::shim::Shim;
use crate::support::gateway::{Gateway, with_defaults};
use crate::support::model::Model;
use crate::support::oracle::{World, settled};
use crate::support::sink::Sink;
use crate::support::telegram::Telegram;
use crate::support::{eventually, merged};

/// The rig.
pub struct Rig {
    pub world: Arc<World>,
    pub gateway: Gateway,
    pub sink: Sink,
    /// Kept: it ends with this.
    _model: Model,
    /// A bot beside the door, where a row wants one.
    pub telegram: Option<Arc<Telegram>>,
    /// Panics that a row brings about: those with these words.
    pub forgiven: &'static [&'static str],
    /// Kept until the rig goes.
    folders: Vec<TempDir>,
    /// The last number that each of our own messages had.
    said: u64,
}

impl Rig {
    /// One that is not started, on a folder of its own; `more` is laid over its configuration.
    pub fn new(more: Value) -> Self {
        let data = TempDir::with_prefix("gatelet-fault-").expect("a folder");
        let mut rig = Rig::on(data.path(), more, Model::echo());
        rig.folders.push(data);
        rig
    }

    /// One on that folder, with that model.
    pub fn on(data: &Path, more: Value, model: Model) -> Self {
        let (world, aside) = (World::new(), TempDir::with_prefix("gatelet-fault-").expect("a folder"));
        let sink = world.sink();
        let config = merged(World::config(&model, &sink), more);
        let mut gateway = Gateway::prepare_in(aside.path(), "config.json", json!({}));
        gateway.data = data.to_path_buf();
        gateway.write_config(&with_defaults(config, gateway.port).to_string());
        // Where a debug build is to end, it looks its own lines up first, for seconds.
        gateway.set_env("RUST_BACKTRACE", "0");
        Rig { world, gateway, sink, _model: model, telegram: None, forgiven: &[], folders: vec![aside], said: 0 }
    }

    /// Its gateway behind a shim; `None` where there is none, which is noted.
    pub fn behind(mut self, shim: &Shim) -> Self {
        self.gateway = shim.before(self.gateway, false);
        self
    }

    /// Starts it.
    pub fn start(&mut self) -> Duration {
        let began = Instant::now();
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        self.gateway.spawn_with(log.try_clone().expect("a log file").into(), log.into());
        self.gateway.wait_healthy(began);
        self.gateway.boot
    }

    fn log_path(&self) -> PathBuf {
        self.gateway.config_path.with_file_name("log")
    }

    /// The end of what it wrote to its outputs.
    pub fn log(&self) -> String {
        let all = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&all[all.len().saturating_sub(2000)..]).into_owned()
    }

    /// Whether its log has these words.
    pub fn log_has(&self, words: &str) -> bool {
        std::fs::read_to_string(self.log_path()).unwrap_or_default().contains(words)
    }

    /// One message of the rig's own user; whether it was accepted.
    pub fn say(&mut self) -> bool {
        self.said += 1;
        let is_taken = self.world.send(self.gateway.port, "rig", self.said);
        self.said -= u64::from(!is_taken);
        is_taken
    }

    /// Says one thing again and again until it is accepted and answered; gives how long that took.
    pub fn round_trip(&mut self, seconds: u64) -> Duration {
        let began = Instant::now();
        eventually("a message to be accepted", seconds, || self.say().then_some(()));
        let text = format!("rig-{}", self.said);
        let is_there = || self.world.delivered.lines().iter().any(|l| l[3].ends_with(&text) && l[2] == "rig");
        eventually("its answer", seconds, || is_there().then_some(()));
        began.elapsed()
    }

    /// `/ready`'s status: 200, or 503 where it can't write.
    pub fn ready(&self) -> u16 {
        self.gateway.call("GET", "/ready").send().status
    }

    /// Whether the process is still the one that was started.
    pub fn lives(&mut self) -> Result<(), String> {
        match self.gateway.exited() {
            Some(status) => Err(format!("the process ended: {status}: {}", self.log())),
            None if self.gateway.healthy() => Ok(()),
            None => Err(format!("/health is not 200 within a second: {}", self.log())),
        }
    }

    /// The oracle's verdict once all has settled, and the database's after an orderly end.
    pub fn verdict(&mut self) -> Result<(), String> {
        settled(&self.world, 15).verdict().map_err(|why| {
            // What is lost to its receiver may stand there as failed, with the reason.
            let failed = self.gateway.call("GET", "/api/messages?state=failed&limit=5").send();
            format!("{why}; failed there: {}", failed.text())
        })?;
        let (code, _) = self.gateway.term();
        if code != 0 {
            return Err(format!("it ended with {code}"));
        }
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        if let Some(line) = log.lines().find(|l| l.contains("panic") && !self.forgiven.iter().any(|words| l.contains(words))) {
            return Err(format!("a panic on the way: {line}"));
        }
        integrity(&self.gateway.data.join("gatelet.db"))
    }
}

/// A small disk of its own, which goes with it.
pub struct SmallDisk {
    pub place: TempDir,
}

impl SmallDisk {
    /// One of that size ("8m"); none where this system lets nobody mount.
    pub fn new(size: &str) -> Option<Self> {
        let place = TempDir::with_prefix("gatelet-disk-").expect("a folder");
        let options = format!("size={size}");
        let mounted = mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], place.path());
        mounted.then_some(SmallDisk { place })
    }

    /// Mounts it anew with this option (`ro`, `rw`).
    pub fn remount(&self, option: &str) -> bool {
        mount(&["-o", &format!("remount,{option}")], self.place.path())
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.place.path().join("filler")).expect("a filler");
        let mut size = 1 << 20;
        while size > 0 {
            if std::io::Write::write_all(&mut file, &vec![1u8; size]).is_err() {
                size /= 2;
            }
        }
    }

    /// Frees what filled it.
    pub fn free(&self) {
        std::fs::remove_file(self.place.path().join("filler")).expect("the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.place.path()).status();
    }
}

fn mount(options: &[&str], place: &Path) -> bool {
    Command::new("mount").args(options).arg(place).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// A shim, or the row is noted as not possible here.
pub fn shim(trials: &mut Trials) -> Option<Shim> {
    match Shim::new() {
        Ok(shim) => Some(shim),
        Err(why) => {
            trials.absent(why);
            None
        }
    }
}

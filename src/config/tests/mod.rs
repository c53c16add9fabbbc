//! Tests of the configuration as a whole: documents in, problems or configurations out.

mod channels;
mod disk;
mod documents;
mod generated;
mod jobs;
mod meaning;
mod problems;
mod tools;
mod watching;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::{Env, Problem, Resolved, parse, resolve};

/// A secret that may never be seen.
pub const CANARY: &str = "canary-7f3b9c1d5e8a2046";

/// The example as it stands in the repository.
pub const EXAMPLE: &str = include_str!("../../../config/gatelet.json");

/// An environment and files in memory.
#[derive(Clone, Debug, Default)]
pub struct World {
    vars: BTreeMap<&'static str, String>,
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl World {
    pub fn var(mut self, name: &'static str, value: &str) -> Self {
        self.vars.insert(name, value.into());
        self
    }

    /// A file, under `/data` where its path is relative.
    pub fn file(mut self, path: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path, bytes.into());
        self
    }

    pub fn resolve(&self, doc: &Value) -> Result<Resolved, Vec<Problem>> {
        let var = |name: &str| self.vars.get(name).cloned();
        let read = |path: &Path| -> io::Result<Vec<u8>> {
            let name = path.strip_prefix("/data").unwrap_or(path).to_str().unwrap();
            match self.files.get(name) {
                Some(bytes) if bytes == b"denied" => Err(io::ErrorKind::PermissionDenied.into()),
                Some(bytes) => Ok(bytes.clone()),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        };
        resolve(doc, &Env { data_dir: Path::new("/data"), passed: None, var: &var, read: &read })
    }
}

/// Reads and resolves a text in an empty world.
pub fn read(text: &str) -> Result<Resolved, Vec<Problem>> {
    World::default().resolve(&parse(text.as_bytes())?)
}

/// Problems as lines.
pub fn lines(problems: Vec<Problem>) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

/// The lines that a text leads to; none where it is fine.
pub fn complaints(text: &str) -> Vec<String> {
    read(text).err().map(lines).unwrap_or_default()
}

//! Configuration in stages: the document (JSON as it was written) → raw (typed, strict) → [`Config`] (what is meant) → diff.
//!
//! Invariant: all problems are found at once, each with its path; nothing is applied of a document that has one. A secret is
//! never part of a problem, an answer or a log line.

mod check;
mod diff;
mod disk;
mod document;
pub mod files;
mod model;
mod problem;
mod raw;
mod redact;
mod reference;
mod resolve;
mod schema;
mod section;
mod watch;

#[cfg(test)]
mod tests;

pub use diff::{Plan, diff};
pub use disk::give;
pub use document::{DOCUMENT_BYTES_MAX, merge, parse, revision, text};
pub use model::*;
pub use problem::{Problem, join, nearest};
pub use redact::{effective, forbidden_over_http, restore, restore_known, secret_files, without_secrets};
pub use reference::reference;
pub use resolve::{Env, Resolved, Site, TokenSource, resolve};
pub use schema::schema;
pub use watch::Watcher;

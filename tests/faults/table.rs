//! All rows, in order, and what must hold of the table itself.
//!
//! Invariant: every row of R1 to R44 is there once; a test that it names exists; a row that nothing runs and no test holds says why.

use std::path::Path;

use crate::row::Row;
use crate::{configs, disk, kills, life, peers, resources, services};

/// All rows.
pub fn rows() -> Vec<Row> {
    let families =
        [kills::rows(), disk::rows(), resources::rows(), configs::rows(), peers::rows(), services::rows(), life::rows()];
    let mut all: Vec<Row> = families.into_iter().flatten().collect();
    all.sort_by_key(number);
    all
}

fn number(row: &Row) -> u32 {
    row.id.trim_start_matches('R').parse().unwrap_or(0)
}

/// Whether the table is whole.
///
/// # Errors
/// What is wrong with it.
pub fn check() -> Result<(), String> {
    let rows = rows();
    let ids: Vec<u32> = rows.iter().map(number).collect();
    if ids != (1..=44).collect::<Vec<_>>() {
        return Err(format!("the table has not each of R1 to R44 once: {ids:?}"));
    }
    let sources: String =
        ["tests/suite", "src"].iter().map(|f| read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(f))).collect();
    for row in &rows {
        if let Some(name) = row.tests.iter().find(|name| !sources.contains(&format!("fn {name}("))) {
            return Err(format!("{} names {name}, which is no test", row.id));
        }
        if row.run.is_none() && row.tests.is_empty() && row.lacks.is_empty() {
            return Err(format!("{}: nothing holds it, and nothing says why", row.id));
        }
    }
    Ok(())
}

fn read_all(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("the sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &read_all(&path);
        } else if path.extension().is_some_and(|e| e == "rs") {
            text += &std::fs::read_to_string(&path).expect("a source");
        }
    }
    text
}

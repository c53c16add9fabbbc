//! What `tests/fuzz` calls, compiled for it alone (`cfg(fuzzing)`): what MCP servers say.
//!
//! Invariant: it panics where a bound is passed, or the same bytes in other pieces are other lines.

use super::catalog::Catalog;
use super::content;
use super::wire::{Lines, Said, read};

const LINE_MAX: usize = 8 * 1024;

/// Lines of a server: the first byte says how large the pieces are in which they come.
pub fn messages(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let split = |piece: usize| {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        let fed = data.chunks(piece.max(1)).try_for_each(|part| lines.feed(part, LINE_MAX, |line| all.push(line.to_vec())));
        (fed.is_ok(), all)
    };
    let (fits, lines) = split(data.len());
    let (fits_too, others) = split(usize::from(*first));
    assert!(!fits || fits_too && lines == others, "the same bytes in other pieces");
    for line in lines {
        for said in read(&line).into_iter().flatten() {
            let Said::Answer { result: Ok(result), .. } = said else { continue };
            if let Ok(text) = content::text(&result) {
                assert!(text.len() < 1024 * 1024, "a result without bound");
            }
            let mut catalog = Catalog::new("server", None, true);
            result["tools"].as_array().into_iter().flatten().for_each(|tool| catalog.add(tool));
        }
    }
}

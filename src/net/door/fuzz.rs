//! What `tests/fuzz` calls, compiled for it alone (`cfg(fuzzing)`): heads and bodies.
//!
//! Invariant: it panics where the parsers break a promise of theirs: the same bytes in other pieces mean the same, bounds hold,
//! and nothing that was read could be read otherwise further on.

use super::chunked::Chunked;
use super::head::{Scan, Scanned, parse};

const HEAD_MAX: usize = 16 * 1024;
const BODY_MAX: usize = 4096;

/// A head, whole and byte by byte; then what it says.
pub fn head(data: &[u8]) {
    let whole = Scan::default().next(data, HEAD_MAX);
    let mut scan = Scan::default();
    let mut piecewise = Scanned::More;
    for end in 0..=data.len() {
        piecewise = scan.next(&data[..end], HEAD_MAX);
        if piecewise != Scanned::More {
            break;
        }
    }
    assert_eq!(whole, piecewise, "the same bytes, whole and one by one");
    let Scanned::End { start, end } = whole else { return };
    assert!(start <= end && end <= data.len() && end - start <= HEAD_MAX);
    let Ok(parsed) = parse(&data[start..end]) else { return };
    assert!(parsed.path.starts_with('/') || parsed.path == "*", "{:?}", parsed.path);
    assert!(!parsed.path.contains(['?', '#', ' ', '\r', '\n', '\0']));
    for (name, value) in &parsed.headers {
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{name:?}");
        assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
    }
    let count = |wanted: &str| parsed.headers.iter().filter(|(name, _)| name == wanted).count();
    assert!(count("content-length") + count("transfer-encoding") <= 1 || count("transfer-encoding") == 0, "two framings");
    assert!(count("host") <= 1 && (count("host") == 1 || !parsed.modern), "one name");
}

/// A body in chunks: the first byte says how large the pieces are in which it comes.
pub fn body(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let read = |piece: usize| {
        let (mut decoder, mut body, mut used) = (Chunked::new(), Vec::new(), 0);
        for part in data.chunks(piece.max(1)) {
            match decoder.feed(part, &mut body, BODY_MAX) {
                Ok(n) => used += n,
                Err(status) => return Err(status),
            }
            assert!(body.len() <= BODY_MAX);
            if decoder.is_done() {
                break;
            }
        }
        Ok((decoder.is_done(), body, used))
    };
    assert_eq!(read(data.len()), read(usize::from(*first)), "the same bytes in other pieces");
}

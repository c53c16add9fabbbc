//! The console: the page at `/` and its files, embedded compressed (by build.rs, of what is written beside this file).
//!
//! Invariant: nothing is loaded from elsewhere, and the browser is told so (Content-Security-Policy, Trusted Types): no inline
//! script or style, no text ever becomes markup. The files' address holds their digest, so they are kept for good by the browser,
//! and a page never meets the files of another version. They are sent as they are kept (`deflate`), which every browser takes. Memory alone; cannot fail.

use crate::net::http::Response;

/// What the page may do. `'self'` in `connect-src` covers the WebSocket of the same origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

// `DIGEST`, `PAGE` and `FILES`, as build.rs makes them of this folder.
include!(concat!(env!("OUT_DIR"), "/console.rs"));

/// `/`. The browser may keep it, and asks each time whether it is still the same.
pub fn page(if_none_match: Option<&str>) -> Response {
    answer(if_none_match, || Response::new(200, "text/html; charset=utf-8", PAGE.as_bytes()))
        .with("Cache-Control", "no-cache")
        .with("Content-Security-Policy", POLICY)
        .with("X-Frame-Options", "DENY")
        .with("Referrer-Policy", "no-referrer")
        .with("Cross-Origin-Opener-Policy", "same-origin")
}

/// A file of that version; `None` where there is no such one.
pub fn file(version: &str, name: &str, if_none_match: Option<&str>) -> Option<Response> {
    let (name, content) = FILES.iter().find(|(known, _)| version == DIGEST && *known == name)?;
    Some(
        answer(if_none_match, || Response::new(200, kind(name), *content).with("Content-Encoding", "deflate"))
            .with("Cache-Control", "public, max-age=31536000, immutable")
            .with("Content-Security-Policy", "default-src 'none'; style-src 'self'")
            .with("Cross-Origin-Resource-Policy", "same-origin"),
    )
}

/// The content type of a file.
fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "css")) => STYLE,
        Some((_, "svg")) => IMAGE,
        _ => SCRIPT,
    }
}

/// 304 for a browser that has it already.
fn answer(if_none_match: Option<&str>, whole: impl FnOnce() -> Response) -> Response {
    let has_it = if_none_match
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == DIGEST));
    let response = if has_it { Response::empty(304) } else { whole() };
    response.with("ETag", format!("\"{DIGEST}\""))
}

#[cfg(test)]
mod tests;

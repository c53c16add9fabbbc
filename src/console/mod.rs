//! The console: the page at `/` and its files, embedded as they are written; there is no build step.
//!
//! Invariant: nothing is loaded from elsewhere, and the browser is told so (Content-Security-Policy, Trusted Types): no inline
//! script or style, no text ever becomes markup. The files' address holds their digest, so they are kept for good by the browser,
//! and a page never meets the files of another version. Memory alone; cannot fail.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::net::http::Response;

/// What the page may do. `'self'` in `connect-src` covers the WebSocket of the same origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// One file: name, content type, content.
type File = (&'static str, &'static str, &'static str);

macro_rules! files {
    ($($kind:ident $name:literal),+ $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("assets/", $name)))),+]
    };
}

const IMAGE: &str = "image/svg+xml";

static FILES: &[File] = files![
    IMAGE "icon.svg",
    STYLE "base.css",
    STYLE "parts.css",
    SCRIPT "agents.js",
    SCRIPT "api.js",
    SCRIPT "app.js",
    SCRIPT "approvals.js",
    SCRIPT "channels.js",
    SCRIPT "charts.js",
    SCRIPT "chat.js",
    SCRIPT "config.js",
    SCRIPT "dom.js",
    SCRIPT "form.js",
    SCRIPT "i18n.js",
    SCRIPT "icons.js",
    SCRIPT "jobs.js",
    SCRIPT "json.js",
    SCRIPT "live.js",
    SCRIPT "logs.js",
    SCRIPT "markdown.js",
    SCRIPT "messages.js",
    SCRIPT "outbox.js",
    SCRIPT "overview.js",
    SCRIPT "pairings.js",
    SCRIPT "parts.js",
    SCRIPT "sessions.js",
    SCRIPT "talk.js",
    SCRIPT "zh.js",
];

/// A digest of all files, and the page that leads to them.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = include_str!("index.html");
    let mut hash = Sha256::new();
    for text in FILES.iter().flat_map(|(name, _, text)| [*name, *text]).chain([page]) {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let digest: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let page = page.replace("{version}", &digest);
    (digest, page)
});

/// `/`. The browser may keep it, and asks each time whether it is still the same.
pub fn page(if_none_match: Option<&str>) -> Response {
    let (digest, page) = &*PAGE;
    answer(if_none_match, digest, || Response::new(200, "text/html; charset=utf-8", page.as_bytes()))
        .with("Cache-Control", "no-cache")
        .with("Content-Security-Policy", POLICY)
        .with("X-Frame-Options", "DENY")
        .with("Referrer-Policy", "no-referrer")
        .with("Cross-Origin-Opener-Policy", "same-origin")
}

/// A file of that version; `None` where there is no such one.
pub fn file(version: &str, name: &str, if_none_match: Option<&str>) -> Option<Response> {
    let digest = &PAGE.0;
    let (_, kind, text) = FILES.iter().find(|(known, _, _)| version == digest && *known == name)?;
    let response = answer(if_none_match, digest, || Response::new(200, kind, text.as_bytes()));
    Some(
        response
            .with("Cache-Control", "public, max-age=31536000, immutable")
            .with("Content-Security-Policy", "default-src 'none'; style-src 'self'")
            .with("Cross-Origin-Resource-Policy", "same-origin"),
    )
}

/// 304 for a browser that has it already.
fn answer(if_none_match: Option<&str>, digest: &str, whole: impl FnOnce() -> Response) -> Response {
    let has_it = if_none_match
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == digest));
    let response = if has_it { Response::empty(304) } else { whole() };
    response.with("ETag", format!("\"{digest}\""))
}

#[cfg(test)]
mod tests;

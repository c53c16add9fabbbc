//! The embedded page at `/`.
//!
//! Invariant: nothing is loaded from elsewhere. The console itself comes later; until then the page says what this is and
//! where to go.

/// The page.
pub const PAGE: &str = include_str!("index.html");

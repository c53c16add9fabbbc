//! A request's head: where it ends, and what it says.
//!
//! Two steps. [`Scan`] looks for the end as bytes come, each byte once, and refuses at the first byte that no valid head can
//! hold; [`parse`] then lets httparse split the whole head and judges the framing. Invariant: the outcome does not depend on how
//! the bytes were cut, and no head passes that a stricter or laxer reader would frame differently. Fails with the status to
//! answer; the connection must then be closed, since nobody knows where the next request begins.

use std::mem::MaybeUninit;

use crate::base::ids::new_id;

/// Header lines in one head.
pub(super) const HEADERS_MAX: usize = 100;
/// A request line longer than this is 414, whatever the whole head may have.
pub(super) const LINE_MAX: usize = 8 * 1024;
/// The longest request id that we take from a caller.
const REQUEST_ID_MAX: usize = 64;
/// Empty lines before a request line: some old clients send one behind a body.
const BLANK_LINES_MAX: usize = 2;

/// How far the search for a head's end has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// The next byte to look at.
    at: usize,
    /// Where the present line begins.
    line: usize,
    /// Where the request line begins.
    start: usize,
    /// Whole lines that are not empty.
    lines: usize,
}

/// What a scan found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// No end yet.
    More,
    /// The head is `input[start..end]`.
    End {
        /// Behind the empty lines before it.
        start: usize,
        /// Behind its empty line.
        end: usize,
    },
    /// Refused with this status.
    Bad(u16),
}

impl Scan {
    /// Goes on through `input`, which begins with the same bytes at each call. `max` bounds the head.
    pub fn next(&mut self, input: &[u8], max: usize) -> Scanned {
        loop {
            let (bound, status) = if self.lines == 0 { (max.min(LINE_MAX), 414) } else { (max, 431) };
            let seen = input.len().min(bound);
            while self.at < seen && is_text(input[self.at]) {
                self.at += 1;
            }
            if self.at >= seen {
                return if seen == bound { Scanned::Bad(status) } else { Scanned::More };
            }
            if input[self.at] != b'\r' {
                return Scanned::Bad(400); // a bare LF, NUL, another control character
            }
            if self.at + 1 == bound {
                return Scanned::Bad(status);
            }
            match input.get(self.at + 1) {
                None => return Scanned::More,
                Some(b'\n') => {}
                Some(_) => return Scanned::Bad(400), // a bare CR
            }
            let (empty, next) = (self.at == self.line, self.at + 2);
            if !empty {
                self.lines += 1;
            } else if self.lines > 0 {
                return Scanned::End { start: self.start, end: next };
            } else {
                self.start = next;
            }
            (self.line, self.at) = (next, next);
            if self.lines == 0 && next > 2 * BLANK_LINES_MAX {
                return Scanned::Bad(400);
            }
            if self.lines > 1 + HEADERS_MAX {
                return Scanned::Bad(431);
            }
        }
    }
}

fn is_text(b: u8) -> bool {
    matches!(b, b'\t' | b' '..=b'~' | 0x80..)
}

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Framing {
    /// No body.
    Empty,
    /// `Content-Length`, above 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Whether a connection outlives this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Persist {
    /// It does not.
    Close,
    /// It does, as ever in HTTP/1.1.
    Keep,
    /// It does, and a client of HTTP/1.0 is told so.
    KeepTold,
}

/// What a request says about its body in `Expect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// Nothing.
    Nothing,
    /// It waits for a 100.
    Continue,
    /// Something that we can't fulfil.
    Other,
}

/// A head that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// As it was sent.
    pub method: String,
    /// Begins with `/`, or is `*` for OPTIONS.
    pub path: String,
    /// Behind `?`.
    pub query: Option<String>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body's.
    pub framing: Framing,
    /// The connection's.
    pub persist: Persist,
    /// HTTP/1.1: knows chunks.
    pub modern: bool,
    /// The body's expectation.
    pub expect: Expect,
}

/// Reads a whole head, as a scan found it.
///
/// # Errors
/// The status: 400, 431, 501 (a transfer coding other than chunked), 505.
pub(super) fn parse(head: &[u8]) -> Result<Parsed, u16> {
    let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut room) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(400),
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        Err(httparse::Error::Version) if names_a_version(head) => return Err(505),
        Err(_) => return Err(400),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else { return Err(400) };
    let headers: Vec<(String, String)> =
        request.headers.iter().map(|h| (h.name.to_ascii_lowercase(), value_text(h.value))).collect();
    let modern = minor >= 1;
    let host = host(&headers, modern)?;
    let (path, query) = target_parts(method, target, host)?;
    let framing = framing(&headers, modern)?;
    let persist = if method == "CONNECT" { Persist::Close } else { persistence(&headers, modern) };
    let expect = if modern { expectation(&headers) } else { Expect::Nothing };
    Ok(Parsed { method: method.to_string(), path, query, headers, framing, persist, modern, expect })
}

/// Whether the request line ends in a well-formed HTTP version, though not one of ours.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    matches!(line.rsplit(|&b| b == b' ').next(), Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// UTF-8 where it is that, else each byte as the character of its number (Latin-1): nothing is lost and nothing merges.
fn value_text(value: &[u8]) -> String {
    let value = value.trim_ascii();
    match std::str::from_utf8(value) {
        Ok(text) => text.to_string(),
        Err(_) => value.iter().map(|&b| b as char).collect(),
    }
}

/// The caller's own id if that is well formed, else a new one.
pub(in crate::net) fn request_id(headers: &[(String, String)], unix_ms: i64) -> String {
    let fits = |id: &&str| {
        (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    values(headers, "x-request-id").next().filter(fits).map_or_else(|| new_id("req", unix_ms), str::to_string)
}

fn values<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// The one `Host`; may be absent in HTTP/1.0 alone.
fn host(headers: &[(String, String)], modern: bool) -> Result<Option<&str>, u16> {
    let mut all = values(headers, "host");
    match (all.next(), all.next()) {
        (Some(host), None) if is_authority(host) => Ok(Some(host)),
        (None, None) if !modern => Ok(None),
        _ => Err(400),
    }
}

/// `name`, `name:port`, `1.2.3.4:port` or `[v6]:port`; no user, no escapes.
fn is_authority(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let named = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    let digits = port.strip_prefix(':').unwrap_or_default();
    let numbered = port.is_empty() || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok());
    named && numbered
}

/// Path and query of a request target in any of its forms.
fn target_parts(method: &str, target: &str, host: Option<&str>) -> Result<(String, Option<String>), u16> {
    if !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(400);
    }
    if method == "CONNECT" {
        // Its target is an authority. The service answers 405 for `/`.
        return if is_authority(target) { Ok(("/".to_string(), None)) } else { Err(400) };
    }
    if target == "*" {
        return if method == "OPTIONS" { Ok(("*".to_string(), None)) } else { Err(400) };
    }
    let local = match target.split_once("://") {
        _ if target.starts_with('/') => target,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            let (authority, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if !host.is_some_and(|h| h.eq_ignore_ascii_case(authority)) {
                return Err(400);
            }
            local
        }
        _ => return Err(400),
    };
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query.to_string())),
        None => (local, None),
    };
    Ok((if path.is_empty() { "/" } else { path }.to_string(), query))
}

/// One `Content-Length` of digits, or one `Transfer-Encoding` that is exactly `chunked`, or neither; never both.
pub(in crate::net) fn framing(headers: &[(String, String)], modern: bool) -> Result<Framing, u16> {
    let mut lengths = values(headers, "content-length");
    let mut codings = values(headers, "transfer-encoding");
    match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
        (None, None, None, None) => Ok(Framing::Empty),
        (Some(length), None, None, None) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            match length.parse().map_err(|_| 400u16)? {
                0 => Ok(Framing::Empty),
                length => Ok(Framing::Length(length)),
            }
        }
        (None, None, Some(coding), None) if modern && coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (None, None, Some(coding), None) if modern && is_other_coding(coding) => Err(501),
        _ => Err(400),
    }
}

/// A list of codings by name that names one besides `chunked`.
fn is_other_coding(list: &str) -> bool {
    let mut codings = list.split(',').map(str::trim);
    let token = |c: &str| !c.is_empty() && c.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    codings.clone().all(token) && codings.any(|c| !c.eq_ignore_ascii_case("chunked"))
}

pub(in crate::net) fn persistence(headers: &[(String, String)], modern: bool) -> Persist {
    let says = |wish: &str| values(headers, "connection").flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(wish));
    match modern {
        _ if says("close") => Persist::Close,
        true => Persist::Keep,
        false if says("keep-alive") => Persist::KeepTold,
        false => Persist::Close,
    }
}

fn expectation(headers: &[(String, String)]) -> Expect {
    let mut all = values(headers, "expect").map(|v| v.eq_ignore_ascii_case("100-continue"));
    match all.next() {
        None => Expect::Nothing,
        Some(first) if first && all.all(|next| next) => Expect::Continue,
        Some(_) => Expect::Other,
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;

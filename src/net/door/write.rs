//! Answers as bytes.
//!
//! Invariant: one buffer holds the whole answer (of a streamed one, its head), so that one write sends it; a header that frames the answer or names the
//! connection is ours alone: a service's own is left out. It cannot fail.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::net::door::head::Persist;
use crate::net::http::Response;

/// The last second that a `Date` can name: the end of the year 9999.
const DATE_MAX_S: i64 = 253_402_300_799;
/// An answer's own header lines, about: what a buffer is made for beside the body.
const HEAD_ABOUT: usize = 320;

/// How an answer is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::net) struct Manner {
    /// In answer to HEAD: the body's length is told, the body is not sent.
    pub head_only: bool,
    /// What becomes of the connection.
    pub persist: Persist,
}

/// How an answer's head says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Body {
    /// There is none, or it ends with the connection.
    None,
    /// `Content-Length`.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The `Date` header's value, made once a second.
#[derive(Debug, Default)]
pub(in crate::net) struct DateText(Mutex<(i64, String)>);

impl DateText {
    /// Appends the date of `unix_ms`.
    fn write(&self, out: &mut Vec<u8>, unix_ms: i64) {
        let second = (unix_ms / 1000).clamp(0, DATE_MAX_S);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.1.is_empty() || kept.0 != second {
            *kept = (second, httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second as u64)));
        }
        out.extend_from_slice(kept.1.as_bytes());
    }

    /// The bytes of `response` to the request `request_id`, appended to `out`.
    pub fn write_response(&self, out: &mut Vec<u8>, response: &Response, request_id: &str, unix_ms: i64, manner: Manner) {
        let no_body = matches!(response.status, 204 | 304);
        let body: &[u8] = if no_body || manner.head_only { b"" } else { &response.body };
        let length = if no_body { Body::None } else { Body::Length(response.body.len()) };
        out.reserve(HEAD_ABOUT + body.len());
        self.write_head(out, response, request_id, unix_ms, manner.persist, length);
        out.extend_from_slice(body);
    }

    /// The head alone, with the empty line behind it.
    pub fn write_head(
        &self,
        out: &mut Vec<u8>,
        response: &Response,
        request_id: &str,
        unix_ms: i64,
        persist: Persist,
        body: Body,
    ) {
        let status = if (200..=599).contains(&response.status) { response.status } else { 500 };
        out.extend_from_slice(b"HTTP/1.1 ");
        number(out, usize::from(status));
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in response.headers() {
            if !is_ours(name) {
                header(out, name, value.as_bytes());
            }
        }
        header(out, "X-Request-Id", request_id.as_bytes());
        out.extend_from_slice(b"Date: ");
        self.write(out, unix_ms);
        out.extend_from_slice(b"\r\n");
        match body {
            Body::Length(length) => {
                out.extend_from_slice(b"Content-Length: ");
                number(out, length);
                out.extend_from_slice(b"\r\n");
            }
            Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Body::None => {}
        }
        match persist {
            Persist::Close => out.extend_from_slice(b"Connection: close\r\n"),
            Persist::KeepTold => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            Persist::Keep => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, mut n: usize) {
    let mut digits = [0u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

fn is_ours(name: &str) -> bool {
    ["x-request-id", "date", "content-length", "connection", "transfer-encoding"].iter().any(|n| n.eq_ignore_ascii_case(name))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: Response, head_only: bool, persist: Persist, expected: &str) {
        let mut out = Vec::new();
        DateText::default().write_response(&mut out, &response, "r1", 1_475_419_451_000, Manner { head_only, persist });
        assert_eq!(String::from_utf8_lossy(&out), expected.replace('\n', "\r\n").replace("$D", "Sun, 02 Oct 2016 14:44:11 GMT"));
    }

    #[test]
    fn answers_as_bytes() {
        let hi = || Response::new(200, "text/plain", &b"hi"[..]);
        let head = "HTTP/1.1 200 OK\nContent-Type: text/plain\nX-Request-Id: r1\nDate: $D\nContent-Length: 2\n";
        check(hi(), false, Persist::Keep, &format!("{head}\nhi"));
        check(hi(), true, Persist::Keep, &format!("{head}\n"));
        check(hi(), false, Persist::Close, &format!("{head}Connection: close\n\nhi"));
        check(hi(), false, Persist::KeepTold, &format!("{head}Connection: keep-alive\n\nhi"));
        check(
            Response::new(204, "x/y", &b"never"[..]).with("connection", "upgrade").with("Content-Length", "9").with("Date", "x"),
            false,
            Persist::Keep,
            "HTTP/1.1 204 No Content\nContent-Type: x/y\nX-Request-Id: r1\nDate: $D\n\n",
        );
        check(
            Response::empty(304).with("ETag", "\"a\""),
            false,
            Persist::Keep,
            "HTTP/1.1 304 Not Modified\nETag: \"a\"\nX-Request-Id: r1\nDate: $D\n\n",
        );
        check(
            Response::empty(101),
            false,
            Persist::Keep,
            "HTTP/1.1 500 Internal Server Error\nX-Request-Id: r1\nDate: $D\nContent-Length: 0\n\n",
        );
    }

    #[test]
    fn a_date_is_made_anew_each_second_and_never_fails() {
        let dates = DateText::default();
        let at = |unix_ms| {
            let mut out = Vec::new();
            dates.write(&mut out, unix_ms);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(999), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(1000), "Thu, 01 Jan 1970 00:00:01 GMT");
        assert_eq!(at(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(at(-5), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}

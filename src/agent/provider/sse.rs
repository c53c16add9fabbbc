//! Server-sent events, parsed as a value over bytes that may be split anywhere.
//!
//! Invariant: holds at most [`EVENT_BYTES_MAX`] bytes of one event; text is decoded only when its event is whole, so no
//! character is ever split. Lines end with CRLF, LF or CR. Fails only by that bound.

/// Longest line and longest event.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Longest `id:` that is kept.
const ID_BYTES_MAX: usize = 1024;

/// An event or a line is longer than its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What `event:` named it, or empty.
    pub name: String,
    /// Its `data:` lines, joined by line feeds.
    pub data: String,
}

/// The parser.
#[derive(Debug, Default)]
pub struct Sse {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    name: String,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The first line is behind us; before it there may be a byte order mark.
    begun: bool,
    last_id: String,
    retry_ms: Option<u64>,
}

impl Sse {
    /// Takes the next bytes; adds the events that are whole to `events`.
    ///
    /// # Errors
    /// A line or an event beyond the bound.
    pub fn feed(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), TooLong> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > EVENT_BYTES_MAX {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(events)?;
        }
        Ok(())
    }

    /// The bytes are over. The standard drops an event without its blank line; servers that end right behind `data: [DONE]`
    /// are common, so it counts here.
    ///
    /// # Errors
    /// As [`Sse::feed`].
    pub fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), TooLong> {
        if !self.line.is_empty() {
            self.end_line(events)?;
        }
        self.end_event(events);
        Ok(())
    }

    /// The last `id:` that came, to go on from after a break; empty where there was none.
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// The last `retry:` that came: the pause that the server wishes before a reconnect, in ms.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), TooLong> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            self.end_event(events);
        } else {
            let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon] {
                b"data" if self.data.len() + value.len() >= EVENT_BYTES_MAX => return Err(TooLong),
                b"data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(value);
                }
                b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
                b"id" if !value.contains(&0) && value.len() <= ID_BYTES_MAX => {
                    self.last_id = String::from_utf8_lossy(value).into_owned();
                }
                b"retry" => self.retry_ms = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).or(self.retry_ms),
                _ => {} // a comment: nothing before the colon
            }
        }
        line.clear();
        self.line = line; // its room is used again
        Ok(())
    }

    fn end_event(&mut self, events: &mut Vec<Event>) {
        let name = std::mem::take(&mut self.name);
        if std::mem::take(&mut self.has_data) {
            events.push(Event { name, data: String::from_utf8_lossy(&self.data).into_owned() });
            self.data.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `text` whole and split at every place, each time with the same outcome.
    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        for split in 0..=text.len() {
            let (mut sse, mut events) = (Sse::default(), Vec::new());
            for part in [&text.as_bytes()[..split], &text.as_bytes()[split..]] {
                sse.feed(part, &mut events).unwrap();
            }
            sse.finish(&mut events).unwrap();
            let got: Vec<_> = events.iter().map(|e| (e.name.as_str(), e.data.as_str())).collect();
            assert_eq!(got, expected, "{text:?} split at {split}");
        }
    }

    #[test]
    fn events() {
        check("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &[("", "a"), ("", "b")]);
        check("data: a\r\rdata: b\r\r", &[("", "a"), ("", "b")]);
        check("data: a\r\n\ndata: b\n\r\n", &[("", "a"), ("", "b")]);
        check("data: a\ndata: b\ndata\ndata:\n\n", &[("", "a\nb\n\n")]);
        check("data:no space\ndata:  two\n\n", &[("", "no space\n two")]);
        check(": ping\n\n:\n\nid: 1\nretry: 5\n\n", &[]);
        check("event: error\ndata: x\n\ndata: y\n\n", &[("error", "x"), ("", "y")]);
        check("event: lone\n\ndata: y\n\n", &[("", "y")]);
        check("\u{feff}data: mark\n\n", &[("", "mark")]);
        check("data: 你好🙂\n\n", &[("", "你好🙂")]);
        check("data: [DONE]", &[("", "[DONE]")]);
        check("data: a\n", &[("", "a")]);
        check("database: no\ndata : no\n\n", &[]);
        check("\n\n\r\n\r\r\n", &[]);
        check("", &[]);
    }

    #[test]
    fn byte_by_byte() {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        for byte in "event: e\r\ndata: ü\r\n\r\n".bytes() {
            sse.feed(&[byte], &mut events).unwrap();
        }
        assert_eq!(events, [Event { name: "e".into(), data: "ü".into() }]);
    }

    #[test]
    fn where_to_go_on() {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        assert_eq!((sse.last_id(), sse.retry_ms()), ("", None));
        sse.feed(b"id: a-1\nretry: 250\ndata:\n\nid: nul\0\nretry: soon\n\n", &mut events).unwrap();
        assert_eq!((sse.last_id(), sse.retry_ms()), ("a-1", Some(250)));
        assert_eq!(events, [Event { name: String::new(), data: String::new() }], "an event of empty data is one");
        sse.feed(b"id\n", &mut events).unwrap();
        assert_eq!(sse.last_id(), "");
    }

    #[test]
    fn bounds() {
        let mib = vec![b'x'; EVENT_BYTES_MAX];
        let mut sse = Sse::default();
        assert_eq!(sse.feed(&mib, &mut Vec::new()).and_then(|()| sse.feed(b"y", &mut Vec::new())), Err(TooLong));
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        let line = format!("data: {}\n", "x".repeat(1000));
        let outcome = (0..2000).try_for_each(|_| sse.feed(line.as_bytes(), &mut events));
        assert_eq!((outcome, events.len()), (Err(TooLong), 0));
    }
}

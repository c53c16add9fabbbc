//! JSON-RPC as MCP speaks it, as values: requests and notifications to text, text to what a server says.
//!
//! Invariant: pure. A text is parsed only where it is within [`VALUES_MAX`], so that a few megabytes of brackets can't become a
//! hundred of memory; ids of ours are numbers, and an answer to anything else is no answer. Fails with [`Garbage`].

use serde_json::{Map, Value, json};

/// Longest message that is taken from a server, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most commas and opening brackets in one message: each can cost some 100 bytes once it is parsed.
const VALUES_MAX: usize = 100_000;

/// The revision without a handshake that we speak.
pub const MODERN: &str = "2026-07-28";
/// The revisions with a handshake that we speak; the last one is offered.
pub const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// The refusal of a version, which names those that the server speaks.
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// The refusals that only a server of the modern era gives: wrong headers, a capability that we lack, a version.
pub const MODERN_REFUSALS: [i64; 3] = [-32020, -32021, UNSUPPORTED_VERSION];
/// The refusal of a method that nobody knows.
pub const METHOD_NOT_FOUND: i64 = -32601;

/// Which of the two ways to begin a server understands; the specification's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Each request says its version and who asks (2026-07-28 and later).
    Modern,
    /// A session begins with `initialize` (2025-11-25 and earlier).
    Legacy,
}

impl Era {
    /// Its name in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Era::Modern => "modern",
            Era::Legacy => "legacy",
        }
    }
}

/// What a connection settled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The era.
    pub era: Era,
    /// The revision.
    pub version: &'static str,
}

impl Protocol {
    /// The modern one.
    pub const MODERN: Protocol = Protocol { era: Era::Modern, version: MODERN };

    /// A legacy revision, if we speak it.
    pub fn legacy(version: &str) -> Option<Protocol> {
        LEGACY.into_iter().find(|v| *v == version).map(|version| Protocol { era: Era::Legacy, version })
    }
}

/// Who we are, for servers.
pub fn client_info() -> Value {
    json!({"name": "gatelet", "version": env!("CARGO_PKG_VERSION")})
}

/// A request on one line. In the modern era it says of itself what a session would know.
pub fn request(id: u64, method: &str, params: &Map<String, Value>, era: Era) -> String {
    let mut params = params.clone();
    if era == Era::Modern {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": client_info(),
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        params.insert("_meta".to_string(), meta);
    }
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// A notification on one line.
pub fn notification(method: &str, params: &Map<String, Value>) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

/// That the answer to `id` is not wanted any more.
pub fn cancelled(id: u64, reason: &str) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": reason}}).to_string()
}

/// Our answer to a server's own request: we are here, and offer it nothing.
pub fn reply(id: &Value, method: &str) -> String {
    if method == "ping" {
        return json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string();
    }
    let error = json!({"code": METHOD_NOT_FOUND, "message": "this client offers servers nothing"});
    json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()
}

/// A server's no.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// JSON-RPC's code; 0 where an HTTP status alone said it.
    pub code: i64,
    /// The server's words; not shortened yet.
    pub message: String,
    /// What it said beside them.
    pub data: Value,
}

impl Refusal {
    /// The refusal in a JSON-RPC error object.
    fn of(error: &Value) -> Self {
        Refusal {
            code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
            message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_string(),
            data: error.get("data").cloned().unwrap_or_default(),
        }
    }

    /// The versions that it names as spoken by the server.
    pub fn supported(&self) -> Vec<&str> {
        let named = self.data.get("supported").and_then(Value::as_array);
        named.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// The answer to a request of ours.
    Answer {
        /// The request's id.
        id: u64,
        /// What came of it.
        result: Result<Value, Refusal>,
    },
    /// It asks something itself.
    Asks {
        /// Its id, given back in the answer.
        id: Value,
        /// What it asks.
        method: String,
    },
    /// It tells something.
    Tells {
        /// What.
        method: String,
        /// About what.
        params: Value,
    },
    /// A refusal of something whose id it could not read.
    Blames(Refusal),
}

/// Not a message, or none that is safe to parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

/// Reads one text: a message, or a batch of them as 2025-03-26 had it.
///
/// # Errors
/// No JSON, no JSON-RPC, nested too deep, too many values.
pub fn read(text: &[u8]) -> Result<Vec<Said>, Garbage> {
    if text.len() > MESSAGE_BYTES_MAX || text.iter().filter(|b| matches!(b, b',' | b'[' | b'{')).count() > VALUES_MAX {
        return Err(Garbage);
    }
    match serde_json::from_slice(text).map_err(|_| Garbage)? {
        Value::Array(batch) => batch.into_iter().map(said).collect(),
        one => said(one).map(|one| vec![one]),
    }
}

fn said(message: Value) -> Result<Said, Garbage> {
    let Value::Object(mut message) = message else { return Err(Garbage) };
    let id = message.get("id").cloned().filter(|id| !id.is_null());
    if let Some(Value::String(method)) = message.remove("method") {
        return Ok(match id {
            Some(id) => Said::Asks { id, method },
            None => Said::Tells { method, params: message.remove("params").unwrap_or_default() },
        });
    }
    let refusal = message.get("error").filter(|e| e.is_object()).map(Refusal::of);
    match (id.as_ref().and_then(Value::as_u64), refusal, message.remove("result")) {
        (Some(id), Some(refusal), _) => Ok(Said::Answer { id, result: Err(refusal) }),
        (Some(id), None, Some(result)) => Ok(Said::Answer { id, result: Ok(result) }),
        (None, Some(refusal), _) => Ok(Said::Blames(refusal)),
        _ => Err(Garbage),
    }
}

/// Bytes to lines.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

/// A line beyond its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Lines {
    /// Takes the next bytes and gives each line that is whole, without its end, blank ones left out.
    ///
    /// # Errors
    /// A line of more than `max` bytes.
    pub fn feed(&mut self, bytes: &[u8], max: usize, mut line: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut parts = bytes.split(|b| *b == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.keep(part, max)?;
            let whole = self.rest.trim_ascii();
            if !whole.is_empty() {
                line(whole);
            }
            self.rest.clear();
        }
        if self.rest.is_empty() {
            self.rest.shrink_to(64 * 1024); // the room of one long line is not held for ever
        }
        self.keep(last, max)
    }

    fn keep(&mut self, part: &[u8], max: usize) -> Result<(), TooLong> {
        if self.rest.len() + part.len() > max {
            return Err(TooLong);
        }
        self.rest.extend_from_slice(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[Said], Garbage>) {
        assert_eq!(read(text.as_bytes()).as_deref(), expected.as_ref().map(|said| *said), "{text}");
    }

    #[test]
    fn what_servers_say() {
        let answer = |id, result| Said::Answer { id, result };
        let refusal = |code, message: &str| Refusal { code, message: message.into(), data: Value::Null };
        check(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#, Ok(&[answer(3, Ok(json!({})))]));
        check(r#"{"id":3,"error":{"code":-1,"message":"no"}}"#, Ok(&[answer(3, Err(refusal(-1, "no")))]));
        check(r#"{"id":3,"error":{},"result":1}"#, Ok(&[answer(3, Err(refusal(0, "")))]));
        check(r#"{"id":null,"error":{"code":-32700,"message":"x"}}"#, Ok(&[Said::Blames(refusal(-32700, "x"))]));
        check(r#"{"id":"s-1","method":"ping"}"#, Ok(&[Said::Asks { id: json!("s-1"), method: "ping".into() }]));
        let tells = Said::Tells { method: "notifications/x".into(), params: json!({"a": 1}) };
        check(r#"{"method":"notifications/x","params":{"a":1}}"#, Ok(&[tells]));
        let two = [answer(1, Ok(Value::Null)), answer(2, Ok(json!(2)))];
        check(r#"[{"id":1,"result":null},{"id":2,"result":2}]"#, Ok(&two));
        for garbage in ["", "Starting…", "1", "{}", r#"{"id":"3","result":1}"#, r#"{"id":-1,"result":1}"#, r#"{"id":3}"#, "[1]"]
        {
            check(garbage, Err(Garbage));
        }
        check(&"[".repeat(200), Err(Garbage));
        check(&format!(r#"{{"id":1,"result":[{}0]}}"#, "0,".repeat(VALUES_MAX)), Err(Garbage));
    }

    #[test]
    fn requests_of_each_era() {
        let params = Map::from_iter([("name".to_string(), json!("a\nb"))]);
        let line = request(7, "tools/call", &params, Era::Legacy);
        assert_eq!(line, r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a\nb"}}"#);
        let modern: Value = serde_json::from_str(&request(7, "tools/call", &params, Era::Modern)).unwrap();
        assert_eq!(modern["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], MODERN);
        assert_eq!(modern["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
        assert_eq!(reply(&json!("p"), "ping"), r#"{"jsonrpc":"2.0","id":"p","result":{}}"#);
        assert!(reply(&json!(1), "sampling/createMessage").contains("-32601"));
    }

    #[test]
    fn lines_wherever_they_are_split() {
        let text = b"one\r\n\n  \ntwo\nthree";
        for split in 0..=text.len() {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            for part in [&text[..split], &text[split..]] {
                lines.feed(part, 6, |l: &[u8]| got.push(String::from_utf8_lossy(l).into_owned())).unwrap();
            }
            assert_eq!((got.join(" "), lines.rest.as_slice()), ("one two".to_string(), &b"three"[..]));
        }
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"123\n4567", 3, |_| ()), Err(TooLong));
    }
}

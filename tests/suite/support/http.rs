//! A raw HTTP/1.1 client: what is sent is exactly what the test says, byte for byte; answers are read strictly.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a read waits unless the test says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer of the gateway's is longer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as JSON; `Null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A string field of the JSON body; empty where absent.
    pub fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_string()
    }

    /// Panics unless the status is `status`; shows the answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "answer: {}", self.text());
        self
    }

    /// Panics unless it has this status and is the contract's error shape with that code.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        let json = answer.json();
        assert_eq!(json["code"], code, "{json}");
        assert_eq!(json["status"], status, "{json}");
        assert!(json["message"].as_str().is_some_and(|m| !m.is_empty()), "an error has a message: {json}");
        assert!(json["requestId"].as_str().is_some_and(|m| !m.is_empty()), "an error names its request: {json}");
        assert_eq!(answer.header("x-request-id"), json["requestId"].as_str(), "both name the same request");
        answer
    }
}

impl Answer {
    /// Panics unless it has this status and OpenAI's error shape with that code; gives the error.
    #[track_caller]
    pub fn expect_openai_error(self, status: u16, code: impl Into<Value>) -> Value {
        let answer = self.expect(status);
        let error = answer.json()["error"].take();
        let keys: Vec<_> = error.as_object().map(|e| e.keys().cloned().collect()).unwrap_or_default();
        assert_eq!(keys, ["message", "type", "param", "code"], "{}", answer.text());
        assert_eq!(error["code"], code.into(), "{error}");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()) && error["type"].is_string(), "{error}");
        assert!(answer.header("x-request-id").is_some());
        error
    }
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to this machine's `port`.
    pub fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, buffer: Vec::new() })
    }

    /// How long a read waits from now on.
    pub fn patience(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a read timeout");
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The stream and what was read of it beyond the last answer.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer)
    }

    /// Reads the next answer. `Ok(None)` where the peer closed before its first byte.
    pub fn answer(&mut self) -> io::Result<Option<Answer>> {
        self.answer_to("GET")
    }

    /// The same in answer to `method`: an answer to HEAD has no body.
    pub fn answer_to(&mut self, method: &str) -> io::Result<Option<Answer>> {
        loop {
            let Some(head_end) = self.fill_head()? else { return Ok(None) };
            let mut answer = parse_head(&self.buffer[..head_end])?;
            self.buffer.drain(..head_end);
            if answer.status == 100 {
                continue;
            }
            if method != "HEAD" && !matches!(answer.status, 101 | 204 | 304) {
                answer.body = self.body_of(&answer)?;
            }
            return Ok(Some(answer));
        }
    }

    /// Whether the peer closes without sending anything more, within `limit`.
    pub fn closed_within(&mut self, limit: Duration) -> bool {
        self.patience(limit);
        let mut byte = [0u8; 1];
        match self.stream.read(&mut byte) {
            Ok(n) => n == 0 && self.buffer.is_empty(),
            Err(e) => matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
        }
    }

    /// One raw read, appended to nothing: for streams that are looked at as they come.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_string()));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0u8; 16 * 1024];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        if self.buffer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("an answer without end"));
        }
        Ok(n > 0)
    }

    /// The next answer's head alone; its body is read by [`event`](Self::event).
    pub fn head(&mut self) -> io::Result<Option<Answer>> {
        let Some(end) = self.fill_head()? else { return Ok(None) };
        let answer = parse_head(&self.buffer[..end])?;
        self.buffer.drain(..end);
        Ok(Some(answer))
    }

    /// The next event of a streamed body in chunks, its `data: ` cut off; comments are given as they are. `None` at the body's end;
    /// an error where it breaks off.
    pub fn event(&mut self) -> io::Result<Option<String>> {
        let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| io::Error::other(format!("chunk size {line:?}")))?;
        let chunk = self.take(size)?;
        self.take(2)?;
        let text = String::from_utf8_lossy(&chunk).into_owned();
        Ok((size > 0).then(|| text.strip_prefix("data: ").unwrap_or(&text).trim_end().to_string()))
    }

    fn fill_head(&mut self) -> io::Result<Option<usize>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                return Ok(Some(at + 4));
            }
            if !self.fill()? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < n {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..n).collect())
    }

    fn body_of(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        if answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            let mut body = Vec::new();
            loop {
                let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                    .map_err(|_| io::Error::other(format!("chunk size {line:?}")))?;
                body.extend(self.take(size)?);
                self.take(2)?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        if let Some(length) = answer.header("content-length") {
            return self.take(length.parse().map_err(|_| io::Error::other("content-length"))?);
        }
        while self.fill()? {}
        Ok(std::mem::take(&mut self.buffer))
    }
}

fn parse_head(head: &[u8]) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::other(format!("{what}: {:?}", String::from_utf8_lossy(head)));
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(head).map_err(|e| bad(&e.to_string()))?;
    let headers =
        parsed.headers.iter().map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned())).collect();
    Ok(Answer { status: parsed.code.ok_or_else(|| bad("no status"))?, headers, body: Vec::new() })
}

/// A request under construction.
pub struct Call {
    port: u16,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    patience: Duration,
}

impl Call {
    /// `method path` to this machine's `port`, without a credential.
    pub fn new(port: u16, method: &str, path: &str) -> Self {
        let host = ("Host".to_string(), format!("127.0.0.1:{port}"));
        Call { port, method: method.into(), path: path.into(), headers: vec![host], body: None, patience: PATIENCE }
    }

    /// With a bearer token.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// With one more header; `Host` replaces.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if name.eq_ignore_ascii_case("host") {
            self.headers.retain(|(n, _)| n != "Host");
        }
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a body in JSON.
    pub fn json(self, value: &Value) -> Self {
        self.header("Content-Type", "application/json").body(value.to_string())
    }

    /// With a body as it is.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Waits so long for the answer.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// The request's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            out.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(self.body.as_deref().unwrap_or_default());
        out
    }

    /// Sends it on a connection of its own; an error where no whole answer came.
    pub fn attempt(self) -> io::Result<Answer> {
        let mut connection = Connection::open(self.port)?;
        connection.patience(self.patience);
        let method = self.method.clone();
        connection.send(self.header("Connection", "close").bytes())?;
        connection.answer_to(&method)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Sends it; panics where no answer came.
    #[track_caller]
    pub fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        match self.attempt() {
            Ok(answer) => answer,
            Err(e) => panic!("{what}: no answer: {e}"),
        }
    }
}

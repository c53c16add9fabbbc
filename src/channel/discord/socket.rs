//! The thread that holds Discord's gateway.
//!
//! Invariant: an event counts as taken once it is on disk, its place in the session with it: a restart resumes there and misses
//! nothing that Discord still holds. Where Discord has forgotten the session, the places that are known are read from the last message
//! seen there; what was written for the first time in a place that is not known, meanwhile, is not found. A connection is never
//! closed in the way that ends its session.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::crash;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::ids::jitter;
use crate::channel::discord::api::Api;
use crate::channel::discord::cursor::Cursor;
use crate::channel::discord::gateway::{Gateway, Step};
use crate::channel::discord::message::{self, Read};
use crate::channel::supervisor::{Connection, Line};
use crate::channel::{Taken, taking};
use crate::net::websocket::dial::{Dialed, Got, dial};

const DIAL: Duration = Duration::from_secs(20);
/// A connection that is left sooner than this is a failure: else we would go round for ever without a pause.
const HELD_MIN: Duration = Duration::from_secs(10);
/// Our own close code: any but 1000 and 1001 leaves the session as it is.
const LEAVE: u16 = 4000;
/// Messages of one page, and pages that are read of one place after a session was lost.
const PAGE: usize = 100;
const PAGES_MAX: usize = 10;
/// After so many events that nothing was to be taken of, the cursor is committed.
const UNCOMMITTED_MAX: u32 = 100;

/// The connection.
pub struct Socket {
    api: Arc<Api>,
    me: String,
    cursor: Option<Cursor>,
    uncommitted: u32,
    /// The address to resume at did not answer: the common one is tried.
    is_elsewhere: bool,
    /// A new session stands, but what was missed before it is not read yet: it must not be resumed instead.
    is_behind: bool,
}

impl Socket {
    /// One that begins with what was committed.
    pub fn new(api: Arc<Api>) -> Self {
        Socket { api, me: String::new(), cursor: None, uncommitted: 0, is_elsewhere: false, is_behind: false }
    }
}

impl Connection for Socket {
    fn run(&mut self, line: &Line) -> Result<()> {
        let begun = line.parts.clock.mono();
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => match line.parts.inlet.cursor(&line.parts.name) {
                Ok(text) => Cursor::parse(&text.unwrap_or_default()),
                Err(why) => return Err(Error::new(ErrorKind::Transient, format!("the cursor can't be read: {why}"))),
            },
        };
        let ended = self.connect(line, &mut cursor);
        if self.uncommitted > 0 && line.parts.inlet.set_cursor(&line.parts.name, &cursor.text()).is_ok() {
            self.uncommitted = 0;
        }
        self.cursor = Some(cursor);
        let why = match ended {
            Ok(None) => return Ok(()),
            Ok(Some(why)) => why,
            Err(e) => return Err(e),
        };
        match line.parts.clock.mono().saturating_sub(begun) < HELD_MIN {
            true => Err(Error::new(ErrorKind::Transient, why)),
            false => Ok(()), // at once: Discord's own renewal
        }
    }
}

impl Socket {
    /// One connection, until it ends: why, or `None` where it ends at our own wish.
    fn connect(&mut self, line: &Line, cursor: &mut Cursor) -> Result<Option<&'static str>> {
        let cancel = line.cancel();
        let known = cursor.session.as_ref().filter(|_| !self.is_elsewhere);
        let url = match known.and_then(|session| self.api.address(&session.url).ok()) {
            Some(url) => url,
            None => self.api.gateway(&cancel)?,
        };
        let dialed = dial(&url, &cancel, DIAL);
        self.is_elsewhere = dialed.is_err() && !self.is_elsewhere;
        let mut socket = dialed.map_err(|e| match e.kind {
            ErrorKind::Permanent | ErrorKind::Invalid if self.is_elsewhere => Error { kind: ErrorKind::Transient, ..e },
            _ => e,
        })?;
        let mut gateway =
            Gateway::new(self.api.token().clone(), cursor.session.clone(), self.me.clone(), line.parts.clock.mono());
        let ended = self.serve(line, cursor, &mut gateway, &mut socket);
        let left = gateway.session().filter(|_| !self.is_behind);
        if cursor.session.as_ref() != left {
            cursor.session = left.cloned();
            self.uncommitted += 1;
        }
        self.me = gateway.me().to_string();
        socket.close(LEAVE);
        ended
    }

    fn serve(
        &mut self,
        line: &Line,
        cursor: &mut Cursor,
        gateway: &mut Gateway,
        socket: &mut Dialed,
    ) -> Result<Option<&'static str>> {
        let clock = &line.parts.clock;
        loop {
            if line.cancel().is_set() {
                return Ok(None);
            }
            let mut steps: Vec<Step> = gateway.due(clock.mono()).into_iter().collect();
            if steps.is_empty() {
                match socket.recv(gateway.wait(clock.mono())) {
                    Ok(Got::Text(text)) => {
                        line.heard();
                        steps = gateway.frame(&text, clock.mono(), jitter(1000));
                    }
                    Ok(_) => {}
                    Err(ended) => return Err(ended.code.and_then(|code| gateway.closed(code)).unwrap_or(ended.error)),
                }
            }
            for step in steps {
                match step {
                    Step::Send(text) => socket.send(&text)?,
                    Step::Leave(why) => return Ok(Some(why)),
                    Step::Ready { resumed } => {
                        self.me = gateway.me().to_string();
                        line.connected();
                        if !resumed {
                            (self.is_behind, cursor.session) = (true, None);
                            self.catch_up(line, cursor)?;
                        }
                        self.is_behind = false;
                        cursor.session = gateway.session().cloned();
                        self.commit(line, cursor);
                    }
                    Step::Event { kind, data, seq } => {
                        self.event(line, cursor, (&kind, &data, seq))?;
                        gateway.taken(seq);
                        crash::point("channel.acknowledged");
                    }
                }
            }
        }
    }

    fn event(&mut self, line: &Line, cursor: &mut Cursor, (kind, data, seq): (&str, &Value, u64)) -> Result<()> {
        if let Some(session) = &mut cursor.session {
            session.seq = session.seq.max(seq);
        }
        let read = if kind == "MESSAGE_CREATE" { message::read(data, &self.me, None) } else { None };
        let is_taken = match read {
            Some(read) => self.take(line, cursor, read)?,
            None => false,
        };
        if !is_taken {
            self.uncommitted += 1;
            if self.uncommitted >= UNCOMMITTED_MAX {
                self.commit(line, cursor);
            }
        }
        Ok(())
    }

    /// Takes a message with the cursor behind it; whether there was something to take.
    fn take(&mut self, line: &Line, cursor: &mut Cursor, read: Read) -> Result<bool> {
        let Some(mut incoming) = read.incoming else { return Ok(false) };
        let mut behind = cursor.clone();
        behind.saw(&read.channel, read.id, read.is_direct);
        incoming.cursor = Some(behind.text());
        let taken = taking::take(line, &incoming)?;
        *cursor = behind;
        self.uncommitted = 0;
        if let Taken::Tell(text) = taken
            && let Err(e) = self.api.post(&read.channel, &text, &format!("tell {}", read.id), None)
        {
            log::info!(channel = line.parts.name.as_str(); "an unknown sender could not be told: {e}");
        }
        Ok(true)
    }

    /// Reads what was written in known places since the last message seen there.
    fn catch_up(&mut self, line: &Line, cursor: &mut Cursor) -> Result<()> {
        let places: Vec<_> = cursor.places.iter().map(|(id, at)| (id.clone(), at.1)).collect();
        for (channel, is_direct) in places {
            for _ in 0..PAGES_MAX {
                let last = cursor.places.get(&channel).map_or(0, |p| p.0);
                let messages = match self.api.after(&channel, last, &line.cancel()) {
                    Ok(messages) => messages,
                    Err(e) if e.is_passing() => return Err(e),
                    Err(e) => {
                        log::info!(channel = line.parts.name.as_str(); "a place can't be read any more: {e}");
                        cursor.places.remove(&channel);
                        break;
                    }
                };
                let me = self.me.clone();
                for read in messages.iter().filter_map(|m| message::read(m, &me, Some(is_direct))) {
                    let (id, channel) = (read.id, read.channel.clone());
                    self.take(line, cursor, read)?;
                    cursor.saw(&channel, id, is_direct);
                }
                if messages.len() < PAGE {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Commits the cursor; a lost one costs a repeat.
    fn commit(&mut self, line: &Line, cursor: &Cursor) {
        match line.parts.inlet.set_cursor(&line.parts.name, &cursor.text()) {
            Ok(()) => self.uncommitted = 0,
            Err(why) => log::warn!(channel = line.parts.name.as_str(); "the cursor could not be committed: {why}"),
        }
    }
}

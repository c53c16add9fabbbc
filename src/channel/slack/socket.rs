//! Slack's Socket Mode: a WebSocket that Slack asks to be renewed every few hours.
//!
//! Invariant: an envelope is acknowledged after what is in it is on disk, or where there is nothing in it for us. On a `disconnect`
//! frame the new connection stands before the old one is left, and what the old one still holds is taken first. Fails as the
//! connection does; the supervisor begins anew.

use std::time::Duration;

use crate::base::crash;
use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::slack::api::Api;
use crate::channel::slack::frame::{Due, Frame, Me, QUIET, Watch, ack, read};
use crate::channel::supervisor::{Connection, Line};
use crate::channel::{Incoming, Taken, taking};
use crate::net::websocket::dial::{Dialed, Got, dial};

const DIAL: Duration = Duration::from_secs(20);
/// A connection that is to be renewed sooner than this is a failure: else we would go round for ever without a pause.
const RENEWED_MIN: Duration = Duration::from_secs(10);
/// Frames taken from a connection that is being left.
const LEFTOVERS_MAX: usize = 1000;

/// The connection.
pub struct SocketMode {
    /// The API.
    pub api: Api,
}

/// Why one socket is left.
enum After {
    Renew,
    Stop,
}

impl Connection for SocketMode {
    fn run(&mut self, line: &Line) -> Result<()> {
        let cancel = line.cancel();
        let me = self.api.me(&cancel)?;
        let mut socket = self.open(line)?;
        loop {
            let opened = line.parts.clock.mono();
            match self.serve(line, &me, &mut socket)? {
                After::Stop => {
                    socket.close(1000);
                    return Ok(());
                }
                After::Renew if line.parts.clock.mono().saturating_sub(opened) < RENEWED_MIN => {
                    return Err(Error::new(ErrorKind::Transient, "Slack ends its connections at once"));
                }
                After::Renew => {
                    let next = self.open(line)?;
                    self.leave(line, &me, socket);
                    socket = next;
                }
            }
        }
    }
}

impl SocketMode {
    fn open(&self, line: &Line) -> Result<Dialed> {
        let cancel = line.cancel();
        let url = self.api.connection(&cancel)?;
        dial(&url, &cancel, DIAL)
    }

    fn serve(&self, line: &Line, me: &Me, socket: &mut Dialed) -> Result<After> {
        let clock = &line.parts.clock;
        let (mut watch, begun, mut is_greeted) = (Watch::new(clock.mono()), clock.mono(), false);
        loop {
            if line.cancel().is_set() {
                return Ok(After::Stop);
            }
            if !is_greeted && clock.mono().saturating_sub(begun) >= QUIET {
                return Err(Error::new(ErrorKind::Timeout, "Slack did not say hello in time"));
            }
            let wait = match watch.due(clock.mono()) {
                Due::Wait(wait) if is_greeted => wait,
                Due::Wait(wait) => wait.min(QUIET.saturating_sub(clock.mono().saturating_sub(begun))),
                Due::Ping => {
                    socket.ping()?;
                    continue;
                }
                Due::Dead => return Err(Error::new(ErrorKind::Timeout, "Slack fell silent")),
            };
            let got = socket.recv(wait)?;
            if got != Got::Nothing {
                watch.heard(clock.mono());
                line.heard();
            }
            let Got::Text(text) = got else { continue };
            match read(&text, me) {
                Frame::Hello => {
                    is_greeted = true;
                    line.connected();
                }
                Frame::Refresh => return Ok(After::Renew),
                Frame::Disabled => {
                    let error = Error::new(ErrorKind::Permanent, "socket mode is switched off for this Slack app");
                    return Err(error.hint("switch it on in the app's settings"));
                }
                Frame::Envelope { id, incoming } => {
                    self.take(line, socket, &id, incoming)?;
                    // Taking may have waited: that was no silence of Slack's.
                    watch.heard(clock.mono());
                }
                Frame::Other => {}
            }
        }
    }

    fn take(&self, line: &Line, socket: &mut Dialed, id: &str, incoming: Option<Box<Incoming>>) -> Result<()> {
        let taken = match &incoming {
            Some(incoming) => Some(taking::take(line, incoming)?),
            None => None,
        };
        socket.send(&ack(id))?;
        crash::point("channel.acknowledged");
        if let (Some(Taken::Tell(text)), Some(conversation)) = (taken, incoming.and_then(|i| i.conversation))
            && let Err(e) = self.api.post(&conversation, &text)
        {
            log::info!(channel = line.parts.name.as_str(); "an unknown sender could not be told: {e}");
        }
        Ok(())
    }

    /// Takes what is there already; what isn't acknowledged by then comes again on the new connection.
    fn leave(&self, line: &Line, me: &Me, mut socket: Dialed) {
        for _ in 0..LEFTOVERS_MAX {
            let Ok(Got::Text(text)) = socket.recv(Duration::ZERO) else { break };
            if let Frame::Envelope { id, incoming } = read(&text, me)
                && self.take(line, &mut socket, &id, incoming).is_err()
            {
                return;
            }
        }
        socket.close(1000);
    }
}

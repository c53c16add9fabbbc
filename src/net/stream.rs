//! Answers that come piece by piece.
//!
//! Invariant: a stream ends once: finished, and then its reader knows that it has all; or dropped, and then its reader sees it
//! break off. Sending never blocks. It fails by saying that nobody reads any more.

use std::sync::{Mutex, PoisonError};

use crate::net::http::{Reply, Response};

/// The most that is gathered where pieces can't be passed on.
const GATHERED_MAX: usize = 4 << 20;

/// Called once, to say that somebody is gone.
pub type Tell = Box<dyn FnOnce() + Send>;

/// What stands behind a [`Stream`].
pub trait Sink: Send + Sync {
    /// Takes a piece; see [`Stream::send`].
    fn send(&self, piece: &[u8]) -> bool;
    /// Ends it well; see [`Stream::finish`].
    fn finish(self: Box<Self>, last: &[u8]);
    /// Breaks it off.
    fn abort(self: Box<Self>);
}

/// An answer under way. Dropped unfinished it breaks off, and its reader can tell.
pub struct Stream(Option<Box<dyn Sink>>);

impl Stream {
    /// A stream over `sink`.
    pub(super) fn new(sink: Option<Box<dyn Sink>>) -> Self {
        Stream(sink)
    }

    /// Sends a piece, from any thread. False where the reader is gone, or so slow that it was dropped: all further pieces are lost.
    pub fn send(&self, piece: impl AsRef<[u8]>) -> bool {
        self.0.as_ref().is_some_and(|s| s.send(piece.as_ref()))
    }

    /// Sends the last piece, which may be empty and is taken whatever its size, and ends the answer.
    pub fn finish(mut self, last: impl AsRef<[u8]>) {
        if let Some(sink) = self.0.take() {
            sink.finish(last.as_ref());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(sink) = self.0.take() {
            sink.abort();
        }
    }
}

/// Gathers the pieces for a way back that takes whole answers alone.
pub(super) struct Gathered(Mutex<Gathering>);

struct Gathering {
    reply: Box<dyn Reply>,
    head: Response,
    body: Vec<u8>,
    is_cut: bool,
}

impl Gathered {
    /// A sink in front of `reply`.
    pub fn sink(reply: Box<dyn Reply>, head: Response) -> Box<dyn Sink> {
        Box::new(Gathered(Mutex::new(Gathering { reply, head, body: Vec::new(), is_cut: false })))
    }
}

impl Sink for Gathered {
    fn send(&self, piece: &[u8]) -> bool {
        let mut gathering = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gathering.is_cut |= gathering.body.len() + piece.len() > GATHERED_MAX;
        if !gathering.is_cut {
            gathering.body.extend_from_slice(piece);
        }
        !gathering.is_cut
    }

    fn finish(self: Box<Self>, last: &[u8]) {
        let Gathering { reply, mut head, mut body, is_cut } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        body.extend_from_slice(last);
        head.body = body.into();
        let response = if is_cut { reply.abandoned() } else { head };
        reply.reply(response);
    }

    fn abort(self: Box<Self>) {
        let Gathering { reply, .. } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let response = reply.abandoned();
        reply.reply(response);
    }
}

//! Taking in with some patience: for connections on which what was not taken can't be handed back.
//!
//! Invariant: the service is told nothing of what was not taken. Ends early where the connection is to end.

use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::supervisor::Line;
use crate::channel::{Incoming, Taken};

/// Tries; the pauses between them double, 15 s in all: less than any service waits before it gives a silent client up.
const TRIES: u32 = 5;

/// Has `incoming` taken; where it can't be now, again after pauses.
///
/// # Errors
/// `Transient` where it could not be taken all that time: the connection is to be given up, and the service sends it again.
/// `Stopped` where the connection is to end.
pub fn take(line: &Line, incoming: &Incoming) -> Result<Taken> {
    let mut why = String::new();
    for n in 0..TRIES {
        match line.parts.inlet.take(&line.parts.name, incoming.clone()) {
            Ok(taken) => return Ok(taken),
            Err(not_now) => why = not_now.to_string(),
        }
        if n + 1 < TRIES && line.pause(Duration::from_secs(1 << n)) {
            return Err(Error::new(ErrorKind::Stopped, "the connection is to end"));
        }
    }
    Err(Error::new(ErrorKind::Transient, format!("a message could not be taken: {why}")))
}

//! Signals become events.
//!
//! Invariant: a second SIGTERM or SIGINT ends the process at once even where the event loop is busy: everything accepted is on
//! disk already.

use std::time::Duration;

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::stop::Stop;
use crate::base::threads::{STACK_SMALL, Threads};
use crate::gateway::Event;

/// Time that the event loop has for a second signal before the process is ended from here.
const GRACE: Duration = Duration::from_millis(1500);

/// The thread that listens; dropping this ends it.
pub struct Listening(Handle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Starts the thread that listens.
///
/// # Errors
/// Where the system refuses a handler or a thread.
pub fn start(threads: &Threads, stop: &Stop, events: Sender<Event>) -> Result<Listening> {
    let refused = |e: std::io::Error| Error::new(ErrorKind::Permanent, format!("signals can't be handled: {e}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(refused)?;
    let (handle, ending) = (Listening(signals.handle()), stop.clone());
    threads.spawn_once("signals", STACK_SMALL, move || {
        let mut ends = 0;
        for signal in signals.forever() {
            if signal == SIGHUP {
                let _ = events.try_send(Event::Reload); // full: a reload is on its way
                continue;
            }
            ends += 1;
            let _ = events.try_send(Event::Terminate);
            if ends >= 2 && !ending.wait(GRACE) {
                std::process::exit(1);
            }
        }
    })?;
    Ok(handle)
}

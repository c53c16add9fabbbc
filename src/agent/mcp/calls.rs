//! Who waits for which answer, where many share one connection.
//!
//! Invariant: an answer goes to the one that asked, whatever the order; one that nobody waits for is dropped, and nothing is kept of
//! it. At most [`WAITING_MAX`] wait. Once it is ended, all who wait and all who come fail with its reason.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use serde_json::Value;

use crate::agent::mcp::link::Failure;
use crate::agent::mcp::wire::Refusal;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind};

/// Most requests under way on one connection.
pub const WAITING_MAX: usize = 64;

/// The table.
#[derive(Default)]
pub struct Calls(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    last: u64,
    waiting: HashMap<u64, Sender<Result<Value, Failure>>>,
    over: Option<Error>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in the table under a new id.
    ///
    /// # Errors
    /// `Unsent` where the connection is over or too many wait.
    pub fn open(self: &Arc<Self>) -> Result<Ticket, Failure> {
        let mut inner = self.lock();
        if let Some(why) = &inner.over {
            return Err(Failure::Unsent(why.clone()));
        }
        if inner.waiting.len() >= WAITING_MAX {
            return Err(Failure::Unsent(Error::new(ErrorKind::Transient, "too many calls wait for this server already")));
        }
        inner.last += 1;
        // Room for the answer and for the cancellation: neither side ever blocks.
        let (tx, rx) = crossbeam_channel::bounded(2);
        let id = inner.last;
        inner.waiting.insert(id, tx.clone());
        Ok(Ticket { id, calls: self.clone(), tx, rx })
    }

    /// An id for what has no answer to wait for.
    pub fn fresh_id(&self) -> u64 {
        let mut inner = self.lock();
        inner.last += 1;
        inner.last
    }

    /// Hands an answer to whoever waits for it; false where nobody does.
    pub fn answer(&self, id: u64, result: Result<Value, Refusal>) -> bool {
        let waiter = self.lock().waiting.remove(&id);
        waiter.is_some_and(|tx| tx.try_send(result.map_err(Failure::Refused)).is_ok())
    }

    /// Whether anybody waits.
    pub fn is_idle(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Ends it; the first reason stays.
    pub fn end(&self, why: Error) {
        let waiting = {
            let mut inner = self.lock();
            if inner.over.is_none() {
                inner.over = Some(why.clone());
            }
            std::mem::take(&mut inner.waiting)
        };
        for tx in waiting.into_values() {
            let _ = tx.try_send(Err(Failure::Lost(why.clone()))); // who waited may have gone
        }
    }

    /// Why it is over, if it is.
    pub fn over(&self) -> Option<Error> {
        self.lock().over.clone()
    }
}

/// A place in the table; given back when it is dropped.
pub struct Ticket {
    /// The request's id.
    pub id: u64,
    calls: Arc<Calls>,
    tx: Sender<Result<Value, Failure>>,
    rx: Receiver<Result<Value, Failure>>,
}

impl Ticket {
    /// Waits for the answer.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn wait(&self, at_most: Duration, cancel: &Cancel) -> Result<Value, Failure> {
        let tx = self.tx.clone();
        let _hook = cancel.on_set(move || drop(tx.try_send(Err(Failure::Cancelled))));
        self.rx.recv_timeout(at_most).unwrap_or(Err(Failure::Late))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.calls.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::Why;
    use serde_json::json;

    const LONG: Duration = Duration::from_secs(5);

    #[test]
    fn answers_find_their_way_in_any_order() {
        let (calls, never) = (Arc::new(Calls::default()), Cancel::new());
        let (a, b) = (calls.open().unwrap(), calls.open().unwrap());
        assert!(calls.answer(b.id, Ok(json!("b"))) && calls.answer(a.id, Ok(json!("a"))));
        assert!(!calls.answer(99, Ok(json!("nobody's"))) && !calls.answer(a.id, Ok(json!("again"))));
        assert_eq!((a.wait(LONG, &never).unwrap(), b.wait(LONG, &never).unwrap()), (json!("a"), json!("b")));
    }

    #[test]
    fn waiting_ends() {
        let (calls, cancel) = (Arc::new(Calls::default()), Cancel::new());
        let late = calls.open().unwrap();
        assert!(matches!(late.wait(Duration::from_millis(1), &cancel), Err(Failure::Late)));
        let id = late.id;
        drop(late);
        assert!(!calls.answer(id, Ok(json!("too late"))) && calls.is_idle());
        cancel.set(Why::Asked);
        assert!(matches!(calls.open().unwrap().wait(LONG, &cancel), Err(Failure::Cancelled)));
        let lost = calls.open().unwrap();
        calls.end(Error::new(ErrorKind::Transient, "gone"));
        assert!(matches!(lost.wait(LONG, &Cancel::new()), Err(Failure::Lost(e)) if e.text == "gone"));
        assert!(matches!(calls.open(), Err(Failure::Unsent(_))));
    }

    #[test]
    fn the_table_has_an_end() {
        let calls = Arc::new(Calls::default());
        let held: Vec<_> = (0..WAITING_MAX).map(|_| calls.open().unwrap()).collect();
        assert!(calls.open().is_err());
        drop(held);
        assert!(calls.open().is_ok());
    }
}

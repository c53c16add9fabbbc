//! One value from one thread to another, once.
//!
//! Invariant: what is not taken is given back to who gave it, as long as that can be known. Instead of a channel of its own for every
//! type, which each take some kilobytes of code. Waiting has a deadline. Cannot fail otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

/// The giving end.
#[derive(Debug)]
pub struct Giver<T> {
    place: Arc<Mutex<Option<T>>>,
    nudge: Sender<()>,
}

/// The taking end.
#[derive(Debug)]
pub struct Taker<T> {
    place: Arc<Mutex<Option<T>>>,
    nudged: Receiver<()>,
}

/// Both ends.
pub fn handover<T>() -> (Giver<T>, Taker<T>) {
    let place = Arc::new(Mutex::new(None));
    let (nudge, nudged) = crossbeam_channel::bounded(1);
    (Giver { place: place.clone(), nudge }, Taker { place, nudged })
}

impl<T> Giver<T> {
    /// Gives it.
    ///
    /// # Errors
    /// The value, where nobody waits any more.
    pub fn give(self, value: T) -> Result<(), T> {
        let put = |value| std::mem::replace(&mut *self.place.lock().unwrap_or_else(PoisonError::into_inner), value);
        put(Some(value));
        if self.nudge.send(()).is_err()
            && let Some(value) = put(None)
        {
            return Err(value);
        }
        Ok(())
    }
}

impl<T> Taker<T> {
    /// Waits at most `timeout` for it; `None` as well where the giver is gone.
    pub fn take(&self, timeout: Duration) -> Option<T> {
        let _ = self.nudged.recv_timeout(timeout);
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_once_or_goes_back() {
        let (giver, taker) = handover();
        assert_eq!(giver.give(1), Ok(()));
        assert_eq!((taker.take(Duration::from_secs(5)), taker.take(Duration::ZERO)), (Some(1), None));
        let (giver, taker) = handover();
        drop(taker);
        assert_eq!(giver.give(2), Err(2));
        let (giver, taker) = handover::<i32>();
        assert_eq!(taker.take(Duration::ZERO), None);
        drop(giver);
        assert_eq!(taker.take(Duration::from_secs(60)), None, "at once");
    }
}

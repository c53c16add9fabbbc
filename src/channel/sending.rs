//! What adapters that send by calls have in common: a text in parts, and the direct conversation with each user.
//!
//! Invariant: a part that was confirmed, at this try or a former one, is not sent again; each is recorded before the next one goes. A
//! pause is waited for only where it is short and something has been sent already, and ends at a stop. Fails as the calls do.

use std::time::Duration;

use crate::base::cache::Cache;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::stop::Stop;
use crate::channel::Progress;
use crate::domain::Delivery;

/// A pause that a service asks for between two parts of one message is waited for up to this; a longer one is the delivery's.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Direct conversations remembered, and for how long.
const DIRECTS_MAX: usize = 256;
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Sends what is left of `parts` by `post`, which is given each part's number, from 0.
///
/// # Errors
/// As `post`; `Stopped` where `stop` was set during a pause.
pub fn in_order<T, E>(
    parts: &[T],
    progress: &Progress<'_>,
    stop: &Stop,
    mut post: impl FnMut(usize, &T) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<Error> + AsRef<Error>,
{
    let done = progress.done as usize;
    for (n, part) in parts.iter().enumerate().skip(done) {
        if let Err(e) = post(n, part) {
            match e.as_ref().kind {
                ErrorKind::Throttled(Some(pause)) if n > done && pause <= PAUSE_MAX => {
                    if stop.wait(pause) {
                        return Err(Error::new(ErrorKind::Stopped, "the channel ends").into());
                    }
                    post(n, part)?;
                }
                _ => return Err(e),
            }
        }
        (progress.record)(n as u32 + 1);
    }
    Ok(())
}

/// The direct conversation that a service has for each user, under an id of its own.
pub struct Directs(Cache<String>);

impl Directs {
    /// None is known.
    pub fn new(clock: Clock) -> Self {
        Directs(Cache::new(DIRECTS_MAX, clock))
    }

    /// Where a delivery goes: its conversation, else the direct one with its recipient, which `open` asks the service for.
    ///
    /// # Errors
    /// As `open`.
    pub fn place(&self, delivery: &Delivery, open: impl FnOnce(&str) -> Result<String>) -> Result<String> {
        match &delivery.conversation_id {
            Some(conversation) => Ok(conversation.clone()),
            None => self.0.get(&delivery.peer, || Ok((open(&delivery.peer)?, REMEMBERED))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::channel::memory::delivery;

    /// Sends four parts behind `done`, where the calls of `refused` (from 0) are refused with `pause_s`; gives the numbers called, those
    /// recorded, and the end.
    fn sent(done: u32, refused: &[usize], pause_s: u64, stopped: bool) -> (Vec<usize>, Vec<u32>, Option<ErrorKind>) {
        let (called, recorded, stop) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()), Stop::new());
        if stopped {
            stop.set();
        }
        let record = |n| recorded.borrow_mut().push(n);
        let result = in_order(&["a", "b", "c", "d"], &Progress { done, record: &record, may_repeat: false }, &stop, |n, part| {
            assert_eq!(["a", "b", "c", "d"][n], *part);
            called.borrow_mut().push(n);
            match refused.contains(&(called.borrow().len() - 1)) {
                true => Err(Error::new(ErrorKind::Throttled(Some(Duration::from_secs(pause_s))), "slower")),
                false => Ok(()),
            }
        });
        (called.into_inner(), recorded.into_inner(), result.err().map(|e| e.kind))
    }

    #[test]
    fn what_is_confirmed_is_recorded_and_not_sent_again() {
        let throttled = |s| Some(ErrorKind::Throttled(Some(Duration::from_secs(s))));
        assert_eq!(sent(0, &[], 0, false), (vec![0, 1, 2, 3], vec![1, 2, 3, 4], None));
        assert_eq!(sent(3, &[], 0, false), (vec![3], vec![4], None));
        assert_eq!(sent(4, &[], 0, false), (vec![], vec![], None), "all was confirmed before");
        assert_eq!(sent(1, &[0], 0, false), (vec![1], vec![], throttled(0)), "the first of a try waits for nothing");
        assert_eq!(sent(0, &[2], 0, false), (vec![0, 1, 2, 2, 3], vec![1, 2, 3, 4], None), "a short pause");
        assert_eq!(sent(0, &[2, 3], 0, false), (vec![0, 1, 2, 2], vec![1, 2], throttled(0)), "once");
        assert_eq!(sent(0, &[2], 6, false), (vec![0, 1, 2], vec![1, 2], throttled(6)), "a long one");
        assert_eq!(sent(0, &[2], 5, true), (vec![0, 1, 2], vec![1, 2], Some(ErrorKind::Stopped)));
    }

    #[test]
    fn a_direct_conversation_is_asked_for_once() {
        let (directs, asked) = (Directs::new(Clock::system()), RefCell::new(0));
        let open = |user: &str| {
            *asked.borrow_mut() += 1;
            Ok(format!("D{user}"))
        };
        let away = |_: &str| Err(Error::new(ErrorKind::Transient, "away"));
        assert!(directs.place(&delivery("7", "hi"), away).is_err(), "a failure is not kept");
        assert_eq!(directs.place(&delivery("7", "hi"), open).unwrap(), "D7");
        assert_eq!(directs.place(&delivery("7", "hi"), away).unwrap(), "D7");
        let there = Delivery { conversation_id: Some("C1".into()), ..delivery("8", "hi") };
        assert_eq!(directs.place(&there, away).unwrap(), "C1");
        (0..2 * DIRECTS_MAX).for_each(|n| drop(directs.place(&delivery(&n.to_string(), "hi"), open).unwrap()));
        assert_eq!(directs.0.len(), DIRECTS_MAX);
    }
}

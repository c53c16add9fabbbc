//! Cutting short what one thread does, from another: a flag, its reason, and hooks that wake what blocks.
//!
//! Invariant: once set it stays set, with its first reason. A hook runs at most once, on the thread that cancels, or at once
//! where it comes too late; it must be short and not block. It cannot fail.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why something is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody asked for it (`/stop`, an operator, a caller that hung up).
    Asked,
    /// The gateway drains.
    Drain,
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Inner {
    why: Option<Why>,
    next: u64,
    hooks: Vec<(u64, Hook)>,
}

/// A cancellation; clones share it.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<Inner>>);

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.why()).finish()
    }
}

impl Cancel {
    /// One that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets it and runs the hooks; later calls change nothing.
    pub fn set(&self, why: Why) {
        let hooks = {
            let mut inner = self.lock();
            if inner.why.is_some() {
                return;
            }
            inner.why = Some(why);
            std::mem::take(&mut inner.hooks)
        };
        hooks.into_iter().for_each(|(_, hook)| hook()); // outside of the lock
    }

    /// Why it is set, if it is.
    pub fn why(&self) -> Option<Why> {
        self.lock().why
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.why().is_some()
    }

    /// Has `hook` run when it is set, at once where it is set already; not any more once the guard is dropped.
    #[must_use = "dropping the guard takes the hook back"]
    pub fn on_set(&self, hook: impl FnOnce() + Send + 'static) -> Guard {
        let id = {
            let mut inner = self.lock();
            inner.next += 1;
            let id = inner.next;
            if inner.why.is_none() {
                inner.hooks.push((id, Box::new(hook)));
                return Guard { cancel: self.clone(), id };
            }
            id
        };
        hook();
        Guard { cancel: self.clone(), id }
    }
}

/// Takes a hook back when it is dropped.
pub struct Guard {
    cancel: Cancel,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let hook = {
            let mut inner = self.cancel.lock();
            inner.hooks.iter().position(|(id, _)| *id == self.id).map(|at| inner.hooks.swap_remove(at))
        };
        drop(hook); // outside of the lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn hooks_run_once_or_not_at_all() {
        let (cancel, runs) = (Cancel::new(), Arc::new(AtomicU32::new(0)));
        let count = |n: u32| {
            let runs = runs.clone();
            move || {
                runs.fetch_add(n, Ordering::SeqCst);
            }
        };
        let kept = cancel.on_set(count(1));
        drop(cancel.on_set(count(10)));
        assert!(!cancel.is_set());
        cancel.clone().set(Why::Asked);
        cancel.set(Why::Drain);
        assert_eq!((runs.load(Ordering::SeqCst), cancel.why()), (1, Some(Why::Asked)));
        let late = cancel.on_set(count(100));
        assert_eq!(runs.load(Ordering::SeqCst), 101);
        drop((kept, late));
    }
}

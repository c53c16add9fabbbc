//! A value that a reload replaces while others read it.
//!
//! Invariant: a reader sees the old value or the new one, never a mixture; the write never waits for a reader's work, since
//! readers take an `Arc` and go. It cannot fail: a poisoned lock still holds a whole `Arc`.

use std::sync::{Arc, PoisonError, RwLock};

/// A replaceable shared value.
#[derive(Debug)]
pub struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    /// A cell with its first value.
    pub fn new(value: T) -> Self {
        Live(RwLock::new(Arc::new(value)))
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the value; gives the former one back.
    pub fn set(&self, value: T) -> Arc<T> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), Arc::new(value))
    }
}

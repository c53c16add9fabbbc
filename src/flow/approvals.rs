//! A person's decision on a tool call: one way for the API, the command line, the WebSocket and the chat.
//!
//! Invariant: the first decision counts; every one leaves a trace and wakes the turn that waits for it. The caller has checked who
//! decides. Fails as the store does: `Conflict` where it is decided already.

use serde_json::json;

use crate::domain::{Approval, Decision};
use crate::flow::Flow;
use crate::store::{AuditEntry, Result};

impl Flow {
    /// Decides a pending approval in the name of `by`. Blocks for the commit: not for the door's thread or a WebSocket's.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where it is decided already, expired, or one rule too many.
    pub fn decide(&self, id: &str, decision: Decision, by: &str) -> Result<Approval> {
        let approval = self.store.decide_approval(id, decision, by)?;
        let detail = json!({
            "approvalId": approval.id, "decision": decision.as_str(), "tool": approval.tool, "digest": approval.digest,
            "messageId": approval.message_id, "userId": approval.user_id,
        });
        self.store.audit(AuditEntry {
            at_ms: self.clock.unix_ms(),
            actor: by.to_string(),
            action: "approval.decided".into(),
            detail: detail.clone(),
        });
        self.hub.event("approval.decided", detail);
        self.nudge_turns();
        log::info!(approval_id = id, by = by; "approval decided: {}", decision.as_str());
        Ok(approval)
    }
}

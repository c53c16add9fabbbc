//! Approvals: questions to the operators are shown when they are asked, decided in one way whoever decides (API, command line,
//! WebSocket, chat), and a no when nobody answers in time.
//!
//! Invariant: the store holds a question before anybody sees it; what is shown is a copy. The first decision counts; every one
//! leaves a trace and wakes the turn that waits for it. Who decides was checked by the caller. Expiry goes by the wall clock, since it
//! must hold over a restart. Deciding fails as the store does: `Conflict` where it is decided already.

use serde_json::json;

use crate::domain::{Approval, Decision};
use crate::flow::Flow;
use crate::store::{AuditEntry, Result, StoreError};

impl Flow {
    /// Decides a pending approval in the name of `by`. Blocks for the commit: not for the door's thread or a WebSocket's.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where it is decided already, expired, or one rule too many.
    pub fn decide(&self, id: &str, decision: Decision, by: &str) -> Result<Approval> {
        let approval = self.store.decide_approval(id, decision, by)?;
        self.trace(&approval, "approval.decided", by);
        self.hub.approval(&approval);
        self.hub.event("approval.decided", json!({"approvalId": id, "decision": decision.as_str(), "by": by}));
        self.nudge_turns();
        log::info!(approval = id, by; "a tool call was decided: {}", decision.as_str());
        Ok(approval)
    }

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

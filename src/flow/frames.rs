//! The gateway's own WebSocket frames, as JSON text. The contract lists them; clients may rely on every key.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::{Approval, ApprovalState, Delivery};

/// A message to the user. A reply bears the id of the message it answers, as its deltas do; any other its delivery's id.
pub fn message(delivery: &Delivery) -> Arc<str> {
    let mut frame = json!({
        "type": "message",
        "messageId": delivery.in_reply_to.as_ref().unwrap_or(&delivery.id),
        "deliveryId": delivery.id,
        "message": delivery.message,
    });
    if let Some(id) = &delivery.in_reply_to {
        frame["inReplyTo"] = json!(id);
    }
    frame.to_string().into()
}

/// A piece of the answer to `message_id`, while the model speaks.
pub fn delta(message_id: &str, text: &str) -> Arc<str> {
    json!({"type": "delta", "messageId": message_id, "text": text}).to_string().into()
}

/// Something happened; for operators.
pub fn event(name: &str, detail: Value) -> Arc<str> {
    json!({"type": "event", "event": name, "detail": detail}).to_string().into()
}

/// A question to the operators, or how it was settled; its author sees it, too, and may not decide for that.
pub fn approval(approval: &Approval, may_decide: bool) -> Arc<str> {
    let mut frame = json!({"type": "approval"});
    if let (Some(frame), Ok(Value::Object(fields))) = (frame.as_object_mut(), serde_json::to_value(approval)) {
        frame.extend(fields);
        frame.insert("mayDecide".into(), (may_decide && approval.state == ApprovalState::Pending).into());
    }
    frame.to_string().into()
}

/// An error that concerns one frame of the client, or one message.
pub fn error(status: u16, code: &str, message: &str) -> Value {
    json!({"type": "error", "status": status, "code": code, "message": message})
}

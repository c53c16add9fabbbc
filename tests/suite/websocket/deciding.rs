//! Frames that decide and stop: who may, and what they say where there is nothing to decide.

use serde_json::json;

use crate::support::gateway::{Gateway, OPERATOR, USER};
use crate::support::model::echo_config;
use crate::support::ws::Ws;

#[test]
fn a_decision_is_an_operators() {
    let gateway = Gateway::start(echo_config());
    let (mut user, mut operator) = (Ws::join(&gateway, USER), Ws::join(&gateway, OPERATOR));
    let frame = |id: &str, decision: &str| json!({"type": "approve", "id": id, "decision": decision});
    user.send(frame("apr_x", "allow"));
    let refused = user.until_any(&["error"]);
    assert_eq!((&refused["status"], &refused["code"], &refused["id"]), (&json!(403), &json!("forbidden"), &json!("apr_x")));
    operator.send(frame("apr_x", "allow"));
    assert_eq!(operator.until_any(&["error"])["status"], 404);
    for bad in [json!({"type": "approve"}), frame("apr_x", "perhaps"), json!({"type": "approve", "id": 1, "decision": "allow"})] {
        operator.send(bad.clone());
        assert_eq!(operator.until_any(&["error"])["status"], 400, "{bad}");
    }
    user.send(json!({"type": "stop"}));
    user.send(json!({"type": "message", "id": "c1", "message": "hi"}));
    assert_eq!(user.until_any(&["message", "error"])["message"], "echo: hi", "nothing to stop is no error");
}

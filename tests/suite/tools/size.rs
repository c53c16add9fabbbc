//! How small a prompt is.

use serde_json::json;

use super::told;
use crate::support::figure;
use crate::support::gateway::Gateway;
use crate::support::merged;

#[test]
fn hi_costs_two_kilobytes_without_tools_and_four_with_the_default_set() {
    let model = told();
    let plain = Gateway::start(merged(model.config(), json!({"tools": {"default": "deny", "rules": []}})));
    plain.ask("ana", "hi");
    let whole = Gateway::start(model.config());
    whole.ask("ana", "hi");
    let sizes: Vec<_> = model.asked().iter().map(|q| (q.body.to_string().len(), q.tools.len())).collect();
    figure(&format!("prompt for \"hi\": {} bytes without tools, {} bytes with {} tools", sizes[0].0, sizes[1].0, sizes[1].1));
    assert!(sizes[0].0 <= 2048 && sizes[0].1 == 0, "{sizes:?}");
    assert!(sizes[1].0 <= 4096 && sizes[1].1 >= 8, "{sizes:?}");
}

//! What Home Assistant reads to show the gateway by itself: a device with its connectivity and the time of its last message.
//!
//! Invariant: retained configuration under `homeassistant/`, the same at each connection, so that Home Assistant finds it whenever
//! it starts. The connectivity is the retained status and has no availability of its own (it would hide that it is off); the
//! other sensors are unavailable while it is off. Pure.

use serde_json::{Value, json};

/// Where the time of the last message stands.
pub fn last_message_topic(status: &str) -> String {
    format!("{status}/last_message")
}

/// Topics and payloads to be retained. `node` identifies the device for good; `status` is the topic of `online` and `offline`.
pub fn configs(node: &str, channel: &str, status: &str) -> Vec<(String, String)> {
    let node: String = node.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect();
    let config = |kind: &str, key: &str, name: &str, state_topic: &str, own: Value| {
        let mut config = json!({
            "name": name,
            "unique_id": format!("{node}_{key}"),
            "state_topic": state_topic,
            "entity_category": "diagnostic",
            "device": {
                "identifiers": [node],
                "name": format!("gatelet {channel}"),
                "manufacturer": "gatelet",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
            "origin": {"name": "gatelet", "sw_version": env!("CARGO_PKG_VERSION")},
        });
        if let (Value::Object(all), Value::Object(own)) = (&mut config, own) {
            all.extend(own);
        }
        (format!("homeassistant/{kind}/{node}/{key}/config"), config.to_string())
    };
    let connectivity = json!({"device_class": "connectivity", "payload_on": "online", "payload_off": "offline"});
    let last = json!({"device_class": "timestamp", "availability_topic": status});
    vec![
        config("binary_sensor", "connectivity", "Connectivity", status, connectivity),
        config("sensor", "last_message", "Last message", &last_message_topic(status), last),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_hold_no_more_than_home_assistant_reads() {
        let all = configs("my/node+1", "home", "gatelet/status/home");
        let topics: Vec<&str> = all.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(
            topics,
            ["homeassistant/binary_sensor/my_node_1/connectivity/config", "homeassistant/sensor/my_node_1/last_message/config"]
        );
        for (_, payload) in &all {
            let config: Value = serde_json::from_str(payload).unwrap();
            assert!(config["unique_id"].as_str().unwrap().starts_with("my_node_1_"));
            assert_eq!(config["device"]["identifiers"][0], "my_node_1");
        }
        let last: Value = serde_json::from_str(&all[1].1).unwrap();
        assert_eq!(last["availability_topic"], "gatelet/status/home");
        assert_eq!(last["state_topic"], "gatelet/status/home/last_message");
    }
}

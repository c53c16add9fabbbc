//! Memory: notes come back where they fit, as quoted data, to their own user alone; and go when they are to go.

use serde_json::{Value, json};

use super::{told, with_tools};
use crate::support::gateway::{ADMIN, Gateway, OTHER, USER};
use crate::support::model::Model;

fn notes(gateway: &Gateway, user: &str) -> Vec<Value> {
    gateway.get(&format!("/api/memory?userId={user}")).expect(200).json()["memory"].as_array().unwrap().clone()
}

fn system(model: &Model) -> String {
    model.asked().last().unwrap().body["messages"][0]["content"].as_str().unwrap().to_string()
}

#[test]
fn what_fits_comes_back_in_any_script() {
    let model = told();
    let gateway = Gateway::start(with_tools(&model, json!({"default": "allow"})));
    for text in ["likes green tea with ginger", "小明住在上海,喜欢骑自行车", "ทำงานที่ธนาคารกรุงเทพ", "drives an old Škoda"]
    {
        gateway.ask("ana", &format!("CALL memory.save {}", json!({"text": text})));
    }
    gateway.ask("bob", "CALL memory.save {\"text\": \"hates tea\"}");
    for (asks, finds) in
        [("which TEA should I buy?", "ginger"), ("我想买一辆自行车", "上海"), ("ธนาคาร", "กรุงเทพ"), ("skoda parts", "Škoda")]
    {
        gateway.ask("ana", asks);
        let system = system(&model);
        assert!(system.contains(finds) && !system.contains("hates"), "{asks}: {system}");
    }
    gateway.ask("ana", "nothing of the kind");
    assert!(!system(&model).contains("ginger"));
}

#[test]
fn a_user_sees_edits_and_erases_its_own() {
    let gateway = Gateway::start(Model::echo().config());
    let add = |token: &str, user: &str| {
        gateway.call("POST", "/api/memory").token(token).json(&json!({"userId": user, "text": "likes tea"})).send()
    };
    let note = add(USER, "ana").expect(201).json();
    add(USER, "bob").expect_error(403, "forbidden");
    let path = format!("/api/memory/{}", note["id"].as_str().unwrap());
    gateway.call("PUT", &path).token(OTHER).json(&json!({"text": "x"})).send().expect_error(404, "not_found");
    gateway.call("DELETE", &path).token(OTHER).send().expect_error(404, "not_found");
    let changed = gateway.call("PUT", &path).token(USER).json(&json!({"text": "likes coffee"})).send().expect(200).json();
    assert_eq!((changed["text"].as_str(), notes(&gateway, "ana").len()), (Some("likes coffee"), 1));
    gateway.call("DELETE", &path).token(USER).send().expect(204);
    gateway.call("DELETE", &path).token(USER).send().expect_error(404, "not_found");
    assert!(notes(&gateway, "ana").is_empty());
}

#[test]
fn erasing_a_user_erases_its_notes() {
    let model = told();
    let gateway = Gateway::start(with_tools(&model, json!({"default": "allow"})));
    let canary = "canary-7f3b9c1d5e8a2046";
    gateway.ask("ana", &format!("CALL memory.save {}", json!({"text": format!("the word is {canary}")})));
    assert_eq!(notes(&gateway, "ana").len(), 1);
    gateway.call("DELETE", "/api/sessions/ana").token(ADMIN).send().expect(204);
    assert!(notes(&gateway, "ana").is_empty());
    gateway.ask("ana", "what is the word?");
    assert!(!system(&model).contains(canary));
}

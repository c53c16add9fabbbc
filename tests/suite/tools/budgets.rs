//! Budgets: a limit that is reached is told to the user and to the operators, and counts stay true.

use serde_json::{Value, json};

use super::{audit, call, calling, with_tools};
use crate::support::gateway::{Gateway, OPERATOR, USER};
use crate::support::merged;
use crate::support::model::Model;
use crate::support::ws::Ws;

fn limited(model: &Model, limits: Value) -> Gateway {
    Gateway::start(merged(model.config(), json!({"agents": {"main": limits}})))
}

#[test]
fn a_day_of_an_agent_and_of_a_user() {
    // The scripted model counts 10 tokens an answer.
    for (limits, says, bob) in [
        (json!({"tokensPerDay": 20}), "tokens a day of agent main", false),
        (json!({"tokensPerUserDay": 20}), "Your limit of 20 tokens", true),
    ] {
        let model = Model::echo();
        let mut gateway = limited(&model, limits.clone());
        let mut operator = Ws::join(&gateway, OPERATOR);
        assert_eq!(gateway.ask("ana", "1"), "echo: 1");
        gateway.kill9();
        gateway.restart();
        assert_eq!(gateway.ask("ana", "2"), "echo: 2", "{limits}");
        operator = {
            drop(operator);
            Ws::join(&gateway, OPERATOR)
        };
        let told = gateway.ask("ana", "3");
        assert!(told.contains(says) && told.contains("UTC"), "{told}");
        let events = operator.gather(500);
        assert!(events.iter().any(|f| f["event"] == "budget.reached"), "{events:?}");
        assert_eq!(model.times("3"), 0);
        assert_eq!(gateway.ask("bob", "4") == "echo: 4", bob);
        assert!(!audit(&gateway, "budget.reached").is_empty());
    }
}

#[test]
fn a_turn_that_takes_too_many_tokens_is_ended() {
    let model = calling((0..7).map(|n| vec![call("memory.search", json!({"query": format!("q{n}")}))]).collect());
    let config = merged(with_tools(&model, json!({"default": "allow"})), json!({"agents": {"main": {"tokensPerTurn": 25}}}));
    let gateway = Gateway::start(config);
    let told = gateway.ask("ana", "go");
    assert!(told.contains("25 tokens"), "{told}");
    assert_eq!(model.asked().len(), 3);
}

#[test]
fn usage_by_day_user_provider_and_session() {
    let model = Model::echo();
    let gateway = Gateway::start(model.config());
    for (user, text) in [("ana", "1"), ("ana", "2"), ("bob", "3")] {
        gateway.ask(user, text);
    }
    let usage = gateway.get("/api/usage").expect(200).json()["usage"].as_array().unwrap().clone();
    let of = |user: &str| usage.iter().find(|u| u["userId"] == user).cloned().unwrap();
    assert_eq!((&of("ana")["tokensIn"], &of("ana")["tokensOut"], &of("ana")["calls"]), (&json!(10), &json!(10), &json!(2)));
    assert_eq!((&of("bob")["agent"], &of("bob")["provider"]), (&json!("main"), &json!("stub")));
    let own = gateway.call("GET", "/api/usage").token(USER).send().expect(200).json();
    assert!(own["usage"].as_array().unwrap().iter().all(|u| u["userId"] == "ana"), "{own}");
    let session = gateway.get("/api/sessions/ana").expect(200).json()["sessions"][0].clone();
    assert_eq!((&session["tokensIn"], &session["tokensOut"]), (&json!(10), &json!(10)));
}

//! The rules: a table, and what holds for all tables.

use super::*;
use crate::agent::tools::policy::Policy;

fn about(name: &str, safe: bool) -> About {
    About { safe, ..About::new(name, "", json!({})) }
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[track_caller]
fn check(rules: &[&str], name: &str, who: &Who, arguments: Value, expected: Action) {
    let policy = Policy::new(&tools(Action::Ask, rules));
    let found = policy.ruling(&about(name, false), who, &map(arguments)).action;
    assert_eq!(found, expected, "{rules:?} for {name} of {who:?}");
}

#[test]
fn the_first_that_fits() {
    use Action::{Allow, Ask, Deny};
    let ana = who(Standing::User);
    check(&[], "t", &ana, json!({}), Ask);
    check(&["allow t", "deny t"], "t", &ana, json!({}), Allow);
    check(&["deny t", "allow t"], "t", &ana, json!({}), Deny);
    check(&["allow time.*"], "time.now", &ana, json!({}), Allow);
    check(&["allow time.*"], "timeXnow", &ana, json!({}), Ask);
    check(&["deny *"], "any.thing", &ana, json!({}), Deny);
    check(&["allow t agent=m*n channel=do* user=a*"], "t", &ana, json!({}), Allow);
    for other in ["agent=other", "channel=other", "user=bob", "role=operator", "role=admin", "role=unverified"] {
        check(&[&format!("allow t {other}")], "t", &ana, json!({}), Ask);
    }
    check(&["allow t role=user"], "t", &ana, json!({}), Allow);
    check(&["allow t role=user"], "t", &who(Standing::Admin), json!({}), Ask);
}

#[test]
fn arguments() {
    use Action::{Allow, Ask, Deny};
    let ana = who(Standing::User);
    let rules = &["allow t arguments.url=https://example.org/*"][..];
    check(rules, "t", &ana, json!({"url": "https://example.org/x"}), Allow);
    check(rules, "t", &ana, json!({"url": "https://example.org.evil/x"}), Ask);
    check(rules, "t", &ana, json!({"url": ["https://example.org/x"]}), Ask);
    check(rules, "t", &ana, json!({}), Ask);
    check(rules, "t", &ana, json!({"URL": "https://example.org/x"}), Ask);
    check(&["deny t arguments.n=1", "allow t"], "t", &ana, json!({"n": 1}), Deny);
    check(&["deny t arguments.n=1", "allow t"], "t", &ana, json!({"n": "1"}), Deny);
    check(&["deny t arguments.n=1", "allow t"], "t", &ana, json!({"n": 2}), Allow);
    check(&["deny t arguments.n=*", "allow t"], "t", &ana, json!({"n": null}), Deny);
    check(&["deny t arguments.n=*", "allow t"], "t", &ana, json!({}), Allow);
    check(&["allow t arguments.a=1 arguments.b=true"], "t", &ana, json!({"a": 1, "b": true}), Allow);
    check(&["allow t arguments.a=1 arguments.b=true"], "t", &ana, json!({"a": 1}), Ask);
    check(&["deny t arguments.o={\"a\":1,\"b\":*}", "allow t"], "t", &ana, json!({"o": {"b": 2, "a": 1}}), Deny);
    check(&["deny t arguments.l=*\"-rf\"*", "allow t"], "t", &ana, json!({"l": ["x", "-rf"]}), Deny);
}

#[test]
fn what_is_not_known_gives_nothing() {
    use Action::{Allow, Ask, Deny};
    let nobody = Who { user_id: String::new(), ..who(Standing::User) };
    check(&["deny t user=bob", "allow t"], "t", &nobody, json!({}), Deny);
    check(&["allow t user=*"], "t", &nobody, json!({}), Ask);
    check(&["allow t user=*", "allow t"], "t", &nobody, json!({}), Allow);
    check(&["deny t user=bob arguments.x=1", "allow t"], "t", &nobody, json!({}), Allow);
    check(&["deny t user=bob channel=other", "allow t"], "t", &nobody, json!({}), Allow);
    let policy = Policy::new(&tools(Action::Allow, &["deny s role=user", "allow s role=unverified", "allow s"]));
    let stranger = who(Standing::Unverified);
    assert_eq!(policy.ruling(&about("s", true), &stranger, &Map::new()).action, Deny);
    let policy = Policy::new(&tools(Action::Deny, &["allow s role=unverified"]));
    assert_eq!(policy.ruling(&about("s", true), &stranger, &Map::new()).action, Allow, "it is named");
    assert_eq!(policy.ruling(&about("s", false), &stranger, &Map::new()).action, Deny, "and yet not for what isn't safe");
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }

    /// A table of rules; `roles` are those that it may name.
    fn table(&mut self, roles: &[Standing]) -> Tools {
        let actions = [Action::Allow, Action::Ask, Action::Deny];
        let mut all = tools(self.pick(&actions), &[]);
        let field = |dice: &mut Self| (dice.roll(3) == 0).then(|| dice.pick(&["a", "b", "a*", "*", "*b", ""]).to_string());
        for _ in 0..self.roll(6) {
            all.rules.push(ToolRule {
                tool: self.pick(&["t", "s", "*", "x", "t*"]).into(),
                action: self.pick(&actions),
                agent: field(self),
                channel: field(self),
                user: field(self),
                role: (self.roll(3) == 0).then(|| self.pick(roles)),
                arguments: (self.roll(4) == 0)
                    .then(|| ("n".to_string(), self.pick(&["1", "*", "2"]).to_string()))
                    .into_iter()
                    .collect(),
            });
        }
        all
    }

    fn who(&mut self) -> Who {
        let mut name = || self.pick(&["a", "b", "ab", "c"]).to_string();
        let (agent, channel, user_id) = (name(), name(), name());
        Who { agent, channel, user_id, standing: self.pick(&Standing::ALL) }
    }
}

fn authority(action: Action) -> u8 {
    match action {
        Action::Deny => 0,
        Action::Ask => 1,
        Action::Allow => 2,
    }
}

#[test]
fn to_know_less_never_gives_more() {
    let mut dice = Dice(7);
    let mut fell = 0;
    for round in 0..20_000 {
        let table = dice.table(&[Standing::User, Standing::Operator, Standing::Admin]);
        let policy = Policy::new(&table);
        let (who, arguments) = (dice.who(), map(dice.pick(&["1", "2", "3"]).parse::<i64>().map(|n| json!({"n": n})).unwrap()));
        let tool = about(dice.pick(&["t", "s"]), dice.roll(2) == 0);
        let known = authority(policy.ruling(&tool, &who, &arguments).action);
        for field in 0..4 {
            let mut less = who.clone();
            match field {
                0 => less.agent.clear(),
                1 => less.channel.clear(),
                2 => less.user_id.clear(),
                _ => less.standing = Standing::Unverified,
            }
            let left = authority(policy.ruling(&tool, &less, &arguments).action);
            assert!(left <= known, "round {round}: {less:?} may more than {who:?} by {table:?}");
            fell += usize::from(left < known);
        }
    }
    assert!(fell > 1000, "the tables make a difference: {fell}");
}

#[test]
fn strangers_run_the_safe_ones_alone() {
    let mut dice = Dice(11);
    let (stub, safe) = (Stub::new("t"), Stub::safe("s"));
    let mut ran = 0;
    for _ in 0..5000 {
        let table = dice.table(&Standing::ALL);
        let toolbox = Toolbox::new(Policy::new(&table), vec![stub.clone(), safe.clone()]);
        let mut desk = Desk::new();
        desk.who = Who { standing: Standing::Unverified, ..dice.who() };
        assert!(toolbox.offered(&desk.who, None).iter().all(|spec| spec.name == "s"));
        desk.call(&toolbox, "t", r#"{"n": 1}"#);
        let denied = Policy::new(&table).ruling(&about("s", true), &desk.who, &map(json!({"n": 1}))).action == Action::Deny;
        assert_eq!(desk.call(&toolbox, "s", r#"{"n": 1}"#).starts_with('-'), denied, "a deny stays a deny");
        ran += desk.begun;
    }
    assert_eq!(stub.ran(), 0);
    assert!(safe.ran() == ran && (500..4500).contains(&ran), "{ran}");
}

/// A tool that could run for some arguments is offered; one that never can isn't.
#[test]
fn never_is_certain() {
    let mut dice = Dice(13);
    let mut counts = [0, 0];
    for _ in 0..20_000 {
        let table = dice.table(&Standing::ALL);
        let policy = Policy::new(&table);
        let (who, tool) = (dice.who(), about(dice.pick(&["t", "s"]), dice.roll(2) == 0));
        let some = [json!({}), json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]
            .into_iter()
            .any(|arguments| policy.ruling(&tool, &who, &map(arguments)).action != Action::Deny);
        let never = policy.never(&tool, &who);
        assert!(!(never && some), "{who:?} by {table:?}");
        counts[usize::from(never)] += 1;
    }
    assert!(counts[0] > 1000 && counts[1] > 1000, "{counts:?}");
}

#[test]
fn hostile_patterns_take_no_time() {
    let hostile = format!("allow t arguments.n={}b", "*a".repeat(100));
    check(&[&hostile], "t", &who(Standing::User), json!({"n": "a".repeat(60_000)}), Action::Ask);
}

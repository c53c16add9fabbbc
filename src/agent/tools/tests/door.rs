//! The one door: what runs, what is asked, what is refused, and what each leaves in the audit.

use super::*;
use crate::base::cancel::Why;

#[test]
fn arguments() {
    let stub = Stub::with_schema("x.y", json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}));
    let free = Stub::new("free");
    let toolbox = toolbox(Action::Allow, &[], &[stub.clone(), free.clone()]);
    let deep = "[".repeat(40) + &"]".repeat(40);
    for (tool, arguments, expected) in [
        ("x.y", r#"{"n": 1}"#, "+done"),
        ("x.y", "", "-the arguments don't fit ($ stands for them all): $.n: expected an integer, found nothing"),
        (
            "x.y",
            r#"{"n": "1", "m": 2}"#,
            "-the arguments don't fit ($ stands for them all): $.n: expected an integer, found a string",
        ),
        ("free", " \n", "+done"),
        ("free", "null", "-the arguments are no JSON object; write them as {\"name\": value}"),
        ("free", "[1]", "-the arguments are no JSON object"),
        ("free", "\"{}\"", "-the arguments are no JSON object"),
        ("free", r#"{"a": 1, "a": 2}"#, "-the arguments can't be read: $.a: stands there twice; keep one of them"),
        ("free", r#"{"o": {"a": 1, "\u0061": 2}}"#, "-the arguments can't be read: $.o.a: stands there twice"),
        ("free", r#"{"a": NaN}"#, "-the arguments can't be read: $: not JSON at line 1, column 7"),
        ("free", r#"{"a": 1e999}"#, "-the arguments can't be read: $: not JSON at line 1"),
        ("free", r#"{"a": "\ud800"}"#, "-the arguments can't be read: "),
        ("free", r#"{"a": 1} {"b": 2}"#, "-the arguments can't be read: "),
        ("free", r#"{"a": 1"#, "-the arguments can't be read: "),
        ("free", "{'a': 1}", "-the arguments can't be read: "),
        (
            "free",
            &format!("{{\"a\": {deep}}}"),
            "-the arguments can't be read: $: not JSON at line 1, column 30: objects and lists within",
        ),
        ("free", &format!("{{\"a\": \"{}\"}}", "x".repeat(70_000)), "-the arguments have 70009 bytes, at most 65536 are taken"),
    ] {
        let mut desk = Desk::new();
        let told = desk.call(&toolbox, tool, arguments);
        assert!(told.starts_with(expected), "{tool} {}: {told}", &arguments[..arguments.len().min(60)]);
        assert_eq!(desk.begun, usize::from(expected.starts_with('+')));
    }
    assert_eq!((stub.ran(), free.ran()), (1, 1));
}

#[test]
fn unknown_tools() {
    let toolbox = toolbox(Action::Ask, &["deny secret.*"], &[Stub::new("secret.tool")]);
    let mut desk = Desk::new();
    assert_eq!(desk.call(&toolbox, "time_nwo", "{}"), "-there is no tool \"time_nwo\"; the nearest is time_now");
    assert_eq!(desk.call(&toolbox, "memroy.save", "{}"), "-there is no tool \"memroy.save\"; the nearest is memory_save");
    let hidden = desk.call(&toolbox, "secret.tol", "{}");
    assert!(!hidden.contains("secret_tool"), "what isn't offered isn't named: {hidden}");
    let odd = desk.call(&toolbox, &format!("\u{202e}{}", "x".repeat(500)), "{}");
    assert!(odd.contains("\\u{202e}x") && odd.len() < 200, "{odd}");
    // Outside of the agent's own patterns it doesn't exist.
    let patterns = ["time.*".to_string()];
    let Ok(Invoked::Done(result)) =
        toolbox.invoke(&call("memory.save", r#"{"text": "x"}"#), Some(&patterns), &desk.context(), &[], None, &mut |_| panic!())
    else {
        panic!()
    };
    assert_eq!(result.content, "there is no tool \"memory.save\"; the nearest is time_now");
    assert_eq!(toolbox.judge(&call("memory.save", "{}"), &desk.who, Some(&patterns), &[]), Verdict::Refuse(result.content));
}

#[test]
fn verdicts() {
    let stub = Stub::new("x");
    let desk = || Desk::new();
    for (default, rules, expected) in [
        (Action::Allow, vec![], "+done"),
        (Action::Ask, vec![], "?May agent"),
        (Action::Deny, vec![], "-the gateway's rules forbid this call"),
        (Action::Deny, vec!["allow x"], "+done"),
        (Action::Allow, vec!["ask x arguments.a=1", "deny *"], "?May agent"),
    ] {
        let toolbox = toolbox(default, &rules, std::slice::from_ref(&stub));
        let told = desk().call(&toolbox, "x", r#"{"a": 1}"#);
        assert!(told.starts_with(expected), "{rules:?}: {told}");
        let verdict = toolbox.judge(&call("x", r#"{"a": 1}"#), &who(Standing::User), None, &[]);
        let same = match verdict {
            Verdict::Run => '+',
            Verdict::Ask(_) => '?',
            Verdict::Refuse(_) => '-',
        };
        assert!(expected.starts_with(same), "judge says the same");
    }
    assert_eq!(stub.ran(), 2);
}

fn asked(toolbox: &Toolbox, name: &str, arguments: &str) -> Question {
    match toolbox.judge(&call(name, arguments), &who(Standing::User), None, &[]) {
        Verdict::Ask(question) => question,
        other => panic!("{other:?}"),
    }
}

#[test]
fn approvals_serve_their_own_call_alone() {
    let stub = Stub::new("x");
    let toolbox = toolbox(Action::Ask, &[], std::slice::from_ref(&stub));
    let question = asked(&toolbox, "x", r#"{"a": 1, "b": 2}"#);
    let given = approval(&Desk::new(), "x", &question, ApprovalState::Allowed);
    let check = |arguments: &str, permit: Approval, expected: &str| {
        let mut desk = Desk::new();
        let told = match desk.try_call(&toolbox, &call("x", arguments), &[], Some(&permit)).unwrap() {
            Invoked::Done(result) => result.content,
            Invoked::Ask(_) => "asked".into(),
        };
        assert!(told.starts_with(expected), "{told} for {expected}");
        assert_eq!(desk.begun, usize::from(expected == "done"));
    };
    let with = |change: &dyn Fn(&mut Approval)| {
        let mut permit = given.clone();
        change(&mut permit);
        permit
    };
    check(r#"{"a": 1, "b": 2}"#, given.clone(), "done");
    check(r#"{"b":2,"a":1}"#, given.clone(), "done");
    let changed = "what was approved has changed";
    check(r#"{"a": 1, "b": 3}"#, given.clone(), changed);
    check(r#"{"a": 1, "b": 2, "c": 3}"#, given.clone(), changed);
    check(r#"{"a": 1, "b": "2"}"#, given.clone(), changed);
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.digest.clear()), changed);
    let other = "the approval was given to another call";
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.tool = "y".into()), other);
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.call_id = "call_2".into()), other);
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.message_id = "msg_2".into()), other);
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.session_id = "ses_2".into()), other);
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.user_id = "bob".into()), other);
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.agent = "b".into()), other);
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.channel = "b".into()), other);
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.state = ApprovalState::Pending), "asked");
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.state = ApprovalState::Denied), "a person was asked and refused");
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.state = ApprovalState::Expired), "a person was asked and did not answer");
    check(r#"{"a": 1, "b": 2}"#, with(&|p| p.state = ApprovalState::Cancelled), "the question whether");
    // What the call is bound to has changed: another program behind the same name.
    *stub.binding.lock().unwrap() = "another".into();
    check(r#"{"a": 1, "b": 2}"#, given.clone(), changed);
    *stub.binding.lock().unwrap() = "none".into();
    check(r#"{"a": 1, "b": 2}"#, given.clone(), "there is no such program");
    *stub.binding.lock().unwrap() = "panic".into();
    check(r#"{"a": 1, "b": 2}"#, given.clone(), "the tool failed by a fault");
    assert_eq!(stub.ran(), 2);
}

#[test]
fn an_approval_is_not_above_the_rules_nor_a_no_below_them() {
    let stub = Stub::new("x");
    let question = asked(&toolbox(Action::Ask, &[], std::slice::from_ref(&stub)), "x", "{}");
    let mut desk = Desk::new();
    let denying = toolbox(Action::Ask, &["deny x"], std::slice::from_ref(&stub));
    let given = approval(&desk, "x", &question, ApprovalState::Allowed);
    let told = desk.try_call(&denying, &call("x", "{}"), &[], Some(&given)).unwrap();
    assert!(matches!(told, Invoked::Done(r) if r.is_error && r.content.contains("rules forbid")));
    let allowing = toolbox(Action::Allow, &[], std::slice::from_ref(&stub));
    let refused = approval(&desk, "x", &question, ApprovalState::Denied);
    let told = desk.try_call(&allowing, &call("x", "{}"), &[], Some(&refused)).unwrap();
    assert!(matches!(told, Invoked::Done(r) if r.is_error && r.content.contains("refused")));
    // One who was known when it was asked, and isn't any more.
    desk.who.standing = Standing::Unverified;
    let asking = toolbox(Action::Ask, &[], std::slice::from_ref(&stub));
    let told = desk.try_call(&asking, &call("x", "{}"), &[], Some(&given)).unwrap();
    assert!(matches!(told, Invoked::Done(r) if r.is_error));
    assert_eq!((stub.ran(), desk.begun), (0, 0));
}

#[test]
fn learned_rules_are_for_exactly_this() {
    let (stub, safe) = (Stub::new("x"), Stub::safe("s"));
    let toolbox = |default, rules: &[&str]| super::toolbox(default, rules, &[stub.clone(), safe.clone()]);
    let asking = toolbox(Action::Ask, &[]);
    let learned = |tool: &str| LearnedRule {
        id: "rul_1".into(),
        tool: tool.into(),
        agent: "main".into(),
        channel: "door".into(),
        user_id: "ana".into(),
        digest: asked(&asking, tool, r#"{"a": 1}"#).digest,
        arguments: json!({"a": 1}),
        created_ms: 0,
        by: "op".into(),
    };
    let check = |toolbox: &Toolbox, name: &str, arguments: &str, who: Who, change: &dyn Fn(&mut LearnedRule)| {
        let mut rule = learned(name);
        change(&mut rule);
        match toolbox.judge(&call(name, arguments), &who, None, &[rule]) {
            Verdict::Run => "run",
            Verdict::Ask(_) => "ask",
            Verdict::Refuse(_) => "refuse",
        }
    };
    let (ana, fine) = (|| who(Standing::User), |_: &mut LearnedRule| {});
    assert_eq!(check(&asking, "x", r#"{"a": 1}"#, ana(), &fine), "run");
    assert_eq!(check(&asking, "x", r#"{"a": 2}"#, ana(), &fine), "ask");
    assert_eq!(check(&asking, "x", r#"{"a": 1.0}"#, ana(), &fine), "ask");
    assert_eq!(check(&asking, "x", r#"{"a": 1}"#, ana(), &|r| r.user_id = "bob".into()), "ask");
    assert_eq!(check(&asking, "x", r#"{"a": 1}"#, ana(), &|r| r.user_id = "*".into()), "ask");
    assert_eq!(check(&asking, "x", r#"{"a": 1}"#, ana(), &|r| r.agent = "b".into()), "ask");
    assert_eq!(check(&asking, "x", r#"{"a": 1}"#, ana(), &|r| r.channel = "b".into()), "ask");
    assert_eq!(check(&asking, "x", r#"{"a": 1}"#, ana(), &|r| r.tool = "*".into()), "ask");
    assert_eq!(check(&toolbox(Action::Deny, &[]), "x", r#"{"a": 1}"#, ana(), &fine), "refuse", "a deny stays one");
    let nobody = Who { user_id: String::new(), ..ana() };
    assert_eq!(check(&asking, "x", r#"{"a": 1}"#, nobody, &|r| r.user_id.clear()), "ask");
    assert_eq!(check(&asking, "s", r#"{"a": 1}"#, ana(), &fine), "run");
    assert_eq!(check(&asking, "s", r#"{"a": 1}"#, who(Standing::Unverified), &fine), "ask", "nobody vouches for who it is");
    *stub.binding.lock().unwrap() = "another program".into();
    let before = LearnedRule { digest: "0".repeat(64), ..learned("x") };
    assert_eq!(check(&asking, "x", r#"{"a": 1}"#, ana(), &|r| *r = before.clone()), "ask");
}

#[test]
fn nothing_runs_before_begin_agrees() {
    let stub = Stub::new("x");
    let toolbox = toolbox(Action::Allow, &[], std::slice::from_ref(&stub));
    let mut desk = Desk::new();
    let down = |about: &About| {
        assert_eq!(about.spec.name, "x");
        Err(Error::new(ErrorKind::Transient, "the journal can't be written"))
    };
    let failed = toolbox.invoke(&call("x", "{}"), None, &desk.context(), &[], None, &mut { down }).unwrap_err();
    assert_eq!((failed.kind, stub.ran()), (ErrorKind::Transient, 0));
    assert!(desk.store.traces().is_empty(), "it neither ran nor was refused");
    desk.clock.advance(Duration::from_secs(300));
    assert_eq!(desk.call(&toolbox, "x", "{}"), "-the time of this turn is over");
    desk.cancel.set(Why::Asked);
    let stopped = desk.try_call(&toolbox, &call("x", "{}"), &[], None).unwrap_err();
    assert_eq!((stopped.kind, stub.ran(), desk.begun), (ErrorKind::Stopped, 0, 0));
}

#[test]
fn outcomes_and_their_traces() {
    type Does = fn(&Context<'_>) -> Result<String>;
    let long: Does = |_| Ok("読".repeat(10_000));
    for (does, expected, trace) in [
        ((|_| Ok("fine".into())) as Does, "+fine", "tool.called done"),
        (|_| Ok(" \n".into()), "+Done.", "tool.called done"),
        (|_| Err(Error::new(ErrorKind::Invalid, "no").hint("try x")), "-no. try x", "tool.called failed"),
        (|_| Err(Error::new(ErrorKind::Timeout, "e".repeat(9000))), "-eee", "tool.called failed"),
        (|_| panic!("as it was told"), "-the tool failed by a fault in the gateway; whether", "tool.called panicked"),
        (|_| Err(Error::new(ErrorKind::Stopped, "stopped")), "!stopped", "tool.called stopped"),
        (long, "+読", "tool.called done"),
    ] {
        let toolbox = toolbox(Action::Allow, &[], &[Stub::doing("x", does)]);
        let mut desk = Desk::new();
        let told = desk.call(&toolbox, "x", "{}");
        assert!(told.starts_with(expected), "{told}");
        assert!(told.len() <= OUTPUT_BYTES_MAX + 1, "{}", told.len());
        assert_eq!(desk.store.traces(), [trace]);
    }
    let toolbox = toolbox(Action::Allow, &[], &[Stub::doing("x", long)]);
    let told = Desk::new().call(&toolbox, "x", "{}");
    let kept = told.matches('読').count();
    assert!(told.ends_with(&format!("\n[cut here: {} bytes more]", (10_000 - kept) * 3)), "{}", &told[told.len() - 60..]);
}

#[test]
fn deadlines() {
    let told = Stub::doing("x", |context| Ok(format!("{:?}", context.deadline)));
    let quick = Arc::new(Stub { wait: Duration::from_secs(2), ..Stub::of("quick") });
    let quick = Stub {
        does: Box::new(|context| Ok(format!("{:?} {}", context.deadline, context.key))),
        ..Arc::into_inner(quick).unwrap()
    };
    let toolbox = toolbox(Action::Allow, &[], &[told, Arc::new(quick)]);
    let mut desk = Desk::new();
    assert_eq!(desk.call(&toolbox, "x", ""), "+30s");
    assert_eq!(desk.call(&toolbox, "quick", ""), "+2s msg_1/call_1");
    desk.clock.advance(Duration::from_secs(290));
    assert_eq!(desk.call(&toolbox, "x", ""), "+300s", "the turn's own end");
    assert_eq!(desk.call(&toolbox, "quick", ""), "+292s msg_1/call_1");
}

#[test]
fn every_call_leaves_a_trace() {
    let toolbox = toolbox(Action::Ask, &["allow a", "deny d"], &[Stub::new("a"), Stub::new("d"), Stub::new("q")]);
    let mut desk = Desk::new();
    desk.call(&toolbox, "a", r#"{"x": 1}"#);
    desk.call(&toolbox, "d", &format!("{{\"x\": \"{}\"}}", "é".repeat(1000)));
    desk.call(&toolbox, "q", "{}");
    desk.call(&toolbox, "nothing", "{}");
    let audit = desk.store.audit.lock().unwrap();
    let actions: Vec<_> = audit.iter().map(|e| e.action.as_str()).collect();
    assert_eq!(actions, ["tool.called", "tool.refused", "tool.asked", "tool.refused"]);
    assert_eq!((audit[0].actor.as_str(), audit[0].at_ms), ("ana", NOW_MS));
    let expected = json!({"tool": "a", "agent": "main", "channel": "door", "userId": "ana", "messageId": desk.context().message_id,
        "callId": "call_1", "arguments": "{\"x\": 1}", "outcome": "done", "tookMs": 0});
    assert_eq!(audit[0].detail, expected);
    assert!(audit[1].detail["arguments"].as_str().unwrap().len() < 510);
}

//! What the model is told of, and how much room that takes.

use super::*;
use crate::agent::prompt;

struct Server(Mutex<Vec<Arc<dyn Tool>>>);

impl Source for Server {
    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.0.lock().unwrap().clone()
    }
}

fn names(toolbox: &Toolbox, patterns: Option<&[&str]>) -> Vec<String> {
    let patterns: Option<Vec<_>> = patterns.map(|p| p.iter().map(|p| p.to_string()).collect());
    toolbox.offered(&who(Standing::User), patterns.as_deref()).iter().map(|s| s.wire.clone()).collect()
}

#[test]
fn what_could_run_is_offered() {
    let all = [
        "time_now",
        "memory_save",
        "memory_search",
        "memory_forget",
        "session_history",
        "message_send",
        "job_create",
        "job_list",
        "job_delete",
    ];
    assert_eq!(names(&toolbox(Action::Ask, &[], &[]), None), all);
    assert_eq!(names(&toolbox(Action::Deny, &[], &[]), None), [""; 0]);
    let toolbox = toolbox(Action::Deny, &["deny memory.forget", "ask message.* arguments.user=bob", "allow memory.*"], &[]);
    assert_eq!(names(&toolbox, None), ["memory_save", "memory_search", "message_send"], "a pattern on arguments fits some calls");
    assert_eq!(names(&toolbox, Some(&["*.send", "memory.s*"])), ["memory_save", "memory_search", "message_send"]);
    assert_eq!(names(&toolbox, Some(&["time.*"])), [""; 0]);
    assert_eq!(names(&toolbox, Some(&[])), [""; 0]);
}

#[test]
fn tools_that_come_and_go() {
    let impostor = Stub::new("time.now");
    let server =
        Arc::new(Server(Mutex::new(vec![impostor.clone(), Stub::new("mcp.a.x"), Stub::new("mcp.a_x"), Stub::new("mcp.a.x")])));
    let toolbox = toolbox(Action::Allow, &[], &[]).with(server.clone());
    let offered = names(&toolbox, Some(&["time.*", "mcp.*"]));
    assert_eq!(offered.len(), 3);
    assert!(offered[0] == "time_now" && offered[1].starts_with("mcp_a_x_") && offered[2].starts_with("mcp_a_x_"), "{offered:?}");
    assert_ne!(offered[1], offered[2]);
    assert!(Desk::new().call(&toolbox, "time.now", "").contains("utc"));
    assert_eq!(impostor.ran(), 0, "nobody takes a built-in tool's name");
    assert!(toolbox.about("mcp.a.x").is_some_and(|a| a.dangerous));
    server.0.lock().unwrap().clear();
    assert!(toolbox.about("mcp.a.x").is_none());
    assert!(Desk::new().call(&toolbox, "mcp.a.x", "").starts_with("-there is no tool"));
    *server.0.lock().unwrap() = (0..10_000).map(|i| Stub::new(&format!("mcp.b.{i}")) as Arc<dyn Tool>).collect();
    assert_eq!(names(&toolbox, None).len(), 128);
}

#[test]
fn lists() {
    let rules = ["allow time.*", "ask mcp.* user=bob arguments.x=1", "deny mcp.files.*", "allow mcp.* role=user"];
    let toolbox = toolbox(Action::Ask, &rules, &[Stub::new("mcp.files.read"), Stub::new("mcp.git.log")]);
    let list = toolbox.list();
    let shown: Vec<_> = list.iter().map(|t| (t.name.as_str(), t.source.as_str(), t.policy, t.rules.len())).collect();
    assert_eq!(shown[0], ("time.now", "builtin", "allow", 1));
    assert_eq!(shown[1], ("memory.save", "builtin", "ask", 0));
    assert_eq!(shown[9], ("mcp.files.read", "mcp.files", "deny", 3));
    assert_eq!(shown[10], ("mcp.git.log", "mcp.git", "allow", 2));
    let rule = "$.tools.rules[1]: ask mcp.* where user is bob and arguments.x is 1";
    assert_eq!(list[10].rules, [rule, "$.tools.rules[3]: allow mcp.* where role is user"]);
    let json = serde_json::to_value(&list[0]).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["name", "description", "schema", "idempotent", "dangerous", "safe", "source", "policy", "rules"]);
}

/// As OpenAI's API is told of tools.
fn as_sent(specs: &[Arc<ToolSpec>]) -> String {
    let tool = |s: &Arc<ToolSpec>| json!({"type": "function", "function": {"name": s.wire, "description": s.description, "parameters": s.schema}});
    Value::from(specs.iter().map(tool).collect::<Vec<_>>()).to_string()
}

/// What `http.get`, `shell.run` and `system.status` may take of it.
const EFFECTS_BYTES_MAX: usize = 700;

#[test]
fn hi_is_small() {
    let toolbox = toolbox(Action::Ask, &USUAL, &[]);
    let tools = as_sent(&toolbox.offered(&who(Standing::User), None));
    let doc = crate::config::effective(&json!({}));
    let system = doc["agents"]["main"]["systemPrompt"].as_str().unwrap();
    let prompt = prompt::build(&prompt::Parts {
        system,
        claim: &prompt::tests::claim("hi"),
        history: &[],
        max_history: 40,
        summary: None,
        notes: &[],
        files: &[],
        has_tools: true,
        now_ms: NOW_MS,
    });
    let messages: Vec<_> = prompt.iter().map(|m| json!({"role": m.role.as_str(), "content": m.text})).collect();
    let body = json!({"model": "a-model-with-a-long-name-of-64-characters-as-some-servers-have-it-", "messages": messages,
        "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 100_000, "tools": []});
    let whole = body.to_string().len() + tools.len() + EFFECTS_BYTES_MAX;
    println!("tools {} bytes, whole {whole}", tools.len());
    assert!(tools.len() <= 2400, "{} bytes: {tools}", tools.len());
    assert!(whole <= 4096, "{whole} bytes");
}

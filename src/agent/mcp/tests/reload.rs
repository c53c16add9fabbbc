//! Servers over a reload, and programs as they are started.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::base::secret::Secret;

/// A server in shell: legacy, one tool `pid` whose answer tells its process id and where and with what it runs.
const SCRIPT: &str = r#"
echo "started with $SECRET" >&2
while read -r line; do
  id=$(printf %s "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
  case "$line" in
    *'"server/discover"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"no"}}';;
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}';;
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[{"name":"pid"},{"name":"other"}]}}';;
    *'"tools/call"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"content":[{"type":"text","text":"'$$' '$PWD' '$SECRET' '$HOME'"}]}}';;
  esac
done
"#;

fn shell(cwd: &Path, secret: &str) -> McpServer {
    let env = vec![("SECRET".to_string(), Secret::new(secret)), ("PATH".to_string(), Secret::new("/usr/bin:/bin"))];
    let reach =
        McpReach::Program { command: "/bin/sh".into(), args: vec!["-c".into(), SCRIPT.into()], env, cwd: cwd.to_path_buf() };
    McpServer { reach, tools: None, timeout: LONG }
}

struct World {
    client: Arc<Client>,
    clock: Clock,
    threads: Threads,
}

impl World {
    fn servers(&self, config: &[(&str, McpServer)], former: Option<&Servers>) -> Servers {
        let config = config.iter().map(|(name, server)| (name.to_string(), server.clone())).collect();
        Servers::new(&config, former, &self.client, &self.clock, &self.threads)
    }
}

fn world() -> World {
    World { client: Arc::new(Client::new(1)), clock: Clock::system(), threads: Threads::new() }
}

fn pid(servers: &Servers, name: &str) -> String {
    servers.members[name].reach(ServerState::Connected);
    servers.members[name].tool("pid", json!({})).unwrap().split(' ').next().unwrap().to_string()
}

#[test]
fn a_reload_keeps_what_did_not_change_and_ends_the_rest() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let server = |secret| shell(folder.path(), secret);
    let first = world.servers(&[("kept", server("one")), ("changed", server("one")), ("gone", server("one"))], None);
    let pids = ["kept", "changed", "gone"].map(|name| pid(&first, name));
    let narrow = McpServer { tools: Some(vec!["p*".to_string()]), ..server("one") };
    let second = world.servers(&[("kept", server("one")), ("changed", server("two")), ("new", narrow)], Some(&first));
    assert_eq!(pid(&second, "kept"), pids[0], "the same process");
    assert_ne!(pid(&second, "changed"), pids[1], "another secret is another configuration");
    pid(&second, "new");
    let names: Vec<_> = second.tools().iter().map(|tool| tool.about().spec.name.clone()).collect();
    assert_eq!(names, ["mcp.changed.pid", "mcp.changed.other", "mcp.kept.pid", "mcp.kept.other", "mcp.new.pid"]);
    for (i, alive) in [(0, true), (1, false), (2, false)] {
        eventually("processes of former servers to end", || (Path::new("/proc").join(&pids[i]).exists() == alive).then_some(()));
    }
    assert!(first.members["gone"].tool_error().contains("was stopped"));
    assert_eq!(second.stop(), Vec::<String>::new());
    assert!(second.status().iter().all(|s| s.state == ServerState::Stopped));
    assert_eq!(world.threads.join(LONG), Vec::<String>::new());
}

impl Server {
    fn tool_error(&self) -> String {
        eventually("its end", || (self.status().state == ServerState::Stopped).then_some(()));
        let mut catalog = crate::agent::mcp::catalog::Catalog::new("s", None, false);
        catalog.add(&json!({"name": "pid"}));
        let gone = self.call(&catalog.offers[0], &serde_json::Map::new(), LONG, &Cancel::new());
        gone.unwrap_err().text
    }
}

#[test]
fn a_program_gets_what_is_configured_and_nothing_else() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let servers = world.servers(&[("s", shell(folder.path(), "canary-0123456789"))], None);
    servers.members["s"].reach(ServerState::Connected);
    let told = servers.members["s"].tool("pid", json!({})).unwrap();
    let cwd = folder.path().canonicalize().unwrap();
    assert!(told.ends_with(&format!(" {} canary-0123456789", cwd.display())), "{told}: no HOME, our secret, its folder");
    servers.stop();
}

#[test]
fn what_can_not_be_started_says_so() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("plain"), "no program").unwrap();
    let program = |command: &Path, cwd: &Path| McpServer {
        reach: McpReach::Program { command: command.into(), args: Vec::new(), env: Vec::new(), cwd: cwd.into() },
        tools: None,
        timeout: LONG,
    };
    let none = Path::new("/nowhere/program");
    let servers = world.servers(
        &[
            ("absent", program(none, folder.path())),
            ("folder", program(Path::new("/bin/true"), Path::new("/nowhere"))),
            ("plain", program(&folder.path().join("plain"), folder.path())),
        ],
        None,
    );
    for (name, says) in [("absent", "does not exist"), ("folder", "is no directory"), ("plain", "may not be run")] {
        let status = servers.members[name].reach(ServerState::Misconfigured);
        assert!(status.last_error.unwrap().contains(says));
    }
    let shown = serde_json::to_value(servers.status()).unwrap();
    assert_eq!(
        (&shown[0]["state"], &shown[0]["transport"], &shown[0]["tools"]),
        (&json!("misconfigured"), &json!("stdio"), &json!(0))
    );
    assert_eq!(servers.stop(), Vec::<String>::new());
}

/// Of this process's threads for that server: how many there are, and how often they went to sleep so far.
fn sleeps(server: &str) -> (usize, u64) {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let own = tasks.filter(|task| {
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        name.trim_end().ends_with(server)
    });
    let voluntary = |task: std::path::PathBuf| {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    own.map(voluntary).fold((0, 0), |(threads, sum), sleeps| (threads + 1, sum + sleeps))
}

#[test]
fn an_idle_server_costs_two_threads_that_sleep() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let servers = world.servers(&[("idlewake", shell(folder.path(), "one"))], None);
    pid(&servers, "idlewake");
    std::thread::sleep(Duration::from_millis(300));
    let before = sleeps("idlewake");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((before.0, sleeps("idlewake")), (2, before), "nobody woke");
    servers.stop();
}

#[test]
fn no_server_costs_nothing() {
    let world = world();
    let servers = world.servers(&[], None);
    assert_eq!((servers.tools().len(), servers.status().len(), world.threads.live()), (0, 0, 0));
    assert_eq!(servers.stop(), Vec::<String>::new());
}

#[test]
fn an_approval_is_bound_to_what_the_tool_is() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let binding = |server: McpServer| {
        let servers = world.servers(&[("s", server)], None);
        servers.members["s"].reach(ServerState::Connected);
        let binding = servers.tools()[0].binding(&serde_json::Map::new()).unwrap();
        servers.stop();
        binding
    };
    let one = binding(shell(folder.path(), "one"));
    assert_eq!(one, binding(shell(folder.path(), "two")), "a new secret makes it no other tool");
    let other = tempfile::tempdir().unwrap();
    assert_ne!(one, binding(shell(other.path(), "one")), "another place does");
}

//! The client against real servers, over both transports and in both eras. `GATELET_MCP_SERVERS` names the folder that `.ci/run`
//! installs them into; without it these tests say loudly that they did not run.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::*;
use crate::base::cancel::Why;
use crate::base::error::ErrorKind;
use crate::base::secret::Secret;
use crate::net::scripted::{Scripted, answer};

/// The folder, or a loud note.
fn folder(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("GATELET_MCP_SERVERS") {
        return Some(folder.into());
    }
    let line = format!("SKIPPED: {test}: GATELET_MCP_SERVERS does not say where the MCP servers are\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("GATELET_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    None
}

fn figure(line: &str) {
    let _ = std::io::stderr().write_all(format!("FIGURE: {line}\n").as_bytes());
}

/// A program on this machine's search path.
fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|p| p.is_file()).unwrap()
}

fn program(command: PathBuf, args: &[&str], env: &[(&str, &str)], cwd: &Path) -> McpServer {
    let reach = McpReach::Program {
        command,
        args: args.iter().map(ToString::to_string).collect(),
        env: env.iter().map(|(name, value)| (name.to_string(), Secret::new(*value))).collect(),
        cwd: cwd.to_path_buf(),
    };
    McpServer { reach, tools: None, timeout: LONG }
}

fn address(port: u16) -> McpServer {
    let reach = McpReach::Address { url: format!("http://127.0.0.1:{port}/mcp"), token: None };
    McpServer { reach, tools: None, timeout: LONG }
}

fn npm(folder: &Path, package: &str, args: &[&str], env: &[(&str, &str)], cwd: &Path) -> McpServer {
    let script = folder.join(format!("node_modules/@modelcontextprotocol/{package}/dist/index.js"));
    let all: Vec<_> = std::iter::once(script.to_str().unwrap()).chain(args.iter().copied()).collect();
    program(found("node"), &all, env, cwd)
}

fn pip(folder: &Path, script: &str, args: &[&str], cwd: &Path) -> McpServer {
    program(folder.join("venv/bin").join(script), args, &[], cwd)
}

fn sdk_script() -> String {
    format!("{}/tests/mcp_server.py", env!("CARGO_MANIFEST_DIR"))
}

/// One server, connected; stopped and looked after when the test is over.
struct World {
    servers: Servers,
    server: Arc<Server>,
    threads: Threads,
    begun: Instant,
    scratch: tempfile::TempDir,
}

impl World {
    #[track_caller]
    fn new(name: &str, config: impl FnOnce(&Path) -> McpServer, era: &str, version: &str) -> World {
        let (threads, clock, begun) = (Threads::new(), Clock::system(), Instant::now());
        let scratch = tempfile::tempdir().unwrap();
        let config = BTreeMap::from([(name.to_string(), config(scratch.path()))]);
        let servers = Servers::new(&config, None, &Arc::new(Client::new(2)), &clock, &threads);
        let server = servers.members[name].clone();
        let status = server.reach(ServerState::Connected);
        assert_eq!((status.era, status.protocol_version), (Some(era), Some(version)), "{status:?}");
        assert!(status.tools > 0 && status.tools == servers.tools().len(), "{status:?}");
        figure(&format!(
            "mcp: {name} over {}: {era} {version}, {} tools, connected after {:?}",
            status.transport,
            status.tools,
            begun.elapsed()
        ));
        World { servers, server, threads, begun, scratch }
    }

    #[track_caller]
    fn check(&self, tool: &str, arguments: Value, expected: Result<&str, &str>) {
        match (self.server.tool(tool, arguments), expected) {
            (Ok(got), Ok(word)) => assert!(got.contains(word), "{tool}: {got:?} has {word:?}"),
            (Err(got), Err(word)) => assert!(got.text.contains(word), "{tool}: {got:?} has {word:?}"),
            (got, expected) => panic!("{tool}: {got:?} is not {expected:?}"),
        }
    }

    /// Cancels a call under way: it comes back at once, and the server goes on.
    #[track_caller]
    fn check_cancel(&self, tool: &str, arguments: Value) {
        let (cancel, later) = (Cancel::new(), Cancel::new());
        let set = cancel.clone();
        let at = Arc::new(std::sync::Mutex::new(None));
        let noted = at.clone();
        let waker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            *noted.lock().unwrap() = Some(Instant::now());
            set.set(Why::Asked);
        });
        let error = self.server.try_tool(tool, arguments.clone(), LONG, &cancel).unwrap_err();
        let took = at.lock().unwrap().unwrap().elapsed();
        waker.join().unwrap();
        assert_eq!(error.kind, ErrorKind::Stopped, "{error}");
        assert!(took < Duration::from_millis(500), "came back {took:?} after the cancellation");
        let begun = Instant::now();
        let error = self.server.try_tool(tool, arguments, Duration::from_millis(400), &later).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
        assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
        figure(&format!("mcp: {}: a cancelled call came back after {took:?}", self.server.parts.name));
    }

    #[track_caller]
    fn end(self) {
        let begun = Instant::now();
        assert_eq!(self.servers.stop(), Vec::<String>::new());
        figure(&format!(
            "mcp: {} stopped within {:?} ({:?} in all)",
            self.server.parts.name,
            begun.elapsed(),
            self.begun.elapsed()
        ));
        assert_eq!(self.server.status().state, ServerState::Stopped);
        assert_eq!(self.threads.join(LONG), Vec::<String>::new(), "no thread is left");
        assert!(self.servers.tools().is_empty());
    }
}

/// A server of its own over HTTP, ended with the test.
struct Listening {
    child: Child,
    port: u16,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn everything_http(folder: &Path, port: Option<u16>) -> Listening {
    // It does not tell a port of the kernel's choosing.
    let port = port.unwrap_or_else(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let script = folder.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let mut command = Command::new(found("node"));
    command
        .arg(script)
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Listening { child: command.spawn().unwrap(), port }
}

fn sdk_http(folder: &Path) -> Listening {
    let mut command = Command::new(folder.join("venv/bin/python"));
    let mut child =
        command.arg(sdk_script()).arg("http").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Listening { child, port: line.trim().parse().unwrap() }
}

/// What npm's reference server has to do over either transport.
#[track_caller]
fn check_everything(world: &World) {
    world.check("echo", json!({"message": "hi 你好"}), Ok("Echo: hi 你好"));
    world.check("get-sum", json!({"a": 2, "b": 40}), Ok("42"));
    let mut took: Vec<_> = (0..100)
        .map(|_| {
            let begun = Instant::now();
            world.check("echo", json!({"message": "x"}), Ok("x"));
            begun.elapsed()
        })
        .collect();
    took.sort();
    figure(&format!(
        "mcp: everything over {}: a call takes {:?} (p50), {:?} (p99)",
        world.server.status().transport,
        took[50],
        took[98]
    ));
    world.check("get-structured-content", json!({"location": "Chicago"}), Ok("\"temperature\":36"));
    world.check("get-tiny-image", json!({}), Ok("[image image/png, "));
    world.check("get-resource-links", json!({"count": 2}), Ok("[resource demo://"));
    world.check("get-sum", json!({"a": "no number"}), Err("Input validation error"));
    world.check_cancel("trigger-long-running-operation", json!({"duration": 20, "steps": 20}));
    world.check("echo", json!({"message": "still there"}), Ok("still there"));
    // Pipelined: the slow one does not hold the quick one.
    let server = world.server.clone();
    let slow = std::thread::spawn(move || server.tool("trigger-long-running-operation", json!({"duration": 3, "steps": 2})));
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    world.check("echo", json!({"message": "quick"}), Ok("quick"));
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert!(slow.join().unwrap().unwrap().contains("completed"));
}

#[test]
fn everything_over_stdio() {
    let Some(folder) = folder("everything_over_stdio") else { return };
    let env = [("GIVEN", "canary-given")];
    let world = World::new("everything", |cwd| npm(&folder, "server-everything", &["stdio"], &env, cwd), "legacy", "2025-11-25");
    check_everything(&world);
    let environment = world.server.tool("get-env", json!({})).unwrap();
    let names: serde_json::Map<String, Value> = serde_json::from_str(&environment).unwrap();
    assert_eq!(names.keys().collect::<Vec<_>>(), ["GIVEN"], "it has the environment that it was given, and no more");
    world.end();
}

#[test]
fn everything_over_http() {
    let Some(folder) = folder("everything_over_http") else { return };
    let peer = everything_http(&folder, None);
    let port = peer.port;
    let world = World::new("everything", |_| address(port), "legacy", "2025-11-25");
    check_everything(&world);
    // Another process at the same address knows no session of ours: a new one is begun, and no call is lost for it.
    drop(peer);
    let failed = world.server.tool("echo", json!({"message": "x"})).unwrap_err();
    assert!(failed.is_passing(), "{failed}");
    let _peer = everything_http(&folder, Some(port));
    eventually("its tools again", || world.server.tool("echo", json!({"message": "back"})).ok());
    assert!(world.server.reach(ServerState::Connected).last_error.is_some());
    world.end();
}

#[test]
fn a_session_that_the_server_forgot_is_begun_anew() {
    let Some(folder) = folder("a_session_that_the_server_forgot_is_begun_anew") else { return };
    let peer = everything_http(&folder, None);
    let port = peer.port;
    let world = World::new("everything", |_| address(port), "legacy", "2025-11-25");
    let restarts = world.server.status().restarts;
    drop(peer);
    let _peer = everything_http(&folder, Some(port));
    eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    world.check("echo", json!({"message": "in a new session"}), Ok("in a new session"));
    assert_eq!(world.server.status().restarts, restarts, "within the call, not by connecting anew");
    world.end();
}

#[test]
fn memory_and_filesystem_over_stdio() {
    let Some(folder) = folder("memory_and_filesystem_over_stdio") else { return };
    let store = tempfile::tempdir().unwrap();
    let file = store.path().join("memory.jsonl");
    let env = [("MEMORY_FILE_PATH", file.to_str().unwrap())];
    let world = World::new("memory", |cwd| npm(&folder, "server-memory", &[], &env, cwd), "legacy", "2025-11-25");
    let ana = json!({"entities": [{"name": "Ana", "entityType": "person", "observations": ["likes tea"]}]});
    world.check("create_entities", ana, Ok("likes tea"));
    world.check("read_graph", json!({}), Ok("Ana"));
    world.end();
    assert!(std::fs::read_to_string(&file).unwrap().contains("likes tea"));

    let root = store.path().to_str().unwrap();
    let world = World::new("files", |cwd| npm(&folder, "server-filesystem", &[root], &[], cwd), "legacy", "2025-11-25");
    std::fs::write(store.path().join("a.txt"), "content of a").unwrap();
    world.check("read_text_file", json!({"path": format!("{root}/a.txt")}), Ok("content of a"));
    world.check("read_text_file", json!({"path": "/etc/hostname"}), Err("outside allowed directories"));
    let about = world.server.offers().into_iter().find(|o| o.remote == "write_file").unwrap().about;
    assert!(about.dangerous && !about.safe);
    world.end();
}

#[test]
fn time_and_fetch_over_stdio() {
    let Some(folder) = folder("time_and_fetch_over_stdio") else { return };
    let world = World::new("time", |cwd| pip(&folder, "mcp-server-time", &[], cwd), "modern", "2026-07-28");
    world.check("get_current_time", json!({"timezone": "UTC"}), Ok("\"timezone\""));
    world.check("get_current_time", json!({"timezone": "Nowhere/Land"}), Err("timezone"));
    world.end();

    let page = Scripted::new(|_, seen, stream| {
        let robots = seen.line.contains("robots.txt");
        let text =
            if robots { answer("404 Not Found", "text/plain", "") } else { answer("200 OK", "text/plain", "the page's text") };
        stream.write_all(text.as_bytes()).is_ok()
    });
    let world =
        World::new("fetch", |cwd| pip(&folder, "mcp-server-fetch", &["--allow-private-ips"], cwd), "modern", "2026-07-28");
    world.check("fetch", json!({"url": page.url("/page"), "raw": true}), Ok("the page's text"));
    world.end();
}

/// What a server of the modern era has to do over either transport.
#[track_caller]
fn check_modern(world: &World) {
    world.check("add", json!({"a": 2, "b": 40}), Ok("42"));
    world.check("where", json!({"region": "küste\n1"}), Ok("in küste\n1"));
    world.check("fail", json!({}), Err("failed: Error executing tool fail"));
    let mark = world.scratch.path().join("cancelled");
    world.check_cancel("slow", json!({"seconds": 30, "mark": mark.to_str().unwrap()}));
    eventually("the server to hear of the cancellation", || mark.exists().then_some(()));
    world.check("add", json!({"a": 1, "b": 1}), Ok("2"));
    let before = world.server.status().tools;
    // The request for changes and this call take different ways there: until the first has come, nothing is told.
    eventually("the new tool", || {
        world.server.tool("grow", json!({})).ok();
        std::thread::sleep(Duration::from_millis(300));
        world.server.offers().iter().any(|o| o.remote == "extra").then_some(())
    });
    assert_eq!(world.server.status().tools, before + 1);
    world.check("extra", json!({}), Ok("extra"));
}

#[test]
fn the_sdk_over_stdio() {
    let Some(folder) = folder("the_sdk_over_stdio") else { return };
    let script = sdk_script();
    let world =
        World::new("sdk", |cwd| program(folder.join("venv/bin/python"), &[&script, "stdio"], &[], cwd), "modern", "2026-07-28");
    check_modern(&world);
    world.check("crash", json!({}), Err("whether the call had an effect is not known"));
    let begun = Instant::now();
    let away = world.server.tool("add", json!({"a": 1, "b": 1})).unwrap_err();
    assert!(away.is_passing() && begun.elapsed() < Duration::from_millis(500), "{away} after {:?}", begun.elapsed());
    eventually("it was started again", || {
        world.server.tool("add", json!({"a": 20, "b": 3})).ok().filter(|sum| sum.contains("23"))
    });
    assert_eq!(world.server.status().restarts, 1);
    world.end();
}

#[test]
fn the_sdk_over_http() {
    let Some(folder) = folder("the_sdk_over_http") else { return };
    let peer = sdk_http(&folder);
    let port = peer.port;
    let world = World::new("sdk", |_| address(port), "modern", "2026-07-28");
    check_modern(&world);
    world.check("crash", json!({}), Err("whether the call had an effect is not known"));
    world.server.reach(ServerState::Degraded);
    world.end();
}

//! Names whose answers change, names with several addresses, and a proxy that the environment names.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::*;
use crate::base::error::{ErrorKind, Result};
use crate::net::client::{Call, Client, Deadlines};
use crate::net::scripted::{Scripted, answer};

/// Gives one list of addresses after the other; the last one again and again.
#[derive(Debug)]
struct Fickle(Mutex<Vec<Vec<IpAddr>>>);

impl Resolver for Fickle {
    fn resolve(&self, uri: &Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut lists = self.0.lock().unwrap();
        let list = if lists.len() > 1 { lists.remove(0) } else { lists[0].clone() };
        let mut addresses = self.empty();
        list.into_iter().for_each(|ip| addresses.push(SocketAddr::new(ip, uri.port_u16().unwrap())));
        Ok(addresses)
    }
}

/// A client for which 127.0.0.2 is public, over answers of the resolver.
fn client(pool: usize, answers: &[&[&str]]) -> Client {
    let lists = answers.iter().map(|list| list.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
    let check: Check = Arc::new(|address| address.ip() == IpAddr::from([127, 0, 0, 2]));
    Client::over(pool, GuardedWire::new(check), Fickle(Mutex::new(lists)))
}

fn get(client: &Client, port: u16) -> Result<String> {
    let limit = Duration::from_secs(2);
    let call = Call::get(format!("http://rebind.example:{port}/"), Deadlines::within(limit, limit));
    Ok(String::from_utf8_lossy(&client.send(&call)?.read_all(100)?).into_owned())
}

/// G6: a name that is public when it is asked first and this machine when it is asked again.
#[test]
fn a_name_that_changes_its_mind() {
    let canary = Scripted::says(answer("200 OK", "text/plain", "canary"));
    let port = canary.addr.port();
    let public = std::net::TcpListener::bind(("127.0.0.2", port)).unwrap();
    let (count, threads) = (Arc::new(Mutex::new(0)), crate::base::threads::Threads::new());
    let counted = count.clone();
    threads
        .spawn_once("public", crate::base::threads::STACK, move || {
            for mut stream in public.incoming().flatten() {
                *counted.lock().unwrap() += 1;
                let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
                let body = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\npublic";
                let _ = std::io::Write::write_all(&mut stream, body.as_bytes());
            }
        })
        .unwrap();
    let fickle = client(0, &[&["127.0.0.2"], &["127.0.0.1"]]);
    assert_eq!(get(&fickle, port).unwrap(), "public", "what was checked is connected to");
    for _ in 0..3 {
        assert_eq!(get(&fickle, port).unwrap_err().kind, ErrorKind::Denied);
    }
    for mixed in
        [&["127.0.0.2", "127.0.0.1"][..], &["127.0.0.1", "127.0.0.2"], &["127.0.0.2", "::1"], &["::ffff:127.0.0.2"], &["0.0.0.0"]]
    {
        assert_eq!(get(&client(0, &[mixed]), port).unwrap_err().kind, ErrorKind::Denied, "{mixed:?}");
    }
    assert_eq!((canary.connections(), *count.lock().unwrap()), (0, 1));
}

const CHILD: &str = "net::client::guarded::tests::with_a_proxy_in_the_environment";

/// G4: the process that runs the next test has a canary for its proxy.
#[test]
fn a_proxy_of_the_environment_is_not_asked() {
    let (proxy, peer) =
        (Scripted::says(answer("200 OK", "text/plain", "proxy")), Scripted::says(answer("200 OK", "text/plain", "peer")));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", CHILD, "--nocapture"]).env("GUARDED_TEST_PEER", peer.url("/"));
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, proxy.url("/"));
    }
    let done = child.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!((proxy.connections(), peer.connections()), (0, 1));
}

#[test]
fn with_a_proxy_in_the_environment() {
    let Ok(peer) = std::env::var("GUARDED_TEST_PEER") else { return }; // run by the test before
    let limit = Duration::from_secs(5);
    let get = |client: Client, url: &str| client.send(&Call::get(url, Deadlines::within(limit, limit)));
    assert_eq!(get(Client::guarded(1), &peer).err().unwrap().kind, ErrorKind::Denied);
    let mut reply = get(Client::guarded_by(1, Arc::new(|_| true)), &peer).unwrap();
    assert_eq!(reply.read_all(100).unwrap(), b"peer");
}

//! A TCP connection to a host by its name: for what is no HTTP.
//!
//! Invariant: looking the name up and connecting are together within one deadline, and end at once where they are cancelled; the
//! system's resolver, which takes no deadline, is left behind at it. Fails in words for a person, with what the caller calls the peer.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use ureq::Timeout;
use ureq::unversioned::transport::NextTimeout;

use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::net::client::resolve::Names;
use crate::net::client::{link, socket};

/// Connects to `host` (a name, or an address with or without brackets) within `timeout`. `peer` is what it is called in errors.
///
/// # Errors
/// `Transient` where the name is unknown or nobody answers, `Timeout`, `Stopped` where it was cancelled.
pub fn connect(peer: &str, host: &str, port: u16, timeout: Duration, cancel: &Cancel) -> Result<TcpStream> {
    let (clock, host) = (Clock::system(), host.trim_matches(['[', ']']));
    let reached = link::cut_by(Some(cancel), || {
        let addresses = addresses(host, port, timeout)?;
        socket::open(&addresses, within(timeout.saturating_sub(clock.mono()), Timeout::Connect))
    });
    reached.map_err(|e| if cancel.is_set() { stopped(peer) } else { told(peer, &e) })
}

fn stopped(peer: &str) -> Error {
    Error::new(ErrorKind::Stopped, format!("the connection to {peer} was ended here"))
}

fn told(peer: &str, fault: &ureq::Error) -> Error {
    let (kind, text, hint) = match fault {
        ureq::Error::HostNotFound => {
            (ErrorKind::Transient, format!("the name of {peer} can't be resolved"), "check the name, and this machine's DNS")
        }
        ureq::Error::Timeout(Timeout::Resolve) => {
            (ErrorKind::Timeout, format!("the name of {peer} is not resolved in time"), "check this machine's DNS")
        }
        ureq::Error::Timeout(_) => (ErrorKind::Timeout, format!("{peer} did not take the connection in time"), ""),
        ureq::Error::Io(e) => {
            let hint = "is it running, and are host and port right?";
            (ErrorKind::Transient, format!("{peer} can't be reached: {e}"), hint)
        }
        _ => (ErrorKind::Transient, format!("{peer} can't be reached"), ""),
    };
    Error::new(kind, text).hint(hint)
}

fn within(after: Duration, reason: Timeout) -> NextTimeout {
    NextTimeout { after: after.max(Duration::from_millis(1)).into(), reason, ..NextTimeout::default() }
}

fn addresses(host: &str, port: u16, timeout: Duration) -> Result<Vec<SocketAddr>, ureq::Error> {
    static NAMES: OnceLock<Names> = OnceLock::new();
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => NAMES.get_or_init(Names::new).look_up(host, port, within(timeout, Timeout::Resolve)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::base::cancel::Why;

    #[test]
    fn hosts_are_reached_by_name_and_by_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            connect("the peer", host, port, Duration::from_secs(10), &Cancel::new()).unwrap();
        }
    }

    #[test]
    fn what_fails_is_said_in_the_callers_words() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let stopped = Cancel::new();
        stopped.set(Why::Asked);
        for (host, cancel, kind, words) in [
            ("127.0.0.1", Cancel::new(), ErrorKind::Transient, "the peer can't be reached: "),
            ("no such name", Cancel::new(), ErrorKind::Transient, "the name of the peer can't be resolved"),
            ("127.0.0.1", stopped, ErrorKind::Stopped, "the connection to the peer was ended here"),
        ] {
            let error = connect("the peer", host, free, Duration::from_secs(10), &cancel).unwrap_err();
            assert_eq!(error.kind, kind, "{host}: {error}");
            assert!(error.text.starts_with(words), "{error}");
        }
        let slow = told("the peer", &ureq::Error::Timeout(Timeout::Resolve));
        assert_eq!((slow.kind, slow.text.as_str()), (ErrorKind::Timeout, "the name of the peer is not resolved in time"));
    }
}

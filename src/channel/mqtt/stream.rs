//! The connection's bytes: TCP, or TLS over it.
//!
//! Invariant: connecting has a deadline, the resolver (which takes none) runs on a thread that is left behind at it, one at a time; after
//! that nothing blocks. A broker's certificate is always verified: against `caFile` alone where there is one, else against the
//! public authorities. Fails with words for a person: what a certificate lacks, and what to set.

use std::io::{self, ErrorKind as Io, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::base::threads::{STACK, Threads};
use crate::config;

const RESOLVE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 3;

/// The stream; non-blocking.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects. `resolving` is set while a lookup that was left behind still runs.
    ///
    /// # Errors
    /// `Invalid` for a `caFile` that can't be used, `Transient` or `Timeout` where nobody answers.
    pub fn connect(to: &config::Mqtt, threads: &Threads, resolving: &Arc<AtomicBool>) -> Result<Stream> {
        let tls = if to.tls { Some(tls(to)?) } else { None };
        let unreachable = |e: &io::Error| {
            let text = format!("the MQTT broker {}:{} can't be reached: {e}", to.host, to.port);
            Error::new(ErrorKind::Transient, text).hint("is it running, and are host and port right?")
        };
        let mut last = io::Error::new(Io::NotFound, "the name has no address");
        for address in resolve(to, threads, resolving)? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(tcp) => {
                    let _ = tcp.set_nodelay(true); // slower without it, not wrong
                    tcp.set_nonblocking(true).map_err(|e| unreachable(&e))?;
                    return Ok(match tls {
                        None => Stream::Plain(tcp),
                        Some(tls) => Stream::Tls(Box::new(StreamOwned::new(tls, tcp))),
                    });
                }
                Err(e) => last = e,
            }
        }
        Err(unreachable(&last))
    }

    /// Whether the socket is to be waited for until it takes bytes, beside what the caller has to write.
    pub fn wants_write(&self) -> bool {
        matches!(self, Stream::Tls(tls) if tls.conn.wants_write())
    }

    /// Says that no more comes from us.
    pub fn finish(&mut self) {
        if let Stream::Tls(tls) = self {
            tls.conn.send_close_notify();
            let _ = tls.conn.write_tls(&mut tls.sock); // the peer may be gone
        }
        let tcp = match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &mut tls.sock,
        };
        let _ = tcp.shutdown(std::net::Shutdown::Write); // likewise
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.read(buf),
            Stream::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.write(buf),
            Stream::Tls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Plain(tcp) => tcp.as_fd(),
            Stream::Tls(tls) => tls.sock.as_fd(),
        }
    }
}

/// The error of a connection that broke.
pub fn fault(e: &io::Error, to: &config::Mqtt) -> Error {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => untrusted(why, to),
        Some(e @ (rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_))) => {
            let text = format!("no TLS connection to the MQTT broker {}:{}: {e}", to.host, to.port);
            Error::new(ErrorKind::Permanent, text).hint("is it the TLS port? mqtt:// is without TLS")
        }
        _ if e.kind() == Io::UnexpectedEof => closed(),
        _ => Error::new(ErrorKind::Transient, format!("the connection to the MQTT broker broke: {e}")),
    }
}

/// The error of a connection that the broker closed.
pub fn closed() -> Error {
    Error::new(ErrorKind::Transient, "the MQTT broker closed the connection")
}

fn untrusted(why: &CertificateError, to: &config::Mqtt) -> Error {
    use CertificateError as C;
    let expired = matches!(why, C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. });
    let name = matches!(why, C::NotValidForName | C::NotValidForNameContext { .. });
    // A clock that is wrong at boot is set soon after.
    let kind = if expired { ErrorKind::Transient } else { ErrorKind::Permanent };
    let hint = match (expired, name, to.ca_file.is_some()) {
        (true, _, _) => "check the broker's certificate and this machine's clock",
        (_, true, _) => "use the name in url that the certificate was made for",
        (_, _, true) => "caFile must hold the authority that signed the broker's certificate",
        (_, _, false) => "for an authority of your own, set caFile to its certificate",
    };
    Error::new(kind, format!("the certificate of the MQTT broker {}:{} is not trusted: {why}", to.host, to.port)).hint(hint)
}

fn tls(to: &config::Mqtt) -> Result<ClientConnection> {
    let unusable = |text: String| Error::new(ErrorKind::Invalid, text);
    let mut roots = RootCertStore::empty();
    match &to.ca_file {
        Some(file) => authorities(file, &mut roots)?,
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let host = to.host.trim_start_matches('[').trim_end_matches(']').to_string();
    let name = ServerName::try_from(host).map_err(|_| unusable(format!("{} is no name that a certificate can have", to.host)))?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(format!("TLS can't be used: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), name).map_err(|e| unusable(format!("TLS can't be used: {e}")))
}

fn authorities(file: &Path, roots: &mut RootCertStore) -> Result<()> {
    let unusable = |why: String| {
        let text = format!("caFile {} can't be used: {}", file.display(), shorten(&why, 200));
        Error::new(ErrorKind::Invalid, text).hint("it must hold certificates in PEM")
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unusable(e.to_string()))? {
        roots.add(certificate.map_err(|e| unusable(e.to_string()))?).map_err(|e| unusable(e.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("no certificate is in it".to_string())) } else { Ok(()) }
}

fn resolve(to: &config::Mqtt, threads: &Threads, resolving: &Arc<AtomicBool>) -> Result<Vec<SocketAddr>> {
    let host = to.host.trim_start_matches('[').trim_end_matches(']').to_string();
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, to.port)]);
    }
    let slow = || {
        Error::new(ErrorKind::Timeout, format!("the name {} is not resolved in time", to.host)).hint("check this machine's DNS")
    };
    if resolving.swap(true, Ordering::SeqCst) {
        return Err(slow());
    }
    let (tell, found) = crossbeam_channel::bounded(1);
    let (own, port) = (resolving.clone(), to.port);
    let started = threads.spawn_once("mqtt-resolve", STACK, move || {
        let addresses = (host.as_str(), port).to_socket_addrs().map(|a| a.take(ADDRESSES_MAX).collect::<Vec<_>>());
        own.store(false, Ordering::SeqCst);
        let _ = tell.send(addresses); // who asked may be gone
    });
    started.inspect_err(|_| resolving.store(false, Ordering::SeqCst))?;
    match found.recv_timeout(RESOLVE) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) => Err(Error::new(ErrorKind::Transient, format!("the name {} can't be resolved", to.host))
            .hint("check the name, and this machine's DNS")),
        Err(_) => Err(slow()),
    }
}

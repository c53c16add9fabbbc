//! The connection's bytes: TCP, or TLS over it.
//!
//! Invariant: connecting, the name's lookup included, has a deadline and can be cancelled; after that nothing blocks. A broker's certificate is always verified: against `caFile` alone where there is one, else against the
//! public authorities. Fails with words for a person: what a certificate lacks, and what to set.

use std::io::{self, ErrorKind as Io, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, RootCertStore};

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::config;
use crate::net::reach;
use crate::net::tls::{self, Tls};

/// For the name and the connection together.
const CONNECT: Duration = Duration::from_secs(10);

/// The stream; non-blocking.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls<TcpStream>>),
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// `Invalid` for a `caFile` that can't be used, `Transient` or `Timeout` where nobody answers, `Stopped` where it was cancelled.
    pub fn connect(to: &config::Mqtt, cancel: &Cancel) -> Result<Stream> {
        let roots = to.ca_file.as_deref().filter(|_| to.tls).map(authorities).transpose()?;
        let peer = format!("the MQTT broker {}:{}", to.host, to.port);
        let tcp = reach::connect(&peer, &to.host, to.port, CONNECT, cancel)?;
        tcp.set_nonblocking(true)
            .map_err(|e| Error::new(ErrorKind::Transient, format!("the connection to {peer} broke: {e}")))?;
        if !to.tls {
            return Ok(Stream::Plain(tcp));
        }
        let unusable = |e: io::Error| Error::new(ErrorKind::Invalid, format!("TLS with {peer} can't be used: {e}"));
        Ok(Stream::Tls(Box::new(tls::client(to.host.trim_matches(['[', ']']), tcp, roots).map_err(unusable)?)))
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

fn authorities(file: &Path) -> Result<RootCertStore> {
    let unusable = |why: String| {
        let text = format!("caFile {} can't be used: {}", file.display(), shorten(&why, 200));
        Error::new(ErrorKind::Invalid, text).hint("it must hold certificates in PEM")
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unusable(e.to_string()))? {
        roots.add(certificate.map_err(|e| unusable(e.to_string()))?).map_err(|e| unusable(e.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("no certificate is in it".to_string())) } else { Ok(roots) }
}

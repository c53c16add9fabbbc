//! Dialling a peer that speaks TLS, whose authority is trusted or isn't.
#![allow(clippy::disallowed_methods)] // the peer has a thread of its own

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// An authority of our own, and certificates of it: `here` for 127.0.0.1, `elsewhere` for another name.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let script = "set -e
            openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca
            make() {
                openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj /CN=$1
                printf \"subjectAltName=$2\" > $1.ext
                openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $1.pem -extfile $1.ext -days 2
            }
            make here IP:127.0.0.1
            make elsewhere DNS:elsewhere.example";
        let made = Command::new("sh").args(["-c", script]).current_dir(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Authority(folder)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.0.path()).join(name)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        roots
    }

    /// A WebSocket over TLS with that certificate, which says back the first text of each connection; its address.
    fn serve(&self, name: &str) -> String {
        let certificate = CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(builder.with_single_cert(vec![certificate], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("wss://{}/secret-path?ticket=CANARY", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                let tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
                // Whoever doesn't trust us is gone in the handshake.
                let Ok(mut socket) = tungstenite::accept(tls) else { continue };
                if let Ok(Message::Text(text)) = socket.read() {
                    let _ = socket.send(Message::text(format!("{text} {}", "x".repeat(100_000))));
                    let _ = socket.read(); // until it closes
                }
            }
        });
        url
    }
}

#[test]
fn a_peer_whose_authority_is_trusted_is_spoken_with() {
    let authority = Authority::new();
    let url = authority.serve("here");
    let cancel = Cancel::new();
    let mut dialed = trusting(&url, &cancel, LONG, Some(authority.roots())).unwrap();
    dialed.send("hi").unwrap();
    match dialed.recv(LONG) {
        Ok(Got::Text(text)) => assert!(text.starts_with("hi x") && text.len() == 100_003, "{}", text.len()),
        other => panic!("{other:?}"),
    }
    assert_eq!(dialed.recv(Duration::from_millis(50)).unwrap(), Got::Nothing, "a deadline holds under TLS, too");
    cancel.set(crate::base::cancel::Why::Asked);
    assert_eq!(dialed.recv(LONG).unwrap_err().error.kind, ErrorKind::Stopped);
}

#[test]
fn a_peer_that_nobody_trusted_vouches_for_is_told_nothing() {
    let authority = Authority::new();
    let (here, elsewhere) = (authority.serve("here"), authority.serve("elsewhere"));
    for (what, url, roots) in [
        ("an authority that the web doesn't know", &here, None),
        ("another authority", &here, Some(Authority::new().roots())),
        ("another name", &elsewhere, Some(authority.roots())),
    ] {
        let error = trusting(url, &Cancel::new(), LONG, roots).err().unwrap_or_else(|| panic!("{what} is trusted"));
        assert_eq!(error.kind, ErrorKind::Permanent, "{what}: {error}");
        assert!(error.text.contains("no trusted TLS connection") && !error.hint.is_empty(), "{what}: {error}");
        assert!(!error.to_string().contains("CANARY"), "{error}");
    }
}

#[test]
fn a_peer_that_speaks_no_tls_or_nothing_ends_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}/", silent.local_addr().unwrap());
    let error = trusting(&url, &Cancel::new(), Duration::from_millis(200), None).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    let plain = crate::net::scripted::Scripted::says("HTTP/1.1 400 Bad Request\r\n\r\n");
    let url = plain.url("/").replace("http://", "wss://");
    let error = trusting(&url, &Cancel::new(), LONG, None).err().unwrap();
    assert!(matches!(error.kind, ErrorKind::Permanent | ErrorKind::Transient), "{error}");
}

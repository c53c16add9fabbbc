//! TLS over any stream, for what is no HTTP: WebSockets and MQTT.
//!
//! Invariant: the peer's certificate is always checked, its name and its time included; TLS 1.2 and 1.3 alone; the configuration for
//! the web's authorities is built once. Nothing is sent before the first read or write, so the stream's own deadlines hold for the
//! handshake, too. Fails where `host` can be no name of a certificate; later as the stream does, with `InvalidData` where the peer
//! isn't trusted.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// An encrypted stream.
pub type Tls<S> = StreamOwned<ClientConnection, S>;

/// The encrypted side of `stream` to `host` (a name, or an address without brackets). `roots` are those who may vouch for it; without
/// them those whom the web trusts.
///
/// # Errors
/// Where `host` is neither a name nor an address.
pub fn client<S: Read + Write>(host: &str, stream: S, roots: Option<RootCertStore>) -> io::Result<Tls<S>> {
    static WEB: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let name = ServerName::try_from(host.to_string()).map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))?;
    let config = match roots {
        Some(roots) => config(roots)?,
        None => match WEB.get() {
            Some(config) => config.clone(),
            None => {
                let made = config(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })?;
                WEB.get_or_init(|| made).clone()
            }
        },
    };
    Ok(StreamOwned::new(ClientConnection::new(config, name).map_err(io::Error::other)?, stream))
}

fn config(roots: RootCertStore) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(ALL_VERSIONS).map_err(io::Error::other)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_must_be_a_name_or_an_address() {
        for (host, is_one) in [("gateway.discord.gg", true), ("127.0.0.1", true), ("::1", true), ("", false), ("a b", false)] {
            let stream = std::io::Cursor::new(Vec::new());
            assert_eq!(client(host, stream, None).is_ok(), is_one, "{host}");
        }
    }
}

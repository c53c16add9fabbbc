//! Fetching a file that somebody sent.
//!
//! Invariant: at most the wanted bytes are held, all of it ends within the wanted time however slowly the peer speaks, no redirect is
//! followed, and nothing is unpacked. Which address is asked, and with which credential, is its adapter's decision: the service's
//! own hosts alone. Fails with the client's kinds; `Permanent` where the file is too large.

use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::Wanted;
use crate::net::client::{Call, Client, Deadlines, Refused, Reply};

const CONNECT: Duration = Duration::from_secs(10);

/// A GET that ends within the wanted time.
pub fn get(url: impl Into<String>, wanted: &Wanted<'_>) -> Call {
    Call::get(url, Deadlines::within(CONNECT, wanted.within)).cancel(wanted.cancel)
}

/// Sends it and reads the answer whole. `refused` says what another status than 2xx means.
///
/// # Errors
/// As the file says.
pub fn body(client: &Client, call: &Call, wanted: &Wanted<'_>, refused: impl FnOnce(Refused) -> Error) -> Result<Vec<u8>> {
    read(client.send(call)?.accepted().map_err(refused)?, wanted)
}

/// Reads an answer whole.
///
/// # Errors
/// As the file says.
pub fn read(mut reply: Reply, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
    let said = reply.header("content-length").and_then(|n| n.parse::<u64>().ok());
    if said.is_some_and(|n| n > wanted.bytes_max as u64) {
        return Err(too_large(wanted));
    }
    reply.read_all(wanted.bytes_max)
}

/// The refusal of a file beyond the bound.
pub fn too_large(wanted: &Wanted<'_>) -> Error {
    Error::new(ErrorKind::Permanent, format!("the file is larger than {} bytes", wanted.bytes_max))
        .hint("gateway.limits.maxAttachmentBytes is the bound")
}

/// Scheme, host and path of an address in the plain form that may bear a credential: no user, no port beside the scheme's own, no
/// characters that two readers could read in two ways. `None` for any other form.
pub fn https(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("https://")?;
    let (host, path) = rest.split_at(rest.find('/')?);
    let is_host = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    let is_plain = path.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'\\');
    (is_host && is_plain).then_some((host, path))
}

/// Whether `url` lies at exactly the origin of `root`: a service whose whole API is configured elsewhere has its files there, too.
pub fn is_at(url: &str, root: &str) -> bool {
    let Some((scheme, rest)) = root.split_once("://") else { return false };
    let origin = format!("{scheme}://{}/", rest.split('/').next().unwrap_or_default());
    url.starts_with(&origin) && url.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, host) in [
            ("https://files.slack.com/a/b.png", Some("files.slack.com")),
            ("https://files.slack.com", None),
            ("http://files.slack.com/a", None),
            ("https://files.slack.com@evil.example/a", None),
            ("https://files.slack.com:8443/a", None),
            ("https://files.slack.com\\@evil.example/a", None),
            ("https://evil.example#files.slack.com/", None),
            ("https://evil.example?files.slack.com/", None),
            ("https:///a", None),
            ("https://[::1]/a", None),
        ] {
            assert_eq!(https(url).map(|(host, _)| host), host, "{url}");
        }
        for (url, root, same) in [
            ("http://127.0.0.1:99/files/a", "http://127.0.0.1:99/api", true),
            ("http://127.0.0.1:999/files/a", "http://127.0.0.1:99/api", false),
            ("http://127.0.0.1:99@evil.example/a", "http://127.0.0.1:99", false),
            ("https://127.0.0.1:99/a", "http://127.0.0.1:99", false),
            ("http://127.0.0.1:99/a\nb", "http://127.0.0.1:99", false),
        ] {
            assert_eq!(is_at(url, root), same, "{url}");
        }
    }
}

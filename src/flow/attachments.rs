//! Fetching the files of a turn's messages, when the turn begins: their senders were admitted, and no poll waits for it.
//!
//! Invariant: all of it ends within a minute, or at once when the turn is cut short. What is kept already is not fetched again, so a turn
//! that begins anew goes on where it was. Nothing of it fails a turn: what could not be had is noted, and the model is told.

use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::base::crash;
use crate::base::error::{Error, ErrorKind};
use crate::channel::Wanted;
use crate::domain::{Attached, AttachmentState, Claim};
use crate::flow::Flow;

/// For one file.
const ONE: Duration = Duration::from_secs(30);
/// For all files of a turn.
const ALL: Duration = Duration::from_secs(60);

/// Fetches what the turn's messages brought.
pub(super) fn fetch(flow: &Flow, claim: &Claim, cancel: &Cancel) {
    let until = flow.clock.mono() + ALL;
    let head = (&claim.message_id, &claim.attachments);
    let more = claim.more.iter().map(|m| (&m.message_id, &m.attachments));
    for (id, files) in std::iter::once(head).chain(more) {
        for (n, attached) in files.iter().enumerate().filter(|(_, a)| a.state != AttachmentState::Stored) {
            let within = until.saturating_sub(flow.clock.mono()).min(ONE);
            let outcome = one(flow, &claim.channel, (id, n, attached), within, cancel);
            match outcome {
                Ok(()) => {}
                Err(e) if e.kind == ErrorKind::Stopped || cancel.is_set() => return,
                Err(e) => {
                    log::warn!(channel = claim.channel.as_str(), message_id = id.as_str(); "an attachment was not fetched: {e}");
                    if let Err(e) = flow.store.miss_attachment(id, n) {
                        log::warn!(message_id = id.as_str(); "that an attachment was not fetched could not be noted: {e}");
                    }
                }
            }
        }
    }
}

fn one(
    flow: &Flow,
    channel: &str,
    (id, n, attached): (&str, usize, &Attached),
    within: Duration,
    cancel: &Cancel,
) -> Result<(), Error> {
    let bytes_max = flow.settings.get().max_attachment_bytes;
    let permanent = |text: String| Error::new(ErrorKind::Permanent, text);
    if bytes_max == 0 {
        return Err(permanent("files are not fetched".into()).hint("gateway.limits.maxAttachmentBytes is 0"));
    }
    if let Some(bytes) = attached.file.bytes.filter(|b| *b > bytes_max as u64) {
        let hint = "gateway.limits.maxAttachmentBytes is the bound";
        return Err(permanent(format!("the file has {bytes} bytes, which is more than {bytes_max}")).hint(hint));
    }
    if within.is_zero() {
        return Err(Error::new(ErrorKind::Timeout, "the files before it took all the time"));
    }
    let channels = flow.channels.get();
    let found = channels.get(channel).ok_or_else(|| permanent(format!("there is no channel {channel} any more")))?;
    let bytes = found.fetch(&attached.file, &Wanted { bytes_max, within, cancel })?;
    crash::point("attachment.fetched");
    flow.store.keep_attachment(id, n, &bytes).map_err(|e| Error::new(ErrorKind::Transient, e.to_string()))?;
    crash::point("attachment.kept");
    Ok(())
}

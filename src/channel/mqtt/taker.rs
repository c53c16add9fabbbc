//! The thread that takes messages in, apart from the socket's: a slow disk must not hold the keep-alive.
//!
//! Invariant: one at a time and in order; it alone holds the ledger, whose cursor goes with each message. It tells the socket's
//! thread only what is on disk. Where nothing can be taken it says so once, and lets the rest of that connection go: the broker
//! sends it again.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::codec::Received;
use super::ledger::Ledger;
use super::mailbox::{Mailbox, Told};
use super::message::{self, Topics};
use crate::base::error::shorten;
use crate::channel::{Incoming, NotNow, Parts, Place, Taken};

/// What is to be done.
pub enum Job {
    /// The broker has a new session, or is to be subscribed anew.
    Begin { epoch: u64, is_new: bool },
    /// A message.
    Take { epoch: u64, message: Received },
    /// The broker has our acknowledgements up to that serial.
    Settle { serial: u64 },
}

/// The thread's own.
pub struct Taker {
    pub parts: Parts,
    pub topics: Topics,
    pub ledger: Ledger,
    pub mailbox: Arc<Mailbox>,
}

impl Taker {
    /// Works until nobody can give it anything any more.
    pub fn work(mut self, jobs: &Receiver<Job>) {
        let mut given_up = 0;
        for job in jobs {
            let outcome = match job {
                Job::Begin { epoch, is_new } => (epoch, self.begin(epoch, is_new)),
                Job::Take { epoch, .. } if epoch == given_up => continue,
                Job::Take { epoch, message } => (epoch, self.take(epoch, message)),
                Job::Settle { serial } => {
                    if self.ledger.settle(serial) {
                        // Lost, it costs no more than a remembered id too many.
                        let _ = self.parts.inlet.set_cursor(&self.parts.name, &self.ledger.cursor());
                    }
                    continue;
                }
            };
            let (epoch, result) = outcome;
            let told = result.unwrap_or_else(|NotNow(why)| {
                given_up = epoch;
                Told::NotNow { epoch, why }
            });
            self.mailbox.tell(told);
        }
    }

    fn begin(&mut self, epoch: u64, is_new: bool) -> Result<Told, NotNow> {
        if is_new {
            self.ledger.begin(&self.topics.filter, self.parts.clock.unix_ms());
        } else {
            self.ledger.filter.clone_from(&self.topics.filter);
        }
        self.parts.inlet.set_cursor(&self.parts.name, &self.ledger.cursor())?;
        Ok(Told::Ready { epoch })
    }

    fn take(&mut self, epoch: u64, message: Received) -> Result<Told, NotNow> {
        let packet_id = message.packet_id;
        let name = self.parts.name.as_str();
        let said = message::said(&message);
        let (sender, said) = match (self.topics.sender(&message.topic), said) {
            (Some(sender), Ok(said)) => (sender.to_string(), said),
            (None, _) => return Ok(Told::Taken { epoch, packet_id, serial: 0 }), // our own status, or a former filter's
            (_, Err(why)) => {
                let topic = shorten(&message.topic, 100);
                log::info!(channel = name; "a message on {topic} is ignored: {why}");
                return Ok(Told::Taken { epoch, packet_id, serial: 0 });
            }
        };
        let serial = self.ledger.serial(&message);
        let external_id = match &said.id {
            Some(id) => message::own_id(&sender, id),
            None => self.ledger.external_id(serial),
        };
        let incoming = Incoming {
            sender_name: sender.clone(),
            sender: sender.clone(),
            place: Place::Direct,
            conversation: said.conversation,
            external_id,
            text: said.text,
            metadata: said.metadata,
            written_ms: 0,
            cursor: Some(self.ledger.cursor()),
            attachments: Vec::new(),
        };
        if let Taken::Tell(text) = self.parts.inlet.take(name, incoming)? {
            self.tell(&sender, text);
        }
        Ok(Told::Taken { epoch, packet_id, serial })
    }

    /// Best effort: nobody waits for the outcome.
    fn tell(&self, sender: &str, text: String) {
        if let Ok(topic) = self.topics.to(sender) {
            let (outcome, _) = crossbeam_channel::bounded(1);
            let letter = super::mailbox::Letter { topic, payload: text, properties: Vec::new(), left: Arc::default(), outcome };
            let _ = self.mailbox.post(letter);
        }
    }
}

//! A few connections that read beside the writer.
//!
//! Invariant: at most [`READERS`] connections, opened when first needed; each read sees one state of the database and waits for no
//! write. Fails with `Busy` where all connections are taken for too long; a connection that failed or panicked is thrown away.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rusqlite::Connection;

use crate::base::clock::Clock;
use crate::store::sqlite::schema;
use crate::store::sqlite::sql::{Fault, Ran, Sql};
use crate::store::{Result, StoreError};

/// Most connections that read.
const READERS: usize = 4;
/// How long a read waits for a connection.
const WAIT: Duration = Duration::from_secs(10);

/// The pool.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    clock: Clock,
    free: Receiver<Option<Connection>>,
    back: Sender<Option<Connection>>,
}

impl Readers {
    /// A pool without open connections.
    pub(super) fn new(path: PathBuf, clock: Clock) -> Self {
        let (back, free) = crossbeam_channel::bounded(READERS);
        for _ in 0..READERS {
            let _ = back.try_send(None); // there is room for all
        }
        Readers { path, clock, free, back }
    }

    /// Reads, inside one transaction.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Sql<'_>) -> Ran<T>) -> Result<T> {
        let (slot, conn) = self.begin()?;
        let found = work(&Sql::new(&conn, &self.clock));
        slot.end(conn, found.as_ref().err())?;
        found.map_err(Fault::into_error)
    }

    /// A place, and a connection with a transaction begun.
    fn begin(&self) -> Result<(Slot<'_>, Connection)> {
        let free = self.free.recv_timeout(WAIT).map_err(|_| StoreError::Busy)?;
        let slot = Slot { readers: self, conn: None };
        let conn = match free {
            Some(conn) => conn,
            None => schema::open_reader(&self.path).map_err(Fault::into_error)?,
        };
        run(&conn, "BEGIN")?;
        Ok((slot, conn))
    }

    /// Closes those that nobody uses now: what they remember goes with them, and the next read opens one anew.
    pub(super) fn rest(&self) {
        for _ in 0..READERS {
            let Ok(idle) = self.free.try_recv() else { return };
            drop(idle);
            let _ = self.back.try_send(None); // the place that it had
        }
    }

    /// Closes all connections, waiting for those that read now.
    pub(super) fn close(&self) {
        for _ in 0..READERS {
            let _ = self.free.recv_timeout(WAIT); // one that hangs is left to its own
        }
    }
}

/// Gives a connection's place back, however its use ends.
struct Slot<'a> {
    readers: &'a Readers,
    conn: Option<Connection>,
}

impl Slot<'_> {
    /// Ends the transaction and keeps the connection, unless the database has failed.
    fn end(mut self, conn: Connection, fault: Option<&Fault>) -> Result<()> {
        if !matches!(fault, Some(Fault::Sql(_))) {
            run(&conn, "COMMIT")?;
            self.conn = Some(conn);
        }
        Ok(())
    }
}

fn run(conn: &Connection, sql: &str) -> Result<()> {
    let ran = conn.prepare_cached(sql).and_then(|mut statement| statement.execute(()));
    ran.map(drop).map_err(|e| Fault::from(e).into_error())
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let _ = self.readers.back.try_send(self.conn.take()); // as many places as there are slots
    }
}

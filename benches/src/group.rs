//! The bare group-commit loop that durable accept is compared with, and the bare fsync.
//!
//! Invariant: the same disk, the same SQLite and the same pragmas as the gateway's store (WAL, synchronous FULL), rows of the same
//! size, and nothing else: no index beside the key, no deduplication, no HTTP. A sender goes on when its row is on disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::Outcome;
use crate::proc::look_at_self;
use crate::stats::Times;

/// What came of a round.
#[derive(Clone, Debug)]
pub struct Grouped {
    /// Rows per second.
    pub rate: f64,
    /// Bytes written to the disk for each row.
    pub bytes: f64,
    /// From handing a row over until it is on disk.
    pub times: Times,
}

/// One row on its way: its text, and who waits for it.
type Row = (String, SyncSender<()>);

/// `senders` threads hand rows of `size` bytes to one writer for `lasting`.
pub fn run(folder: &Path, senders: usize, size: usize, lasting: Duration) -> Outcome<Grouped> {
    let connection = Connection::open(folder.join("bare.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE rows(seq INTEGER PRIMARY KEY, sender INTEGER NOT NULL, text TEXT NOT NULL);",
    )?;
    let (tx, rx) = sync_channel::<Row>(senders);
    let (stop, mut times) = (AtomicBool::new(false), Times::default());
    let before = look_at_self()?.written;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(connection, rx));
        let send = |tx: SyncSender<Row>| {
            let stop = &stop;
            scope.spawn(move || {
                let (done, committed) = sync_channel(1);
                let mut times = Times::default();
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    if tx.send(("x".repeat(size), done.clone())).is_err() || committed.recv().is_err() {
                        break;
                    }
                    times.add(begin.elapsed().as_nanos() as f64 / 1e3);
                }
                times
            })
        };
        let all: Vec<_> = (0..senders).map(|_| send(tx.clone())).collect();
        drop(tx);
        std::thread::sleep(lasting);
        stop.store(true, Ordering::Relaxed);
        for sender in all {
            times.join(sender.join().map_err(|_| "a sender panicked")?);
        }
        writer.join().map_err(|_| "the writer panicked")?
    })?;
    let (count, rate) = (times.len() as f64, times.len() as f64 / begin.elapsed().as_secs_f64());
    Ok(Grouped { rate, bytes: (look_at_self()?.written - before) as f64 / count, times })
}

/// Commits all that waits, again and again, until the senders are gone.
fn write(connection: Connection, rows: Receiver<Row>) -> Outcome<()> {
    let mut group = Vec::new();
    let (mut begin, mut commit) = (connection.prepare("BEGIN IMMEDIATE")?, connection.prepare("COMMIT")?);
    let mut insert = connection.prepare("INSERT INTO rows(sender, text) VALUES(?1, ?2)")?;
    while let Ok(first) = rows.recv() {
        begin.execute(())?;
        for (text, done) in std::iter::once(first).chain(rows.try_iter()) {
            insert.execute((group.len() as i64, text))?;
            group.push(done);
        }
        commit.execute(())?;
        for done in group.drain(..) {
            // A sender that is gone needs no word.
            let _ = done.try_send(());
        }
    }
    Ok(())
}

/// `count` times: 4 KiB over what is in a file already, then fdatasync. The least that a durable write costs here.
pub fn fsyncs(folder: &Path, count: usize) -> Outcome<Times> {
    const BLOCK: usize = 4096;
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("fsync"))?;
    file.write_all_at(&vec![1; BLOCK * 256], 0)?;
    file.sync_all()?;
    let mut times = Times::default();
    for at in 0..count {
        let begin = Instant::now();
        file.write_all_at(&[at as u8; BLOCK], ((at % 256) * BLOCK) as u64)?;
        file.sync_data()?;
        times.add(begin.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_the_file_and_the_loop_ends() {
        let folder = std::env::temp_dir().join(format!("gatelet-bench-group-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let grouped = run(&folder, 4, 300, Duration::from_millis(100)).unwrap();
        let rows: i64 =
            Connection::open(folder.join("bare.db")).unwrap().query_row("SELECT count(*) FROM rows", [], |r| r.get(0)).unwrap();
        assert!(rows > 0 && grouped.rate > 0.0);
        assert_eq!(fsyncs(&folder, 3).unwrap().len(), 3);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

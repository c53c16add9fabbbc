//! The local socket: the same service for this machine's trusted users, through tiny_http on a Unix socket of mode 0660.
//!
//! tiny_http has no bounds of its own (docs tell why the LAN gets another door), so what it would do with a hostile request is
//! avoided one by one: it drains a body that was left unread with a buffer of the announced size, blocking, when the request is
//! dropped; so no request is dropped before its body is read to its end or given up for good (`task.rs`).
//!
//! Invariant: a caller here is `Peer::Local` and reached the socket's file by its mode. `reply` never blocks: answers are written
//! by the socket's own threads. A local user who stalls a body holds one of these threads and nothing else. tiny_http's threads
//! (one that accepts, one a connection) are outside of our register; they end with their connections. Fails at start where the
//! path can't be had; if tiny_http stops accepting, as it does after any error, the socket is set up anew. Where it stops without a word
//! (the system refuses it a thread, and the one that accepts panics), that is seen within half a minute.

mod task;

use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};
use crate::net::door::head::{Framing, Persist, framing};
use crate::net::door::reply::{guard, refusal};
use crate::net::door::write::{DateText, Manner};
use crate::net::http::{Head, Plan, Reply, Request, Responder, Response, Served, Service, Sink};
use crate::net::local::task::{About, BodyKind, Task, Todo};
use crate::net::stream::Gathered;

/// Threads that read bodies, handle requests and write answers.
const WORKERS: usize = 2;
/// Requests that are here and not yet answered; one more is refused with 503.
const IN_FLIGHT_MAX: usize = 64;
/// Requests given up for good (each leaks tiny_http's thread and descriptors); then the socket closes.
const GIVEN_UP_MAX: usize = 16;
/// Pause before the socket is set up anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked at whether tiny_http still accepts.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What is in flight at the stop has so long to be answered.
const DRAIN: Duration = Duration::from_secs(1);

/// A running local socket. It ends with its `stop`.
#[derive(Debug)]
pub struct Local {
    path: PathBuf,
}

impl Local {
    /// Listens on `path`, with three threads, until `stop` is set; the file is removed then. A file that a dead process left there
    /// is replaced.
    ///
    /// # Errors
    /// `Permanent`, with a hint, where the path is taken or can't be written, or the system refuses a thread.
    pub fn start<S: Service>(path: &Path, service: Arc<S>, clock: Clock, threads: &Threads, stop: &Stop) -> Result<Local> {
        let server = listen(path)?;
        let (tx, rx) = crossbeam_channel::bounded(IN_FLIGHT_MAX); // each request is there at most once
        let socket = Arc::new(Socket {
            path: path.to_path_buf(),
            server: Mutex::new(Some(Arc::new(server))),
            service,
            clock,
            threads: threads.clone(),
            stop: stop.clone(),
            tasks: tx,
            in_flight: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            dates: DateText::default(),
        });
        for i in 0..WORKERS {
            let (socket, tasks) = (socket.clone(), rx.clone());
            threads.spawn(&format!("local-{i}"), STACK, stop, move || socket.work(&tasks))?;
        }
        threads.spawn("local", STACK, stop, move || socket.receive())?;
        Ok(Local { path: path.to_path_buf() })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn listen(path: &Path) -> Result<tiny_http::Server> {
    let shown = path.display();
    let failed = |text: String| Error::new(ErrorKind::Permanent, text).hint("check gateway.localSocket");
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == IoKind::NotFound => {}
        Err(e) => return Err(failed(format!("the local socket {shown} can't be looked at: {e}"))),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(failed(format!("{shown} is in the way of the local socket: it is no socket")));
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(e) if e.kind() == IoKind::ConnectionRefused => std::fs::remove_file(path)
                .map_err(|e| failed(format!("the local socket {shown} is stale and can't be removed: {e}")))?,
            Ok(_) => return Err(failed(format!("another program answers on the local socket {shown}"))),
            Err(e) => return Err(failed(format!("the local socket {shown} is taken: {e}"))),
        },
    }
    // By the mask, not afterwards: there must be no moment in which others can connect.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o117));
    let server = tiny_http::Server::http_unix(path);
    rustix::process::umask(mask);
    server.map_err(|e| failed(format!("can't listen on the local socket {shown}: {e}")))
}

struct Socket<S> {
    path: PathBuf,
    server: Mutex<Option<Arc<tiny_http::Server>>>,
    service: Arc<S>,
    clock: Clock,
    threads: Threads,
    stop: Stop,
    tasks: Sender<Task>,
    in_flight: AtomicUsize,
    given_up: AtomicUsize,
    dates: DateText,
}

impl<S: Service> Socket<S> {
    fn server(&self) -> Option<Arc<tiny_http::Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes requests from tiny_http until the stop.
    fn receive(self: &Arc<Self>) {
        while let Some(server) = self.server() {
            match self.next(&server) {
                Ok(raw) => raw.into_iter().for_each(|raw| self.accept(raw)),
                Err(_) if self.is_over() => {
                    // Those that wait unseen must not be dropped with the server.
                    while let Ok(Some(raw)) = server.try_recv() {
                        self.accept(raw);
                    }
                    break;
                }
                Err(e) => {
                    log::error!("the local socket stopped accepting ({e}) and is set up anew");
                    drop(server);
                    self.set_up_anew();
                }
            }
        }
        self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether nothing more is to be taken.
    fn is_over(&self) -> bool {
        self.stop.is_set() || self.given_up.load(Ordering::SeqCst) >= GIVEN_UP_MAX
    }

    /// The next request; none where nobody came for a while. An error where nobody will.
    fn next(&self, server: &tiny_http::Server) -> std::io::Result<Option<tiny_http::Request>> {
        let next = server.recv_timeout(LOOK_EVERY)?;
        if next.is_none() && self.is_over() {
            return Err(IoKind::Interrupted.into()); // it was unblocked, which looks like a time that is over
        }
        if next.is_none() {
            self.look()?;
        }
        Ok(next)
    }

    /// Whether somebody accepts: the listener goes with tiny_http's thread.
    fn look(&self) -> std::io::Result<()> {
        match UnixStream::connect(&self.path) {
            Err(e) if matches!(e.kind(), IoKind::ConnectionRefused | IoKind::NotFound) => Err(e),
            _ => Ok(()), // it is there, or so busy that somebody must be
        }
    }

    fn set_up_anew(&self) {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        while !self.stop.wait(RESTART_PAUSE) {
            match listen(&self.path) {
                Ok(server) => {
                    *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(server));
                    return;
                }
                Err(e) => log::error!("{e}"),
            }
        }
    }

    fn accept(self: &Arc<Self>, raw: tiny_http::Request) {
        let task = Task::new(raw, &self.clock);
        if self.in_flight.fetch_add(1, Ordering::SeqCst) >= IN_FLIGHT_MAX || self.stop.is_set() {
            return self.refuse(task, 503); // here, so that the queue has room for every answer that is due
        }
        if let Err(full) = self.tasks.try_send(task) {
            self.abandon(full.into_inner());
        }
    }

    /// Gives this one no answer: the workers are gone.
    fn abandon(&self, task: Task) {
        std::mem::forget(task.raw);
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// A worker's duty: tasks until the stop, then those in flight, for a while.
    fn work(self: &Arc<Self>, tasks: &Receiver<Task>) {
        loop {
            select! {
                recv(tasks) -> task => match task {
                    Ok(task) => self.run(task),
                    Err(_) => return,
                },
                recv(self.stop.receiver()) -> _ => break,
            }
        }
        if let Some(server) = self.server() {
            server.unblock(); // the receiver
        }
        let end = crossbeam_channel::after(DRAIN);
        while self.in_flight.load(Ordering::SeqCst) > 0 {
            select! {
                recv(tasks) -> task => if let Ok(task) = task { self.run(task) },
                recv(end) -> _ => break,
            }
        }
        tasks.try_iter().for_each(|task| self.abandon(task));
    }

    fn run(self: &Arc<Self>, mut task: Task) {
        match std::mem::replace(&mut task.todo, Todo::Handle) {
            Todo::Answer(response) => self.finish(task, response),
            Todo::Handle => {
                if let Some(head) = task.head.take() {
                    self.handle(task, head);
                }
            }
        }
    }

    fn handle(self: &Arc<Self>, mut task: Task, head: Head) {
        let modern = *task.raw.http_version() >= tiny_http::HTTPVersion(1, 1);
        let target_is_sound = (head.path.starts_with('/') || head.path == "*") && head.path.bytes().all(|b| b.is_ascii_graphic());
        let framing = match framing(&head.headers, modern) {
            Ok(framing) if target_is_sound && (task.body != BodyKind::Raw || framing == Framing::Empty) => framing,
            Ok(_) => return self.refuse(task, 400),
            Err(status) => return self.refuse(task, status),
        };
        match guard(&self.threads, "plan", || self.service.plan(&head)) {
            None => self.refuse(task, 500),
            Some(Plan::Answer(response)) => self.finish(task, response),
            Some(Plan::Upgrade(_)) => self.refuse(task, 501), // its stream can't be split or polled
            Some(Plan::Read { context, body_max, .. }) => match task.read_body(framing, body_max) {
                Err(Some(status)) => self.refuse(task, status),
                Err(None) => self.finish(task, Response::empty(400)), // broken off: nobody reads this
                Ok(body) => {
                    let responder = Responder::new(Box::new(LocalReply { socket: self.clone(), task: Mutex::new(task) }));
                    guard(&self.threads, "call", || self.service.call(context, Request { head, body }, responder));
                }
            },
        }
    }

    fn refusal(&self, status: u16, about: &About) -> Response {
        refusal(&*self.service, &self.threads, status, &about.path, &about.request_id)
    }

    fn refuse(self: &Arc<Self>, task: Task, status: u16) {
        let response = self.refusal(status, &task.about);
        self.finish(task, response);
    }

    /// Writes an answer.
    fn finish(&self, mut task: Task, response: Response) {
        let read = task.body_is_over();
        let about = &task.about;
        let persist = if read && !response.close { about.persist } else { Persist::Close };
        let manner = Manner { head_only: about.method == "HEAD", persist };
        let mut bytes = Vec::new();
        self.dates.write_response(&mut bytes, &response, &about.request_id, self.clock.unix_ms(), manner);
        let took = self.clock.mono().saturating_sub(about.received);
        let (method, path, request_id) = (&*about.method, &*about.path, &*about.request_id);
        let served = Served { method, path, status: response.status, request_id, took, whole: true };
        guard(&self.threads, "served", || self.service.served(&served));
        if read {
            let mut writer = task.raw.into_writer();
            let _ = writer.write_all(&bytes).and_then(|()| writer.flush()); // who asked may be gone
        } else {
            task.give_up(&bytes);
            self.given_up();
        }
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts a request given up; with too many of them the socket closes.
    fn given_up(&self) {
        if self.given_up.fetch_add(1, Ordering::SeqCst) + 1 == GIVEN_UP_MAX {
            log::error!(
                "the local socket closes: {GIVEN_UP_MAX} requests announced bodies beyond every bound; restart to reopen it"
            );
            let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(server) = server {
                server.unblock();
            }
        }
    }
}

/// A responder's way back: the answer is queued for the socket's own threads.
struct LocalReply<S: Service> {
    socket: Arc<Socket<S>>,
    /// tiny_http's request is not `Sync`, and `abandoned` looks at it by reference.
    task: Mutex<Task>,
}

impl<S: Service> Reply for LocalReply<S> {
    fn reply(self: Box<Self>, response: Response) {
        let mut task = self.task.into_inner().unwrap_or_else(PoisonError::into_inner);
        task.todo = Todo::Answer(response);
        if let Err(failed) = self.socket.tasks.try_send(task) {
            self.socket.abandon(failed.into_inner());
        }
    }

    fn abandoned(&self) -> Response {
        let about = self.task.lock().unwrap_or_else(PoisonError::into_inner).about.clone();
        self.socket.refusal(500, &about)
    }

    fn stream(self: Box<Self>, head: Response) -> Box<dyn Sink> {
        Gathered::sink(self, head) // tiny_http pulls a body by blocking reads: a thread for each stream
    }
}

#[cfg(test)]
mod tests;

//! The connection under a call: TCP, then TLS where it is asked for, with three things that ureq's own chain does not tell or
//! take.
//!
//! Invariant: the deadline of a read is the one that the reading thread set for it; whoever cancels a call shuts the connection
//! down on which it blocks, new or taken from the pool, and such a connection is never used again; the TLS configuration is
//! built once. A call runs on one thread from its begin to its last read, so what is passed along is kept by thread. It fails
//! as ureq does.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fmt, io};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, RustlsConnector, ShutdownHandle, Transport,
};

use crate::base::cancel::{Cancel, Guard};
use crate::net::client::socket::{self, SocketTransport};

thread_local! {
    /// The deadline of the read that this thread is in. ureq has one for all reads of a call; the first one of a body waits
    /// for a model to think, the next ones only for it to speak.
    static READ_LIMIT: Cell<Option<Duration>> = const { Cell::new(None) };
    /// Whether the call that this thread is in opened a connection (and did not take an idle one).
    static CONNECTED: Cell<bool> = const { Cell::new(false) };
    /// Whether the call that this thread is in has sent its whole request: it began to wait for an answer.
    static ASKED: Cell<bool> = const { Cell::new(false) };
    /// What cuts short whatever this thread blocks on.
    static CANCEL: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

/// Begins a call on this thread.
pub fn begin() {
    CONNECTED.set(false);
    ASKED.set(false);
}

/// Whether the call's whole request left: the peer may have acted on it.
pub fn has_asked() -> bool {
    ASKED.get()
}

/// Whether the call tried to open a connection of its own.
pub fn has_connected() -> bool {
    CONNECTED.get()
}

/// Runs `read`, each of its reads from the socket at most for `limit`.
pub fn reading_within<T>(limit: Duration, read: impl FnOnce() -> T) -> T {
    READ_LIMIT.set(Some(limit));
    let result = read();
    READ_LIMIT.set(None);
    result
}

/// Runs `work`, in which whatever blocks ends as soon as `cancel` is set.
pub fn cut_by<T>(cancel: Option<&Cancel>, work: impl FnOnce() -> T) -> T {
    /// Also where the work panics: the thread goes on, with other calls.
    struct Restore(Option<Cancel>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CANCEL.set(self.0.take());
        }
    }
    let _restore = Restore(CANCEL.replace(cancel.cloned()));
    work()
}

/// Has `hook` run when the call that this thread is in is cancelled, for as long as the guard lives.
pub fn on_cancel(hook: impl FnOnce() + Send + 'static) -> Option<Guard> {
    let cancel = CANCEL.with_borrow(Option::clone)?;
    Some(cancel.on_set(hook))
}

/// Notes that this thread opens a connection; for connectors.
pub fn connecting() {
    CONNECTED.set(true);
}

/// Applies this thread's deadline to one read; for transports.
pub fn limited(mut timeout: NextTimeout) -> NextTimeout {
    if let Some(limit) = READ_LIMIT.get() {
        timeout.per_read = Some(limit.into());
    }
    timeout
}

/// Opens TCP connections, with TLS for `https`.
#[derive(Debug, Default)]
pub struct Wire {
    tls: RustlsConnector,
}

impl Connector for Wire {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        connecting();
        let tcp = SocketTransport::new(socket::open(&details.addrs, details.timeout)?, details)?;
        let line = Arc::new(Line { handle: tcp.handle(), is_cut: AtomicBool::new(false) });
        let tcp = Some(Guarded { transport: tcp, line });
        // A call's own configuration (its deadlines) would have ureq build the TLS configuration anew for each connection;
        // ours never differs in TLS.
        let details = ConnectionDetails {
            uri: details.uri,
            addrs: details.resolver.empty(), // connected already
            config: details.config,
            request_level: false,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        Ok(self.tls.connect(&details, tcp)?.map(|t| Box::new(t) as Box<dyn Transport>))
    }
}

/// What is needed of a connection to cut it from another thread.
struct Line {
    handle: Weak<dyn ShutdownHandle>,
    /// It was cut: whatever its last bytes were, nobody may use it again.
    is_cut: AtomicBool,
}

impl Line {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        if let Some(handle) = self.handle.upgrade() {
            handle.shutdown();
        }
    }
}

/// A transport whose reads obey [`reading_within`], and whose blocking ends when its call is cancelled.
struct Guarded<T> {
    transport: T,
    line: Arc<Line>,
}

impl<T: fmt::Debug> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transport.fmt(f)
    }
}

impl<T> Guarded<T> {
    fn cuttable<R>(&mut self, work: impl FnOnce(&mut T) -> Result<R, Error>) -> Result<R, Error> {
        let line = self.line.clone();
        let guard = on_cancel(move || line.cut());
        let result = work(&mut self.transport);
        drop(guard);
        // A read that was cut looks like the end of the stream.
        if self.line.is_cut.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
        }
        result
    }
}

impl<T: Transport> Transport for Guarded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.cuttable(|t| t.transmit_output(amount, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.cuttable(|t| t.await_input(limited(timeout)))
    }

    fn is_open(&mut self) -> bool {
        !self.line.is_cut.load(Ordering::SeqCst) && self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

/// Connections of any kind, told when a call begins to wait for its answer: above TLS, whose handshake waits, too.
#[derive(Debug)]
pub struct Outer<C>(pub C);

impl<C: Connector> Connector for Outer<C> {
    type Out = Asking<C::Out>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        Ok(self.0.connect(details, None)?.map(Asking))
    }
}

/// See [`Outer`].
#[derive(Debug)]
pub struct Asking<T>(T);

impl<T: Transport> Transport for Asking<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        ASKED.set(true);
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

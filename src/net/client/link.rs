//! The connection under a call: TCP, then TLS where it is asked for, with two things that ureq's own chain does not tell or take.
//!
//! Invariant: the deadline of a read is the one that the reading thread set for it, and the TLS configuration is built once. A
//! call runs on one thread from its begin to its last read, so what is passed along is kept by thread. It fails as ureq does.

use std::cell::Cell;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

thread_local! {
    /// The deadline of the read that this thread is in. ureq has one for all reads of a call; the first one of a body waits
    /// for a model to think, the next ones only for it to speak.
    static READ_LIMIT: Cell<Option<Duration>> = const { Cell::new(None) };
    /// Whether the call that this thread is in opened a connection (and did not take an idle one).
    static CONNECTED: Cell<bool> = const { Cell::new(false) };
}

/// Begins a call on this thread.
pub fn begin() {
    CONNECTED.set(false);
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
    tcp: TcpConnector,
    tls: RustlsConnector,
}

impl Connector for Wire {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        connecting();
        let tcp = Connector::<()>::connect(&self.tcp, details, None)?.map(Limited);
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

/// A transport whose reads obey [`reading_within`].
#[derive(Debug)]
struct Limited<T>(T);

impl<T: Transport> Transport for Limited<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(limited(timeout))
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

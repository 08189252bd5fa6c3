//! The generator and the backend of the latency measurement, in one thread. As two programs on the one core that the proxy does
//! not use they would wait for each other, and that time would be attributed to the proxy.

use crate::backend::{self, Ports};
use crate::client::{Client, Stream, Target};
use crate::open_loop::{self, Generator, Load};
use crate::process::Ahead;
use crate::rig::Rig;
use anyhow::{Context as _, Result, anyhow};
use kit::tls::{ClientAuth, server_config};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

/// The interval at which an idle thread checks for an order.
const LOOK: Duration = Duration::from_millis(5);
/// The number from which the server's own events are numbered. Lower numbers belong to the generator.
const OWN: u64 = 1 << 16;

/// The handle of the thread, which ends when the handle is dropped.
pub(crate) struct Ends {
    ports: Ports,
    orders: Sender<Order>,
}

struct Order {
    generator: Generator,
    loads: Sender<Result<Load>>,
}

impl Ends {
    /// Starts the thread on the load's core, with the highest priority there.
    pub(crate) fn start(rig: &Rig) -> Result<Self> {
        let (orders, received) = channel();
        let (mut server, ports) = Server::open(rig)?;
        let core = rig.load_core;
        let mut run = move || -> Result<()> {
            crate::rig::keep_to(core)?;
            // The thread wakes at the requested time, not up to 50 µs later.
            prctl::set_timerslack(1)?;
            let _ahead = Ahead::this_thread()?;
            server.run(&received)
        };
        std::thread::Builder::new()
            .name("ends".into())
            .spawn(move || {
                run().inspect_err(|error| eprintln!("generator and backend: {error:#}"))
            })?;
        Ok(Self { ports, orders })
    }

    /// Returns the ports at which the peers find the backend.
    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// Sends requests at this rate for this time. Every response must be 200.
    pub(crate) fn load(
        &self,
        target: &Target,
        host: &str,
        rate: f64,
        duration: Duration,
    ) -> Result<Load> {
        let clients = (0..open_loop::CONNECTIONS)
            .map(|_| Client::connect_and_try(target, host))
            .collect::<Result<Vec<_>>>()?;
        let (loads, load) = channel();
        let generator = Generator::new(clients, host, rate, duration);
        let order = Order { generator, loads };
        let ended = || anyhow!("the thread of generator and backend has ended");
        self.orders.send(order).map_err(|_| ended())?;
        load.recv().map_err(|_| ended())?
    }
}

/// The backend, with the event queue on which the thread waits.
pub(crate) struct Server {
    epoll: Epoll,
    listeners: Vec<(TcpListener, Option<Arc<ServerConfig>>)>,
    connections: HashMap<u64, Connection>,
    accepted: u64,
    answer: Vec<u8>,
}

struct Connection {
    stream: Box<dyn Stream>,
    /// The socket below `stream`.
    tcp: TcpStream,
    buffer: Box<[u8; 4096]>,
    filled: usize,
}

impl Server {
    fn open(rig: &Rig) -> Result<(Self, Ports)> {
        let identity = backend::identity(&rig.folder)?;
        let tls = |auth| server_config(&identity, auth, &["http/1.1"]).map(Some);
        let mut server = Self {
            epoll: Epoll::new(EpollCreateFlags::empty())?,
            listeners: Vec::new(),
            connections: HashMap::new(),
            accepted: 0,
            answer: backend::ok(),
        };
        let [plain, mutual, open] = [None, tls(ClientAuth::Required)?, tls(ClientAuth::None)?]
            .map(|tls| server.listen(tls));
        let ports = Ports {
            plain: plain?,
            mutual: mutual?,
            tls: open?,
            ..rig.backend.get()
        };
        Ok((server, ports))
    }

    fn listen(&mut self, tls: Option<Arc<ServerConfig>>) -> Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        self.await_input(listener.as_fd(), OWN + self.listeners.len() as u64)?;
        let port = listener.local_addr()?.port();
        self.listeners.push((listener, tls));
        Ok(port)
    }

    pub(crate) fn await_input(&self, socket: BorrowedFd<'_>, number: u64) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        Ok(self.epoll.add(socket, event)?)
    }

    fn run(&mut self, orders: &Receiver<Order>) -> Result<()> {
        loop {
            match orders.try_recv() {
                Ok(Order { generator, loads }) => {
                    let _ = loads.send(generator.run(self));
                }
                Err(TryRecvError::Empty) => {
                    self.wait(LOOK)?;
                }
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Waits for input, and answers the requests to the backend. Returns the numbers of the other events.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); 128];
        let mut count = self.epoll.wait(&mut events, EpollTimeout::ZERO)?;
        if count == 0 {
            // epoll itself counts in milliseconds.
            let ready = ppoll(
                &mut [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)],
                Some(TimeSpec::from_duration(patience)),
                None,
            );
            match ready {
                Ok(0) | Err(Errno::EINTR) => return Ok(Vec::new()),
                other => other?,
            };
            count = self.epoll.wait(&mut events, EpollTimeout::ZERO)?;
        }
        let mut others = Vec::new();
        for event in &events[..count] {
            match event.data() {
                number @ ..OWN => others.push(number),
                number => self.serve(number)?,
            }
        }
        Ok(others)
    }

    fn serve(&mut self, number: u64) -> Result<()> {
        let listener = usize::try_from(number - OWN)?;
        if listener < self.listeners.len() {
            return self.accept(listener);
        }
        let connection = self.connections.get_mut(&number);
        let connection = connection.context("epoll reported an event of an unknown connection")?;
        if !connection.answer(&self.answer) {
            self.connections.remove(&number);
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        loop {
            let (listener, tls) = &self.listeners[listener];
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accept a connection"),
            };
            let connection = Connection::new(stream, tls.clone())?;
            self.accepted += 1;
            let number = OWN + self.listeners.len() as u64 + self.accepted;
            self.await_input(connection.tcp.as_fd(), number)?;
            self.connections.insert(number, connection);
        }
    }
}

impl Connection {
    fn new(tcp: TcpStream, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        tcp.set_nonblocking(true)?;
        tcp.set_nodelay(true)?;
        let own = tcp.try_clone()?;
        Ok(Self {
            tcp,
            stream: match tls {
                None => Box::new(own),
                Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(tls)?, own)),
            },
            buffer: Box::new([0; 4096]),
            filled: 0,
        })
    }

    /// Answers a request. Peers do not pipeline, so the bytes that they have sent end with the end of a head. Returns false if
    /// the connection is over.
    fn answer(&mut self, answer: &[u8]) -> bool {
        loop {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return false,
                Ok(count) => self.filled += count,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
            if self.buffer[..self.filled].ends_with(b"\r\n\r\n") {
                self.filled = 0;
                return self.stream.write_all(answer).is_ok();
            }
        }
    }
}

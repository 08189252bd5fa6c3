//! A listener that reads datagrams, counts and discards them.

use anyhow::{Context as _, Result};
use kit::datagrams;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The way in which a listener reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Each call returns one datagram, as in Cloud Foundry's own agents and in syslog servers.
    OneByOne,
    /// A call returns all datagrams that were sent together, as in Cupola's log-cache.
    Together,
}

/// The handle of the listener's thread, which ends when the handle is dropped.
pub(crate) struct Listener {
    pub(crate) port: u16,
    received: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts the thread on this core; `None` means that the kernel chooses.
    pub(crate) fn start(core: Option<usize>, reads: Reads) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("open a UDP socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        if reads == Reads::Together {
            datagrams::keep_together(&socket);
        }
        let port = socket.local_addr()?.port();
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let received = Arc::new(AtomicU64::new(0));
        let count = received.clone();
        let read = move || {
            if let Some(core) = core {
                let mut cores = CpuSet::new();
                // If it cannot be pinned to the core, it still reads.
                let _ = cores
                    .set(core)
                    .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores));
            }
            let mut buffer = vec![0; datagrams::LARGEST];
            while !ends.load(Ordering::Relaxed) {
                if let Ok(received) = datagrams::receive(&socket, &mut buffer) {
                    count.fetch_add(received.len() as u64, Ordering::Relaxed);
                }
            }
        };
        Ok(Self {
            port,
            received,
            over,
            thread: Some(std::thread::spawn(read)),
        })
    }

    /// Returns the number of datagrams that were read.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

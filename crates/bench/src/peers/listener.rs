//! A listener that reads datagrams and discards them, on the core of the load.

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The handle of the listener's thread, which ends when the handle is dropped.
pub(super) struct Listener {
    pub(super) port: u16,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub(super) fn start(core: usize) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("listen by UDP")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let port = socket.local_addr()?.port();
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let read = move || {
            let mut cores = CpuSet::new();
            // If it cannot be pinned to the core, it still reads.
            let _ = cores
                .set(core)
                .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores));
            let mut buffer = vec![0; 65_536];
            while !ends.load(Ordering::Relaxed) {
                let _ = socket.recv(&mut buffer);
            }
        };
        Ok(Self {
            port,
            over,
            thread: Some(std::thread::spawn(read)),
        })
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

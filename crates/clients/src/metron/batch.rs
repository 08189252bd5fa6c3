//! A batch of datagrams that are sent together. Datagrams of one length stand one behind the other in memory, as the kernel takes them.

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::collections::HashMap;
use std::io::{ErrorKind, IoSlice};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

/// The limits of one call: the number of datagrams that the kernel separates, and their bytes, at most those of one datagram.
const MOST_SEGMENTS: usize = 64;
const MOST_BYTES: usize = 65_000;

/// The outcome of sending a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// This number of datagrams was not sent.
    Lost(u64),
    /// No process listens at the agent's address.
    NoListener,
}

/// The number of lengths whose memory a batch keeps, and the size of each of these memories.
const MOST_LENGTHS: usize = 256;
const MOST_KEPT: usize = 64 << 10;

/// Datagrams that wait, in one piece of memory for each length.
#[derive(Debug, Default)]
pub(super) struct Batch {
    by_length: HashMap<usize, Vec<u8>>,
    pub(super) datagrams: usize,
    pub(super) bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, datagram: &[u8]) {
        let group = self.by_length.entry(datagram.len()).or_default();
        group.extend_from_slice(datagram);
        self.datagrams += 1;
        self.bytes += datagram.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// Removes the datagrams. The memory of usual lengths stays.
    pub(super) fn clear(&mut self) {
        if self.by_length.len() > MOST_LENGTHS {
            self.by_length.clear();
        }
        self.by_length.retain(|_, group| {
            group.clear();
            group.capacity() <= MOST_KEPT
        });
        (self.datagrams, self.bytes) = (0, 0);
    }

    /// Sends the datagrams. `segments` is whether the kernel accepts several datagrams in one call; it is set to false when the
    /// kernel does not.
    pub(super) fn send(&self, socket: &UdpSocket, segments: &mut bool) -> Sent {
        let mut lost = 0;
        for (length, group) in &self.by_length {
            let length = (*length).max(1);
            let most = (MOST_BYTES / length).clamp(1, MOST_SEGMENTS);
            for portion in group.chunks(most * length) {
                match together(socket, portion, length, segments) {
                    Ok(missed) => lost += missed,
                    Err(NoListener) => return Sent::NoListener,
                }
            }
        }
        // The failure of the last datagram is only reported here.
        match socket.take_error() {
            Ok(Some(error)) if error.kind() == ErrorKind::ConnectionRefused => Sent::NoListener,
            _ => Sent::Lost(lost),
        }
    }
}

/// The error that no process listens at the agent's address.
struct NoListener;

/// Sends datagrams of one length. Returns the number of those that were not sent.
fn together(
    socket: &UdpSocket,
    datagrams: &[u8],
    length: usize,
    segments: &mut bool,
) -> Result<u64, NoListener> {
    let size = u16::try_from(length).ok();
    if let Some(size) = size.filter(|_| *segments && datagrams.len() > length) {
        let cut = [ControlMessage::UdpGsoSegments(&size)];
        let slices = [IoSlice::new(datagrams)];
        let sent = sendmsg::<()>(socket.as_raw_fd(), &slices, &cut, MsgFlags::empty(), None);
        match sent {
            Ok(_) => return Ok(0),
            Err(Errno::ECONNREFUSED) => return Err(NoListener),
            // They exceed a packet of the network, or the kernel or the device does not support this. They are sent one by one.
            Err(Errno::EMSGSIZE | Errno::EINVAL) => {}
            Err(_) => *segments = false,
        }
    }
    let mut lost = 0;
    for datagram in datagrams.chunks(length) {
        match socket.send(datagram) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Err(NoListener),
            Err(_) => lost += 1,
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_datagram_arrives_whole_whatever_the_lengths() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let timeout = Some(Duration::from_secs(60));
        agent.set_read_timeout(timeout).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(agent.local_addr().unwrap()).unwrap();
        for mut segments in [true, false] {
            let mut batch = Batch::default();
            let mut wanted = Vec::new();
            for (length, count) in [(1, 3), (100, 70), (101, 1), (1_500, 2), (20_000, 4)] {
                for n in 0..count {
                    let datagram = vec![n as u8; length];
                    batch.push(&datagram);
                    wanted.push(datagram);
                }
            }
            assert_eq!(batch.send(&socket, &mut segments), Sent::Lost(0));
            let mut buffer = vec![0; 65_536];
            let mut came = Vec::new();
            for _ in 0..wanted.len() {
                let n = agent.recv(&mut buffer).unwrap();
                came.push(buffer[..n].to_vec());
            }
            // Datagrams of one length keep their order.
            came.sort_by_key(Vec::len);
            assert_eq!(came, wanted);
        }
    }
}

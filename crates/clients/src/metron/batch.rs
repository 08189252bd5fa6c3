//! A batch of datagrams that are sent together. Their bytes are in one piece of memory, which is reused.

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
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

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The position at which each datagram ends.
    pub(super) ends: Vec<usize>,
}

impl Batch {
    pub(super) fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Sends the datagrams. `segments` is whether the kernel accepts several datagrams in one call; it is set to false when the
    /// kernel does not.
    pub(super) fn send(&self, socket: &UdpSocket, segments: &mut bool) -> Sent {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let parts = starts.zip(&self.ends);
        let mut datagrams: Vec<&[u8]> = parts.map(|(from, to)| &self.bytes[from..*to]).collect();
        // The sort is stable: datagrams of one length keep their order.
        datagrams.sort_by_key(|datagram| datagram.len());
        let mut lost = 0;
        let mut slices = Vec::with_capacity(MOST_SEGMENTS);
        for group in datagrams.chunk_by(|a, b| a.len() == b.len()) {
            let most = (MOST_BYTES / group[0].len().max(1)).clamp(1, MOST_SEGMENTS);
            for chunk in group.chunks(most) {
                match together(socket, chunk, &mut slices, segments) {
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
fn together<'d>(
    socket: &UdpSocket,
    datagrams: &[&'d [u8]],
    slices: &mut Vec<IoSlice<'d>>,
    segments: &mut bool,
) -> Result<u64, NoListener> {
    let length = u16::try_from(datagrams[0].len()).ok().filter(|n| *n > 0);
    if let Some(length) = length.filter(|_| *segments && datagrams.len() > 1) {
        slices.clear();
        slices.extend(datagrams.iter().map(|datagram| IoSlice::new(datagram)));
        let cut = [ControlMessage::UdpGsoSegments(&length)];
        let sent = sendmsg::<()>(socket.as_raw_fd(), slices, &cut, MsgFlags::empty(), None);
        match sent {
            Ok(_) => return Ok(0),
            Err(Errno::ECONNREFUSED) => return Err(NoListener),
            // They exceed a packet of the network, or the kernel or the device does not support this. They are sent one by one.
            Err(Errno::EMSGSIZE | Errno::EINVAL) => {}
            Err(_) => *segments = false,
        }
    }
    let mut lost = 0;
    for datagram in datagrams {
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
            // The batch chooses the order.
            assert_eq!(batch.send(&socket, &mut segments), Sent::Lost(0));
            let mut buffer = vec![0; 65_536];
            let mut came = Vec::new();
            for _ in 0..wanted.len() {
                let n = agent.recv(&mut buffer).unwrap();
                came.push(buffer[..n].to_vec());
            }
            assert_eq!(came, wanted);
        }
    }
}

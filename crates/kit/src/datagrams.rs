//! Reads datagrams by UDP. A sender on this machine can pass many datagrams of one length to the kernel in one call. If the reader
//! asks for it, the kernel delivers them in one piece too. That costs the sender and the reader a small part of the time that
//! single datagrams cost, and the socket has room for more of them.

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _};
use std::slice::Chunks;

/// The size in bytes of a buffer that holds everything that one call can receive.
pub const LARGEST: usize = 1 << 16;

/// Asks the kernel to deliver datagrams together that were sent together. Whoever calls it reads with [`receive`]: another reader
/// would take several datagrams for one. A kernel older than 5.0 does not know this; then each call receives one datagram.
pub fn keep_together(socket: &impl AsFd) {
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
}

/// Receives the next datagrams into `buffer`, which should have [`LARGEST`] bytes, and returns each of them. An empty datagram
/// is left out.
///
/// # Errors
/// Those of `recvmsg`: `WouldBlock` if nothing has come and the socket does not wait, or waits no longer.
pub fn receive<'b>(socket: &impl AsFd, buffer: &'b mut [u8]) -> io::Result<Chunks<'b, u8>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut room = nix::cmsg_space!(i32);
    let (bytes, length) = {
        let mut slices = [IoSliceMut::new(buffer)];
        let received = recvmsg::<()>(fd, &mut slices, Some(&mut room), MsgFlags::empty())?;
        let length = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::UdpGroSegments(length) => usize::try_from(length).ok(),
            _ => None,
        });
        (received.bytes, length.unwrap_or(received.bytes))
    };
    let datagrams = buffer.get(..bytes).unwrap_or_default();
    Ok(datagrams.chunks(length.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::IoSlice;
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn datagrams_that_were_sent_together_arrive_together_and_whole() {
        let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
        keep_together(&reader);
        let timeout = Some(Duration::from_secs(60));
        reader.set_read_timeout(timeout).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(reader.local_addr().unwrap()).unwrap();
        let sent: Vec<u8> = (0..250).collect();
        let slices = [IoSlice::new(&sent)];
        let length = [ControlMessage::UdpGsoSegments(&100)];
        let fd = sender.as_raw_fd();
        sendmsg::<()>(fd, &slices, &length, MsgFlags::empty(), None).unwrap();
        sender.send(b"alone").unwrap();
        sender.send(b"").unwrap();
        sender.send(b"last").unwrap();

        let mut buffer = vec![0; LARGEST];
        let mut next = || {
            let datagrams = receive(&reader, &mut buffer).unwrap();
            datagrams.map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(next(), [&sent[..100], &sent[100..200], &sent[200..]]);
        assert_eq!(next(), [b"alone"]);
        assert!(next().is_empty());
        assert_eq!(next(), [b"last"]);
    }

    #[test]
    fn nothing_to_receive_is_an_error() {
        let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
        reader.set_nonblocking(true).unwrap();
        let mut buffer = [0; 10];
        let error = receive(&reader, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

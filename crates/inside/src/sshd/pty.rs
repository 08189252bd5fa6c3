//! A terminal for a session: a pseudo-terminal of Linux with the size and the settings that the client requests.

use russh::Pty as Mode;
use rustix::pty::OpenptFlags;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// The master's side of a terminal.
#[derive(Debug)]
pub(super) struct Terminal(AsyncFd<OwnedFd>);

/// A size in columns and rows, and in pixels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub columns: u32,
    pub rows: u32,
    pub width: u32,
    pub height: u32,
}

/// Opens a terminal. Returns the master, and the side of the process.
pub(super) fn open(size: Size, modes: &[(Mode, u32)]) -> io::Result<(Terminal, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let mut settings = rustix::termios::tcgetattr(&slave)?;
    apply(&mut settings, modes);
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    #[expect(
        deprecated,
        reason = "an owned descriptor stays open, and its register is unsafe"
    )]
    let terminal = Terminal(AsyncFd::new(master)?);
    terminal.resize(size);
    Ok((terminal, slave))
}

impl Terminal {
    /// Changes the size. The kernel sends SIGWINCH to what runs in the foreground.
    pub(super) fn resize(&self, size: Size) {
        let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: small(size.rows),
            ws_col: small(size.columns),
            ws_xpixel: small(size.width),
            ws_ypixel: small(size.height),
        };
        let _ = rustix::termios::tcsetwinsize(self.0.get_ref(), size);
    }

    /// Reads what the processes have written. It returns 0 when none of them has the terminal any more.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready
                .try_io(|fd| rustix::io::read(fd.get_ref(), &mut *buffer).map_err(io::Error::from));
            match read {
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Ok(0),
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Writes all bytes, as if somebody had typed them.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            let written =
                ready.try_io(|fd| rustix::io::write(fd.get_ref(), bytes).map_err(io::Error::from));
            match written {
                Ok(result) => bytes = &bytes[result?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}

/// Applies the modes of RFC 4254, section 8. The speed and what Linux does not have are left out.
fn apply(settings: &mut Termios, modes: &[(Mode, u32)]) {
    for (mode, value) in modes {
        if let Some(code) = special_code(*mode) {
            // 255 means that there is no such character.
            let value = if *value == 255 { 0 } else { *value };
            settings.special_codes[code] = u8::try_from(value).unwrap_or_default();
        } else if let Some(flag) = input_mode(*mode) {
            settings.input_modes.set(flag, *value != 0);
        } else if let Some(flag) = local_mode(*mode) {
            settings.local_modes.set(flag, *value != 0);
        } else if let Some(flag) = output_mode(*mode) {
            settings.output_modes.set(flag, *value != 0);
        }
    }
}

fn special_code(mode: Mode) -> Option<SpecialCodeIndex> {
    Some(match mode {
        Mode::VINTR => SpecialCodeIndex::VINTR,
        Mode::VQUIT => SpecialCodeIndex::VQUIT,
        Mode::VERASE => SpecialCodeIndex::VERASE,
        Mode::VKILL => SpecialCodeIndex::VKILL,
        Mode::VEOF => SpecialCodeIndex::VEOF,
        Mode::VEOL => SpecialCodeIndex::VEOL,
        Mode::VEOL2 => SpecialCodeIndex::VEOL2,
        Mode::VSTART => SpecialCodeIndex::VSTART,
        Mode::VSTOP => SpecialCodeIndex::VSTOP,
        Mode::VSUSP => SpecialCodeIndex::VSUSP,
        Mode::VREPRINT => SpecialCodeIndex::VREPRINT,
        Mode::VWERASE => SpecialCodeIndex::VWERASE,
        Mode::VLNEXT => SpecialCodeIndex::VLNEXT,
        Mode::VDISCARD => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input_mode(mode: Mode) -> Option<InputModes> {
    Some(match mode {
        Mode::IGNPAR => InputModes::IGNPAR,
        Mode::PARMRK => InputModes::PARMRK,
        Mode::INPCK => InputModes::INPCK,
        Mode::ISTRIP => InputModes::ISTRIP,
        Mode::INLCR => InputModes::INLCR,
        Mode::IGNCR => InputModes::IGNCR,
        Mode::ICRNL => InputModes::ICRNL,
        Mode::IXON => InputModes::IXON,
        Mode::IXANY => InputModes::IXANY,
        Mode::IXOFF => InputModes::IXOFF,
        Mode::IMAXBEL => InputModes::IMAXBEL,
        Mode::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_mode(mode: Mode) -> Option<LocalModes> {
    Some(match mode {
        Mode::ISIG => LocalModes::ISIG,
        Mode::ICANON => LocalModes::ICANON,
        Mode::ECHO => LocalModes::ECHO,
        Mode::ECHOE => LocalModes::ECHOE,
        Mode::ECHOK => LocalModes::ECHOK,
        Mode::ECHONL => LocalModes::ECHONL,
        Mode::NOFLSH => LocalModes::NOFLSH,
        Mode::TOSTOP => LocalModes::TOSTOP,
        Mode::IEXTEN => LocalModes::IEXTEN,
        Mode::ECHOCTL => LocalModes::ECHOCTL,
        Mode::ECHOKE => LocalModes::ECHOKE,
        _ => return None,
    })
}

fn output_mode(mode: Mode) -> Option<OutputModes> {
    Some(match mode {
        Mode::OPOST => OutputModes::OPOST,
        Mode::ONLCR => OutputModes::ONLCR,
        Mode::OCRNL => OutputModes::OCRNL,
        Mode::ONOCR => OutputModes::ONOCR,
        Mode::ONLRET => OutputModes::ONLRET,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_terminal_has_the_requested_size_and_settings() {
        let size = Size {
            columns: 132,
            rows: 43,
            ..Size::default()
        };
        let modes = [
            (Mode::ECHO, 0),
            (Mode::ICRNL, 0),
            (Mode::VINTR, 7),
            (Mode::TTY_OP_ISPEED, 115_200),
        ];
        let (terminal, slave) = open(size, &modes).unwrap();
        let settings = rustix::termios::tcgetattr(&slave).unwrap();
        assert!(!settings.local_modes.contains(LocalModes::ECHO));
        assert!(settings.local_modes.contains(LocalModes::ICANON));
        assert!(!settings.input_modes.contains(InputModes::ICRNL));
        assert_eq!(settings.special_codes[SpecialCodeIndex::VINTR], 7);
        let seen = rustix::termios::tcgetwinsize(&slave).unwrap();
        assert_eq!((seen.ws_col, seen.ws_row), (132, 43));

        terminal.write_all(b"typed\n").await.unwrap();
        let mut line = [0; 16];
        let length = rustix::io::read(&slave, &mut line[..]).unwrap();
        assert_eq!(&line[..length], b"typed\n");
        rustix::io::write(&slave, b"shown").unwrap();
        let length = terminal.read(&mut line).await.unwrap();
        assert_eq!(&line[..length], b"shown");
        drop(slave);
        assert_eq!(terminal.read(&mut line).await.unwrap(), 0);
    }
}

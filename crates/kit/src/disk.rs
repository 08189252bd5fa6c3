//! Examines the disk below a folder, and holds the texts that report failures of a disk.

use nix::sys::statvfs::statvfs;
use std::io;
use std::path::Path;

/// Returns the free bytes on the disk of `folder`, as `df` shows them.
///
/// # Errors
/// It fails if the folder does not exist or cannot be read.
pub fn free(folder: &Path) -> io::Result<u64> {
    Ok(room(folder)?.0)
}

/// Returns whether this process could write this number of bytes to the disk of `folder`. It returns true for a folder that
/// cannot be examined, because a write to it fails anyway.
pub fn has(folder: &Path, bytes: u64) -> bool {
    statvfs(folder).map_or(true, |disk| {
        // Root may also use the blocks that a file system reserves for it.
        let blocks = if nix::unistd::geteuid().is_root() {
            disk.blocks_free()
        } else {
            disk.blocks_available()
        };
        blocks * disk.fragment_size() >= bytes
    })
}

/// Returns the free bytes and the disk's size.
///
/// # Errors
/// It fails if the folder does not exist or cannot be read.
pub fn room(folder: &Path) -> io::Result<(u64, u64)> {
    let disk = statvfs(folder)?;
    Ok((
        disk.blocks_available() * disk.fragment_size(),
        disk.blocks() * disk.fragment_size(),
    ))
}

/// The reason why data cannot be stored. Everything that reads continues; a client may try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Full,
    ReadOnly,
    /// The file was removed or replaced while we used it, so new writes would be lost.
    Gone,
    /// The device reports errors on reading or writing.
    Failing,
    /// Other processes kept the file locked for too long.
    Busy,
    /// The content of the file is no database.
    Damaged,
    /// The database server does not answer.
    Unreachable,
}

impl Trouble {
    /// Returns the trouble that caused the error, or `None` if the error has another cause than the disk.
    pub fn of_io(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Some(Self::Full),
            io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            io::ErrorKind::StaleNetworkFileHandle => Some(Self::Gone),
            _ if error.raw_os_error() == Some(nix::errno::Errno::EIO as i32) => Some(Self::Failing),
            _ => None,
        }
    }

    /// Returns the trouble that caused the error, or `None` if the error has another cause than the disk.
    pub fn of_database(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Io(error) => Self::of_io(error).or_else(|| match error.kind() {
                io::ErrorKind::NotFound => Some(Self::Gone),
                kind => is_of_network(kind).then_some(Self::Unreachable),
            }),
            sqlx::Error::Tls(_) => Some(Self::Unreachable),
            sqlx::Error::PoolTimedOut => Some(Self::Busy),
            sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed => Some(Self::Failing),
            sqlx::Error::Database(error) => {
                let code = error.code()?;
                match error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
                    Some(_) => Self::of_state(&code),
                    None => Self::of_code(code.parse().ok()?),
                }
            }
            _ => None,
        }
    }

    /// Returns the trouble for a state of PostgreSQL. The first two characters are the class of the state.
    fn of_state(state: &str) -> Option<Self> {
        match state {
            "53100" => Some(Self::Full),
            "25006" => Some(Self::ReadOnly),
            "58030" => Some(Self::Failing),
            "XX001" | "XX002" => Some(Self::Damaged),
            // A lock was not available, the transaction was idle for too long, or it lost against another one.
            "55P03" | "25P03" | "40001" | "40P01" => Some(Self::Busy),
            // The user or the database is unknown: somebody changes the server.
            "3D000" => Some(Self::Unreachable),
            _ => match state.get(..2)? {
                "08" | "28" | "57" if state != "57014" => Some(Self::Unreachable),
                "53" => Some(Self::Busy),
                _ => None,
            },
        }
    }

    /// Returns the trouble for a result code of SQLite. The primary result code is the low byte of the extended one.
    fn of_code(code: i32) -> Option<Self> {
        match code & 0xff {
            13 => Some(Self::Full),
            8 => Some(Self::ReadOnly),
            10 | 14 | 15 | 7 => Some(Self::Failing),
            5 | 6 => Some(Self::Busy),
            11 | 26 => Some(Self::Damaged),
            _ => None,
        }
    }

    /// Returns the first cause in an error's chain that is a trouble of the disk.
    pub fn of_chain(error: &anyhow::Error) -> Option<Self> {
        error.chain().find_map(|cause| {
            cause
                .downcast_ref::<io::Error>()
                .and_then(Self::of_io)
                .or_else(|| {
                    cause
                        .downcast_ref::<sqlx::Error>()
                        .and_then(Self::of_database)
                })
        })
    }

    /// Returns the text for users. It names the disk by the folder that is on it, and its free bytes.
    pub fn text(self, folder: &Path) -> String {
        let place = folder.display();
        let free = free(folder).map_or_else(|_| "unknown".to_owned(), |free| free.to_string());
        match self {
            Self::Full => format!(
                "the disk of {place} is full ({free} bytes are free): nothing can be written until there is room"
            ),
            Self::ReadOnly => format!(
                "the disk of {place} is read-only ({free} bytes are free): mount it for writing"
            ),
            Self::Gone => format!(
                "the database file in {place} was removed or replaced while it was in use: restore it, then restart this component"
            ),
            Self::Failing => format!(
                "the disk of {place} reports an error ({free} bytes are free): look at the kernel's log"
            ),
            Self::Busy => {
                format!("the database in {place} is busy: try again in a few seconds")
            }
            Self::Unreachable => {
                "the database server cannot be reached: start it, or correct its address in the configuration".to_owned()
            }
            Self::Damaged => format!(
                "the database in {place} is damaged: replace it with a backup, then restart this component"
            ),
        }
    }

    /// Returns the trouble as an error with that text, whose kind leads back to the trouble ([`Self::of_io`]).
    pub fn error(self, folder: &Path) -> io::Error {
        let kind = match self {
            Self::Full => io::ErrorKind::StorageFull,
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Self::Gone => io::ErrorKind::StaleNetworkFileHandle,
            Self::Unreachable => io::ErrorKind::NotConnected,
            Self::Failing | Self::Busy | Self::Damaged => io::ErrorKind::Other,
        };
        io::Error::new(kind, self.text(folder))
    }
}

/// Returns whether an error of this kind on a connection to a server means that the server does not answer.
fn is_of_network(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotConnected
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_disk_and_its_free_bytes() {
        let folder = Path::new("/");
        let text = Trouble::Full.text(folder);
        assert!(text.starts_with("the disk of / is full ("), "{text}");
        assert!(
            text.split_whitespace()
                .any(|word| word.trim_start_matches('(').parse::<u64>().is_ok()),
            "{text}"
        );
        for trouble in [Trouble::Full, Trouble::ReadOnly, Trouble::Gone] {
            assert_eq!(Trouble::of_io(&trouble.error(folder)), Some(trouble));
        }
    }

    #[test]
    fn causes_are_found_in_a_chain() {
        let error = anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull))
            .context("store package")
            .context("upload");
        assert_eq!(Trouble::of_chain(&error), Some(Trouble::Full));
        assert_eq!(Trouble::of_chain(&anyhow::anyhow!("no such app")), None);
        // The codes are SQLITE_IOERR_WRITE, SQLITE_READONLY_DBMOVED and SQLITE_CONSTRAINT_UNIQUE.
        assert_eq!(Trouble::of_code(778), Some(Trouble::Failing));
        assert_eq!(Trouble::of_code(1032), Some(Trouble::ReadOnly));
        assert_eq!(Trouble::of_code(2067), None);
        // The states are admin_shutdown, query_canceled, unique_violation and disk_full.
        assert_eq!(Trouble::of_state("57P01"), Some(Trouble::Unreachable));
        assert_eq!(Trouble::of_state("57014"), None);
        assert_eq!(Trouble::of_state("23505"), None);
        assert_eq!(Trouble::of_state("53100"), Some(Trouble::Full));
    }
}

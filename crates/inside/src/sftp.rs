//! `sftp-server` serves files to sftp and scp over its standard streams: version 3 of the protocol, with OpenSSH's extensions that
//! its clients use. The sshd starts it in the app's directory, with the app's user, so the kernel decides about every right.
//!
//! | Module | Owns |
//! |---|---|
//! | [`packet`], [`fields`] | reading requests and writing answers |
//! | [`attributes`] | what is known of a file, in both directions |
//! | [`files`] | the requests |

mod attributes;
mod fields;
mod files;
mod packet;

use files::Files;
use packet::{LONGEST, Request};
use std::io::{self, Read, Write};
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sftp-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers requests until the input ends.
fn serve(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut files = Files::default();
    while let Some(bytes) = next(input)? {
        let answer = match Request::parse(&bytes) {
            Some(request) => files.answer(request),
            None => return Err(io::Error::other("a request that is no SFTP")),
        };
        output.write_all(&answer.into_bytes())?;
        output.flush()?;
    }
    Ok(())
}

/// Reads one packet without its length; `None` at the end.
fn next(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(io::Error::other(format!("a request of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;

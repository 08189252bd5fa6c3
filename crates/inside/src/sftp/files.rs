//! The requests on files and directories.

use super::attributes::{Attributes, line};
use super::fields::Fields;
use super::packet::{Answer, LONGEST, Request, Status};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, ReadDir};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The number of files and directories that a client may have open.
const OPEN: usize = 256;
/// The number of bytes that one answer has at most.
const LONGEST_READ: usize = 256 << 10;
/// The number of names in one answer.
const NAMES: usize = 100;

/// The extensions of OpenSSH that this server knows, with their versions.
const EXTENSIONS: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("limits@openssh.com", "1"),
];

/// The files and directories that a client has open.
#[derive(Debug, Default)]
pub(super) struct Files {
    next: u32,
    open: BTreeMap<u32, Open>,
}

#[derive(Debug)]
enum Open {
    File { file: File, appends: bool },
    Directory { path: PathBuf, entries: ReadDir },
}

/// The reason why a request failed.
#[derive(Debug)]
enum Problem {
    /// The request lacks a field.
    Message,
    /// The handle or the operation is unknown.
    Status(Status, &'static str),
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Outcome = Result<Answer, Problem>;

impl Files {
    pub(super) fn answer(&mut self, request: Request<'_>) -> Answer {
        let Request { id, kind, fields } = request;
        match self.outcome(id, kind, fields) {
            Ok(answer) => answer,
            Err(Problem::Message) => Answer::status(id, Status::BadMessage, "Bad message"),
            Err(Problem::Status(status, text)) => Answer::status(id, status, text),
            Err(Problem::Io(error)) => Answer::status(id, status_of(&error), &text_of(&error)),
        }
    }

    fn outcome(&mut self, id: u32, kind: u8, mut fields: Fields<'_>) -> Outcome {
        let fields = &mut fields;
        let done = |result: io::Result<()>| -> Outcome {
            result?;
            Ok(Answer::status(id, Status::Ok, "Success"))
        };
        match kind {
            1 => Ok(Answer::version(EXTENSIONS)),
            3 => self.open_file(id, fields),
            4 => {
                let closed = self.open.remove(&handle(fields)?);
                done(closed.map(drop).ok_or_else(unknown_handle))
            }
            5 => self.read(id, fields),
            6 => done(self.write(fields)?),
            7 => Ok(known(id, &fs::symlink_metadata(path(fields)?)?)),
            8 => Ok(known(id, &self.file(fields)?.metadata()?)),
            9 => {
                let (path, change) = (path(fields)?, attributes(fields)?);
                done(change_path(&path, &change))
            }
            10 => {
                let handle = handle(fields)?;
                let change = attributes(fields)?;
                done(match self.open.get(&handle) {
                    Some(Open::File { file, .. }) => change.apply(file),
                    Some(Open::Directory { path, .. }) => change_path(path, &change),
                    None => Err(unknown_handle()),
                })
            }
            11 => self.open_directory(id, fields),
            12 => self.read_directory(id, fields),
            13 => done(fs::remove_file(path(fields)?)),
            14 => {
                let (path, wish) = (path(fields)?, attributes(fields)?);
                let mode = wish.mode.unwrap_or(0o777) & 0o7777;
                done(DirBuilder::new().mode(mode).create(path))
            }
            15 => done(fs::remove_dir(path(fields)?)),
            16 => Ok(Answer::path(id, real_path(&path(fields)?)?.as_os_str())),
            17 => Ok(known(id, &fs::metadata(path(fields)?)?)),
            18 => done(rename_new(&path(fields)?, &path(fields)?)),
            19 => Ok(Answer::path(id, fs::read_link(path(fields)?)?.as_os_str())),
            // OpenSSH sends the target first, against the draft of the protocol, and all clients follow it.
            20 => done(symlink(path(fields)?, path(fields)?)),
            200 => self.extended(id, fields),
            _ => Err(Problem::Status(
                Status::Unsupported,
                "Operation unsupported",
            )),
        }
    }

    fn extended(&mut self, id: u32, fields: &mut Fields<'_>) -> Outcome {
        let name = fields.bytes().ok_or(Problem::Message)?;
        match name {
            b"posix-rename@openssh.com" => fs::rename(path(fields)?, path(fields)?)?,
            b"hardlink@openssh.com" => fs::hard_link(path(fields)?, path(fields)?)?,
            b"fsync@openssh.com" => self.file(fields)?.sync_all()?,
            b"expand-path@openssh.com" => {
                let path = expanded(&path(fields)?);
                return Ok(Answer::path(id, real_path(&path)?.as_os_str()));
            }
            b"limits@openssh.com" => {
                let (read, open) = (LONGEST_READ as u64, OPEN as u64);
                return Ok(Answer::extended(id, &[LONGEST as u64, read, read, open]));
            }
            _ => {
                return Err(Problem::Status(
                    Status::Unsupported,
                    "Operation unsupported",
                ));
            }
        }
        Ok(Answer::status(id, Status::Ok, "Success"))
    }

    fn keep(&mut self, id: u32, open: Open) -> Outcome {
        if self.open.len() >= OPEN {
            return Err(Problem::Status(Status::Failure, "Too many open files"));
        }
        self.next = self.next.wrapping_add(1);
        self.open.insert(self.next, open);
        Ok(Answer::handle(id, self.next))
    }

    fn file(&self, fields: &mut Fields<'_>) -> Result<&File, Problem> {
        match self.open.get(&handle(fields)?) {
            Some(Open::File { file, .. }) => Ok(file),
            _ => Err(unknown_handle().into()),
        }
    }

    fn open_file(&mut self, id: u32, fields: &mut Fields<'_>) -> Outcome {
        let path = path(fields)?;
        let flags = fields.number().ok_or(Problem::Message)?;
        let wish = attributes(fields)?;
        let has = |flag: u32| flags & flag != 0;
        let (read, write, append) = (has(1), has(2), has(4));
        let (create, truncate, exclusive) = (has(8), has(16), has(32));
        let file = OpenOptions::new()
            .read(read)
            .write(write)
            .append(append)
            .create(create && !exclusive)
            .create_new(create && exclusive)
            .truncate(truncate && !append)
            .mode(wish.mode.unwrap_or(0o666) & 0o7777)
            .open(path)?;
        self.keep(
            id,
            Open::File {
                file,
                appends: append,
            },
        )
    }

    fn read(&self, id: u32, fields: &mut Fields<'_>) -> Outcome {
        let file = self.file(fields)?;
        let offset = fields.long().ok_or(Problem::Message)?;
        let length = fields.number().ok_or(Problem::Message)?;
        let length = usize::try_from(length).unwrap_or(LONGEST_READ);
        let mut data = vec![0; length.min(LONGEST_READ)];
        let read = file.read_at(&mut data, offset)?;
        if read == 0 && length > 0 {
            return Err(Problem::Status(Status::EndOfFile, "End of file"));
        }
        Ok(Answer::data(id, &data[..read]))
    }

    fn write(&self, fields: &mut Fields<'_>) -> Result<io::Result<()>, Problem> {
        let handle = handle(fields)?;
        let offset = fields.long().ok_or(Problem::Message)?;
        let data = fields.bytes().ok_or(Problem::Message)?;
        Ok(match self.open.get(&handle) {
            Some(Open::File {
                file,
                appends: true,
            }) => io::Write::write_all(&mut &*file, data),
            Some(Open::File { file, .. }) => file.write_all_at(data, offset),
            _ => Err(unknown_handle()),
        })
    }

    fn open_directory(&mut self, id: u32, fields: &mut Fields<'_>) -> Outcome {
        let path = path(fields)?;
        let entries = fs::read_dir(&path)?;
        self.keep(id, Open::Directory { path, entries })
    }

    fn read_directory(&mut self, id: u32, fields: &mut Fields<'_>) -> Outcome {
        let Some(Open::Directory { entries, .. }) = self.open.get_mut(&handle(fields)?) else {
            return Err(unknown_handle().into());
        };
        let mut names = Vec::new();
        for entry in entries.take(NAMES) {
            let entry = entry?;
            // A file may have been removed since.
            if let Ok(metadata) = entry.metadata() {
                let name: OsString = entry.file_name();
                let line = line(&name.to_string_lossy(), &metadata);
                names.push((name, line, Attributes::of(&metadata)));
            }
        }
        if names.is_empty() {
            return Err(Problem::Status(Status::EndOfFile, "End of file"));
        }
        Ok(Answer::names(id, &names))
    }
}

fn path(fields: &mut Fields<'_>) -> Result<PathBuf, Problem> {
    fields.path().ok_or(Problem::Message)
}

fn attributes(fields: &mut Fields<'_>) -> Result<Attributes, Problem> {
    Attributes::parse(fields).ok_or(Problem::Message)
}

fn handle(fields: &mut Fields<'_>) -> Result<u32, Problem> {
    let bytes = fields.bytes().ok_or(Problem::Message)?;
    let bytes = <[u8; 4]>::try_from(bytes).map_err(|_| unknown_handle())?;
    Ok(u32::from_be_bytes(bytes))
}

fn unknown_handle() -> io::Error {
    io::Error::other("Invalid handle")
}

fn known(id: u32, metadata: &fs::Metadata) -> Answer {
    Answer::attributes(id, &Attributes::of(metadata))
}

/// Changes the attributes of a file by its path.
fn change_path(path: &Path, change: &Attributes) -> io::Result<()> {
    let file = match change.size {
        Some(_) => OpenOptions::new().write(true).open(path)?,
        None => File::open(path)?,
    };
    change.apply(&file)
}

/// Renames, unless the new name exists.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Returns the absolute path without links and dots. The last name need not exist.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let missing = match fs::canonicalize(path) {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let Some(name) = path.file_name() else {
        return Err(missing);
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(fs::canonicalize(parent)?.join(name))
}

/// Replaces `~` and `~/` at the beginning by the directory of the app.
fn expanded(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let rest = match bytes {
        b"~" => Some(Path::new("")),
        _ => path.strip_prefix("~").ok(),
    };
    match (rest, std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

fn status_of(error: &io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::NotFound => Status::NoSuchFile,
        io::ErrorKind::PermissionDenied => Status::PermissionDenied,
        _ => Status::Failure,
    }
}

/// Returns what the user reads, without the number of the error.
fn text_of(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

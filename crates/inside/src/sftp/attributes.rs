//! Reads, writes and applies the attributes of a file: its size, owner, mode and times.

use super::fields::Fields;
use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::time::{Duration, SystemTime};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// The attributes in a packet. What is absent is unknown, or is not to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub size: Option<u64>,
    /// The user and the group.
    pub owner: Option<(u32, u32)>,
    pub mode: Option<u32>,
    /// The times of the last access and the last change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

impl Attributes {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let seconds = |time: i64| u32::try_from(time).unwrap_or_default();
        Self {
            size: Some(metadata.size()),
            owner: Some((metadata.uid(), metadata.gid())),
            mode: Some(metadata.mode()),
            times: Some((seconds(metadata.atime()), seconds(metadata.mtime()))),
        }
    }

    pub(super) fn parse(fields: &mut Fields<'_>) -> Option<Self> {
        let flags = fields.number()?;
        let mut found = Self::default();
        if flags & SIZE != 0 {
            found.size = Some(fields.long()?);
        }
        if flags & OWNER != 0 {
            found.owner = Some((fields.number()?, fields.number()?));
        }
        if flags & MODE != 0 {
            found.mode = Some(fields.number()?);
        }
        if flags & TIMES != 0 {
            found.times = Some((fields.number()?, fields.number()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..fields.number()? {
                fields.bytes()?;
                fields.bytes()?;
            }
        }
        Some(found)
    }

    pub(super) fn put(&self, target: &mut Vec<u8>) {
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let flags = flag(self.size.is_some(), SIZE)
            | flag(self.owner.is_some(), OWNER)
            | flag(self.mode.is_some(), MODE)
            | flag(self.times.is_some(), TIMES);
        target.extend_from_slice(&flags.to_be_bytes());
        if let Some(size) = self.size {
            target.extend_from_slice(&size.to_be_bytes());
        }
        let pairs = [self.owner, self.mode.map(|mode| (mode, 0)), self.times];
        for (position, pair) in pairs.into_iter().enumerate() {
            let Some((first, second)) = pair else {
                continue;
            };
            target.extend_from_slice(&first.to_be_bytes());
            // The mode is one number.
            if position != 1 {
                target.extend_from_slice(&second.to_be_bytes());
            }
        }
    }

    /// Changes an open file. The size comes first, because a change of it changes the times.
    pub(super) fn apply(&self, file: &File) -> io::Result<()> {
        if let Some(size) = self.size {
            file.set_len(size)?;
        }
        if let Some((user, group)) = self.owner {
            fchown(file, Some(user), Some(group))?;
        }
        if let Some(mode) = self.mode {
            file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
        }
        if let Some((accessed, modified)) = self.times {
            let time = |seconds: u32| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
            let times = FileTimes::new()
                .set_accessed(time(accessed))
                .set_modified(time(modified));
            file.set_times(times)?;
        }
        Ok(())
    }
}

/// Returns a line as `ls -l` shows it, which clients print.
pub(super) fn line(name: &str, metadata: &Metadata) -> String {
    let mode = metadata.mode();
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o140_000 => 's',
        0o010_000 => 'p',
        0o020_000 => 'c',
        0o060_000 => 'b',
        _ => '-',
    };
    let mut rights = String::from(kind);
    for shift in [6, 3, 0] {
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            rights.push(if (mode >> shift) & bit != 0 {
                letter
            } else {
                '-'
            });
        }
    }
    format!(
        "{rights} {:>4} {:<8} {:<8} {:>8} {} {name}",
        metadata.nlink(),
        metadata.uid(),
        metadata.gid(),
        metadata.size(),
        date(metadata.mtime()),
    )
}

fn date(seconds: i64) -> String {
    let Ok(time) = time::OffsetDateTime::from_unix_timestamp(seconds) else {
        return "-".to_owned();
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute()
    )
}

//! `scp -t PATH` receives files, `scp -f PATH…` sends them, in the old protocol of scp: the other side is `scp -O`, or an scp that is
//! older than OpenSSH 9. Sessions call it where the stack has no scp of its own. `-r` is for folders, `-p` keeps times.
//!
//! ```text
//!  receive: T times ─▶ C mode size name ─▶ bytes, 0      D mode 0 name ─▶ … ─▶ E
//!  each line is answered with 0, or with 1 and a line of text
//! ```

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// The length of the longest line.
const LINE: u64 = 8192;

pub(crate) fn main(args: &[String]) -> ExitCode {
    let (input, output) = (&mut io::stdin().lock(), &mut io::stdout().lock());
    match Options::parse(args).and_then(|options| run(&options, input, output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scp: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    sends: bool,
    is_recursive: bool,
    keeps_times: bool,
    paths: Vec<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> io::Result<Self> {
        let mut options = Self::default();
        let mut receives = false;
        let mut flags_end = false;
        for arg in args {
            match arg.strip_prefix('-').filter(|_| !flags_end) {
                Some("-") => flags_end = true,
                Some(flags) => {
                    for flag in flags.chars() {
                        match flag {
                            't' => receives = true,
                            'f' => options.sends = true,
                            'r' => options.is_recursive = true,
                            'p' => options.keeps_times = true,
                            // The target must be a folder, which receiving finds out; and nothing is printed in any case.
                            'd' | 'v' | 'q' => {}
                            other => {
                                return Err(io::Error::other(format!("no such flag: -{other}")));
                            }
                        }
                    }
                }
                None => options.paths.push(PathBuf::from(arg)),
            }
        }
        if receives == options.sends || options.paths.is_empty() {
            return Err(io::Error::other(
                "only `scp -t PATH` and `scp -f PATH…` are known",
            ));
        }
        Ok(options)
    }
}

/// Returns whether all files were copied.
fn run(options: &Options, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<bool> {
    let mut wire = Wire {
        input,
        output,
        is_good: true,
    };
    if options.sends {
        wire.answer_of_peer()?;
        for path in &options.paths {
            wire.send(path, options)?;
        }
    } else {
        wire.acknowledge()?;
        wire.receive(&options.paths[0], None)?;
    }
    Ok(wire.is_good)
}

/// Both directions of the connection.
struct Wire<'a, R, W> {
    input: &'a mut R,
    output: &'a mut W,
    /// Whether every file was copied so far.
    is_good: bool,
}

impl<R: BufRead, W: Write> Wire<'_, R, W> {
    fn acknowledge(&mut self) -> io::Result<()> {
        self.output.write_all(&[0])?;
        self.output.flush()
    }

    /// Reports that one file could not be copied. The other files follow all the same.
    fn complain(&mut self, path: &Path, error: &io::Error) -> io::Result<()> {
        self.is_good = false;
        let line = format!("\u{1}scp: {}: {error}\n", path.display());
        self.output.write_all(line.as_bytes())?;
        self.output.flush()
    }

    /// Reads the peer's answer. Returns whether it accepts what was sent.
    fn answer_of_peer(&mut self) -> io::Result<bool> {
        let mut answer = [0];
        self.input.read_exact(&mut answer)?;
        if answer[0] == 0 {
            return Ok(true);
        }
        self.is_good = false;
        let text = self.line()?;
        match answer[0] {
            1 => Ok(false),
            _ => Err(io::Error::other(text)),
        }
    }

    /// Reads a line without its end. It is empty when the input has ended.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut limited = (&mut *self.input).take(LINE);
        limited.read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if !line.is_empty() {
            return Err(io::Error::other("a line that does not end"));
        }
        String::from_utf8(line).map_err(io::Error::other)
    }

    /// Receives what belongs into `target`: a file or a folder of this name, or files into the folder if it exists.
    fn receive(&mut self, target: &Path, folder_times: Option<FileTimes>) -> io::Result<()> {
        let mut times = None;
        loop {
            let line = self.line()?;
            let (kind, rest) = match line.char_indices().nth(1) {
                Some((at, _)) => line.split_at(at),
                None => (line.as_str(), ""),
            };
            match kind {
                "" => return Ok(()),
                "T" => {
                    times = Some(times_of(rest)?);
                    self.acknowledge()?;
                }
                "E" => {
                    if let Some(times) = folder_times {
                        let _ = File::open(target).and_then(|folder| folder.set_times(times));
                    }
                    return self.acknowledge();
                }
                "C" => {
                    let entry = Entry::parse(rest)?;
                    let path = entry.place(target);
                    self.file(&path, &entry, times.take())?;
                }
                "D" => {
                    let entry = Entry::parse(rest)?;
                    let path = entry.place(target);
                    match folder(&path, entry.mode) {
                        Ok(()) => {
                            self.acknowledge()?;
                            self.receive(&path, times.take())?;
                        }
                        Err(error) => self.complain(&path, &error)?,
                    }
                }
                "\u{1}" => self.is_good = false,
                _ => return Err(io::Error::other(format!("a line that is no scp: {line:?}"))),
            }
        }
    }

    fn file(&mut self, path: &Path, entry: &Entry, times: Option<FileTimes>) -> io::Result<()> {
        let file = match File::create(path) {
            Ok(file) => file,
            Err(error) => return self.complain(path, &error),
        };
        self.acknowledge()?;
        let mut bytes = (&mut *self.input).take(entry.size);
        let mut target = &file;
        let written = io::copy(&mut bytes, &mut target);
        // The rest is read in any case, because other files follow.
        io::copy(&mut bytes, &mut io::sink())?;
        if bytes.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.answer_of_peer()?;
        let finished = written
            .and_then(|_| file.set_permissions(Permissions::from_mode(entry.mode)))
            .and_then(|()| times.map_or(Ok(()), |times| file.set_times(times)));
        match finished {
            Ok(()) => self.acknowledge(),
            Err(error) => self.complain(path, &error),
        }
    }

    fn send(&mut self, path: &Path, options: &Options) -> io::Result<()> {
        let metadata = match fs::metadata(path) {
            Ok(found) if found.is_dir() && !options.is_recursive => {
                let error = io::Error::other("not a regular file");
                return self.complain(path, &error);
            }
            Ok(found) => found,
            Err(error) => return self.complain(path, &error),
        };
        let path_name = fs::canonicalize(path)?;
        let name = path_name.file_name().unwrap_or_default().as_bytes();
        if options.keeps_times {
            let line = format!("T{} 0 {} 0\n", metadata.mtime(), metadata.atime());
            self.output.write_all(line.as_bytes())?;
            self.output.flush()?;
            self.answer_of_peer()?;
        }
        let mode = metadata.mode() & 0o7777;
        if metadata.is_dir() {
            return self.send_folder(path, mode, name, options);
        }
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) => return self.complain(path, &error),
        };
        if !self.head(&format!("C{mode:04o} {} ", metadata.len()), name)? {
            return Ok(());
        }
        let sent = io::copy(&mut file.take(metadata.len()), self.output)?;
        // A file that became shorter is filled up, because its length was announced.
        io::copy(&mut io::repeat(0).take(metadata.len() - sent), self.output)?;
        self.acknowledge()?;
        self.answer_of_peer()?;
        Ok(())
    }

    fn send_folder(
        &mut self,
        path: &Path,
        mode: u32,
        name: &[u8],
        options: &Options,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.complain(path, &error),
        };
        if !self.head(&format!("D{mode:04o} 0 "), name)? {
            return Ok(());
        }
        for entry in entries {
            self.send(&entry?.path(), options)?;
        }
        self.output.write_all(b"E\n")?;
        self.output.flush()?;
        self.answer_of_peer()?;
        Ok(())
    }

    /// Sends the line before a file or a folder. Returns whether the peer accepts it.
    fn head(&mut self, start: &str, name: &[u8]) -> io::Result<bool> {
        let line = [start.as_bytes(), name, b"\n"].concat();
        self.output.write_all(&line)?;
        self.output.flush()?;
        self.answer_of_peer()
    }
}

/// The line before a file or a folder.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    size: u64,
    name: String,
}

impl Entry {
    fn parse(text: &str) -> io::Result<Self> {
        let mut parts = text.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let (mode, size, name) = (u32::from_str_radix(part(), 8), part().parse(), part());
        let is_name = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
        match (mode, size) {
            (Ok(mode), Ok(size)) if is_name => Ok(Self {
                mode: mode & 0o7777,
                size,
                name: name.to_owned(),
            }),
            _ => Err(io::Error::other(format!("a line that is no scp: {text:?}"))),
        }
    }

    /// Returns the path of the file: in the target if it is a folder, else the target itself.
    fn place(&self, target: &Path) -> PathBuf {
        match target.is_dir() {
            true => target.join(&self.name),
            false => target.to_owned(),
        }
    }
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    if !path.is_dir() {
        fs::create_dir(path)?;
    }
    // Its owner must be able to write into it.
    fs::set_permissions(path, Permissions::from_mode(mode | 0o700))
}

/// Parses `MODIFIED 0 ACCESSED 0`.
fn times_of(text: &str) -> io::Result<FileTimes> {
    let numbers: Vec<u64> = text.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [modified, _, accessed, _] = numbers[..] else {
        return Err(io::Error::other(format!("times that are none: {text:?}")));
    };
    let time = |seconds: u64| {
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    Ok(FileTimes::new()
        .set_modified(time(modified))
        .set_accessed(time(accessed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(options: &Options, input: &[u8]) -> (io::Result<bool>, Vec<u8>) {
        let mut output = Vec::new();
        let result = run(options, &mut &input[..], &mut output);
        (result, output)
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("cupola-scp-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_folder_is_received_and_sent() {
        let place = folder("copy");
        let receive = Options {
            is_recursive: true,
            paths: vec![place.join("new")],
            ..Options::default()
        };
        let input = b"D0755 0 deep\nT1500000000 0 1000000000 0\nC0640 5 a.txt\nhello\0E\n";
        let (result, output) = exchange(&receive, input);
        assert!(result.unwrap());
        assert_eq!(output, [0; 6]);
        let file = place.join("new/a.txt");
        assert_eq!(fs::read(&file).unwrap(), b"hello");
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.mtime()),
            (0o640, 1_500_000_000)
        );

        let send = Options {
            sends: true,
            is_recursive: true,
            paths: vec![place.join("new")],
            ..Options::default()
        };
        let (result, output) = exchange(&send, &[0; 5]);
        assert!(result.unwrap());
        assert_eq!(
            String::from_utf8_lossy(&output),
            "D0755 0 new\nC0640 5 a.txt\nhello\0E\n"
        );
        let alone = Options {
            is_recursive: false,
            ..send
        };
        let (result, output) = exchange(&alone, &[0]);
        assert!(!result.unwrap());
        assert!(output.starts_with(b"\x01scp: "), "{output:?}");
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn names_stay_in_the_target() {
        let place = folder("names");
        let receive = Options {
            paths: vec![place.clone()],
            ..Options::default()
        };
        for line in [
            "C0644 1 ../x\n",
            "C0644 1 ..\n",
            "C0644 x a\n",
            "Q\n",
            "C0644",
        ] {
            let (result, _) = exchange(&receive, line.as_bytes());
            assert!(result.is_err(), "{line}");
        }
        let (result, _) = exchange(&receive, b"C0644 9 a\nshort");
        assert!(result.is_err());
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn flags_are_checked() {
        let parse = |text: &str| {
            let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
            Options::parse(&args)
        };
        let options = parse("-r -p -t -- -x").unwrap();
        assert!(options.is_recursive && options.keeps_times && !options.sends);
        assert_eq!(options.paths, [PathBuf::from("-x")]);
        for wrong in ["-t", "-f", "a", "-t -f a", "-z -t a"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! `binary_buildpack` is for a prebuilt Linux program. It runs unchanged; only its type is checked, because a program of a wrong
//! type would fail much later and much less clearly.

use super::{Buildpack, Compiled, shell_word};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub(super) struct Binary;

impl Buildpack for Binary {
    fn key(&self) -> &'static str {
        "binary_buildpack"
    }
    fn title(&self) -> &'static str {
        "Binary"
    }

    /// Returns whether there is exactly one program in the top folder.
    fn detect(&self, app: &Path) -> bool {
        programs(app).len() == 1
    }

    fn compile(&self, app: &Path) -> Result<Compiled, String> {
        let programs = programs(app);
        for program in &programs {
            program.check()?;
            make_executable(&program.path)?;
        }
        let mut process_types = BTreeMap::new();
        if let [only] = programs.as_slice() {
            let command = shell_word(&format!("./{}", only.name));
            println!(
                "       Found program {}, start command {command}",
                only.name
            );
            process_types.insert("web".to_owned(), command);
        }
        Ok(Compiled {
            process_types,
            profile: Vec::new(),
        })
    }
}

struct Program {
    name: String,
    path: PathBuf,
    machine: u16,
}

const X86_64: u16 = 62;
const AARCH64: u16 = 183;
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = AARCH64;

impl Program {
    fn check(&self) -> Result<(), String> {
        if self.machine == MACHINE {
            return Ok(());
        }
        let name = |machine| match machine {
            X86_64 => "x86-64".to_owned(),
            AARCH64 => "arm64".to_owned(),
            3 => "32-bit x86".to_owned(),
            40 => "32-bit arm".to_owned(),
            243 => "RISC-V".to_owned(),
            other => format!("machine type {other}"),
        };
        Err(format!(
            "program {} is built for {}, but this cell is {}; build it for Linux on {}",
            self.name,
            name(self.machine),
            name(MACHINE),
            name(MACHINE)
        ))
    }
}

/// Returns the ELF executables in the top folder, by name.
fn programs(app: &Path) -> Vec<Program> {
    let entries = fs::read_dir(app).into_iter().flatten().flatten();
    let mut programs: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // Shared libraries are ELF files of the same type as position-independent programs.
            let library = name.ends_with(".so") || name.contains(".so.");
            (!library).then_some(())?;
            Some(Program {
                machine: elf_machine(&entry.path())?,
                path: entry.path(),
                name,
            })
        })
        .collect();
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

/// Returns the machine of an ELF program (types EXEC and DYN); `None` for other files.
fn elf_machine(path: &Path) -> Option<u16> {
    let mut header = [0; 20];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let little_endian = header[5] == 1;
    let word = |at: usize| {
        let bytes = [header[at], header[at + 1]];
        if little_endian {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        }
    };
    (header.starts_with(b"\x7fELF") && matches!(word(16), 2 | 3)).then(|| word(18))
}

/// Makes the program executable, because a zip made on Windows has no permissions.
fn make_executable(path: &Path) -> Result<(), String> {
    let failed = |error| format!("make {} executable: {error}", path.display());
    let mut permissions = fs::metadata(path).map_err(failed)?.permissions();
    if permissions.mode() & 0o111 == 0 {
        permissions.set_mode(permissions.mode() | 0o755);
        fs::set_permissions(path, permissions).map_err(failed)?;
    }
    Ok(())
}

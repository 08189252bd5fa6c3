//! Speaks the protocol as clients do.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// A folder that the test removes.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cupola-sftp-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> Vec<u8> {
        self.0.join(name).into_os_string().into_encoded_bytes()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

fn packet(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = [&[kind][..], &7_u32.to_be_bytes(), &parts.concat()].concat();
    string(&body)
}

/// Sends requests to a new server. Returns its answers: the kind, and what follows the number.
fn exchange(requests: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
    let (input, mut output) = (requests.concat(), Vec::new());
    serve(&mut input.as_slice(), &mut output).unwrap();
    let (mut rest, mut answers) = (output.as_slice(), Vec::new());
    while let Some(answer) = next(&mut rest).unwrap() {
        answers.push((answer[0], answer[5..].to_vec()));
    }
    answers
}

const NO_ATTRIBUTES: &[u8] = &[0; 4];
const STATUS: u8 = 101;

fn status(answer: &(u8, Vec<u8>)) -> u32 {
    assert_eq!(answer.0, STATUS, "{answer:?}");
    u32::from_be_bytes(answer.1[..4].try_into().unwrap())
}

#[test]
fn a_file_is_written_and_read() {
    let folder = Folder::new("file");
    let handle = string(&1_u32.to_be_bytes());
    let mode = [&4_u32.to_be_bytes()[..], &0o640_u32.to_be_bytes()].concat();
    let write_new = (2_u32 | 8 | 16).to_be_bytes();
    let answers = exchange(&[
        string(&[1, 0, 0, 0, 3]),
        packet(3, &[&string(&folder.path("a")), &write_new, &mode]),
        packet(6, &[&handle, &0_u64.to_be_bytes(), &string(b"hello ")]),
        packet(6, &[&handle, &6_u64.to_be_bytes(), &string(b"world")]),
        packet(4, &[&handle]),
        packet(4, &[&handle]),
        packet(
            3,
            &[
                &string(&folder.path("a")),
                &1_u32.to_be_bytes(),
                NO_ATTRIBUTES,
            ],
        ),
        packet(
            5,
            &[
                &string(&2_u32.to_be_bytes()),
                &6_u64.to_be_bytes(),
                &100_u32.to_be_bytes(),
            ],
        ),
        packet(
            5,
            &[
                &string(&2_u32.to_be_bytes()),
                &11_u64.to_be_bytes(),
                &100_u32.to_be_bytes(),
            ],
        ),
        packet(
            3,
            &[
                &string(&folder.path("none")),
                &1_u32.to_be_bytes(),
                NO_ATTRIBUTES,
            ],
        ),
    ]);
    assert_eq!(answers[0].0, 2, "the version");
    assert_eq!(answers[1], (102, handle));
    let done: Vec<u32> = answers[2..6].iter().map(status).collect();
    assert_eq!(done, [0, 0, 0, 4]);
    assert_eq!(answers[7], (103, string(b"world")));
    assert_eq!((status(&answers[8]), status(&answers[9])), (1, 2));
    let file = folder.0.join("a");
    assert_eq!(fs::read(&file).unwrap(), b"hello world");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
        0o640
    );
}

#[test]
fn directories_are_listed_and_changed() {
    let folder = Folder::new("directory");
    let handle = string(&1_u32.to_be_bytes());
    let times = [8_u32, 1_000_000_000, 1_500_000_000]
        .map(u32::to_be_bytes)
        .concat();
    let answers = exchange(&[
        packet(14, &[&string(&folder.path("sub")), NO_ATTRIBUTES]),
        packet(20, &[&string(b"sub"), &string(&folder.path("link"))]),
        packet(19, &[&string(&folder.path("link"))]),
        packet(11, &[&string(&folder.path(""))]),
        packet(12, &[&handle]),
        packet(12, &[&handle]),
        packet(
            18,
            &[&string(&folder.path("link")), &string(&folder.path("sub"))],
        ),
        packet(
            18,
            &[
                &string(&folder.path("link")),
                &string(&folder.path("moved")),
            ],
        ),
        packet(9, &[&string(&folder.path("sub")), &times]),
        packet(13, &[&string(&folder.path("moved"))]),
        packet(15, &[&string(&folder.path("sub"))]),
        packet(16, &[&string(&folder.path("new/../later"))]),
        packet(99, &[]),
    ]);
    let kinds: Vec<u8> = answers.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        [
            101, 101, 104, 102, 104, 101, 101, 101, 101, 101, 101, 101, 101
        ]
    );
    let names = String::from_utf8_lossy(&answers[4].1).into_owned();
    assert!(names.contains("sub") && names.contains("link"), "{names:?}");
    let codes: Vec<u32> = answers[5..].iter().map(status).collect();
    assert_eq!(codes, [1, 4, 0, 0, 0, 0, 2, 8]);
}

#[test]
fn broken_requests_end_the_server_or_are_refused() {
    let refused = exchange(&[packet(3, &[b"\0\0\0\x09short"])]);
    assert_eq!(status(&refused[0]), 5);
    let mut output = Vec::new();
    for broken in [&[0_u8, 0, 0, 0][..], &[0xff; 4], &[0, 0, 0, 9, 1]] {
        assert!(serve(&mut &broken[..], &mut output).is_err(), "{broken:?}");
    }
    assert!(serve(&mut &b""[..], &mut output).is_ok());
}

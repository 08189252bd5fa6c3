//! Tests of Python apps: packages are installed at staging, and found when the app starts.

use crate::fixture::{Folder, launch};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

#[test]
fn python_app() {
    let folder = Folder::new("python");
    folder
        .file("app.py", "import hello; print(hello.WORD)")
        .file("requirements.txt", "# nothing\n");
    let result = folder.built(&[], "-----> Python Buildpack version 1.0.0");
    assert_eq!(
        result["process_types"],
        serde_json::json!({"web": "python3 app.py"})
    );
    assert!(folder.droplet().contains_key("./profile.d/python.sh"));
    // The content of a wheel is found through the profile script.
    let home = folder.unpack();
    fs::create_dir_all(home.join("app/.cloudfoundry/python")).unwrap();
    fs::write(
        home.join("app/.cloudfoundry/python/hello.py"),
        "WORD = 'vendored'",
    )
    .unwrap();
    let output = launch(&home, "");
    assert!(
        String::from_utf8_lossy(&output.stdout).ends_with("vendored\n"),
        "{output:?}"
    );
}

/// Writes a wheel with a module, a console script and a script of its own.
fn wheel(path: &Path) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, text) in [
        ("greet.py", "def main():\n    print('hello from a wheel')\n"),
        (
            "greet-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n",
        ),
        (
            "greet-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (
            "greet-1.0.dist-info/entry_points.txt",
            "[console_scripts]\ngreet = greet:main\n",
        ),
        (
            "greet-1.0.data/scripts/raw-greet",
            "#!python\nimport greet\ngreet.main()\n",
        ),
        ("greet-1.0.dist-info/RECORD", ""),
    ] {
        let mode = if name.contains("scripts/") {
            0o755
        } else {
            0o644
        };
        let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
        zip.start_file(name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

/// Returns a `PATH` with a python3 that has no pip.
fn without_pip(folder: &Folder) -> String {
    let bin = folder.path("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(
        bin.join("python3"),
        "#!/bin/sh\n[ \"$1 $2\" = '-m pip' ] && exit 1\nexec /usr/bin/python3 \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(bin.join("python3"), fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

fn has_pip() -> bool {
    Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn greets(folder: &Folder, output: &Output) {
    assert!(output.status.success(), "{output:?}");
    let home = folder.unpack();
    for command in ["greet", "raw-greet"] {
        let output = launch(&home, command);
        assert!(
            String::from_utf8_lossy(&output.stdout).ends_with("hello from a wheel\n"),
            "{command}: {output:?}"
        );
    }
}

#[test]
fn scripts_of_vendored_wheels_are_installed_without_pip() {
    let folder = Folder::new("wheels");
    folder
        .file("requirements.txt", "greet\n")
        .file("Procfile", "web: greet\n")
        .file("vendor/x", "");
    wheel(&folder.path("app/vendor/greet-1.0-py3-none-any.whl"));
    let mut builder = folder.builder(&[]);
    let output = builder.env("PATH", without_pip(&folder)).output().unwrap();
    greets(&folder, &output);
}

#[test]
fn scripts_of_vendored_wheels_are_installed_with_pip() {
    if !has_pip() {
        eprintln!("skipped: this machine has no pip");
        return;
    }
    let folder = Folder::new("pip-wheels");
    folder
        .file("requirements.txt", "greet==1.0\n")
        .file("Procfile", "web: greet\n")
        .file("vendor/x", "");
    wheel(&folder.path("app/vendor/greet-1.0-py3-none-any.whl"));
    greets(&folder, &folder.build(&[]));
}

/// Starts an index with one wheel, in the format of PyPI.
fn index(wheel: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let page =
                b"<a href=\"/greet-1.0-py3-none-any.whl\">greet-1.0-py3-none-any.whl</a>".to_vec();
            let (status, kind, body) = match path {
                "/simple/greet/" => ("200 OK", "text/html", page),
                "/greet-1.0-py3-none-any.whl" => {
                    ("200 OK", "application/octet-stream", wheel.clone())
                }
                _ => ("404 Not Found", "text/plain", Vec::new()),
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&body);
        }
    });
    format!("http://user:secret@{address}/simple")
}

#[test]
fn requirements_are_fetched_from_the_index_of_the_app() {
    if !has_pip() {
        eprintln!("skipped: this machine has no pip");
        return;
    }
    let folder = Folder::new("index");
    folder
        .file("requirements.txt", "greet\n")
        .file("Procfile", "web: greet\n");
    wheel(&folder.path("greet.whl"));
    let url = index(fs::read(folder.path("greet.whl")).unwrap());
    let build = |folder: &Folder, url: &str| {
        let mut builder = folder.builder(&[]);
        builder
            .env("PIP_INDEX_URL", url)
            .env("PIP_CONFIG_FILE", "/dev/null")
            .env("NO_PROXY", "*")
            .env("PIP_RETRIES", "1");
        builder.output().unwrap()
    };
    greets(&folder, &build(&folder, &url));

    // The first package is missing in the index, and the second index is not served.
    folder.file("requirements.txt", "no-such-package\n");
    let output = build(&folder, &url);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(223)
            && text.contains("could not install requirements.txt; see its output"),
        "{text}"
    );
    let closed = format!("http://user:secret@127.0.0.1:{}/simple", closed_port());
    let output = build(&folder, &closed);
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .find(|line| line.contains("could not reach its package index"))
        .unwrap_or_default();
    assert!(
        output.status.code() == Some(223)
            && last.contains("PIP_INDEX_URL")
            && !last.contains("secret"),
        "{text}"
    );
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

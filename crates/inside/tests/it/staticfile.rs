//! Tests of static sites: the files that become public at staging, and the server over real HTTP.

use crate::fixture::{Folder, INSIDE, Running};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{ChildStdout, Command, Stdio};

/// A served droplet.
struct Server {
    _running: Running,
    port: u16,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Builds, unpacks and starts a site as the start command does, except for the path of the program.
    fn start(folder: &Folder) -> Self {
        let result = folder.built(
            &["-buildpackOrder=staticfile_buildpack", "-skipDetect"],
            "-----> Staticfile Buildpack version 1.0.0",
        );
        assert_eq!(
            result["process_types"],
            serde_json::json!({"web": "$HOME/boot.sh"})
        );
        let home = folder.unpack().join("app");
        let boot = fs::read_to_string(home.join("boot.sh")).unwrap();
        assert_eq!(
            boot,
            "#!/bin/sh\nexec /tmp/lifecycle/staticfile -home=\"$HOME\"\n"
        );
        assert_eq!(
            fs::metadata(home.join("boot.sh"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o755
        );
        let script = boot.replace("/tmp/lifecycle/staticfile", &format!("{INSIDE} staticfile"));
        let mut server = Command::new("/bin/sh");
        server
            .args(["-c", &script])
            .env("HOME", &home)
            .env("PORT", "0")
            .stdout(Stdio::piped());
        let mut running = Running(server.spawn().unwrap());
        let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let port = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Self {
            _running: running,
            port,
            stdout,
        }
    }

    /// Sends head lines (without the last two line ends) and returns the whole response.
    fn ask(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{head}\r\nHost: site.example\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1"))
    }

    fn status(&self, head: &str) -> u16 {
        self.ask(head)[9..12].parse().unwrap()
    }

    fn next_log_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }
}

#[test]
fn a_site_is_served() {
    let folder = Folder::new("static");
    folder
        .file("index.html", "<h1>static</h1>")
        .file("css/a.css", "a{}")
        .file("Staticfile", "")
        .file("manifest.yml", "applications: []")
        .file(".env", "SECRET=1")
        .file(".git/config", "secret")
        .file("nginx/conf/x", "secret")
        .file("public/x", "y");
    let mut server = Server::start(&folder);
    let home = folder.path("home/app");
    assert!(home.join("public/css/a.css").is_file() && home.join("public/public/x").is_file());
    for private in [
        "Staticfile",
        "manifest.yml",
        ".env",
        ".git",
        "nginx",
        "boot.sh",
    ] {
        assert!(!home.join("public").join(private).exists(), "{private}");
        assert_eq!(
            server.status(&format!("GET /{private} HTTP/1.1")),
            404,
            "{private}"
        );
        server.next_log_line();
    }
    let answer = server.get("/");
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: \"")
            && answer.contains("\r\nContent-Length: 15\r\n")
            && answer.ends_with("<h1>static</h1>"),
        "{answer}"
    );
    let line = server.next_log_line();
    assert!(
        line.starts_with("- - - - [") && line.contains("] \"GET / HTTP/1.1\" 200 15\n"),
        "{line}"
    );
    assert!(server.ask("HEAD / HTTP/1.1").ends_with("\r\n\r\n"));
    assert!(server.get("/css/a.css").contains("text/css"));
    assert!(server.get("/css").contains("\r\nLocation: /css/\r\n"));
    assert_eq!(server.status("GET /../Staticfile HTTP/1.1"), 400);
    assert_eq!(server.status("DELETE / HTTP/1.1"), 405);

    // Two requests are sent at once on one connection.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /css/a.css HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut both = String::new();
    stream.read_to_string(&mut both).unwrap();
    assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2);

    // A request that two servers could understand in two ways is refused.
    let twice = "PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked";
    let answer = server.ask(twice);
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n")
            && answer.ends_with("both Content-Length and Transfer-Encoding\n"),
        "{answer}"
    );

    // A client that is still sending must also get its response.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let body = vec![b'x'; 4 << 20];
    write!(
        stream,
        "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 405") && answer.contains("Connection: close"),
        "{answer}"
    );
}

#[test]
fn only_a_staticfile_makes_a_folder_public() {
    let folder = Folder::new("not-static");
    folder
        .file("index.html", "<h1>hi</h1>")
        .file("secrets.json", "{}");
    let refused = |folder: &Folder| {
        let output = folder.build(&["-buildpackOrder=staticfile_buildpack,python_buildpack,procfile_buildpack,binary_buildpack"]);
        assert_eq!(output.status.code(), Some(222), "{output:?}");
        assert!(!folder.path("droplet").exists());
        String::from_utf8(output.stderr).unwrap()
    };
    let text = refused(&folder);
    assert!(
        text.contains("None of the buildpacks detected a compatible application"),
        "{text}"
    );
    assert!(
        text.contains("a file named Staticfile") && text.contains("-b"),
        "{text}"
    );
    folder
        .file("package.json", "{}")
        .file("node_modules/a/index.js", "");
    assert!(refused(&folder).contains("Node.js"));
    // A folder of that name does not count.
    fs::create_dir(folder.path("app/Staticfile")).unwrap();
    refused(&folder);
    fs::remove_dir(folder.path("app/Staticfile")).unwrap();
    folder
        .file("Staticfile", "root: dist\n")
        .file("dist/index.html", "built");
    let server = Server::start(&folder);
    assert!(server.get("/").ends_with("built"));
    for private in [
        "/secrets.json",
        "/package.json",
        "/node_modules/a/index.js",
        "/dist/index.html",
    ] {
        assert_eq!(
            server.status(&format!("GET {private} HTTP/1.1")),
            404,
            "{private}"
        );
    }
}

#[test]
fn a_password_file_protects_the_whole_site() {
    let folder = Folder::new("auth");
    folder
        .file(
            "Staticfile",
            "status_codes:\n  4xx: /index.html\nhost_dot_files: true\n",
        )
        .file("index.html", "<h1>secret</h1>")
        .file(".well-known/x", "dotted")
        .file(
            "Staticfile.auth",
            "bob:$apr1$saltsalt$pz6bZkQ7n8iCVfHSXMLWM0\nann:{PLAIN}p:w\n",
        );
    // openssl passwd -apr1 -salt saltsalt "open sesame"
    let hash = Command::new("openssl")
        .args(["passwd", "-apr1", "-salt", "saltsalt", "open sesame"])
        .output()
        .unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap();
    folder.file(
        "Staticfile.auth",
        format!("bob:{}\nann:{{PLAIN}}p:w\n", hash.trim()),
    );
    let server = Server::start(&folder);
    for request in [
        "GET / HTTP/1.1",
        "HEAD / HTTP/1.1",
        "GET /none HTTP/1.1",
        "POST / HTTP/1.1",
        "GET /Staticfile.auth HTTP/1.1",
        "GET /%69ndex.html HTTP/1.1",
        "GET /.well-known/x HTTP/1.0",
        "GET /../x HTTP/1.1",
        "GET / HTTP/1.1\r\nRange: bytes=0-3",
        "GET / HTTP/1.1\r\nIf-None-Match: *",
        "GET / HTTP/1.1\r\nAuthorization: Basic",
        "GET / HTTP/1.1\r\nAuthorization: Basic %",
        // "bob:wrong", "Bob:open sesame", "bob:"
        "GET / HTTP/1.1\r\nAuthorization: Basic Ym9iOndyb25n",
        "GET / HTTP/1.1\r\nAuthorization: Basic Qm9iOm9wZW4gc2VzYW1l",
        "GET / HTTP/1.1\r\nAuthorization: Basic Ym9iOg==",
    ] {
        let answer = server.ask(request);
        assert!(
            answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
            "{request}: {answer}"
        );
        assert!(
            answer.contains("\r\nWWW-Authenticate: Basic realm=\"Restricted\"\r\n"),
            "{answer}"
        );
        assert!(
            !answer.contains("secret") && !answer.contains("ETag"),
            "{request}: {answer}"
        );
    }
    // "bob:open sesame", "ann:p:w"
    for good in ["Basic Ym9iOm9wZW4gc2VzYW1l", "basic YW5uOnA6dw=="] {
        let ask = |path: &str| server.ask(&format!("GET {path} HTTP/1.1\r\nAuthorization: {good}"));
        assert!(ask("/").ends_with("<h1>secret</h1>"), "{good}");
        assert!(ask("/.well-known/x").ends_with("dotted"), "{good}");
        assert!(!ask("/Staticfile.auth").contains("apr1"), "{good}");
    }
}

#[test]
fn settings_without_protection_or_effect_fail_the_staging() {
    let folder = Folder::new("refused");
    folder.file("index.html", "x");
    let refused = |files: &[(&str, &str)], words: &str| {
        for (name, text) in files {
            folder.file(name, text);
        }
        let output = folder.build(&["-buildpackOrder=staticfile_buildpack", "-skipDetect"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(223) && text.contains(words),
            "{files:?}: {text}"
        );
        for (name, _) in files {
            fs::remove_file(folder.path("app").join(name)).unwrap();
        }
    };
    refused(&[("Staticfile", "ssi: enabled")], "ssi is not supported");
    refused(
        &[("Staticfile", "pushtate: enabled")],
        "\"pushtate\", which is not known",
    );
    refused(
        &[("Staticfile", "root: nowhere")],
        "root directory nowhere that does not exist",
    );
    refused(&[("Staticfile", "root: index.html")], "is a plain file");
    refused(
        &[("Staticfile", ""), ("Staticfile.auth", "")],
        "names no user",
    );
    refused(
        &[("Staticfile", ""), ("Staticfile.auth", "bob:letmein")],
        "no kind that is known",
    );
    refused(
        &[("Staticfile", ""), ("nginx.conf", "worker_processes 1;")],
        "nginx.conf is not supported",
    );
    // A password file that cannot be read does not count as absent.
    folder.file("Staticfile", "");
    symlink("nowhere", folder.path("app/Staticfile.auth")).unwrap();
    let output = folder.build(&["-buildpackOrder=staticfile_buildpack"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("Staticfile.auth cannot be read"),
        "{output:?}"
    );
    fs::remove_file(folder.path("app/Staticfile.auth")).unwrap();
    fs::create_dir(folder.path("outside")).unwrap();
    symlink("../outside", folder.path("app/out")).unwrap();
    folder.file("Staticfile", "root: out");
    let output = folder.build(&["-buildpackOrder=staticfile_buildpack"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("points outside of the app"),
        "{output:?}"
    );
    fs::remove_file(folder.path("app/out")).unwrap();
    folder.file("Staticfile", "");
    let output = folder
        .builder(&[])
        .env("ENABLE_HTTP2", "true")
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("ENABLE_HTTP2"),
        "{output:?}"
    );
}

#[test]
fn a_server_without_its_password_file_does_not_start() {
    let folder = Folder::new("lost-auth");
    folder
        .file("Staticfile", "")
        .file("index.html", "x")
        .file("Staticfile.auth", "bob:{PLAIN}x\n");
    folder.built(&[], "Enabling basic authentication");
    let home = folder.unpack().join("app");
    fs::remove_file(home.join("Staticfile.auth")).unwrap();
    let output = Command::new(INSIDE)
        .args(["staticfile", "-home"])
        .arg(&home)
        .env("PORT", "0")
        .output()
        .unwrap();
    assert!(
        !output.status.success()
            && String::from_utf8_lossy(&output.stderr).contains("Staticfile.auth"),
        "{output:?}"
    );
}

#[test]
fn every_setting_shows_over_http() {
    let folder = Folder::new("settings");
    folder
        .file("Staticfile", "root: site\ndirectory: visible\npushstate: enabled\nforce_https: true\nhost_dot_files: true\n\
            http_strict_transport_security: true\nhttp_strict_transport_security_preload: true\nstatus_codes:\n  405: /405.html\n")
        .file("site/index.html", "<h1>app</h1>")
        .file("site/405.html", "no such method")
        .file("site/files/a.txt", "text ".repeat(1000))
        .file("site/.hidden", "seen");
    let server = Server::start(&folder);
    let redirect = server.get("/deep?x=1");
    assert!(
        redirect.starts_with("HTTP/1.1 301")
            && redirect.contains("\r\nLocation: https://site.example/deep?x=1\r\n"),
        "{redirect}"
    );
    let https = |head: &str| server.ask(&format!("{head} HTTP/1.1\r\nX-Forwarded-Proto: https"));
    assert!(https("GET /deep/link").ends_with("<h1>app</h1>"));
    assert!(https("GET /.hidden").ends_with("seen"));
    assert!(
        https("GET /").contains("\r\nStrict-Transport-Security: max-age=31536000; preload\r\n")
    );
    assert!(https("GET /files/").contains("<a href=\"./a.txt\">a.txt</a>"));
    let missing = https("PUT /x");
    assert!(
        missing.starts_with("HTTP/1.1 405") && missing.ends_with("no such method"),
        "{missing}"
    );
    let packed = server
        .ask("GET /files/a.txt HTTP/1.1\r\nX-Forwarded-Proto: https\r\nAccept-Encoding: gzip");
    assert!(
        packed.contains("\r\nContent-Encoding: gzip\r\n"),
        "{packed}"
    );
    let part =
        server.ask("GET /files/a.txt HTTP/1.1\r\nX-Forwarded-Proto: https\r\nRange: bytes=5-8");
    assert!(
        part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n\r\ntext"),
        "{part}"
    );
}

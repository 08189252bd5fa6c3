//! Story 18: the real `cupola route-registrar` registers a route of a server that is not an app.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use testkit::foundation::{Foundation, binary, end, wait_for};

pub(crate) const STORIES: &[Story] = &[story("story_18_route_registrar", route_registrar)];

/// A registrar process that is killed if a story fails half way.
struct Registrar(Child);

impl Drop for Registrar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an HTTP server that ends with the test.
fn serve() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nnot an app",
            );
        }
    });
    Ok(port)
}

fn route_registrar(f: &mut Foundation) -> Result<()> {
    let port = serve()?;
    let folder = f.folder().join("registrar");
    std::fs::create_dir_all(folder.join("job"))?;
    let path = folder.join("config.json");
    let host = f.host("not-an-app");
    let job_host = f.host("of-a-job");
    let config = |uris: &[&str]| {
        serde_json::json!({
            "message_bus_servers": [{
                "host": format!("127.0.0.1:{}", f.port("nats")),
                "user": "nats",
                "password": f.plan["nats_password"],
            }],
            "host": "127.0.0.1",
            "dynamic_config_globs": [folder.join("*/routes.yml")],
            "routes": [{
                "name": "not-an-app", "port": port, "uris": uris, "registration_interval": "1s",
                "tags": {"component": "story-18"},
            }],
        })
        .to_string()
    };
    let host_too = f.host("not-an-app-either");
    std::fs::write(&path, config(&[&host]))?;
    let child = Command::new(binary())
        .args(["route-registrar", "-c"])
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start cupola route-registrar")?;
    let mut registrar = Registrar(child);
    let row = wait_for("the route in the router's table", 20, || {
        Ok(f.table()?[host.as_str()].get(0).cloned())
    })?;
    ensure!(row["address"] == format!("127.0.0.1:{port}"), "{row}");
    ensure!(row["tags"]["component"] == "story-18", "{row}");
    let answer = f.get(&host, "/")?;
    ensure!(answer.status == 200, "{}", answer.head);

    // A job's own file is added, and another uri in the main one. Neither needs a restart.
    let job = format!(
        "routes:\n- {{name: job, port: {port}, uris: [{job_host}], registration_interval: 1s}}\n"
    );
    std::fs::write(folder.join("job/routes.yml"), job)?;
    std::fs::write(&path, config(&[&host, &host_too]))?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(registrar.0.id())?);
    nix::sys::signal::kill(pid, Signal::SIGHUP)?;
    for host in [&job_host, &host_too] {
        wait_for("the new route to answer", 20, || {
            Ok((f.get(host, "/")?.status == 200).then_some(()))
        })?;
    }
    ensure!(f.get(&host, "/")?.status == 200, "the old route stays");
    std::fs::write(&path, config(&[&host]))?;
    nix::sys::signal::kill(pid, Signal::SIGHUP)?;
    wait_for("the uri that went to go from the table", 20, || {
        Ok(f.table()?.get(&host_too).is_none().then_some(()))
    })?;

    ensure!(end(&mut registrar.0, Signal::SIGTERM)?.success());
    wait_for("the routes to go from the table", 20, || {
        let table = f.table()?;
        let gone = table.get(&host).is_none() && table.get(&job_host).is_none();
        Ok(gone.then_some(()))
    })?;
    ensure!(f.get(&host, "/")?.status == 404, "the route answers still");
    Ok(())
}

//! HAProxy with one thread, `http-reuse always`, `option httplog` and `option forwardfor`.

use super::{Scheme, Started};
use crate::process::Process;
use crate::rig::{INSTANCE, Rig};
use anyhow::Result;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Tcp,
    HttpRing,
    HttpFile,
    /// The log goes by UDP to a syslog server at this port, as in deployments.
    HttpUdp(u16),
}

pub(super) fn start(mode: Mode, scheme: Scheme, backend: u16, rig: &Rig) -> Result<Started> {
    let port = kit::net::free_port()?;
    let name = match mode {
        Mode::Tcp => "haproxy-tcp",
        Mode::HttpRing => "haproxy",
        Mode::HttpFile => "haproxy-file",
        Mode::HttpUdp(_) => "haproxy-udp",
    };
    let target = match mode {
        Mode::HttpFile => "stdout format raw local0".to_owned(),
        Mode::HttpUdp(port) => format!("127.0.0.1:{port} format rfc3164 local0"),
        _ => "ring@memory format raw local0".to_owned(),
    };
    let mode = match mode {
        Mode::Tcp => "  mode tcp",
        _ => {
            "  mode http\n  log global\n  option httplog\n  option forwardfor\n  http-reuse always"
        }
    };
    let file = rig.path(&format!("{name}-{port}.cfg"));
    std::fs::write(&file, config(mode, &target, port, backend, scheme, rig))?;
    let command = ["/usr/sbin/haproxy", "-db", "-f", &file];
    let mut process = Process::start(
        &format!("{name}-{port}"),
        Some(rig.proxy_core),
        &command,
        &rig.folder,
    )?;
    process.listens(port)?;
    Ok((Some(process), port))
}

fn config(mode: &str, log: &str, port: u16, backend: u16, scheme: Scheme, rig: &Rig) -> String {
    let pem = |name: &str| rig.certs.path(name);
    let plain = format!("127.0.0.1:{backend}");
    let tls = format!(" ssl crt {} ssl-min-ver TLSv1.3", pem("front.pem"));
    let (bind, server) = match scheme {
        Scheme::Http => (String::new(), plain),
        Scheme::Http2 => (format!("{tls} alpn h2"), plain),
        Scheme::Https => (
            tls,
            format!(
                "127.0.0.1:{backend} ssl verify required ca-file {} crt {} sni str({INSTANCE}) verifyhost {INSTANCE} ssl-min-ver TLSv1.3",
                pem("ca.pem"),
                pem("client.pem"),
            ),
        ),
    };
    format!(
        "global
  nbthread 1
  maxconn 9400
  log {log}
ring memory
  format raw
  maxlen 1200
  size 8388608
defaults
{mode}
  timeout connect 5s
  timeout client 900s
  timeout server 900s
  timeout tunnel 900s
listen front
  bind 127.0.0.1:{port}{bind}
  server backend {server}
"
    )
}

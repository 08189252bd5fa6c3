//! nginx with one worker, `proxy_http_1.1` with upstream keep-alive, and a buffered access log.

use super::{Scheme, Started};
use crate::process::Process;
use crate::rig::{INSTANCE, Rig};
use anyhow::Result;

pub(super) fn start(scheme: Scheme, rig: &Rig) -> Result<Started> {
    let port = kit::net::free_port()?;
    let file = rig.path(&format!("nginx-{port}.conf"));
    std::fs::write(&file, config(port, scheme, rig))?;
    let command = ["/usr/sbin/nginx", "-c", &file, "-p", &rig.path("")];
    let mut process = Process::start(
        &format!("nginx-{port}"),
        Some(rig.proxy_core),
        &command,
        &rig.folder,
    )?;
    process.listens(port)?;
    Ok((Some(process), port))
}

fn config(port: u16, scheme: Scheme, rig: &Rig) -> String {
    let pem = |name: &str| rig.certs.path(name);
    let folder = rig.path("");
    let tls = |http2: &str| {
        format!(
            "listen 127.0.0.1:{port} ssl{http2}; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
            pem("front.crt"),
            pem("front.key")
        )
    };
    let plain = "proxy_pass http://backend;";
    let (listen, pass) = match scheme {
        Scheme::Http => (format!("listen 127.0.0.1:{port};"), plain.to_owned()),
        Scheme::Http2 => (tls(" http2"), plain.to_owned()),
        Scheme::Https => (
            tls(""),
            format!(
                "proxy_pass https://backend; proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_name {INSTANCE}; proxy_ssl_server_name on;
      proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; proxy_ssl_protocols TLSv1.3;",
                pem("ca.pem"),
                pem("client.crt"),
                pem("client.key")
            ),
        ),
    };
    format!(
        "daemon off;
worker_processes 1;
pid {folder}/nginx-{port}.pid;
error_log stderr;
worker_rlimit_nofile 20000;
events {{ worker_connections 9900; }}
http {{
  access_log {folder}/nginx-{port}-access.log combined buffer=64k flush=1s;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 1000000000;
  upstream backend {{ server 127.0.0.1:{}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    {listen}
    location / {{
      {pass}
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
",
        rig.backend_port(scheme)
    )
}

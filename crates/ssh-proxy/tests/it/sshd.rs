//! An sshd of the tests, behind the TLS of an instance. Its commands are words that the tests know.

use kit::tls::{ClientAuth, Identity};
use russh::keys::{PublicKey, decode_secret_key};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey, run_stream,
};
use russh::{Channel, ChannelId, Pty, Sig};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A running sshd. Its connections end when it is dropped.
pub(crate) struct Sshd {
    pub(crate) address: SocketAddr,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Sshd {
    /// Starts an sshd with this certificate and host key. `authorized` may log in.
    pub(crate) async fn start(identity: &Identity, host_key: &str, authorized: &str) -> Self {
        let tls = kit::tls::server_config(identity, ClientAuth::Required, &["h2", "http/1.1"]);
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.unwrap());
        let config = Arc::new(Config {
            keys: vec![decode_secret_key(host_key, None).unwrap()],
            auth_rejection_time: std::time::Duration::ZERO,
            ..Config::default()
        });
        let authorized = PublicKey::from_openssh(authorized).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let running = tokio::spawn(async move {
            // Dropping the set ends the sockets, and so the sessions.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, config) = (acceptor.clone(), config.clone());
                let handler = Instance {
                    authorized: authorized.clone(),
                    terminal: None,
                };
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    // A task between the socket and russh, which ends with this one.
                    let (near, mut far) = tokio::io::duplex(64 << 10);
                    let mut stream = stream;
                    let copied = tokio::io::copy_bidirectional(&mut stream, &mut far);
                    let served = async {
                        if let Ok(session) = run_stream(config, near, handler).await {
                            let _ = session.await;
                        }
                    };
                    tokio::select! {
                        _ = copied => {}
                        () = served => {}
                    }
                });
            }
        });
        Self { address, running }
    }
}

struct Instance {
    authorized: PublicKey,
    terminal: Option<String>,
}

impl Handler for Instance {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let is_right = user == "vcap" && key.public_key.key_data() == self.authorized.key_data();
        Ok(match is_right {
            true => Auth::Accept,
            false => Auth::reject(),
        })
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (id, handle) = (channel.id(), session.handle());
        let answer = format!("forwarded to {host_to_connect}:{port_to_connect}\n");
        reply.accept().await;
        tokio::spawn(async move {
            let _ = handle.data(id, answer.into_bytes()).await;
            let _ = handle.eof(id).await;
            let _ = handle.close(id).await;
        });
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.terminal = Some(format!("{term} {col_width}x{row_height}"));
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _variable_name: &str,
        _variable_value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        let handle = session.handle();
        let words = String::from_utf8_lossy(data).into_owned();
        let terminal = self.terminal.clone().unwrap_or_else(|| "none".to_owned());
        tokio::spawn(async move {
            match words.as_str() {
                // This command lasts until the instance ends.
                "wait" => {
                    let _ = handle.data(channel, &b"waiting\n"[..]).await;
                    return;
                }
                "die" => {
                    let text = String::new;
                    let _ = handle
                        .exit_signal_request(channel, Sig::KILL, false, text(), text())
                        .await;
                }
                "terminal" => {
                    let _ = handle.data(channel, terminal.into_bytes()).await;
                    let _ = handle.exit_status_request(channel, 0).await;
                }
                other => {
                    let out = format!("out {other}\n").into_bytes();
                    let err = format!("err {other}\n").into_bytes();
                    let _ = handle.data(channel, out).await;
                    let _ = handle.extended_data(channel, 1, err).await;
                    let _ = handle.exit_status_request(channel, 5).await;
                }
            }
            let _ = handle.eof(channel).await;
            let _ = handle.close(channel).await;
        });
        Ok(())
    }
}

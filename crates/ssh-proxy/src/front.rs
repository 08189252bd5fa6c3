//! The connection of a client: the login, and its channels.
//!
//! A request of a channel (a terminal, a command, …) is sent to the sshd at once, and the client's connection waits for its answer:
//! clients send several requests in a row and expect the answers in the same order. Data waits for nothing but its reader.

use crate::activity::Activity;
use crate::backend::{self, Backend};
use crate::login::Login;
use crate::permission::Verdict;
use crate::relay::{self, Ends};
use crate::shared::{LoggedIn, Shared, State};
use crate::target::Target;
use clients::loggregator::{Source, Stream};
use kit::CancellationToken;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty, Sig, client};
use ssh_sides::{Gate, Inbox, Outlet};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The time for the sshd to open a channel, and to answer a request.
const ANSWER: Duration = Duration::from_secs(15);
/// The number of channels of one client.
const CHANNELS: usize = 64;
/// The length of the longest code.
const LONGEST_CODE: usize = 4096;

/// The handler of one client.
#[derive(Debug)]
pub(crate) struct Front {
    shared: Arc<Shared>,
    peer: SocketAddr,
    /// The bytes that wait to be sent to the sshd.
    gate: Gate,
    activity: Activity,
    state: Arc<State>,
    channels: HashMap<ChannelId, Open>,
    /// The reason, for the user, why a login that was right leads nowhere.
    unreachable: Option<String>,
}

/// An open channel. When it is dropped, its relay ends.
#[derive(Debug)]
struct Open {
    to_sshd: Arc<Outlet<client::Msg>>,
    answers: UnboundedReceiver<bool>,
    closed: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Front {
    pub(crate) fn new(
        shared: Arc<Shared>,
        peer: SocketAddr,
        gate: Gate,
        activity: Activity,
        state: Arc<State>,
    ) -> Self {
        Self {
            shared,
            peer,
            gate,
            activity,
            state,
            channels: HashMap::new(),
            unreachable: None,
        }
    }

    /// Decides about a login.
    async fn decide(&mut self, user: &str, code: &str) -> bool {
        let (peer, metrics) = (self.peer, &self.shared.metrics);
        let login = Login::parse(user).filter(|_| code.len() <= LONGEST_CODE && !code.is_empty());
        let Some(login) = login else {
            metrics.refused.add(1);
            tracing::info!(%peer, "login-refused: the user name is not cf:PROCESS/INDEX");
            return false;
        };
        let Login { process, index } = &login;
        match self.shared.permission.ask(&login, code).await {
            Verdict::Granted(target) => self.reach(&login, *target).await,
            Verdict::Refused(reason) => {
                metrics.refused.add(1);
                tracing::info!(%peer, process, index, reason, "login-refused");
                return false;
            }
            Verdict::Unknown(error) => {
                metrics.failed.add(1);
                tracing::warn!(%peer, process, index, error, "login-failed");
                return false;
            }
            Verdict::Nowhere(reason) => {
                metrics.failed.add(1);
                tracing::info!(%peer, process, index, reason, "no-instance");
                self.unreachable = Some(reason);
            }
        }
        self.state.decided.cancel();
        true
    }

    /// Connects to the instance of a user who may log in.
    async fn reach(&mut self, login: &Login, target: Target) {
        let (peer, shared) = (self.peer, &self.shared);
        let Login { process, index } = login;
        match backend::connect(&target, &shared.tls, &shared.client).await {
            Ok(backend) => {
                shared.metrics.granted.add(1);
                let (instance, cell) = (&target.instance_guid, &target.cell_id);
                tracing::info!(%peer, process, index, instance, cell, "login-granted");
                let source = Source {
                    source_id: target.source_id,
                    instance_id: index.to_string(),
                    source_type: "SSH".to_owned(),
                    tags: Arc::new(target.tags),
                };
                let line = format!("Successful remote access by {peer}");
                shared.emitter.log(&source, Stream::Out, line);
                let logged_in = LoggedIn {
                    backend,
                    peer,
                    source,
                    emitter: shared.emitter.clone(),
                    _counted: shared.metrics.sessions.begin(),
                };
                // russh lets nobody log in twice.
                let _ = self.state.logged_in.set(Arc::new(logged_in));
            }
            Err(error) => {
                shared.metrics.failed.add(1);
                let (error, instance) = (format!("{error:#}"), &target.instance_guid);
                tracing::warn!(%peer, process, index, instance, error, "instance-unreachable");
                self.unreachable = Some("the instance of the app cannot be reached".to_owned());
            }
        }
    }

    /// Returns the login of a client that may open another channel.
    fn may_open(&mut self) -> Option<Arc<LoggedIn>> {
        self.channels.retain(|_, open| !open.closed.is_cancelled());
        let has_room = self.channels.len() < CHANNELS;
        self.state.logged_in.get().filter(|_| has_room).cloned()
    }

    /// Begins to copy a channel that the sshd has opened, and keeps it.
    fn relay(
        &mut self,
        channel: Channel<Msg>,
        opened: Channel<client::Msg>,
        backend: &Backend,
        session: &Session,
    ) {
        let closed = CancellationToken::new();
        let (answers, answered) = unbounded_channel();
        let id = channel.id();
        let (from_client, to_client) = channel.split();
        let (from_sshd, to_sshd) = opened.split();
        let to_sshd = Arc::new(Outlet::new(to_sshd, closed.clone()));
        tokio::spawn(relay::run(Ends {
            id,
            to_client: Outlet::new(to_client, closed.clone()),
            from_client: Inbox::of(from_client, &self.gate),
            to_sshd: to_sshd.clone(),
            from_sshd: Inbox::of(from_sshd, &backend.gate),
            client: session.handle(),
            answers,
            closed: closed.clone(),
            activity: self.activity.clone(),
        }));
        let open = Open {
            to_sshd,
            answers: answered,
            closed,
        };
        self.channels.insert(id, open);
    }

    fn sshd(&self, channel: ChannelId) -> Option<Arc<Outlet<client::Msg>>> {
        Some(self.channels.get(&channel)?.to_sshd.clone())
    }

    /// Waits for the sshd's answer to a request, and gives it to the client. `sent` is whether the request was sent.
    async fn answer(
        &mut self,
        channel: ChannelId,
        sent: Option<Result<(), russh::Error>>,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let open = self.channels.get_mut(&channel);
        let answer = match (open, sent) {
            (Some(open), Some(Ok(()))) => {
                match tokio::time::timeout(ANSWER, open.answers.recv()).await {
                    Ok(answer) => answer.unwrap_or(false),
                    Err(_) => {
                        // A late answer would be taken for that of the next request.
                        self.channels.remove(&channel);
                        return session.close(channel);
                    }
                }
            }
            _ => false,
        };
        match answer {
            true => session.channel_success(channel),
            false => session.channel_failure(channel),
        }
    }
}

impl Handler for Front {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        Ok(match self.decide(user, password).await {
            true => Auth::Accept,
            false => Auth::reject(),
        })
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        match self.unreachable.take() {
            Some(reason) => session.disconnect(Disconnect::ServiceNotAvailable, &reason, ""),
            None => Ok(()),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(logged_in) = self.may_open() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let opening = logged_in.backend.handle.channel_open_session();
        let Ok(Ok(opened)) = tokio::time::timeout(ANSWER, opening).await else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        self.relay(channel, opened, &logged_in.backend, session);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(logged_in) = self.may_open() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let opening = logged_in.backend.handle.channel_open_direct_tcpip(
            host_to_connect,
            port_to_connect,
            originator_address,
            originator_port,
        );
        let opened = match tokio::time::timeout(ANSWER, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                reply.reject(reason).await;
                return Ok(());
            }
            _ => {
                reply.reject(ChannelOpenFailure::ConnectFailed).await;
                return Ok(());
            }
        };
        self.relay(channel, opened, &logged_in.backend, session);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let sent = match self.sshd(channel) {
            Some(sshd) => {
                let half = sshd.half();
                let size = (col_width, row_height, pix_width, pix_height);
                let sent = half.request_pty(true, term, size.0, size.1, size.2, size.3, modes);
                Some(sent.await)
            }
            None => None,
        };
        self.answer(channel, sent, session).await
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _x11_auth_protocol: &str,
        _x11_auth_cookie: &str,
        _x11_screen_number: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        variable_name: &str,
        variable_value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let sent = match self.sshd(channel) {
            Some(sshd) => Some(
                sshd.half()
                    .set_env(true, variable_name, variable_value)
                    .await,
            ),
            None => None,
        };
        self.answer(channel, sent, session).await
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let sent = match self.sshd(channel) {
            Some(sshd) => Some(sshd.half().request_shell(true).await),
            None => None,
        };
        self.answer(channel, sent, session).await
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let sent = match self.sshd(channel) {
            Some(sshd) => Some(sshd.half().exec(true, data.to_vec()).await),
            None => None,
        };
        self.answer(channel, sent, session).await
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let sent = match self.sshd(channel) {
            Some(sshd) => Some(sshd.half().request_subsystem(true, name).await),
            None => None,
        };
        self.answer(channel, sent, session).await
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(sshd) = self.sshd(channel) {
            let half = sshd.half();
            let _ = half
                .window_change(col_width, row_height, pix_width, pix_height)
                .await;
        }
        session.channel_success(channel)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(sshd) = self.sshd(channel) {
            let _ = sshd.half().signal(signal).await;
        }
        Ok(())
    }
}

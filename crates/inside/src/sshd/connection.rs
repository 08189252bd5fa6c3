//! One connection: it checks the key, opens channels, and passes the requests of a channel to its session.
//!
//! All of it is bounded: the channels of a connection, and the variables that a session gets.

use super::pty::{self, Size, Terminal};
use super::session::{self, Program};
use super::settings::Settings;
use super::{forward, signals};
use nix::sys::signal::killpg;
use russh::keys::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, Sig};
use ssh_sides::{Gate, Inbox, Outlet};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The number of channels of one connection.
const CHANNELS: usize = 64;
/// The number of variables that a client may set in a session, and the size of one.
const VARIABLES: usize = 64;
const LONGEST_VARIABLE: usize = 4096;

#[derive(Debug)]
pub(super) struct Connection {
    settings: Arc<Settings>,
    gate: Gate,
    channels: HashMap<ChannelId, Open>,
    logged_in: watch::Sender<bool>,
}

/// An open channel. When it is dropped, everything that works for it ends.
#[derive(Debug)]
struct Open {
    /// It is cancelled when the channel has ended, or was never opened.
    closed: CancellationToken,
    session: Option<Waiting>,
    running: Option<session::Running>,
    terminal: Option<Arc<Terminal>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// A session whose program was not requested yet.
#[derive(Debug)]
struct Waiting {
    outlet: Outlet<Msg>,
    inbox: Inbox,
    closed: CancellationToken,
    environment: Vec<(String, String)>,
    slave: Option<OwnedFd>,
}

impl Connection {
    /// Makes the handler of a connection, and a watch that becomes true when its client has logged in.
    pub(super) fn new(settings: Arc<Settings>, gate: Gate) -> (Self, watch::Receiver<bool>) {
        let (logged_in, watched) = watch::channel(false);
        let connection = Self {
            settings,
            gate,
            channels: HashMap::new(),
            logged_in,
        };
        (connection, watched)
    }

    fn verdict(&self, key: &PublicKey) -> Auth {
        match key.key_data() == self.settings.authorized.key_data() {
            true => Auth::Accept,
            false => Auth::reject(),
        }
    }

    /// Returns whether the connection may not open another channel.
    fn is_full(&mut self) -> bool {
        self.channels.retain(|_, open| !open.closed.is_cancelled());
        self.channels.len() >= CHANNELS
    }

    fn waiting(&mut self, channel: ChannelId) -> Option<&mut Waiting> {
        self.channels.get_mut(&channel)?.session.as_mut()
    }

    /// Starts the program of a session, once. Returns whether it runs.
    fn start(&mut self, channel: ChannelId, program: Program, session: &Session) -> bool {
        let Some(open) = self.channels.get_mut(&channel) else {
            return false;
        };
        let Some(waiting) = open.session.take() else {
            return false;
        };
        let started = session::start(session::Start {
            settings: &self.settings,
            program,
            environment: waiting.environment,
            terminal: open.terminal.clone().zip(waiting.slave),
            channel: session::Streams {
                id: channel,
                outlet: waiting.outlet,
                inbox: waiting.inbox,
                closed: waiting.closed,
                handle: session.handle(),
            },
        });
        match started {
            Ok(running) => {
                open.running = Some(running);
                true
            }
            Err(error) => {
                eprintln!("diego-sshd: start a session: {error}");
                false
            }
        }
    }
}

fn answer(session: &mut Session, channel: ChannelId, is_done: bool) -> Result<(), russh::Error> {
    if is_done {
        session.channel_success(channel)
    } else {
        session.channel_failure(channel)
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.verdict(offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let verdict = self.verdict(key.public_key);
        self.logged_in.send_replace(verdict == Auth::Accept);
        Ok(verdict)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.is_full() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let closed = CancellationToken::new();
        let (id, (read, write)) = (channel.id(), channel.split());
        let open = Open {
            closed: closed.clone(),
            session: Some(Waiting {
                outlet: Outlet::new(write, closed.clone()),
                inbox: Inbox::of(read, &self.gate),
                closed,
                environment: Vec::new(),
                slave: None,
            }),
            running: None,
            terminal: None,
        };
        self.channels.insert(id, open);
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
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.is_full() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let closed = CancellationToken::new();
        let (id, (read, write)) = (channel.id(), channel.split());
        let open = Open {
            closed: closed.clone(),
            session: None,
            running: None,
            terminal: None,
        };
        self.channels.insert(id, open);
        let outlet = Outlet::new(write, closed.clone());
        let inbox = Inbox::of(read, &self.gate);
        let target = (host_to_connect.to_owned(), port_to_connect);
        // Other channels go on while this one is being connected.
        tokio::spawn(forward::run(target, outlet, inbox, closed, reply));
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
        let size = Size {
            columns: col_width,
            rows: row_height,
            width: pix_width,
            height: pix_height,
        };
        let opened = match self.waiting(channel) {
            Some(waiting) if waiting.slave.is_none() && term.len() <= LONGEST_VARIABLE => {
                pty::open(size, modes)
                    .map_err(|error| eprintln!("diego-sshd: open a terminal: {error}"))
            }
            _ => Err(()),
        };
        let is_done = opened.is_ok();
        if let (Ok((terminal, slave)), Some(open)) = (opened, self.channels.get_mut(&channel)) {
            open.terminal = Some(Arc::new(terminal));
            if let Some(waiting) = &mut open.session {
                waiting.slave = Some(slave);
                waiting
                    .environment
                    .push(("TERM".to_owned(), term.to_owned()));
            }
        }
        answer(session, channel, is_done)
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
        let size = variable_name.len() + variable_value.len();
        let is_good = !variable_name.is_empty()
            && size <= LONGEST_VARIABLE
            && !variable_name.contains(['=', '\0'])
            && !variable_value.contains('\0');
        let accepted = match self.waiting(channel) {
            Some(waiting) if is_good && waiting.environment.len() < VARIABLES => {
                let variable = (variable_name.to_owned(), variable_value.to_owned());
                waiting.environment.push(variable);
                true
            }
            _ => false,
        };
        answer(session, channel, accepted)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let started = self.start(channel, Program::Shell, session);
        answer(session, channel, started)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let started = self.start(channel, Program::Command(data.to_vec()), session);
        answer(session, channel, started)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let started = name == "sftp" && self.start(channel, Program::Sftp, session);
        answer(session, channel, started)
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
        let open = self.channels.get(&channel);
        let terminal = open.and_then(|open| open.terminal.as_ref());
        if let Some(terminal) = terminal {
            terminal.resize(Size {
                columns: col_width,
                rows: row_height,
                width: pix_width,
                height: pix_height,
            });
        }
        let is_done = terminal.is_some();
        answer(session, channel, is_done)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let open = self.channels.get(&channel);
        let leader = open.and_then(|open| open.running.as_ref()?.leader());
        if let (Some(leader), Some(signal)) = (leader, signals::of_client(&signal)) {
            let _ = killpg(leader, signal);
        }
        Ok(())
    }
}

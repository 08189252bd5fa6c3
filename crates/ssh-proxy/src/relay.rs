//! Copies one channel between a client and an sshd, each way at the speed of its reader.

use crate::activity::Activity;
use bytes::Bytes;
use russh::server::Handle;
use russh::{ChannelId, ChannelMsg, client, server};
use ssh_sides::{Inbox, Outlet};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// The line that a client reads when its instance is gone.
const GONE: &[u8] = b"\r\nThe instance of the app has ended, and this session with it.\r\n";
/// The kind of extended data that is the standard error stream.
const ERROR_STREAM: u32 = 1;

/// Both ends of one channel.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The number of the client's channel.
    pub(crate) id: ChannelId,
    pub(crate) to_client: Outlet<server::Msg>,
    pub(crate) from_client: Inbox,
    pub(crate) to_sshd: Arc<Outlet<client::Msg>>,
    pub(crate) from_sshd: Inbox,
    pub(crate) client: Handle,
    /// The answers of the sshd to requests, in their order.
    pub(crate) answers: UnboundedSender<bool>,
    /// It is cancelled when the client has closed the channel, or its connection has ended.
    pub(crate) closed: CancellationToken,
    pub(crate) activity: Activity,
}

/// Copies until one end has closed the channel, and closes it at the other.
pub(crate) async fn run(ends: Ends) {
    let Ends {
        id,
        to_client,
        from_client,
        to_sshd,
        from_sshd,
        client,
        answers,
        closed,
        activity,
    } = ends;
    let back = Back {
        id,
        to_client,
        client,
        answers,
        activity: activity.clone(),
    };
    tokio::select! {
        () = forth(from_client, &to_sshd, &activity) => {}
        () = back.run(from_sshd) => {}
        () = closed.cancelled() => {}
    }
    closed.cancel();
    let _ = to_sshd.half().close().await;
}

/// Copies what the client sends. It returns when the client has closed the channel. The requests of the client do not come this
/// way: [`crate::front`] waits for the answer of each.
async fn forth(mut inbox: Inbox, to_sshd: &Outlet<client::Msg>, activity: &Activity) {
    let mut is_open = true;
    while let Some(message) = inbox.next().await {
        activity.renew();
        // After a failure, the other direction still delivers what the sshd has sent.
        match message {
            ChannelMsg::Data { data } if is_open => is_open = to_sshd.write(None, data).await,
            ChannelMsg::ExtendedData { data, ext } if is_open => {
                is_open = to_sshd.write(Some(ext), data).await;
            }
            ChannelMsg::Eof => drop(to_sshd.half().eof().await),
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// The direction to the client.
struct Back {
    id: ChannelId,
    to_client: Outlet<server::Msg>,
    client: Handle,
    answers: UnboundedSender<bool>,
    activity: Activity,
}

impl Back {
    /// Copies what the sshd sends, and closes the client's channel at the end.
    async fn run(&self, mut inbox: Inbox) {
        while let Some(message) = inbox.next().await {
            self.activity.renew();
            if matches!(message, ChannelMsg::Close) {
                let _ = self.to_client.half().close().await;
                return;
            }
            if !self.pass_on(message).await {
                return;
            }
        }
        let gone = Bytes::from_static(GONE);
        self.to_client.write(Some(ERROR_STREAM), gone).await;
        let _ = self.to_client.half().close().await;
    }

    /// Returns whether the client can still receive.
    async fn pass_on(&self, message: ChannelMsg) -> bool {
        let (id, client) = (self.id, &self.client);
        match message {
            ChannelMsg::Data { data } => self.to_client.write(None, data).await,
            ChannelMsg::ExtendedData { data, ext } => self.to_client.write(Some(ext), data).await,
            ChannelMsg::Eof => client.eof(id).await.is_ok(),
            ChannelMsg::ExitStatus { exit_status } => {
                client.exit_status_request(id, exit_status).await.is_ok()
            }
            ChannelMsg::ExitSignal {
                signal_name,
                core_dumped,
                error_message,
                lang_tag,
            } => client
                .exit_signal_request(id, signal_name, core_dumped, error_message, lang_tag)
                .await
                .is_ok(),
            ChannelMsg::XonXoff { client_can_do } => {
                client.xon_xoff_request(id, client_can_do).await.is_ok()
            }
            ChannelMsg::Success | ChannelMsg::Failure => {
                let _ = self.answers.send(matches!(message, ChannelMsg::Success));
                true
            }
            _ => true,
        }
    }
}

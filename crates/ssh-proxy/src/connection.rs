//! One connection from its begin to its end: how long a client may take to log in, and the reasons for which a session ends.

use crate::activity::Activity;
use crate::backend::Backend;
use crate::front::Front;
use crate::shared::{Shared, State};
use kit::CancellationToken;
use russh::Disconnect;
use russh::server::{Config, run_stream};
use ssh_sides::{Gate, socket};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// The time for a client to log in.
const LOGIN: Duration = Duration::from_secs(60);
/// The time for channels to deliver the last bytes after the instance has ended.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Serves one client until it, its instance or the proxy ends.
pub(crate) async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<Config>,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) {
    socket::prepare(&stream);
    let (gate, activity) = (Gate::default(), Activity::now());
    let state = Arc::new(State::default());
    let front = Front::new(
        shared.clone(),
        peer,
        gate.clone(),
        activity.clone(),
        state.clone(),
    );
    let begun = tokio::time::timeout(LOGIN, run_stream(config, gate.of(stream), front));
    let Ok(Ok(running)) = begun.await else {
        return;
    };
    let handle = running.handle();
    let reason = async {
        let decided = tokio::time::timeout(LOGIN, state.decided.cancelled());
        if decided.await.is_err() {
            return "the time to log in is over".to_owned();
        }
        let Some(logged_in) = state.logged_in.get() else {
            // The handler has sent the reason already.
            tokio::time::sleep(LAST_BYTES).await;
            return "there is no instance".to_owned();
        };
        tokio::select! {
            () = logged_in.backend.ended.cancelled() => {
                tokio::time::sleep(LAST_BYTES).await;
                "the instance of the app has ended".to_owned()
            }
            () = activity.idle_for(shared.idle) => {
                format!("nothing was sent for {} minutes", shared.idle.as_secs() / 60)
            }
            () = shutdown.cancelled() => "the ssh-proxy is being stopped".to_owned(),
        }
    };
    tokio::pin!(running);
    tokio::select! {
        _ = running.as_mut() => {}
        reason = reason => {
            let _ = handle.disconnect(Disconnect::ByApplication, reason, String::new()).await;
            let _ = tokio::time::timeout(LAST_BYTES, running).await;
            gate.shut();
        }
    }
    if let Some(logged_in) = state.logged_in.get() {
        let Backend { handle, gate, .. } = &logged_in.backend;
        let _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
        gate.shut();
    }
}

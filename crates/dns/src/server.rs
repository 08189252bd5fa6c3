//! Runs the loops that receive queries: one for UDP, one for TCP.

use crate::Sockets;
use crate::answer::{Over, Verdict, answer, server_failure};
use crate::metrics::Metrics;
use crate::names::Names;
use crate::upstream::{Transport, Upstream, read_framed, write_framed};
use kit::CancellationToken;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// The highest number of concurrent forwarded queries and open connections. More are refused, so that a container cannot exhaust
/// the machine.
pub(crate) const MAX_RUNNING: usize = 1000;
const TCP_IDLE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) names: Arc<Mutex<Names>>,
    pub(crate) router_ip: Ipv4Addr,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) metrics: Metrics,
    pub(crate) running: Arc<Semaphore>,
}

impl Server {
    pub(crate) async fn run(self, sockets: Sockets, shutdown: CancellationToken) {
        let serving = async {
            tokio::join!(
                self.clone().udp(Arc::new(sockets.udp)),
                self.clone().tcp(sockets.tcp)
            )
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = serving => {}
        }
    }

    async fn udp(self, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An earlier answer could not be delivered, or the machine is temporarily out of memory.
                Err(error) => {
                    tracing::debug!(%error, "dns-receive-failed");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
            };
            let query = &buffer[..length];
            match self.verdict(query, Over::Udp) {
                Verdict::Drop => {}
                Verdict::Answer(answer) => drop(socket.send_to(&answer, client).await),
                Verdict::Forward => {
                    let (server, socket, query) = (self.clone(), socket.clone(), query.to_vec());
                    let Ok(permit) = self.running.clone().try_acquire_owned() else {
                        self.metrics.refused.add(1);
                        if let Some(refusal) = server_failure(&query) {
                            let _ = socket.send_to(&refusal, client).await;
                        }
                        continue;
                    };
                    tokio::spawn(async move {
                        if let Some(answer) = server.forward(&query, Transport::Udp).await {
                            let _ = socket.send_to(&answer, client).await;
                        }
                        drop(permit);
                    });
                }
            }
        }
    }

    async fn tcp(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(permit) = self.running.clone().try_acquire_owned() else {
                self.metrics.refused.add(1);
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                server.connection(stream).await;
                drop(permit);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        while let Ok(Ok(Some(query))) =
            tokio::time::timeout(TCP_IDLE, read_framed(&mut stream)).await
        {
            let answer = match self.verdict(&query, Over::Tcp) {
                Verdict::Drop => return,
                Verdict::Answer(answer) => Some(answer),
                Verdict::Forward => self.forward(&query, Transport::Tcp).await,
            };
            let Some(answer) = answer else { return };
            if !matches!(
                tokio::time::timeout(TCP_IDLE, write_framed(&mut stream, &answer)).await,
                Ok(Ok(()))
            ) {
                return;
            }
        }
    }

    fn verdict(&self, query: &[u8], over: Over) -> Verdict {
        let verdict = answer(
            query,
            over,
            &self.names.lock().unwrap_or_else(PoisonError::into_inner),
            self.router_ip,
        );
        if matches!(verdict, Verdict::Answer(_)) {
            self.metrics.answered.add(1);
        }
        verdict
    }

    async fn forward(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match self.upstream.query(query, transport).await {
            Ok(answer) => {
                self.metrics.forwarded.add(1);
                Some(answer)
            }
            Err(error) => {
                self.metrics.forward_failures.add(1);
                tracing::debug!(error = format!("{error:#}"), "dns-forward-failed");
                server_failure(query)
            }
        }
    }
}

//! Asks the message bus: a server that runs greets every connection with its `INFO` line.

use crate::within;
use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use why::Answer;

/// Returns the first server that answers, or the reason why the last one did not. `None`: there are no servers to ask.
pub(crate) async fn ask(servers: &[String]) -> Option<Answer<String>> {
    let mut last = None;
    for server in servers {
        let answer = within(greeting(server)).await.map(|()| server.clone());
        if answer.is_ok() {
            return Some(answer);
        }
        last = Some(answer);
    }
    last
}

async fn greeting(server: &str) -> Result<()> {
    let address = server.trim_start_matches("nats://");
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("connect to {address}"))?;
    let mut start = [0; 4];
    stream
        .read_exact(&mut start)
        .await
        .with_context(|| format!("read the greeting of {address}"))?;
    ensure!(&start == b"INFO", "{address} is not a server of NATS");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_first_server_that_greets_is_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"INFO {}\r\n").await;
            }
        });
        let closed = "127.0.0.1:1".to_owned();
        let answer = ask(&[closed.clone(), server.clone()]).await;
        assert_eq!(answer, Some(Ok(server)));
        assert!(ask(&[closed]).await.unwrap().is_err());
        assert_eq!(ask(&[]).await, None);
    }
}

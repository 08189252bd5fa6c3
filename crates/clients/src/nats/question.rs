//! A question to everybody on the bus: one connection, one message, and the answers that come within a time. Unlike a
//! [`Subscription`](super::Subscription) it fails at once if no server accepts the connection.

use super::Config;
use super::connection::{Client, Connection};
use super::protocol::{self, Message, ServerMessage};
use super::servers::Servers;
use anyhow::{Context as _, Result, anyhow};
use std::time::Duration;

/// The answers to a question.
#[derive(Debug)]
pub struct Answers {
    /// The server that passed the question on, as `host:port`.
    pub server: String,
    pub messages: Vec<Message>,
}

/// Publishes a question, and returns what was answered within `time`. `name` appears in the server's list of connections. The servers
/// are tried in turn, once each.
///
/// # Errors
/// It fails if no server accepts the connection, with the reason of the last one, or if the connection is lost.
pub async fn ask(
    config: &Config,
    name: &str,
    subject: &str,
    payload: &[u8],
    time: Duration,
) -> Result<Answers> {
    let (client, mut servers) = (Client::new(config, name)?, Servers::new(config)?);
    let mut last = anyhow!("no NATS server is configured");
    for _ in &config.servers {
        let (server, _) = servers.next();
        let address = server.address.clone();
        match Connection::open(server, client.clone()).await {
            Ok((connection, _)) => {
                let asked = question(connection, subject, payload, time).await;
                let messages = asked.with_context(|| format!("ask on the bus at {address}"))?;
                return Ok(Answers {
                    server: address,
                    messages,
                });
            }
            Err(error) => last = error.context(format!("connect to the bus at {address}")),
        }
    }
    Err(last)
}

async fn question(
    mut connection: Connection,
    subject: &str,
    payload: &[u8],
    time: Duration,
) -> Result<Vec<Message>> {
    let inbox = format!("_INBOX.{:016x}", rand::random::<u64>());
    connection.queue(protocol::subscribe(&inbox, 1).as_bytes());
    connection.queue(&protocol::publish(subject, Some(&inbox), payload));
    let mut messages = Vec::new();
    let ended = tokio::time::timeout(time, receive(&mut connection, &mut messages)).await;
    match ended {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Ok(messages),
    }
}

/// Collects messages until the connection is lost.
async fn receive(connection: &mut Connection, messages: &mut Vec<Message>) -> Result<()> {
    loop {
        while let Some(received) = connection.next()? {
            if let ServerMessage::Message(message) = received {
                messages.push(message);
            }
        }
        connection.read().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Plays a server that answers the login with `answer`, and the question with a message. Returns its address.
    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"INFO {}\r\n").await.unwrap();
            let (mut seen, mut greeted) = (String::new(), false);
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut piece).await {
                seen.push_str(&String::from_utf8_lossy(&piece[..read]));
                if !greeted && seen.contains("PING\r\n") {
                    greeted = true;
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                if let Some((_, question)) = seen.split_once("PUB who.is.there ") {
                    let inbox = question.split(' ').next().unwrap_or_default();
                    let message = format!("MSG {inbox} 1 2\r\nme\r\n");
                    stream.write_all(message.as_bytes()).await.unwrap();
                    seen.clear();
                }
            }
        });
        address
    }

    async fn ask_all(servers: Vec<String>) -> Result<Answers> {
        let config = Config {
            servers,
            ..Config::default()
        };
        let time = Duration::from_millis(300);
        ask(&config, "test", "who.is.there", b"{}", time).await
    }

    #[tokio::test]
    async fn answers_are_collected_until_the_time_is_over() {
        let address = server("PONG\r\n").await;
        let answers = ask_all(vec!["127.0.0.1:1".to_owned(), address.clone()]).await;
        let answers = answers.unwrap();
        assert_eq!(answers.server, address);
        let payloads = answers.messages.iter().map(Message::payload);
        assert_eq!(payloads.collect::<Vec<_>>(), [b"me"]);
    }

    #[tokio::test]
    async fn the_reason_of_a_refusal_is_returned() {
        let address = server("-ERR 'Authorization Violation'\r\n").await;
        let error = ask_all(vec![address]).await.unwrap_err();
        assert!(format!("{error:#}").contains("Authorization Violation"));
        assert!(ask_all(vec!["127.0.0.1:1".to_owned()]).await.is_err());
    }
}

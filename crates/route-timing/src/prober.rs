//! Requests routes again and again, from a thread of its own, so that nothing else of this process delays the times that are seen.

use crate::front::{Connection, Front};
use crate::judge::{Goal, Judge, Mistakes, Owner};
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// The pause between an answer and the next request. The thread sleeps meanwhile, because a runtime's timer counts milliseconds.
const PAUSE: Duration = Duration::from_micros(300);

/// The longest wait for a route that exists while others are measured.
const LOADING: Duration = Duration::from_secs(60);

/// A route, and the state that is awaited.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) host: String,
    pub(crate) owner: Owner,
    pub(crate) goal: Goal,
    /// The time after which the state is awaited no longer. At least one request is sent.
    pub(crate) patience: Duration,
    /// The number of requests that follow the goal, to see whether the state stays.
    pub(crate) after: u32,
}

/// The answers to a question.
#[derive(Debug)]
pub(crate) struct Observation {
    /// The arrival of the first answer that showed the state.
    pub(crate) reached: Option<Instant>,
    pub(crate) requests: u64,
    /// The time of the last request.
    pub(crate) last: Duration,
    pub(crate) mistakes: Mistakes,
}

struct Order {
    question: Question,
    reply: oneshot::Sender<Result<Observation>>,
}

/// The handle of the thread, which ends when the handle is dropped.
#[derive(Debug)]
pub(crate) struct Prober {
    orders: mpsc::Sender<Order>,
}

impl Prober {
    pub(crate) fn start(front: Front) -> Result<Self> {
        let (orders, mut received) = mpsc::channel::<Order>(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("make a runtime for requests")?;
        let run = async move {
            let mut connection = Connection::new(front);
            while let Some(Order { question, reply }) = received.recv().await {
                let observed = observe(&mut connection, &question, || reply.is_closed()).await;
                let _ = reply.send(observed);
            }
        };
        std::thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || runtime.block_on(run))
            .context("start a thread for requests")?;
        Ok(Self { orders })
    }

    /// Requests a route until its state is the awaited one. If the caller drops the future, the requests end.
    pub(crate) async fn observe(&self, question: Question) -> Result<Observation> {
        let (reply, observed) = oneshot::channel();
        let order = Order { question, reply };
        let sent = self.orders.send(order).await;
        sent.ok().context("the thread of requests has ended")?;
        observed.await.context("the thread of requests has ended")?
    }
}

/// Waits until every router serves a route that was made. Returns the reason if one of them does not, and `None` if all do or if it was
/// stopped.
pub(crate) async fn unserved(
    probers: &[Prober],
    host: &str,
    owner: &Owner,
    stop: &CancellationToken,
) -> Result<Option<String>> {
    for prober in probers {
        let observing = prober.observe(Question {
            host: host.to_owned(),
            owner: owner.clone(),
            goal: Goal::Serving,
            patience: LOADING,
            after: 0,
        });
        let seen = tokio::select! {
            seen = observing => seen?,
            () = stop.cancelled() => return Ok(None),
        };
        if seen.reached.is_none() {
            let seen = seen.mistakes.first;
            let seen = seen.unwrap_or_else(|| "it answers that there is no route".to_owned());
            return Ok(Some(format!(
                "a router does not serve {host} within {} s ({seen})",
                LOADING.as_secs()
            )));
        }
    }
    Ok(None)
}

async fn observe(
    connection: &mut Connection,
    question: &Question,
    is_abandoned: impl Fn() -> bool,
) -> Result<Observation> {
    let began = Instant::now();
    let mut judge = Judge::new(&question.host, question.goal);
    let (mut reached, mut requests, mut after) = (None, 0, 0);
    let last = loop {
        let asked = Instant::now();
        let answer = connection.ask(&question.host, &question.owner).await?;
        let now = Instant::now();
        requests += 1;
        let is_reached = judge.judge(&answer);
        if is_reached && reached.is_none() {
            reached = Some(now);
        } else if is_reached {
            after += 1;
        }
        let is_over = match is_reached {
            true => after >= question.after,
            false => now - began >= question.patience,
        };
        if is_over || is_abandoned() {
            break now - asked;
        }
        std::thread::sleep(PAUSE);
    };
    Ok(Observation {
        reached,
        requests,
        last,
        mistakes: judge.mistakes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    const NONE: &[u8] =
        b"HTTP/1.1 404 Not Found\r\nx-cf-routererror: unknown_route\r\ncontent-length: 0\r\n\r\n";
    const SERVED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// Reads a request. Returns false if the client has closed the connection.
    fn read(stream: &mut TcpStream) -> bool {
        stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0)
    }

    /// Starts a router that treats each connection with `serve`, and returns a prober of it.
    fn prober(mut serve: impl FnMut(TcpStream) + Send + 'static) -> Prober {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(stream);
            }
        });
        Prober::start(Front::new(&address, "/", true).unwrap()).unwrap()
    }

    fn question(patience: Duration, after: u32) -> Question {
        Question {
            host: "a.test".to_owned(),
            owner: Owner::App { expected: None },
            goal: Goal::Serving,
            patience,
            after,
        }
    }

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_route_is_requested_until_it_is_served_and_some_times_more() {
        let prober = prober(|mut stream| {
            for number in 0.. {
                let answer = if number < 3 { NONE } else { SERVED };
                if !read(&mut stream) || stream.write_all(answer).is_err() {
                    return;
                }
            }
        });
        let seen = prober.observe(question(LONG, 2)).await.unwrap();
        assert!(seen.reached.is_some());
        assert_eq!((seen.requests, seen.mistakes), (6, Mistakes::default()));
    }

    #[tokio::test]
    async fn a_router_may_close_each_connection_after_an_answer() {
        let prober = prober(|mut stream| {
            let _ = read(&mut stream) && stream.write_all(SERVED).is_ok();
        });
        let seen = prober.observe(question(LONG, 4)).await.unwrap();
        assert_eq!((seen.requests, seen.mistakes.total()), (5, 0));
    }

    #[tokio::test]
    async fn a_connection_that_ends_without_an_answer_is_an_error() {
        let prober = prober(|mut stream| {
            read(&mut stream);
        });
        let seen = prober.observe(question(Duration::ZERO, 0)).await.unwrap();
        assert_eq!((seen.reached, seen.mistakes.errors), (None, 1));
    }

    #[tokio::test]
    async fn a_router_that_is_absent_is_named() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap().to_string();
        drop(closed);
        let prober = Prober::start(Front::new(&address, "/", true).unwrap()).unwrap();
        let error = prober.observe(question(LONG, 0)).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains(&address) && error.contains("--router"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn requests_end_when_nobody_waits_for_them() {
        let prober =
            prober(|mut stream| while read(&mut stream) && stream.write_all(NONE).is_ok() {});
        let short = Duration::from_millis(20);
        let waiting = tokio::time::timeout(short, prober.observe(question(LONG, 0)));
        assert!(waiting.await.is_err());
        // The thread is free for the next question.
        let seen = prober.observe(question(Duration::ZERO, 0)).await.unwrap();
        assert_eq!((seen.reached, seen.requests), (None, 1));
    }
}

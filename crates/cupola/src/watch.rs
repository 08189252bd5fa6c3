//! `cupola watch HOST|APP`: each component that shows a change of a route, one line each, as it happens.
//!
//! It follows the BBS's events, the bus, the router's changes and the access log, and requests the route. [`why::watch`] decides what
//! concerns the target and puts the steps in order. A component that cannot be followed is named on standard error; the others are
//! followed all the same.

use crate::addresses::{self, Service};
use crate::exec;
use crate::nats_command;
use crate::plan::Plan;
use crate::routes::{Follower, Pages};
use crate::terminal::{print, print_error};
use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use why::changes::Change;
use why::watch::{Answer, Call, Order, Target, answered};
use wire::bbs::{DesiredLrpsRequest, Event, OLDEST_EVENT};

/// The time after which a step is shown. A component that is slower than others shows its step in this time, so that the steps are in
/// order.
const DELAY: Duration = Duration::from_millis(300);
/// The time in which the steps of the past are gathered.
const PAST: Duration = Duration::from_secs(1);
/// The pause between two looks at a page or a file.
const PAUSE: Duration = Duration::from_millis(50);
/// The pauses between two requests for the route: while it changes, and otherwise.
const PROBES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// The time after a step in which the route counts as changing.
const CHANGING: Duration = Duration::from_secs(10);
/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The things that the components show.
enum Seen {
    Event(Box<Event>),
    Message(async_nats::Message),
    Change(Box<Change>),
    Call(Call),
    Answer { host: String, answer: Answer },
}

type Sender = mpsc::Sender<(OffsetDateTime, Seen)>;

/// The host that is requested, and until when that is done often.
#[derive(Clone, Debug)]
struct Probing {
    host: Option<String>,
    often_until: Instant,
}

/// The choices of the command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices {
    /// Whether the steps that the BBS and the router keep are shown first.
    pub(crate) past: bool,
    pub(crate) json: bool,
}

pub(crate) async fn run(data: &Path, name: &str, choices: Choices) -> Result<()> {
    let plan = Plan::read(data)?;
    let mut target = Target::new(name);
    let known = match desired(data, &plan, &mut target).await {
        Ok(()) => target.is_host() || target.has_processes(),
        // The reader of its events names the reason.
        Err(_) if target.is_host() => true,
        Err(error) => return Err(error),
    };
    if !known {
        print_error(&format!(
            "no app {name:?} runs yet: its start will be shown"
        ));
    }
    let (sender, seen) = mpsc::channel(1024);
    let (probing, requested) = watch::channel(Probing {
        host: target.host().map(str::to_owned),
        often_until: Instant::now(),
    });
    let pages = Pages::new(&plan)?;
    // The router is asked first, so that a foundation that does not run is reported as such.
    let follower = match choices.past {
        true => Follower::begin_with_past(&pages).await?,
        false => Follower::begin(&pages).await?,
    };
    let log = data.join("log").join("access.log");
    let api = format!("api.{}", plan.domain);
    tokio::select! {
        ended = show(target, seen, probing, choices) => ended,
        never = optional("the BBS", events(data, &plan, choices.past, &sender)) => never,
        never = optional("the bus", messages(data, &sender)) => never,
        never = optional("the router's access log", calls(log, &api, &sender)) => never,
        ended = changes(follower, &sender) => ended,
        ended = probe(&plan, requested, &sender) => ended,
    }
}

fn note(component: &str, error: &anyhow::Error) {
    print_error(&format!("{component} is not followed: {error:#}"));
}

/// Follows a component that may be absent. It never returns.
async fn optional(component: &str, following: impl Future<Output = Result<()>>) -> Result<()> {
    if let Err(error) = following.await {
        note(component, &error);
    }
    std::future::pending().await
}

/// Records the apps that belong to the target now.
async fn desired(data: &Path, plan: &Plan, target: &mut Target) -> Result<()> {
    let bbs = exec::bbs_client(data, plan)?;
    let lrps = bbs.desired_lrps(&DesiredLrpsRequest::default()).await;
    for lrp in &lrps.context("query the BBS: is the foundation running?")? {
        target.learn(lrp);
    }
    Ok(())
}

/// Shows the steps in order until the output is closed.
async fn show(
    mut target: Target,
    mut seen: mpsc::Receiver<(OffsetDateTime, Seen)>,
    probing: watch::Sender<Probing>,
    choices: Choices,
) -> Result<()> {
    let mut order = Order::default();
    // The steps of the past come from two components and must be in order as well.
    let quiet_until = Instant::now() + if choices.past { PAST } else { Duration::ZERO };
    let mut last = None;
    let mut ticks = tokio::time::interval(PAUSE);
    loop {
        let received = tokio::select! {
            received = seen.recv() => received,
            _ = ticks.tick() => None,
        };
        if let Some((at, seen)) = received {
            let step = match seen {
                Seen::Event(event) => target.of_event(&event, at),
                Seen::Message(message) => target.of_message(&message.subject, &message.payload, at),
                Seen::Change(change) => target.of_change(&change),
                Seen::Answer { host, answer } => {
                    let step = answered(&host, last.as_ref(), &answer, at);
                    last = Some(answer);
                    step
                }
                Seen::Call(call) => {
                    order.push_call(call);
                    None
                }
            };
            if let Some(step) = step {
                order.push(step);
                // Only another host or the end of a quiet time wakes the reader of answers.
                probing.send_if_modified(|probing| {
                    let (now, host) = (Instant::now(), target.host().map(str::to_owned));
                    let wakes = probing.often_until <= now || probing.host != host;
                    probing.often_until = now + CHANGING;
                    probing.host = host;
                    wakes
                });
            }
        }
        if Instant::now() < quiet_until {
            continue;
        }
        for line in order.take(OffsetDateTime::now_utc() - DELAY) {
            let text = match choices.json {
                true => serde_json::to_string(&line)?,
                false => line.to_string(),
            };
            print(&format!("{text}\n"))?;
        }
    }
}

async fn send(sender: &Sender, seen: Seen) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    sender.send((now, seen)).await.context("show the step")
}

async fn events(data: &Path, plan: &Plan, past: bool, sender: &Sender) -> Result<()> {
    let bbs = exec::bbs_client(data, plan)?;
    let mut last = if past { OLDEST_EVENT } else { "" }.to_owned();
    loop {
        let mut events = bbs.instance_events_after("", &last).await?;
        if !last.is_empty() && !events.is_continued() {
            print_error("some events of the BBS are missing: its stream was interrupted");
        }
        while let Ok(event) = events.next().await {
            let at = events.last_time().map(OffsetDateTime::from);
            let at = at.unwrap_or_else(OffsetDateTime::now_utc);
            let seen = Seen::Event(Box::new(event));
            sender.send((at, seen)).await.context("show the step")?;
        }
        events.last_id().clone_into(&mut last);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn messages(data: &Path, sender: &Sender) -> Result<()> {
    let (_client, mut messages) = nats_command::subscribe(data, "router.*").await?;
    while let Some(message) = messages.next().await {
        send(sender, Seen::Message(message)).await?;
    }
    anyhow::bail!("the subscription has ended")
}

async fn changes(mut follower: Follower<'_>, sender: &Sender) -> Result<()> {
    loop {
        for change in follower.next().await? {
            send(sender, Seen::Change(Box::new(change))).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Follows the access log from its end on. A log that was rotated is followed from the new file's beginning.
async fn calls(path: PathBuf, api: &str, sender: &Sender) -> Result<()> {
    let open = async || {
        let file = tokio::fs::File::open(&path).await;
        file.with_context(|| format!("open {}", path.display()))
    };
    let mut file = open().await?;
    let mut position = file.seek(SeekFrom::End(0)).await?;
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        let read = lines.read_until(b'\n', &mut line).await?;
        position += read as u64;
        if line.ends_with(b"\n") {
            if let Some(call) = Call::read(&String::from_utf8_lossy(&line), api) {
                send(sender, Seen::Call(call)).await?;
            }
            line.clear();
            continue;
        }
        let length = tokio::fs::metadata(&path).await.map(|file| file.len());
        if length.is_ok_and(|length| length < position) {
            lines = BufReader::new(open().await?);
            position = 0;
            line.clear();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Requests the route again and again, as its clients do.
async fn probe(plan: &Plan, mut asked: watch::Receiver<Probing>, sender: &Sender) -> Result<()> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let status = plan.reach(Service::RouterStatus);
    let url = format!("http://{}:{}/", addresses::host(&status), plan.http_port);
    ensure!(
        reqwest::Url::parse(&url).is_ok(),
        "the router's address {url} is not a URL"
    );
    loop {
        let Probing { host, often_until } = asked.borrow_and_update().clone();
        if let Some(host) = host {
            let answer = match client.get(&url).header("host", &host).send().await {
                Ok(response) => {
                    let reason = response.headers().get("x-cf-routererror");
                    let reason = reason.and_then(|reason| reason.to_str().ok());
                    Answer::Status(response.status().as_u16(), reason.map(str::to_owned))
                }
                Err(error) if error.is_timeout() => {
                    Answer::None(format!("none within {} s", PATIENCE.as_secs()))
                }
                Err(_) => Answer::None(format!("no connection to {url}")),
            };
            send(sender, Seen::Answer { host, answer }).await?;
        }
        let pause = match Instant::now() < often_until {
            true => PROBES.0,
            false => PROBES.1,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = asked.changed() => changed.context("follow the steps")?,
        }
    }
}

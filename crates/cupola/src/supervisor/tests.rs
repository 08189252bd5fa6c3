use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use testkit::wait::{until, wait_for, within};
use tokio::net::{TcpListener, TcpStream};

const SHORT: Pauses = Pauses {
    first: Duration::from_millis(1),
    cap: Duration::from_millis(10),
    healthy: Duration::from_secs(60),
};

/// A counter of how often a role was built. It decides what the role does each time.
#[derive(Clone, Default)]
struct Script {
    builds: Arc<AtomicU32>,
}

async fn start(unit: Unit) -> (Running, CancellationToken, mpsc::UnboundedReceiver<Failed>) {
    let (failures, failed) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let built = Built::build(unit).await.unwrap();
    let running = built.run(shutdown.clone(), failures, SHORT);
    (running, shutdown, failed)
}

async fn stop(mut running: Running, shutdown: CancellationToken) {
    shutdown.cancel();
    within("the role's end", running.ended()).await;
    within("the role's release", running.release()).await;
}

/// Tests every kind of failure in turn: an error, a panic, an end, a build that fails, a build that panics.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_fails_is_built_again() {
    let script = Script::default();
    let unit = Unit::new("role", script.clone(), async |script: Script| {
        let number = script.builds.fetch_add(1, Ordering::SeqCst);
        anyhow::ensure!(number != 3, "cannot be built");
        assert!(number != 4, "panics in its build");
        Ok(run(async move |shutdown: CancellationToken| match number {
            0 => Err(anyhow::anyhow!("failed on purpose")),
            1 => panic!("panicked on purpose"),
            2 => Ok(()),
            _ => {
                shutdown.cancelled().await;
                Ok(())
            }
        }))
    });
    let (running, shutdown, mut failed) = start(unit).await;
    for text in [
        "failed on purpose",
        "it panicked: panicked on purpose",
        "it ended without a request",
        "cannot be built",
        "it panicked: panics in its build",
    ] {
        let failure = within("a failure", failed.recv()).await.unwrap();
        assert_eq!(
            (failure.role, failure.error.to_string()),
            ("role", text.into())
        );
    }
    until("the sixth build", || {
        script.builds.load(Ordering::SeqCst) >= 6
    })
    .await;
    stop(running, shutdown).await;
    assert_eq!(script.builds.load(Ordering::SeqCst), 6);
    assert!(failed.recv().await.is_none(), "it did not fail again");
}

/// Tests that a role can bind the same port again although tasks and connections that it left behind still had its socket.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_role_had_started_ends_with_it() {
    let port = testkit::net::free_port();
    let script = Script::default();
    let unit = Unit::new("role", script.clone(), async move |script: Script| {
        let number = script.builds.fetch_add(1, Ordering::SeqCst);
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(run(async move |shutdown: CancellationToken| {
            let (fail, failed) = oneshot::channel();
            // The task is detached: nothing in the role itself ends it.
            tokio::spawn(async move {
                let mut kept = Vec::new();
                let mut fail = Some(fail);
                while let Ok((mut stream, _)) = listener.accept().await {
                    use tokio::io::AsyncWriteExt as _;
                    let _ = stream.write_all(format!("{number}").as_bytes()).await;
                    kept.push(stream);
                    if number == 0 {
                        fail.take().map(|fail| fail.send(()));
                    }
                }
            });
            tokio::select! {
                _ = failed, if number == 0 => panic!("on purpose"),
                () = shutdown.cancelled() => Ok(()),
            }
        }))
    });
    let (running, shutdown, mut failed) = start(unit).await;
    let ask = async || -> std::io::Result<String> {
        use tokio::io::AsyncReadExt as _;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok(String::from_utf8_lossy(&byte).into_owned())
    };
    assert_eq!(ask().await.unwrap(), "0");
    within("a failure", failed.recv()).await.unwrap();
    let again = wait_for("the role's next run", async || {
        ask().await.ok().filter(|number| number != "0")
    });
    assert_eq!(again.await, "1");
    stop(running, shutdown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_role_s_panic_is_not_another_s() {
    let steady = Script::default();
    let unit = Unit::new("steady", steady.clone(), async |script: Script| {
        script.builds.fetch_add(1, Ordering::SeqCst);
        Ok(run(async move |shutdown: CancellationToken| {
            shutdown.cancelled().await;
            Ok(())
        }))
    });
    let (steady_role, shutdown, mut failures) = start(unit).await;
    let broken = Unit::new("broken", (), async |()| {
        Ok(run(async |_| -> Result<()> { panic!("always") }))
    });
    let (broken_role, broken_shutdown, mut failed) = start(broken).await;
    for _ in 0..5 {
        within("a failure", failed.recv()).await.unwrap();
    }
    assert!(failures.try_recv().is_err());
    stop(broken_role, broken_shutdown).await;
    stop(steady_role, shutdown).await;
    assert_eq!(steady.builds.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_build_that_fails_is_the_caller_s_error() {
    let unit = Unit::new("role", (), async |()| anyhow::bail!("port is taken"));
    let error = Built::build(unit).await.err().unwrap();
    assert_eq!(error.to_string(), "port is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_finish_is_not_started_again() {
    let script = Script::default();
    let unit = Unit::new("cell", script.clone(), async |script: Script| {
        script.builds.fetch_add(1, Ordering::SeqCst);
        Ok(run(async |_| Ok(())))
    });
    let (mut running, _shutdown, _failed) = start(unit.may_finish()).await;
    within("the role's end", running.ended()).await;
    running.release().await;
    assert_eq!(script.builds.load(Ordering::SeqCst), 1);
}

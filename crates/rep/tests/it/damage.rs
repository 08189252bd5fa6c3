//! Tests that damage on the cell's disk costs only the container that it concerns.

use crate::fixture::{Fixture, Running, app};
use crate::stand_in_bbs::Call;
use garden::api::Exit;
use std::path::{Path, PathBuf};
use testkit::wait::wait_for;
use wire::bbs::DesiredLrp;

/// A way to damage a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Emptied,
    CutInHalf,
    /// One flipped bit of the byte at this position of the file, in percent of its length.
    Flipped(usize),
    Garbage,
    Missing,
    /// A folder in place of the file.
    Folder,
}

const DAMAGES: &[Damage] = &[
    Damage::Emptied,
    Damage::CutInHalf,
    Damage::Flipped(0),
    Damage::Flipped(30),
    Damage::Flipped(60),
    Damage::Flipped(99),
    Damage::Garbage,
    Damage::Missing,
    Damage::Folder,
];

impl Damage {
    fn apply(self, file: &Path) {
        let mut bytes = std::fs::read(file).unwrap();
        match self {
            Self::Emptied => bytes.clear(),
            Self::CutInHalf => bytes.truncate(bytes.len() / 2),
            Self::Flipped(_) if bytes.is_empty() => {}
            Self::Flipped(part) => {
                let place = (bytes.len() - 1) * part / 100;
                bytes[place] ^= 1;
            }
            Self::Garbage => bytes = b"\xff\x00garbage\xfe".to_vec(),
            Self::Missing | Self::Folder => {
                std::fs::remove_file(file).unwrap();
                if matches!(self, Self::Folder) {
                    std::fs::create_dir(file).unwrap();
                }
                return;
            }
        }
        std::fs::write(file, bytes).unwrap();
    }
}

fn second() -> DesiredLrp {
    DesiredLrp {
        process_guid: "process-2".into(),
        ..app()
    }
}

/// Places the LRP and returns the guid of its instance.
async fn place(fixture: &Fixture, rep: &Running, lrp: DesiredLrp) -> String {
    let process = lrp.process_guid.clone();
    fixture.place(rep, lrp).await;
    fixture
        .bbs
        .wait_for(|call| match call {
            Call::Claim(claim) if claim.process_guid == process => {
                Some(claim.instance_key.as_ref().unwrap().instance_guid.clone())
            }
            _ => None,
        })
        .await
}

async fn runs(fixture: &Fixture, guid: &str) {
    fixture
        .garden
        .wait_for("the process liveness-8080", |g| {
            g.process(guid, "liveness-8080")
        })
        .await;
    fixture
        .bbs
        .wait_for(|call| match call {
            Call::Start(start) => {
                let instance = start.instance_key.as_ref().unwrap();
                (instance.instance_guid == guid).then_some(())
            }
            _ => None,
        })
        .await;
}

/// Returns whether the first processes of the app and of the proxy still run.
fn is_untouched(fixture: &Fixture, guid: &str) -> bool {
    let processes = fixture.garden.processes(guid);
    ["action-0", "envoy"]
        .iter()
        .all(|id| processes.get(*id) == Some(&None))
}

/// Returns all files that the rep keeps about itself and about a container, without those that are mounted into it.
fn files(work_dir: &Path, guid: &str) -> Vec<PathBuf> {
    let own = std::fs::read_dir(work_dir.join("containers").join(guid)).unwrap();
    let all = own.chain(std::fs::read_dir(work_dir).unwrap());
    let paths = all.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).collect()
}

/// Returns whether the instance continues or its end was reported.
async fn is_handled(fixture: &Fixture, rep: &Running, guid: &str) -> bool {
    let state = fixture.client.state(&rep.url).await.unwrap();
    let goes_on = state.lrps.iter().any(|lrp| lrp.instance_guid == guid);
    let has_container = fixture.garden.handles().contains(&guid.to_owned());
    let reported = fixture.bbs.calls().iter().any(|call| match call {
        Call::Crash(crash) => crash.instance_key.as_ref().unwrap().instance_guid == guid,
        Call::Remove(removal) => removal.instance_key.as_ref().unwrap().instance_guid == guid,
        _ => false,
    });
    (goes_on && has_container) || (!goes_on && !has_container && reported)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_costs_its_own_container_only() {
    let mut walked = 0;
    let names = {
        let fixture = Fixture::new().await;
        let rep = fixture.rep().await;
        let guid = fixture.place(&rep, app()).await;
        runs(&fixture, &guid).await;
        rep.stop().await;
        let work_dir = fixture.work_dir();
        let files = files(&work_dir, &guid);
        let relative = |file: PathBuf| {
            let text = file.strip_prefix(&work_dir).unwrap().to_str().unwrap();
            text.replace(&guid, "GUID")
        };
        files.into_iter().map(relative).collect::<Vec<_>>()
    };
    assert!(names.len() >= 3, "{names:?}");
    for name in &names {
        for damage in DAMAGES {
            let fixture = Fixture::new().await;
            let rep = fixture.rep().await;
            let (hurt, whole) = (
                place(&fixture, &rep, app()).await,
                place(&fixture, &rep, second()).await,
            );
            assert_ne!(hurt, whole);
            runs(&fixture, &hurt).await;
            runs(&fixture, &whole).await;
            rep.stop().await;
            damage.apply(&fixture.work_dir().join(name.replace("GUID", &hurt)));

            let rep = fixture.rep().await;
            let what = format!("{name} {damage:?}");
            // An instance that was seen to continue may still be ended, so one look at a handled one is enough.
            wait_for(&format!("{what} to be handled"), async || {
                is_handled(&fixture, &rep, &hurt).await
            })
            .await;
            assert!(is_untouched(&fixture, &whole), "{what}");
            // The rep still watches the instance.
            let killed = Exit {
                status: 9,
                out_of_memory: false,
            };
            fixture.garden.exit(&whole, "action-0", killed);
            fixture
                .bbs
                .wait_for(|call| match call {
                    Call::Crash(crash) => {
                        let instance = crash.instance_key.as_ref().unwrap();
                        (instance.instance_guid == whole).then_some(())
                    }
                    _ => None,
                })
                .await;
            rep.stop().await;
            walked += 1;
        }
    }
    assert!(walked >= 27, "only {walked} damages were made");
}

#[tokio::test]
async fn a_damaged_definition_is_named_in_the_reason() {
    for damage in [Damage::Flipped(50), Damage::CutInHalf] {
        let fixture = Fixture::new().await;
        let rep = fixture.rep().await;
        let guid = fixture.place(&rep, app()).await;
        runs(&fixture, &guid).await;
        rep.stop().await;
        let file = fixture
            .work_dir()
            .join("containers")
            .join(&guid)
            .join("definition");
        damage.apply(&file);
        let rep = fixture.rep().await;
        let reason = fixture
            .bbs
            .wait_for(|call| match call {
                Call::Crash(crash) => Some(crash.error_message.clone()),
                _ => None,
            })
            .await;
        assert!(reason.contains(file.to_str().unwrap()), "{reason}");
        assert!(reason.contains("damaged"), "{reason}");
        rep.stop().await;
    }
}

//! Reconciles single processes with Diego, right after a change was committed.
//!
//! Each process has at most one driver step under way. A step reads what the user wants from the database when its turn comes,
//! so that a late step can only apply the newest state. A step that fails is left to the sync, which is nudged.

use crate::BoundEgress;
use crate::bits::lifecycle::Bundle;
use crate::db::Db;
use crate::db::process::{self, Process};
use crate::sealing::Keyring;
use anyhow::Result;
use cc_rules::names::PlatformNames;
use cc_rules::recipe::ssh::Entry;
use cc_rules::recipe::{self, AppSpec, Artifact, LiveState};
use clients::bbs::Client;
use clients::request_id;
use kit::reconcile::Nudge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// The maximum time for which a request waits for Diego. After it the response is sent, and the step continues.
const PATIENCE: Duration = Duration::from_secs(3);

/// The handle of the driver; it is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Driver(Arc<Shared>);

/// The settings of the platform that reach apps.
#[derive(Debug)]
pub(crate) struct Platform {
    /// The URL at which Diego reaches the Cloud Controller.
    pub(crate) internal_url: String,
    pub(crate) api_url: String,
    pub(crate) names: Arc<PlatformNames>,
    /// Whether the foundation permits SSH. Apps and spaces may forbid it.
    pub(crate) permits_ssh: bool,
    /// The addresses that apps reach by their bindings.
    pub(crate) bound_egress: Vec<BoundEgress>,
}

#[derive(Debug)]
struct Shared {
    db: Db,
    bbs: Client,
    platform: Platform,
    lifecycle: Artifact,
    keys: Keyring,
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// The LRPs that the BBS is known to have, each with its ssh entry. These are updated first; others are desired first.
    known_to_bbs: Mutex<HashMap<String, Option<Entry>>>,
    nudge: Nudge,
    rollout: Nudge,
}

/// The wish of a user for one process.
#[derive(Debug)]
struct Wish {
    /// The LRPs that must be removed.
    stale: Vec<String>,
    wanted: Wanted,
}

/// The part of a wish that says what must run.
#[derive(Debug)]
enum Wanted {
    Nothing,
    /// An LRP that the BBS is known to have. It gets the changes that its instances follow.
    Update(Box<LiveState>),
    Whole(Box<AppSpec>),
}

impl Wanted {
    /// Returns what the instances follow. All else is of one version, which is a part of this.
    fn live(&self) -> Option<&LiveState> {
        match self {
            Self::Nothing => None,
            Self::Update(live) => Some(live),
            Self::Whole(spec) => Some(&spec.live),
        }
    }
}

impl Driver {
    pub(crate) fn new(
        db: Db,
        bbs: Client,
        platform: Platform,
        lifecycle: &Bundle,
        keys: Keyring,
    ) -> Self {
        let internal_url = &platform.internal_url;
        let lifecycle = Artifact {
            url: format!("{internal_url}{}", wire::cc::internal_path::LIFECYCLE),
            sha256: lifecycle.sha256.clone(),
        };
        let (turns, known_to_bbs) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared {
            db,
            bbs,
            platform,
            lifecycle,
            keys,
            turns,
            known_to_bbs,
            nudge: Nudge::default(),
            rollout: Nudge::default(),
        }))
    }

    pub(crate) fn internal_url(&self) -> &str {
        &self.0.platform.internal_url
    }
    pub(crate) fn api_url(&self) -> &str {
        &self.0.platform.api_url
    }
    /// Returns whether the foundation permits SSH.
    pub(crate) fn permits_ssh(&self) -> bool {
        self.0.platform.permits_ssh
    }
    /// Returns the addresses that apps reach by their bindings.
    pub(crate) fn bound_egress(&self) -> &[BoundEgress] {
        &self.0.platform.bound_egress
    }
    pub(crate) fn lifecycle(&self) -> Artifact {
        self.0.lifecycle.clone()
    }
    pub(crate) fn names(&self) -> &PlatformNames {
        &self.0.platform.names
    }
    /// Returns the keys that seal secrets in the database.
    pub(crate) fn keys(&self) -> &Keyring {
        &self.0.keys
    }
    /// Returns the nudge that wakes the sync.
    pub(crate) fn nudge(&self) -> Nudge {
        self.0.nudge.clone()
    }
    /// Returns the nudge that wakes the deployments.
    pub(crate) fn rollout_nudge(&self) -> Nudge {
        self.0.rollout.clone()
    }

    /// Reconciles these processes, and waits for it as long as a request may. Returns whether Diego has all of them by then.
    /// [`crate::change`] calls it after a commit, and nothing else does.
    pub(crate) async fn reconcile(&self, processes: Vec<String>) -> bool {
        let id = request_id::current();
        let steps: Vec<_> = processes
            .into_iter()
            .map(|process| {
                let driver = self.clone();
                let step = async move { driver.step(&process).await };
                tokio::spawn(request_id::scope(id.clone(), step))
            })
            .collect();
        match tokio::time::timeout(PATIENCE, futures::future::join_all(steps)).await {
            Ok(done) => done.into_iter().all(|done| done.unwrap_or(false)),
            Err(_) => {
                tracing::warn!("diego-is-slow: the response is sent before Diego has the change");
                false
            }
        }
    }

    /// Reconciles one process. Returns whether Diego has it now.
    async fn step(&self, process: &str) -> bool {
        let result = self.converge(process).await;
        let vcap_request_id = request_id::current();
        match result {
            Ok(()) => {
                tracing::info!(process, vcap_request_id, "diego-step-done");
                true
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(process, vcap_request_id, error, "diego-step-failed");
                self.0.nudge.nudge();
                false
            }
        }
    }

    /// Removes the stale LRPs of a process, and desires or updates the wanted one.
    ///
    /// Another Cloud Controller may change the process and reach the BBS before this step does. So the step looks again after it,
    /// and repeats itself until nothing has changed meanwhile: whichever comes last applies the newest state.
    pub(crate) async fn converge(&self, process: &str) -> Result<()> {
        let turn = self.turn(process);
        let _turn = turn.lock().await;
        let mut wish = self.wish(process).await?;
        loop {
            let is_applied = self.apply(&wish).await?;
            if is_applied && !self.0.db.is_shared() {
                return Ok(());
            }
            let newer = self.wish(process).await?;
            let is_same = newer.stale.is_empty() && newer.wanted.live() == wish.wanted.live();
            if is_applied && is_same {
                return Ok(());
            }
            wish = newer;
        }
    }

    /// Reads what the user wants of a process.
    async fn wish(&self, process: &str) -> Result<Wish> {
        let mut conn = self.0.db.read_own().await?;
        let stale = process::stale_lrps(&mut conn, process).await?;
        let wanted = match self.wanted_process(&mut conn, process).await? {
            None => Wanted::Nothing,
            Some(found) if self.is_known(&found.0) => {
                Wanted::Update(Box::new(self.live_state(&mut conn, &found).await?))
            }
            Some(found) => match self.wanted_spec(&mut conn, &found).await? {
                Some(spec) => Wanted::Whole(Box::new(spec)),
                None => Wanted::Nothing,
            },
        };
        Ok(Wish { stale, wanted })
    }

    /// Returns whether the BBS is known to have the LRP of a process.
    fn is_known(&self, process: &Process) -> bool {
        let lrp = recipe::lrp_guid(&process.guid, &process.version);
        self.known_to_bbs().contains_key(&lrp)
    }

    /// Applies a wish. Returns whether all is done: if the BBS does not have an LRP that it was known to have, the wish must be read again.
    async fn apply(&self, wish: &Wish) -> Result<bool> {
        let wanted = wish.wanted.live().map(LiveState::lrp_guid);
        for lrp in wish
            .stale
            .iter()
            .filter(|lrp| Some(*lrp) != wanted.as_ref())
        {
            self.remove(lrp).await?;
        }
        match &wish.wanted {
            Wanted::Nothing => {}
            Wanted::Update(live) => {
                if !self.update(live).await? {
                    return Ok(false);
                }
            }
            Wanted::Whole(spec) => self.desire(spec).await?,
        }
        if !wish.stale.is_empty() {
            let mut upkeep = self.0.db.upkeep().await?;
            for lrp in &wish.stale {
                process::delete_stale_lrp(&mut upkeep, lrp).await?;
            }
            upkeep.commit().await?;
        }
        Ok(true)
    }

    /// Removes an LRP that no process wants. This is checked again in the process's turn.
    pub(crate) async fn remove_surplus(&self, lrp: &str) -> Result<()> {
        let process = recipe::process_guid_of(lrp);
        let turn = self.turn(process);
        let _turn = turn.lock().await;
        let mut conn = self.0.db.read_own().await?;
        if let Some(found) = self.wanted_process(&mut conn, process).await?
            && let Some(spec) = self.wanted_spec(&mut conn, &found).await?
            && spec.live.lrp_guid() == lrp
        {
            return Ok(());
        }
        drop(conn);
        self.remove(lrp).await
    }

    /// Updates an LRP that the BBS is known to have. Returns whether the BBS has it.
    async fn update(&self, live: &LiveState) -> Result<bool> {
        let lrp = live.lrp_guid();
        let ssh = self.known_to_bbs().get(&lrp).cloned().flatten();
        let update = recipe::update(live, ssh.as_ref());
        match self.0.bbs.update_desired_lrp(&lrp, update).await {
            Err(error) if error.is_not_found() => {
                self.known_to_bbs().remove(&lrp);
                Ok(false)
            }
            result => Ok(result.map(|()| true)?),
        }
    }

    /// Desires an LRP, or updates it if the BBS has it already.
    async fn desire(&self, spec: &AppSpec) -> Result<()> {
        let (bbs, lrp) = (&self.0.bbs, spec.live.lrp_guid());
        let mut wanted = recipe::desired_lrp(spec)?;
        recipe::ssh::add(&mut wanted, spec, &super::ssh_keys::create()?);
        let mut ssh = Entry::of(&wanted);
        match bbs.desire_lrp(wanted).await {
            // Its instances know the keys with which it was desired.
            Err(error) if error.is_exists() => {
                ssh = Entry::of(&bbs.desired_lrp(&lrp).await?);
                bbs.update_desired_lrp(&lrp, recipe::update(&spec.live, ssh.as_ref()))
                    .await?;
            }
            result => result?,
        }
        self.known_to_bbs().insert(lrp, ssh);
        Ok(())
    }

    async fn remove(&self, lrp: &str) -> Result<()> {
        self.known_to_bbs().remove(lrp);
        match self.0.bbs.remove_desired_lrp(lrp).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result?),
        }
    }

    fn known_to_bbs(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<Entry>>> {
        self.0
            .known_to_bbs
            .lock()
            .expect("no panic while holding it")
    }

    fn turn(&self, process: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.turns.lock().expect("no panic while holding it");
        if let Some(turn) = turns.get(process).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() > 1000 {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::default();
        turns.insert(process.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

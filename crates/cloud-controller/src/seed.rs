//! The resources that a foundation has from the start. The seed runs at each start and creates only what is missing. The default
//! quota, the security groups, and the first organization and space are created together, at the first start only.

use crate::INTERNAL_DOMAIN;
use crate::config::{Config, FirstTarget, IdentityDomain};
use crate::db::buildpack::{self, Buildpack};
use crate::db::domain::{Domain, PolicyScope};
use crate::db::environment_group::EnvironmentGroup;
use crate::db::feature_flag::FeatureFlag;
use crate::db::organization::{self, Organization};
use crate::db::organization_quota::{self, OrganizationQuota};
use crate::db::process;
use crate::db::security_group::SecurityGroup;
use crate::db::space::{self, Space};
use crate::db::stack::Stack;
use crate::db::{self, Connection, Db, Json, Row, Select};
use crate::flags::Flag;
use crate::quota::DefaultQuota;
use anyhow::{Context as _, Result};
use cc_rules::buildpacks::{BUILTIN, STACK};
use cc_rules::names::PlatformNames;
use kit::CancellationToken;
use serde_json::{Value, json};
use std::time::Duration;

/// The part of the configuration that decides which resources exist from the start.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    apps_domain: String,
    default_quota: DefaultQuota,
    instances_per_process: u32,
    first_target: Option<FirstTarget>,
    names: PlatformNames,
    identity_domains: Vec<IdentityDomain>,
}

impl From<&Config> for Seed {
    fn from(config: &Config) -> Self {
        Self {
            apps_domain: config.apps_domain.clone(),
            default_quota: config.default_quota.clone(),
            instances_per_process: config.limits.instances_per_process,
            first_target: config.first_target.clone(),
            names: PlatformNames::new(&config.system_domain, &config.reserved_hosts),
            identity_domains: config.identity_domains.clone(),
        }
    }
}

/// The pause before the next attempt on a disk without room.
const RETRY: Duration = Duration::from_secs(5);

/// Creates the resources at the start. Returns whether the disk has no room; in that case reads are served nevertheless, and
/// [`keep_trying`] continues.
pub(crate) async fn apply_or_postpone(db: &Db, seed: &Seed) -> Result<bool> {
    match apply(db, seed).await {
        Ok(()) => Ok(false),
        Err(error) if needs_room(&error) => {
            tracing::error!(error = format!("{error:#}"), "seed-postponed");
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Repeats the seed until the database has all that it needs, or until shutdown.
pub(crate) async fn keep_trying(db: &Db, seed: &Seed, shutdown: &CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        match apply(db, seed).await {
            Ok(()) => {
                tracing::info!("seed-done");
                return;
            }
            Err(error) if needs_room(&error) => {}
            Err(error) => tracing::error!(error = format!("{error:#}"), "seed-failed"),
        }
    }
}

fn needs_room(error: &anyhow::Error) -> bool {
    use kit::disk::Trouble;
    matches!(
        Trouble::of_chain(error),
        Some(Trouble::Full | Trouble::ReadOnly)
    )
}

async fn apply(db: &Db, config: &Seed) -> Result<()> {
    let mut upkeep = db.upkeep().await?;
    let cutoff = crate::actions::copy::interrupted_before(db, crate::clock::now());
    crate::actions::copy::fail_interrupted(&mut upkeep, cutoff).await?;
    let first = !has::<OrganizationQuota>(&mut upkeep, "default").await?;
    if first {
        let quota = OrganizationQuota {
            name: "default".to_owned(),
            limits: Json(config.default_quota.json()),
            ..OrganizationQuota::fresh()
        };
        db::insert(&mut upkeep, &quota).await?;
        security_groups(&mut upkeep).await?;
    }
    platform_resources(&mut upkeep).await?;
    migrate(&mut upkeep, config).await?;
    if !has::<Domain>(&mut upkeep, &config.apps_domain).await? {
        db::insert(
            &mut upkeep,
            &Domain {
                name: config.apps_domain.clone(),
                ..Domain::fresh()
            },
        )
        .await?;
    }
    if !has::<Domain>(&mut upkeep, INTERNAL_DOMAIN).await? {
        let internal = Domain {
            name: INTERNAL_DOMAIN.to_owned(),
            internal: true,
            ..Domain::fresh()
        };
        db::insert(&mut upkeep, &internal).await?;
    }
    identity_domains(&mut upkeep, &config.names, &config.identity_domains).await?;
    if let (true, Some(target)) = (first, &config.first_target) {
        first_target(&mut upkeep, &target.organization, &target.space).await?;
    }
    upkeep.commit().await?;
    Ok(())
}

/// Creates the identity domains that are missing. What a domain enforces is fixed at its creation, so a domain that differs
/// stays as it is and is logged.
async fn identity_domains(
    conn: &mut Connection,
    names: &PlatformNames,
    domains: &[IdentityDomain],
) -> Result<()> {
    for wanted in domains {
        let name = wanted.name.to_ascii_lowercase();
        if let Err(reserved) = names.domain(&name, true) {
            anyhow::bail!("identity_domains: {}", reserved.of_domain(&name));
        }
        let scope = wanted.scope.parse::<PolicyScope>();
        let scope = scope.with_context(|| format!("read identity_domains.{name}"))?;
        let named = Select::new().is("name", &name);
        match named.all_readable(conn).await?.into_iter().next() {
            // The row exists but cannot be read.
            None if has::<Domain>(conn, &name).await? => {}
            None => db::insert(conn, &identity_domain(name, scope)).await?,
            Some(kept) if is_kept(&kept, scope) => {}
            Some(kept) => tracing::warn!(
                domain = name,
                enforces = kept.enforce_route_policies,
                scope = kept.route_policies_scope.map(PolicyScope::as_str),
                wanted = scope.as_str(),
                "identity-domain-differs: delete it with its routes to have it made anew, or correct identity_domains"
            ),
        }
    }
    Ok(())
}

fn identity_domain(name: String, scope: PolicyScope) -> Domain {
    Domain {
        name,
        enforce_route_policies: true,
        route_policies_scope: Some(scope),
        ..Domain::fresh()
    }
}

fn is_kept(kept: &Domain, scope: PolicyScope) -> bool {
    kept.enforce_route_policies
        && kept.organization_guid.is_none()
        && kept.route_policies_scope == Some(scope)
}

/// Returns whether a row of this name exists, readable or not.
async fn has<R: Row>(conn: &mut Connection, name: &str) -> sqlx::Result<bool> {
    Select::new().is("name", name).exists::<R>(conn).await
}

/// Changes what older versions stored.
async fn migrate(conn: &mut Connection, config: &Seed) -> Result<()> {
    if db::is_first_run_of(conn, "finite-default-quota").await?
        && let Some(mut quota) = organization_quota::default_one(conn).await?
    {
        crate::quota::make_finite(conn, &mut quota, &config.default_quota).await?;
    }
    let instances = i64::from(config.instances_per_process);
    let shrunk = process::shrink(conn, cc_rules::limits::MOST_INSTANCES, instances).await?;
    if shrunk > 0 {
        tracing::warn!(
            processes = shrunk,
            instances,
            "processes-scaled-down: they had more instances than any process may have"
        );
    }
    Ok(())
}

async fn platform_resources(conn: &mut Connection) -> Result<()> {
    if !has::<Stack>(conn, STACK).await? {
        let description =
            "Debian-based root file system with bash, curl, openssl, iproute2 and python3"
                .to_owned();
        db::insert(
            conn,
            &Stack {
                name: STACK.to_owned(),
                description,
                is_default: true,
                ..Stack::fresh()
            },
        )
        .await?;
    }
    let known = buildpack::all(conn).await?;
    for (position, builtin) in (1..).zip(BUILTIN) {
        match known
            .iter()
            .find(|buildpack| buildpack.name == builtin.name)
        {
            // The row exists but cannot be read.
            None if has::<Buildpack>(conn, builtin.name).await? => {}
            None => {
                let buildpack = Buildpack {
                    name: builtin.name.to_owned(),
                    stack: Some(STACK.to_owned()),
                    position,
                    enabled: true,
                    filename: builtin.filename.to_owned(),
                    ..Buildpack::fresh()
                };
                db::insert(conn, &buildpack).await?;
            }
            Some(known) if known.filename != builtin.filename => {
                db::update(
                    conn,
                    &Buildpack {
                        filename: builtin.filename.to_owned(),
                        ..known.clone()
                    },
                )
                .await?;
            }
            Some(_) => {}
        }
    }
    for flag in Flag::ALL {
        if !has::<FeatureFlag>(conn, flag.name()).await? {
            db::insert(
                conn,
                &FeatureFlag {
                    name: flag.name().to_owned(),
                    enabled: flag.default(),
                    ..FeatureFlag::fresh()
                },
            )
            .await?;
        }
    }
    for name in ["running", "staging"] {
        if !has::<EnvironmentGroup>(conn, name).await? {
            db::insert(
                conn,
                &EnvironmentGroup {
                    name: name.to_owned(),
                    ..EnvironmentGroup::fresh()
                },
            )
            .await?;
        }
    }
    Ok(())
}

/// Creates the groups that allow all public addresses and the name servers. Private networks stay closed.
async fn security_groups(conn: &mut Connection) -> Result<()> {
    let all = |destination: &str| json!({ "protocol": "all", "destination": destination });
    let public = [
        "0.0.0.0-9.255.255.255",
        "11.0.0.0-169.253.255.255",
        "169.255.0.0-172.15.255.255",
        "172.32.0.0-192.167.255.255",
        "192.169.0.0-255.255.255.255",
    ];
    let dns = ["tcp", "udp"]
        .map(|protocol| json!({ "protocol": protocol, "destination": "0.0.0.0/0", "ports": "53" }));
    let groups: [(&str, Vec<Value>); 2] = [
        ("public_networks", public.into_iter().map(all).collect()),
        ("dns", dns.to_vec()),
    ];
    for (name, rules) in groups {
        let group = SecurityGroup {
            name: name.to_owned(),
            rules: Json(rules),
            running: true,
            staging: true,
            ..SecurityGroup::fresh()
        };
        db::insert(conn, &group).await?;
    }
    Ok(())
}

async fn first_target(conn: &mut Connection, organization: &str, space: &str) -> Result<()> {
    if organization::by_name(conn, organization).await?.is_none() {
        let quota = organization_quota::default_one(conn)
            .await?
            .context("the default quota is missing")?;
        db::insert(
            conn,
            &Organization {
                name: organization.to_owned(),
                quota_guid: quota.guid,
                ..Organization::fresh()
            },
        )
        .await?;
    }
    let organization = organization::by_name(conn, organization)
        .await?
        .context("the first organization is missing")?;
    if space::by_name(conn, &organization.guid, space)
        .await?
        .is_none()
    {
        db::insert(
            conn,
            &Space {
                name: space.to_owned(),
                organization_guid: organization.guid,
                allow_ssh: true,
                ..Space::fresh()
            },
        )
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::db::Location;

    async fn seeded(
        db: &Db,
        domains: &[(&str, &str)],
    ) -> Result<Vec<(String, Option<PolicyScope>)>> {
        let wanted: Vec<IdentityDomain> = domains
            .iter()
            .map(|(name, scope)| IdentityDomain {
                name: (*name).to_owned(),
                scope: (*scope).to_owned(),
            })
            .collect();
        let names = PlatformNames::new("sys.test", &[]);
        let mut upkeep = db.upkeep().await?;
        identity_domains(&mut upkeep, &names, &wanted).await?;
        let all = Select::new().all::<Domain>(&mut upkeep).await?;
        upkeep.commit().await?;
        assert!(all.iter().all(|domain| domain.organization_guid.is_none()));
        Ok(all
            .into_iter()
            .map(|domain| (domain.name, domain.route_policies_scope))
            .collect())
    }

    #[tokio::test]
    async fn identity_domains_are_made_once_and_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join("cc.db"));
        let (db, _writer) = Db::open(&location, RETRY).await.unwrap();
        let row = |name: &str, scope| (name.to_owned(), Some(scope));
        let first = seeded(&db, &[("Apps.Identity", "any")]).await.unwrap();
        assert_eq!(first, [row("apps.identity", PolicyScope::Any)]);
        let later = seeded(&db, &[("apps.identity", "org"), ("b.identity", "space")]).await;
        let both = [
            row("apps.identity", PolicyScope::Any),
            row("b.identity", PolicyScope::Space),
        ];
        assert_eq!(later.unwrap(), both);
        assert_eq!(seeded(&db, &[]).await.unwrap(), both, "nothing is removed");
        let refused = seeded(&db, &[("uaa.sys.test", "any")]).await.unwrap_err();
        assert!(
            refused.to_string().contains("identity_domains"),
            "{refused}"
        );
        db.close().await;
    }

    fn seed() -> Seed {
        Seed {
            apps_domain: "apps.test".to_owned(),
            default_quota: DefaultQuota::default(),
            instances_per_process: 100,
            first_target: None,
            names: PlatformNames::new("sys.test", &[]),
            identity_domains: Vec::new(),
        }
    }

    /// Fills a small file system. It runs only as root, because it needs a mount.
    #[tokio::test]
    async fn a_full_disk_postpones_what_is_missing_and_reads_go_on() {
        if std::env::var_os("CUPOLA_ROOT_TESTS").is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let sh = |program: &str, args: &[&str]| {
            let status = std::process::Command::new(program)
                .args(args)
                .arg(folder.path())
                .status();
            assert!(status.unwrap().success(), "{program} {args:?}");
        };
        sh("mount", &["-t", "tmpfs", "-o", "size=8m", "none"]);
        let location = Location::File(folder.path().join("cc.db"));
        let (db, _writer) = Db::open(&location, RETRY).await.unwrap();
        assert!(!apply_or_postpone(&db, &seed()).await.unwrap());
        db.close().await;
        let filler = folder.path().join("filler");
        let free = usize::try_from(kit::disk::free(folder.path()).unwrap()).unwrap();
        std::fs::write(&filler, vec![b'x'; free]).unwrap();

        let (db, _writer) = Db::open(&location, RETRY).await.unwrap();
        assert!(apply_or_postpone(&db, &seed()).await.unwrap());
        let mut conn = db.read().await.unwrap();
        assert!(has::<Domain>(&mut conn, "apps.test").await.unwrap());
        drop(conn);
        std::fs::remove_file(&filler).unwrap();
        keep_trying(&db, &seed(), &CancellationToken::new()).await;
        db.close().await;
        sh("umount", &["-l"]);
    }
}

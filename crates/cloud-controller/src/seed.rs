//! What a foundation has from the start. Runs at each start; only what is missing is made, except that built-in
//! buildpacks and the stack always exist.

use crate::INTERNAL_DOMAIN;
use crate::buildpacks::{BUILTIN, STACK};
use crate::config::{Config, IdentityDomain};
use crate::db::domain::{self, Domain};
use crate::db::organization::{self, Organization, OrganizationQuota};
use crate::db::platform::{self, Buildpack, EnvironmentGroup, FeatureFlag, SecurityGroup, Stack};
use crate::db::process;
use crate::db::space::{self, Space};
use crate::db::{self, Connection, Db, Json, Select};
use crate::flags::Flag;
use crate::names::PlatformNames;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

pub(crate) async fn apply(db: &Db, config: &Config) -> Result<()> {
    let mut tx = db.write().await?;
    crate::actions::copy::fail_interrupted(&mut tx).await?;
    let first = organization::default_quota(&mut tx).await?.is_none();
    if first {
        let quota = OrganizationQuota {
            name: "default".to_owned(),
            limits: Json(config.default_quota.json()),
            ..OrganizationQuota::fresh()
        };
        db::insert(&mut tx, &quota).await?;
        security_groups(&mut tx).await?;
    }
    platform_resources(&mut tx).await?;
    migrate(&mut tx, config).await?;
    if domain::by_name(&mut tx, &config.apps_domain)
        .await?
        .is_none()
    {
        db::insert(
            &mut tx,
            &Domain {
                name: config.apps_domain.clone(),
                ..Domain::fresh()
            },
        )
        .await?;
    }
    if domain::by_name(&mut tx, INTERNAL_DOMAIN).await?.is_none() {
        let internal = Domain {
            name: INTERNAL_DOMAIN.to_owned(),
            internal: true,
            ..Domain::fresh()
        };
        db::insert(&mut tx, &internal).await?;
    }
    let names = PlatformNames::new(&config.system_domain, &config.reserved_hosts);
    identity_domains(&mut tx, &names, &config.identity_domains).await?;
    if let (true, Some(target)) = (first, &config.first_target) {
        first_target(&mut tx, &target.organization, &target.space).await?;
    }
    tx.commit(db::Unrecorded::Bookkeeping).await?;
    Ok(())
}

/// What a domain enforces is fixed when it is made: one that differs stays as it is, and is logged.
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
        match domain::by_name(conn, &name).await? {
            None => db::insert(conn, &identity_domain(name, wanted)).await?,
            Some(kept) if is_kept(&kept, wanted) => {}
            Some(kept) => tracing::warn!(
                domain = name,
                enforces = kept.enforce_route_policies,
                scope = kept.route_policies_scope,
                wanted = wanted.scope,
                "identity-domain-differs: delete it with its routes to have it made anew, or correct identity_domains"
            ),
        }
    }
    Ok(())
}

fn identity_domain(name: String, wanted: &IdentityDomain) -> Domain {
    Domain {
        name,
        enforce_route_policies: true,
        route_policies_scope: Some(wanted.scope.clone()),
        ..Domain::fresh()
    }
}

fn is_kept(kept: &Domain, wanted: &IdentityDomain) -> bool {
    kept.enforce_route_policies
        && kept.organization_guid.is_none()
        && kept.route_policies_scope.as_ref() == Some(&wanted.scope)
}

/// Changes of what older versions stored.
async fn migrate(conn: &mut Connection, config: &Config) -> Result<()> {
    if db::is_first_run_of(conn, "finite-default-quota").await?
        && let Some(mut quota) = organization::default_quota(conn).await?
    {
        crate::quota::make_finite(conn, &mut quota, &config.default_quota).await?;
    }
    let instances = i64::from(config.limits.instances_per_process);
    let shrunk = process::shrink(conn, crate::limits::MOST_INSTANCES, instances).await?;
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
    if platform::stack_by_name(conn, STACK).await?.is_none() {
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
    let known = platform::buildpacks(conn).await?;
    for (position, builtin) in (1..).zip(BUILTIN) {
        match known
            .iter()
            .find(|buildpack| buildpack.name == builtin.name)
        {
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
        if platform::flag(conn, flag.name()).await?.is_none() {
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
        if !Select::new()
            .is("name", name)
            .exists::<EnvironmentGroup>(conn)
            .await?
        {
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

/// Everything public, and name servers; private networks stay closed.
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
        let quota = organization::default_quota(conn)
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

    async fn seeded(db: &Db, domains: &[(&str, &str)]) -> Result<Vec<(String, Option<String>)>> {
        let wanted: Vec<IdentityDomain> = domains
            .iter()
            .map(|(name, scope)| IdentityDomain {
                name: (*name).to_owned(),
                scope: (*scope).to_owned(),
            })
            .collect();
        let names = PlatformNames::new("sys.test", &[]);
        let mut tx = db.write().await?;
        identity_domains(&mut tx, &names, &wanted).await?;
        let all = Select::new().all::<Domain>(&mut tx).await?;
        tx.commit(db::Unrecorded::Bookkeeping).await?;
        assert!(all.iter().all(|domain| domain.organization_guid.is_none()));
        Ok(all
            .into_iter()
            .map(|domain| (domain.name, domain.route_policies_scope))
            .collect())
    }

    #[tokio::test]
    async fn identity_domains_are_made_once_and_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(
            &folder.path().join("cc.db"),
            std::time::Duration::from_secs(1),
        )
        .await
        .unwrap();
        let row = |name: &str, scope: &str| (name.to_owned(), Some(scope.to_owned()));
        let first = seeded(&db, &[("Apps.Identity", "any")]).await.unwrap();
        assert_eq!(first, [row("apps.identity", "any")]);
        let later = seeded(&db, &[("apps.identity", "org"), ("b.identity", "space")]).await;
        let both = [row("apps.identity", "any"), row("b.identity", "space")];
        assert_eq!(later.unwrap(), both);
        assert_eq!(seeded(&db, &[]).await.unwrap(), both, "nothing is removed");
        let refused = seeded(&db, &[("uaa.sys.test", "any")]).await.unwrap_err();
        assert!(
            refused.to_string().contains("identity_domains"),
            "{refused}"
        );
        db.close().await;
    }
}

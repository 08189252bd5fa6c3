//! Finds what is measured: the API with a token and an app, or the bus, and the routers. What the user leaves out comes from the cf
//! CLI's login and from the data directory.

use super::session::Session;
use super::{Propagation, password};
use crate::addresses::{self, Service};
use crate::nats_command;
use crate::plan::{Plan, random_hex};
use crate::terminal::print_error;
use anyhow::{Context as _, Result, bail, ensure};
use cf_cli::Saved;
use clients::http::Authorities;
use kit::tls::Identity;
use route_timing::{Api, ApiSettings, BusSettings, By, Front, Named};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// The pause between two looks at the token, which is renewed in the last minute of its life.
const RENEWAL: Duration = Duration::from_secs(20);

/// The foundation that is measured.
pub(super) struct Target {
    pub(super) by: By,
    pub(super) fronts: Vec<Front>,
    user: Option<User>,
}

/// The user of the API.
struct User {
    session: Session,
    tokens: watch::Sender<String>,
    /// The app that was pushed for the measurement.
    pushed: Option<String>,
}

impl Target {
    /// Renews the user's token while a measurement runs. It never returns.
    pub(super) async fn renew_token<T>(&self) -> T {
        if let Some(user) = &self.user {
            loop {
                tokio::time::sleep(RENEWAL).await;
                match user.session.token().await {
                    Ok(token) => drop(user.tokens.send_replace(token)),
                    Err(error) => print_error(&format!("bench: renew the token: {error:#}")),
                }
            }
        }
        std::future::pending().await
    }

    /// Deletes the app that was pushed for the measurement.
    pub(super) async fn remove_pushed(&self) -> Result<()> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        match &user.pushed {
            Some(app) => remove(&user.session, app).await,
            None => Ok(()),
        }
    }
}

async fn remove(session: &Session, app: &str) -> Result<()> {
    let deleted = session.cf(None, &["delete", app, "-f"]).await;
    deleted
        .map(drop)
        .with_context(|| format!("delete the pushed app: `cf delete {app} -f` deletes it"))
}

/// Finds the foundation that the user means.
pub(super) async fn find(data: &Path, arguments: &Propagation) -> Result<Target> {
    if arguments.api.are_given() {
        return by_api(data, arguments).await;
    }
    if arguments.bus.are_given() {
        return by_bus(data, arguments);
    }
    let plan = Plan::read(data)
        .context("no foundation is named: use --api and --app, or --nats and --router")?;
    if arguments.size.apps > 1 {
        print_error("bench: measures by the bus, because only there are several apps simulated");
        return by_bus(data, arguments);
    }
    match only_app(&plan).await {
        Ok(app) => {
            print_error(&format!(
                "bench: measures by the API with the cf CLI's login and app {app}; --nats or --own-address chooses the bus"
            ));
            by_api(data, arguments).await
        }
        Err(reason) => {
            print_error(&format!("bench: measures by the bus, because {reason:#}"));
            by_bus(data, arguments)
        }
    }
}

/// Returns the name of the app that the cf CLI's target has, if it is at this foundation and the only one of its space.
async fn only_app(plan: &Plan) -> Result<String> {
    let session = Session::of_cf();
    let saved = session.saved()?.context("the cf CLI is not logged in")?;
    ensure!(
        saved.api == plan.api_url(),
        "the cf CLI's target is {}",
        saved.api
    );
    let (_tokens, token) = watch::channel(session.token().await?);
    let api = Api::new(&saved.api, Authorities::Any, token)?;
    let space = saved.space.context("no space is targeted")?;
    Ok(app(&api, Some(&space), None).await?.name)
}

async fn by_api(data: &Path, arguments: &Propagation) -> Result<Target> {
    let chosen = &arguments.api;
    let plan = Plan::read(data).ok();
    let own = plan.as_ref().map(Plan::api_url);
    let saved = Session::of_cf().saved()?;
    let url = api_url(arguments, saved.as_ref(), own.as_deref())?;
    let is_own = own.as_deref() == Some(url.as_str());
    // A foundation of this machine has a certificate of its own authority.
    let mut skip = arguments.skip_ssl_validation || is_own;
    let session = match &chosen.user {
        Some(user) => {
            let file = chosen.password_file.as_deref();
            let password = password(file, "CF_PASSWORD", user, "--password-file")?;
            Session::log_in(&url, skip, user, &password).await?
        }
        None => {
            let saved = saved.as_ref().filter(|saved| saved.api == url);
            let saved = saved.with_context(|| {
                format!("the cf CLI is not logged in at {url}: log in with `cf login -a {url}`, or name a user with --user")
            })?;
            skip |= saved.skip_ssl_validation;
            Session::of_cf()
        }
    };
    let (tokens, token) = watch::channel(session.token().await?);
    let authorities = match skip {
        true => Authorities::Any,
        false => Authorities::System,
    };
    let api = Api::new(&url, authorities, token)?;
    let fronts = match (is_own, &plan) {
        (true, Some(plan)) => fronts(arguments, &own_router(plan), skip)?,
        _ => fronts(arguments, &url, skip)?,
    };
    let space = space(&api, arguments, &session).await?;
    let (app, pushed) = match &chosen.push {
        None => {
            let app = app(&api, space.as_deref(), chosen.app.as_deref()).await?;
            (app.guid, None)
        }
        Some(folder) => {
            let name = push(&session, arguments, folder).await?;
            let found = app(&api, space.as_deref(), Some(&name)).await;
            match found {
                Ok(app) => (app.guid, Some(name)),
                Err(error) => {
                    remove(&session, &name).await?;
                    return Err(error);
                }
            }
        }
    };
    Ok(Target {
        by: By::Api(ApiSettings {
            api,
            app,
            expected: chosen.expect.clone(),
            domain: chosen.domain.clone(),
        }),
        fronts,
        user: Some(User {
            session,
            tokens,
            pushed,
        }),
    })
}

/// Returns the URL of the API that the user names, that of the cf CLI's login, or that of the data directory.
fn api_url(arguments: &Propagation, saved: Option<&Saved>, own: Option<&str>) -> Result<String> {
    let chosen = &arguments.api;
    match (&chosen.api, saved, own) {
        (Some(url), _, _) => Ok(url.trim_end_matches('/').to_owned()),
        (None, Some(saved), _) if chosen.user.is_none() => Ok(saved.api.clone()),
        (None, _, Some(own)) => Ok(own.to_owned()),
        (None, _, None) => bail!("--api is missing: name the URL of the API"),
    }
}

/// Returns the guid of the space that the user names, or of the one that the login targets.
async fn space(api: &Api, arguments: &Propagation, session: &Session) -> Result<Option<String>> {
    let (Some(org), Some(space)) = (&arguments.api.org, &arguments.api.space) else {
        return Ok(session.saved()?.and_then(|saved| saved.space));
    };
    let query = [("names", org.as_str())];
    let org = api.only("/v3/organizations", "org", org, &query).await?;
    let query = [
        ("names", space.as_str()),
        ("organization_guids", org.guid.as_str()),
    ];
    let space = api.only("/v3/spaces", "space", space, &query).await?;
    Ok(Some(space.guid))
}

/// Returns the app with this name or guid, or the only one of the space.
async fn app(api: &Api, space: Option<&str>, wanted: Option<&str>) -> Result<Named> {
    let spaces = space.map(|space| ("space_guids", space));
    let Some(wanted) = wanted else {
        ensure!(
            space.is_some(),
            "no app is named, and no space is targeted: name an app with --app"
        );
        let query: Vec<_> = spaces.into_iter().collect();
        let mut all = api.list("/v3/apps", &query).await?;
        let names: Vec<&str> = all.iter().map(|app| app.name.as_str()).collect();
        ensure!(
            all.len() == 1,
            "the space has {} apps ({}): name one with --app, or push one with --push",
            all.len(),
            names.join(", ")
        );
        return Ok(all.remove(0));
    };
    let by_guid = [("guids", wanted)];
    if is_guid(wanted) {
        return api.only("/v3/apps", "app", wanted, &by_guid).await;
    }
    let query: Vec<_> = spaces.into_iter().chain([("names", wanted)]).collect();
    let found = api.list("/v3/apps", &query).await?;
    ensure!(
        found.len() < 2,
        "there are {} apps {wanted:?}: name the space of one with --org and --space, or its guid",
        found.len()
    );
    api.only("/v3/apps", "app", wanted, &query).await
}

fn is_guid(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_hexdigit();
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(|c| is_digit(c) || c == '-')
}

/// Pushes the app in a folder without a route, and returns its name.
async fn push(session: &Session, arguments: &Propagation, folder: &Path) -> Result<String> {
    ensure!(
        folder.is_dir(),
        "--push {}: it is not a folder",
        folder.display()
    );
    let chosen = &arguments.api;
    if let (Some(org), Some(space)) = (&chosen.org, &chosen.space) {
        ensure!(
            chosen.user.is_some(),
            "--push beside --org and --space needs --user: without it the app goes where `cf target` points, which this command leaves alone"
        );
        let target = ["target", "-o", org.as_str(), "-s", space.as_str()];
        session.cf(None, &target).await?;
    }
    let name = format!("propbench-{}", random_hex(3));
    print_error(&format!("bench: pushes {} as {name}", folder.display()));
    let pushed = session
        .cf(Some(folder), &["push", &name, "--no-route"])
        .await;
    if let Err(error) = pushed {
        // A push that fails half way leaves an app.
        return Err(match remove(session, &name).await {
            Ok(()) => error,
            Err(left) => error.context(format!("{left:#}")),
        });
    }
    Ok(name)
}

fn by_bus(data: &Path, arguments: &Propagation) -> Result<Target> {
    let chosen = &arguments.bus;
    let plan = Plan::read(data);
    let (nats, router) = match (chosen.nats.is_empty(), plan) {
        // Whoever names a bus also names its routers.
        (false, _) => (named_bus(arguments)?, String::new()),
        (true, Ok(plan)) => (nats_command::bus(data, &plan)?, own_router(&plan)),
        (true, Err(error)) => {
            return Err(error.context("no bus is named: use --nats and --router"));
        }
    };
    Ok(Target {
        by: By::Bus(BusSettings {
            nats,
            own_address: chosen.own_address,
        }),
        fronts: fronts(arguments, &router, arguments.skip_ssl_validation)?,
        user: None,
    })
}

/// Returns the bus that the user names.
fn named_bus(arguments: &Propagation) -> Result<clients::nats::Config> {
    let chosen = &arguments.bus;
    for server in &chosen.nats {
        ensure!(
            addresses::is_host_and_port(server),
            "--nats {server:?} is not the address of a server: use host:port, e.g. 10.0.0.7:4222"
        );
    }
    let password = match &chosen.nats_user {
        None => String::new(),
        Some(user) => {
            let file = chosen.nats_password_file.as_deref();
            password(file, "NATS_PASSWORD", user, "--nats-password-file")?
        }
    };
    let tls = match (&chosen.nats_cert, &chosen.nats_key, &chosen.nats_ca) {
        (Some(cert), Some(key), Some(ca)) => Some(Identity::from_files([
            ("--nats-cert", cert.as_path()),
            ("--nats-key", key.as_path()),
            ("--nats-ca", ca.as_path()),
        ])?),
        _ => None,
    };
    Ok(clients::nats::Config {
        servers: chosen.nats.clone(),
        user: chosen.nats_user.clone().unwrap_or_default(),
        password,
        tls,
        ..clients::nats::Config::default()
    })
}

/// Returns the address of the router of this machine's foundation.
fn own_router(plan: &Plan) -> String {
    let status = plan.reach(Service::RouterStatus);
    format!("{}:{}", addresses::host(&status), plan.http_port)
}

/// Returns the routers that the user names, or this one.
fn fronts(arguments: &Propagation, default: &str, skip: bool) -> Result<Vec<Front>> {
    let named: Vec<&str> = match arguments.router.is_empty() {
        true => vec![default],
        false => arguments.router.iter().map(String::as_str).collect(),
    };
    let fronts = named.into_iter();
    fronts
        .map(|router| Front::new(router, &arguments.path, !skip))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_no_name() {
        assert!(is_guid("8e9f2d61-0c2b-4a37-9a51-0123456789ab"));
        for name in [
            "proxy",
            "8e9f2d61",
            "8e9f2d61-0c2b-4a37-9a51-0123456789xy",
            "",
        ] {
            assert!(!is_guid(name), "{name}");
        }
    }
}

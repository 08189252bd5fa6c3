//! Commands that choose the API, the user, and the targeted org and space.

use crate::api::error::{NOT_LOGGED_IN, UaaError};
use crate::api::types::{Organization, Space};
use crate::args::{Parsed, Spec, Usage, switch, value};
use crate::config;
use crate::session::Session;
use anyhow::{Result, bail, ensure};

const GROUP: &str = "Getting started";

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "login",
        alias: "l",
        group: GROUP,
        about: "Log user in",
        args: &[],
        flags: &[
            value(
                Some('a'),
                "",
                "API_URL",
                "API endpoint (https://api.<system domain>)",
            ),
            value(Some('u'), "", "USERNAME", "Username"),
            value(Some('p'), "", "PASSWORD", "Password"),
            value(Some('o'), "", "ORG", "Org to target"),
            value(Some('s'), "", "SPACE", "Space to target"),
            value(None, "origin", "ORIGIN", "Identity provider of the user"),
            switch(
                None,
                "skip-ssl-validation",
                "Accept any certificate of the API (not recommended)",
            ),
        ],
        examples: &[
            "cf login -a https://api.cupola.test -u admin -p secret -o org -s space --skip-ssl-validation",
        ],
    },
    Spec {
        name: "logout",
        alias: "lo",
        group: GROUP,
        about: "Log user out",
        args: &[],
        flags: &[],
        examples: &["cf logout"],
    },
    Spec {
        name: "api",
        alias: "",
        group: GROUP,
        about: "Set or view the API endpoint",
        args: &["[URL]"],
        flags: &[
            switch(
                None,
                "skip-ssl-validation",
                "Accept any certificate of the API (not recommended)",
            )
            .needs(&["[URL]"]),
            switch(None, "unset", "Forget the API endpoint")
                .not_with(&["[URL]", "skip-ssl-validation"]),
        ],
        examples: &[
            "cf api https://api.cupola.test --skip-ssl-validation",
            "cf api",
            "cf api --unset",
        ],
    },
    Spec {
        name: "auth",
        alias: "",
        group: GROUP,
        about: "Authenticate without questions (credentials also from CF_USERNAME and CF_PASSWORD)",
        args: &["[USERNAME]", "[PASSWORD]"],
        flags: &[
            switch(
                None,
                "client-credentials",
                "USERNAME and PASSWORD are a client's id and secret",
            )
            .not_with(&["origin"]),
            value(None, "origin", "ORIGIN", "Identity provider of the user"),
        ],
        examples: &[
            "cf auth admin secret",
            "cf auth my-client client-secret --client-credentials",
        ],
    },
    Spec {
        name: "target",
        alias: "t",
        group: GROUP,
        about: "Set or view the targeted org and space",
        args: &[],
        flags: &[
            value(Some('o'), "", "ORG", "Organization"),
            value(Some('s'), "", "SPACE", "Space"),
        ],
        examples: &["cf target -o org -s space", "cf target"],
    },
    Spec {
        name: "oauth-token",
        alias: "",
        group: GROUP,
        about: "Print the access token of this session",
        args: &[],
        flags: &[],
        examples: &["cf oauth-token"],
    },
];

pub(super) async fn api(s: &Session, p: &Parsed) -> Result<()> {
    if p.has("unset") {
        s.ui.line("Unsetting API endpoint...");
        s.change(|c| {
            let kept = std::mem::take(&mut c.other);
            *c = config::Config {
                other: kept,
                ..config::Config::default()
            };
        })?;
        s.ui.ok();
        return Ok(());
    }
    if let Some(url) = p.opt(0) {
        s.ui.flavor("Setting API endpoint to {}...", &[url]);
        s.set_api(url, p.has("skip-ssl-validation")).await?;
        s.ui.ok();
    }
    let (target, version) = {
        let c = s.config();
        (c.target.clone(), c.api_version.clone())
    };
    if target.is_empty() {
        s.ui.line("No API endpoint set. Use 'cf api' to set an endpoint");
        return Ok(());
    }
    s.ui.key_values(&[("API endpoint", target), ("API version", version)]);
    if s.config().access_token.is_empty() {
        s.ui.blank();
        s.ui.line(NOT_LOGGED_IN);
    }
    Ok(())
}

pub(super) async fn login(s: &Session, p: &Parsed) -> Result<()> {
    let (known, insecure) = {
        let c = s.config();
        (c.target.clone(), c.ssl_disabled)
    };
    let (url, same) = match p.get("a") {
        Some(url) => (url.to_owned(), false),
        None if known.is_empty() => (s.ui.prompt("API endpoint")?, false),
        None => (known, true),
    };
    s.ui.flavor("API endpoint: {}", &[&url]);
    s.ui.blank();
    s.set_api(&url, p.has("skip-ssl-validation") || (same && insecure))
        .await?;
    let user = match p.get("u") {
        Some(user) => user.to_owned(),
        None => s.ui.prompt("Email")?,
    };
    let mut given = p.get("p").map(str::to_owned);
    let attempts = if s.ui.is_interactive() { 3 } else { 1 };
    for attempt in 1.. {
        let password = match given.take() {
            Some(password) => password,
            None => s.ui.password("Password")?,
        };
        s.ui.blank();
        s.ui.line("Authenticating...");
        match authenticate(s, &user, &password, p.get("origin")).await {
            Ok(()) => break,
            Err(error) if is_refusal(&error) => {
                s.ui.warn("Credentials were rejected, please try again.");
                if attempt >= attempts {
                    bail!("Unable to authenticate.");
                }
            }
            Err(error) => return Err(error),
        }
    }
    s.ui.ok();
    choose_target(s, p).await?;
    show_target(s);
    Ok(())
}

fn is_refusal(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<UaaError>()
        .is_some_and(|e| e.status == 401 || (e.status == 400 && e.error == "invalid_grant"))
}

async fn authenticate(s: &Session, user: &str, password: &str, origin: Option<&str>) -> Result<()> {
    let hint = origin.map(|o| serde_json::json!({"origin": o}).to_string());
    let mut form = vec![
        ("grant_type", "password"),
        ("username", user),
        ("password", password),
    ];
    form.extend(hint.as_deref().map(|h| ("login_hint", h)));
    let tokens = s.grant(("cf", ""), &form).await?;
    s.change(|c| c.log_out())?;
    s.store_tokens(&tokens)
}

/// Chooses org and space: by flag, otherwise the only one, otherwise by a menu on a terminal.
async fn choose_target(s: &Session, p: &Parsed) -> Result<()> {
    let org = match p.get("o") {
        Some(name) => Some(s.org(name).await?),
        None => {
            let mut orgs: Vec<Organization> =
                s.list("/v3/organizations", &[("order_by", "name")]).await?;
            let names: Vec<_> = orgs.iter().map(|o| o.name.as_str()).collect();
            choose(s, "an org", "Org", &names)?.map(|i| orgs.swap_remove(i))
        }
    };
    let Some(org) = org else {
        ensure!(
            p.get("s").is_none(),
            "No org is targeted, so -s has no org to look in. Use 'cf target -o ORG -s SPACE'."
        );
        return Ok(());
    };
    target_org(s, &org)?;
    s.ui.flavor("Targeted org {}.", &[&org.name]);
    s.ui.blank();
    let space = match p.get("s") {
        Some(name) => Some(s.space(name, &org.guid).await?),
        None => {
            let mut spaces: Vec<Space> = s
                .list(
                    "/v3/spaces",
                    &[("organization_guids", &org.guid), ("order_by", "name")],
                )
                .await?;
            let names: Vec<_> = spaces.iter().map(|o| o.name.as_str()).collect();
            choose(s, "a space", "Space", &names)?.map(|i| spaces.swap_remove(i))
        }
    };
    if let Some(space) = space {
        target_space(s, &space)?;
        s.ui.flavor("Targeted space {}.", &[&space.name]);
        s.ui.blank();
    }
    Ok(())
}

/// Returns the index of the chosen name; `None` if nothing was chosen or nobody can be asked.
fn choose(s: &Session, what: &str, label: &str, names: &[&str]) -> Result<Option<usize>> {
    match names {
        [] => return Ok(None),
        [_] => return Ok(Some(0)),
        _ if !s.ui.is_interactive() => return Ok(None),
        _ => {}
    }
    loop {
        s.ui.line(format!("Select {what}:"));
        for (i, name) in names.iter().enumerate().take(50) {
            s.ui.line(format!("{}. {name}", i + 1));
        }
        s.ui.blank();
        let answer = s.ui.prompt(&format!("{label} (enter to skip)"))?;
        s.ui.blank();
        if answer.is_empty() {
            return Ok(None);
        }
        let by_number = answer
            .parse::<usize>()
            .ok()
            .and_then(|n| n.checked_sub(1))
            .filter(|i| *i < names.len());
        if let Some(index) = names.iter().position(|n| *n == answer).or(by_number) {
            return Ok(Some(index));
        }
        s.ui.line(format!("{label} '{answer}' not found."));
    }
}

fn target_org(s: &Session, org: &Organization) -> Result<()> {
    s.change(|c| {
        c.clear_target();
        c.organization_fields = config::Organization {
            guid: org.guid.clone(),
            name: org.name.clone(),
        };
    })
}

fn target_space(s: &Session, space: &Space) -> Result<()> {
    s.change(|c| {
        c.space_fields = config::Space {
            guid: space.guid.clone(),
            name: space.name.clone(),
            allow_ssh: true,
        }
    })
}

fn show_target(s: &Session) {
    let user = s.claims().name().to_owned();
    let c = s.config().clone();
    let mut rows = vec![
        ("API endpoint", c.target.clone()),
        ("API version", c.api_version.clone()),
        ("user", user),
    ];
    if !c.organization_fields.name.is_empty() {
        rows.push(("org", c.organization_fields.name.clone()));
    }
    if !c.space_fields.name.is_empty() {
        rows.push(("space", c.space_fields.name.clone()));
    }
    s.ui.key_values(&rows);
    match (
        c.organization_fields.guid.is_empty(),
        c.space_fields.guid.is_empty(),
    ) {
        (true, _) => {
            s.ui.line("No org or space targeted, use 'cf target -o ORG -s SPACE'")
        }
        (false, true) => s.ui.line("No space targeted, use 'cf target -s SPACE'"),
        _ => {}
    }
}

pub(super) async fn auth(s: &Session, p: &Parsed) -> Result<()> {
    s.require_api()?;
    let or_var = |given: Option<&str>, var: &str| given.or_else(|| s.var(var)).map(str::to_owned);
    let (user, password) = match (
        or_var(p.opt(0), "CF_USERNAME"),
        or_var(p.opt(1), "CF_PASSWORD"),
    ) {
        (Some(user), Some(password)) => (user, password),
        (None, None) => bail!(Usage("Username and password not provided.".into())),
        (None, _) => bail!(Usage("Username not provided.".into())),
        (_, None) => bail!(Usage("Password not provided.".into())),
    };
    let endpoint = s.config().target.clone();
    s.ui.flavor("API endpoint: {}", &[&endpoint]);
    s.ui.blank();
    s.ui.line("Authenticating...");
    let done = if p.has("client-credentials") {
        authenticate_client(s, &user, &password).await
    } else {
        authenticate(s, &user, &password, p.get("origin")).await
    };
    match done {
        Err(error) if is_refusal(&error) => bail!("Credentials were rejected, please try again."),
        done => done?,
    }
    s.ui.ok();
    s.ui.line("Use 'cf target' to view or set your target org and space.");
    Ok(())
}

async fn authenticate_client(s: &Session, id: &str, secret: &str) -> Result<()> {
    let tokens = s
        .grant((id, secret), &[("grant_type", "client_credentials")])
        .await?;
    s.change(|c| {
        c.log_out();
        c.grant_type = "client_credentials".into();
        c.oauth_client = id.to_owned();
        c.oauth_client_secret = secret.to_owned();
    })?;
    s.store_tokens(&tokens)
}

pub(super) fn logout(s: &Session) -> Result<()> {
    match s.claims().name() {
        "" => s.ui.line("Nobody is logged in."),
        user => s.ui.flavor("Logging out {}...", &[user]),
    }
    s.change(|c| c.log_out())?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn target(s: &Session, p: &Parsed) -> Result<()> {
    s.require_login()?;
    if let Some(name) = p.get("o") {
        let org = s.org(name).await?;
        target_org(s, &org)?;
        if p.get("s").is_none() {
            // If the org has only one space, that space is targeted.
            let spaces: Vec<Space> = s
                .list("/v3/spaces", &[("organization_guids", &org.guid)])
                .await?;
            if let [only] = spaces.as_slice() {
                target_space(s, only)?;
            }
        }
    }
    if let Some(name) = p.get("s") {
        let target = s.require_org()?;
        let space = s.space(name, &target.org.guid).await?;
        target_space(s, &space)?;
    }
    show_target(s);
    Ok(())
}

pub(super) async fn oauth_token(s: &Session) -> Result<()> {
    s.require_login()?;
    s.ui.line(s.fresh_token(false).await?);
    Ok(())
}

//! `cf curl` sends any request to the API, with the user's token.

use super::Exit;
use crate::api::Request;
use crate::args::{Parsed, Spec, Usage, switch, value};
use crate::session::Session;
use anyhow::{Context as _, Result, bail};
use reqwest::Method;

pub(super) const SPECS: &[Spec] = &[Spec {
    name: "curl",
    alias: "",
    group: "Advanced",
    about: "Execute a request to the targeted API endpoint",
    args: &["PATH"],
    flags: &[
        value(
            Some('X'),
            "",
            "METHOD",
            "HTTP method (default: GET, with -d POST)",
        ),
        value(
            Some('H'),
            "",
            "HEADER",
            "Header `Name: value`; may be used several times",
        )
        .repeats(),
        value(Some('d'), "", "DATA", "Body, or @FILE"),
        switch(Some('i'), "", "Print the response's headers too"),
        switch(
            Some('f'),
            "fail",
            "Return exit code 22 and no body for an HTTP error",
        ),
        value(None, "output", "FILE", "Write the body to FILE"),
    ],
    examples: &[
        "cf curl /v3/apps",
        "cf curl /v3/apps/GUID -X PATCH -d '{\"name\":\"new\"}'",
        "cf curl /v3/droplets/GUID/download --output droplet.tgz",
    ],
}];

pub(super) async fn curl(s: &Session, p: &Parsed) -> Result<()> {
    s.require_api()?;
    let target = s.config().target.clone();
    // The token is sent to the API and nowhere else.
    let path = p.arg(0).strip_prefix(&target).unwrap_or(p.arg(0));
    let url = format!("{target}/{}", path.trim_start_matches('/'));
    let method = p
        .get("X")
        .unwrap_or(if p.has("d") { "POST" } else { "GET" });
    let mut request = Request::new(
        Method::from_bytes(method.as_bytes())
            .with_context(|| format!("invalid HTTP method {method:?}"))?,
        url,
    );
    if let Some(data) = p.get("d") {
        let body = match data.strip_prefix('@') {
            Some(file) => {
                std::fs::read(s.cwd.join(file)).with_context(|| format!("read {file}"))?
            }
            None => data.as_bytes().to_vec(),
        };
        request = request.body("application/json", body);
    }
    for header in p.all("H") {
        let Some((name, value)) = header.split_once(':') else {
            bail!(Usage(format!(
                "invalid argument for flag `-H' (expected `Name: value`): {header:?}"
            )))
        };
        request = request.header(name.trim(), value.trim())?;
    }
    let is_anonymous = s.config().access_token.is_empty() && !s.can_refresh();
    let has_own_token = request.headers.contains_key("authorization");
    let response = if is_anonymous || has_own_token {
        s.exchange(request).await?
    } else {
        s.authorized(request).await?
    };
    if p.has("fail") && !response.is_success() {
        s.ui.warn(format!(
            "The requested URL returned error: {}",
            response.status
        ));
        return Err(Exit(22).into());
    }
    if p.has("i") {
        s.ui.line(&response.status_line);
        for (name, value) in &response.headers {
            s.ui.line(format!(
                "{name}: {}",
                String::from_utf8_lossy(value.as_bytes())
            ));
        }
        s.ui.blank();
    }
    match p.get("output") {
        Some(file) => {
            std::fs::write(s.cwd.join(file), &response.body)
                .with_context(|| format!("write {file}"))?;
            s.ui.ok();
        }
        None => {
            s.ui.raw(&response.body);
            if !response.body.ends_with(b"\n") {
                s.ui.blank();
            }
        }
    }
    Ok(())
}

//! Stories 14–16: the effect of a DNAT rule that points at the wrong container, and the certificate that prevents it.

use crate::{Story, story};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use testkit::foundation::{Answer, Foundation, example, sh, wait_for};

pub(crate) const ON: &[Story] = &[
    story(
        "story_15_with_route_integrity_the_wrong_app_never_answers",
        never_the_wrong_app,
    ),
    story("story_16_the_instance_certificate", instance_certificate),
];

pub(crate) const OFF: &[Story] = &[
    story(
        "story_14_without_route_integrity_the_wrong_app_answers",
        the_danger,
    ),
    story(
        "story_16_the_instance_certificate_rotates_without_restart",
        rotation,
    ),
];

struct Instance {
    guid: String,
    overlay: String,
    /// The host port of the first mapping that has one: the TLS port with route integrity, otherwise the plain one.
    port: u64,
}

fn instance(f: &Foundation, app: &str) -> Result<Instance> {
    let lrp = f
        .instances(&f.guid(app)?)?
        .into_iter()
        .next()
        .with_context(|| format!("{app} has no running instance"))?;
    let ports = lrp["ports"][0].clone();
    let port = [&ports["host_tls_proxy_port"], &ports["host_port"]]
        .into_iter()
        .filter_map(serde_json::Value::as_u64)
        .find(|p| *p > 0)
        .context("no host port")?;
    Ok(Instance {
        guid: lrp["instance_guid"].as_str().unwrap_or_default().into(),
        overlay: lrp["instance_address"].as_str().unwrap_or_default().into(),
        port,
    })
}

/// Points the host port of `from` at the container of `to`. Returns the command that undoes it. Existing connections keep their
/// translation, so they are cut: for a moment packets to `from` are answered with a reset.
fn misroute(f: &Foundation, route: &str, from: &Instance, to: &Instance) -> Result<String> {
    let rules = sh("iptables -w -S -t nat")?;
    let rule = rules
        .lines()
        .find(|l| l.contains(&format!("--dport {} ", from.port)) && l.contains(&from.overlay))
        .context("no DNAT rule")?;
    let chain = rule.split_whitespace().nth(1).context("no chain")?;
    // The rule is inserted before the cell's own rules, which are repaired.
    let wrong = rule
        .replacen(&format!("-A {chain}"), "", 1)
        .replace(&format!("{}:", from.overlay), &format!("{}:", to.overlay));
    sh(&format!("iptables -w -t nat -I OUTPUT 1 {wrong}"))?;
    let reset = format!(
        "OUTPUT -p tcp -d {} -j REJECT --reject-with tcp-reset",
        from.overlay
    );
    sh(&format!("iptables -w -I {reset}"))?;
    let cut: Result<Vec<Answer>> = (0..8).map(|_| f.get(route, "/id")).collect();
    sh(&format!("iptables -w -D {reset}"))?;
    cut?;
    Ok(format!("iptables -w -t nat -D OUTPUT {wrong}"))
}

fn id(answer: &Answer) -> &str {
    answer.body.trim()
}

fn the_danger(f: &mut Foundation) -> Result<()> {
    for app in ["appA", "appB"] {
        f.cf_ok(&[
            "push",
            app,
            "-p",
            &example("proxy/bin"),
            "-b",
            "binary_buildpack",
            "-c",
            "./proxy",
            "-m",
            "64M",
            "-k",
            "128M",
        ])?;
    }
    let (a, b) = (instance(f, "appA")?, instance(f, "appB")?);
    let route = f.host("appa");
    ensure!(
        id(&f.get(&route, "/id")?).contains(&a.guid),
        "appA does not answer on its own route"
    );
    let undo = misroute(f, &route, &a, &b)?;
    let seen = wait_for("appB's answer on appA's route", 100, || {
        let answer = f.get(&route, "/id")?;
        Ok(id(&answer).contains(&b.guid).then_some(()))
    });
    sh(&undo)?;
    seen
}

fn never_the_wrong_app(f: &mut Foundation) -> Result<()> {
    let (a, b) = (instance(f, "appA")?, instance(f, "appB")?);
    let route = f.host("appa");
    let undo = misroute(f, &route, &a, &b)?;
    let outcome = (|| -> Result<()> {
        wait_for("503 on a new connection", 20, || {
            Ok(match f.get(&route, "/id") {
                Ok(answer) if id(&answer).contains(&b.guid) => {
                    Some(Err(anyhow!("appB answered on appA's route")))
                }
                Ok(answer) if answer.status == 503 => Some(Ok(())),
                Ok(answer) => bail!("{} {}", answer.head, answer.body),
                Err(error) => Some(Err(error)),
            })
        })??;
        let log = wait_for("prune-failed-endpoint in the router's log", 20, || {
            Ok(Some(f.log()).filter(|l| l.contains("prune-failed-endpoint")))
        })?;
        let line = log
            .lines()
            .rev()
            .find(|l| l.contains("prune-failed-endpoint"))
            .unwrap_or_default();
        ensure!(
            line.contains(&a.guid) && line.contains(&b.guid),
            "the line does not name both certificate names: {line}"
        );
        Ok(())
    })();
    sh(&undo)?;
    outcome?;
    // With a second, healthy instance of appA the client sees only 200.
    f.cf_ok(&["scale", "appA", "-i", "2"])?;
    wait_for("two instances of appA in the table", 60, || {
        Ok((f.table()?[&route].as_array().map_or(0, Vec::len) == 2).then_some(()))
    })?;
    let a = instance(f, "appA")?;
    let undo = misroute(f, &route, &a, &b)?;
    let outcome = (|| -> Result<()> {
        for round in 0..60 {
            let answer = f.get(&route, "/id")?;
            ensure!(
                answer.status == 200,
                "request {round} saw {} with a healthy second instance: {}",
                answer.status,
                answer.body
            );
            ensure!(
                !id(&answer).contains(&b.guid),
                "appB answered on appA's route"
            );
        }
        Ok(())
    })();
    sh(&undo)?;
    f.cf_ok(&["scale", "appA", "-i", "1"])?;
    outcome
}

fn instance_certificate(f: &mut Foundation) -> Result<()> {
    let a = instance(f, "appB")?;
    let text = f.exec(
        "appB/0",
        &[
            "bash",
            "-c",
            "openssl x509 -in $CF_INSTANCE_CERT -noout -text",
        ],
    )?;
    let app = f.guid("appB")?;
    for part in [
        format!("DNS:{}", a.guid),
        format!("IP Address:{}", a.overlay),
        format!("app:{app}"),
        "space:".into(),
        "organization:".into(),
        format!("CN = {}", a.guid),
    ] {
        ensure!(
            text.contains(&part),
            "the certificate lacks {part}:\n{text}"
        );
    }
    let dates = f.exec("appB/0", &["bash", "-c", "openssl x509 -in $CF_INSTANCE_CERT -noout -startdate -enddate | cut -d= -f2 | while read d; do date -d \"$d\" +%s; done"])?;
    let dates: Vec<i64> = dates.lines().map(str::parse).collect::<Result<_, _>>()?;
    let hours = (dates[1] - dates[0]) as f64 / 3600.0;
    ensure!((23.5..=24.5).contains(&hours), "valid for {hours} hours");
    ensure!(f.exec("appB/0", &["bash", "-c", "openssl x509 -in $CF_INSTANCE_CERT -noout -pubkey; openssl pkey -in $CF_INSTANCE_KEY -pubout"])?.matches("BEGIN PUBLIC KEY").count() == 2, "key and certificate");
    Ok(())
}

fn rotation(f: &mut Foundation) -> Result<()> {
    let serial = |f: &Foundation| {
        f.exec(
            "appA/0",
            &[
                "bash",
                "-c",
                "openssl x509 -in $CF_INSTANCE_CERT -noout -serial",
            ],
        )
    };
    let before = instance(f, "appA")?;
    let first = serial(f)?;
    wait_for("a new certificate", 90, || {
        Ok((serial(f)? != first).then_some(()))
    })?;
    ensure!(
        instance(f, "appA")?.guid == before.guid,
        "the instance was restarted"
    );
    ensure!(
        f.get(&f.host("appa"), "/id")?.status == 200,
        "the route does not work after rotation"
    );
    Ok(())
}

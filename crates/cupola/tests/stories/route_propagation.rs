//! Stories 1–13: the path of a route from `cf push` to the router's table, step by step.

use crate::peers::{self, Nats};
use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use testkit::foundation::{Foundation, example, sh, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story(
        "story_01_push_two_apps_and_curl_their_routes",
        push_two_apps,
    ),
    story(
        "story_02_one_route_mapped_to_two_apps_is_spread_evenly",
        one_route_two_apps,
    ),
    story(
        "story_03_cloud_controller_knows_only_desired_state",
        desired_state,
    ),
    story(
        "story_04_actual_lrps_say_where_everything_runs",
        actual_lrps,
    ),
    story(
        "story_05_desired_lrps_say_nothing_about_where",
        desired_lrps,
    ),
    story("story_06_nats_carries_the_routes", nats_messages),
    story("story_07_the_routers_table", routers_table),
    story("story_08_nothing_listens_on_the_host_port", nothing_listens),
    story("story_09_iptables_send_the_host_port_to_envoy", dnat_rules),
    story("story_10_envoy_inside_the_container", envoy_admin),
    story("story_11_access_log_line_and_rtr_log", access_log),
    story("story_12_curl_the_router_directly", curl_router),
    story("story_13_a_stopped_app_leaves_the_table", stopped_app),
];

fn push_two_apps(f: &mut Foundation) -> Result<()> {
    for app in ["appA", "appB"] {
        let output = f.cf_ok(&[
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
        ensure!(output.contains("running"), "{output}");
    }
    let apps = f.cf_ok(&["apps"])?;
    ensure!(
        apps.contains("appA") && apps.contains("appB") && apps.contains("started"),
        "{apps}"
    );
    let overlay = f
        .instances(&f.guid("appA")?)?
        .first()
        .context("no instance of appA")?["instance_address"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let answer: Value = serde_json::from_str(&f.get(&f.host("appa"), "/")?.body)?;
    ensure!(
        answer == json!({"ListenAddresses": ["127.0.0.1", overlay], "Port": 8080}),
        "{answer}"
    );
    ensure!(
        f.get(&f.host("appb"), "/")?.status == 200,
        "appB does not answer"
    );
    f.notes.insert("OVERLAY_IP", overlay);
    f.notes.insert("APP_A_GUID", f.guid("appA")?);
    f.notes.insert("APP_A_ROUTE", f.host("appa"));
    Ok(())
}

fn one_route_two_apps(f: &mut Foundation) -> Result<()> {
    f.cf_ok(&["scale", "appB", "-i", "2"])?;
    for app in ["appA", "appB"] {
        f.cf_ok(&["map-route", app, &f.domain, "--hostname", "shared"])?;
    }
    let host = f.host("shared");
    wait_for("three endpoints under the shared route", 30, || {
        Ok((f.table()?[&host].as_array().map_or(0, Vec::len) == 3).then_some(()))
    })?;
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..60 {
        let answer = f.get(&host, "/id")?;
        ensure!(answer.status == 200, "{}", answer.body);
        *seen.entry(answer.body.trim().to_owned()).or_default() += 1;
    }
    ensure!(
        seen.len() == 3 && seen.values().all(|&n| (15..=25).contains(&n)),
        "not spread evenly over three instances: {seen:?}"
    );
    f.cf_ok(&["scale", "appB", "-i", "1"])?;
    Ok(())
}

fn desired_state(f: &mut Foundation) -> Result<()> {
    let routes = f.cf_curl("/v3/routes")?;
    let route = routes["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|r| r["url"] == f.host("appA").as_str())
        .context("appA's route is not listed")?
        .clone();
    let destinations = f.cf_curl(&format!(
        "/v3/routes/{}/destinations",
        route["guid"].as_str().unwrap_or_default()
    ))?;
    ensure!(
        destinations["destinations"][0]["app"]["guid"] == f.notes["APP_A_GUID"].as_str(),
        "{destinations}"
    );
    let address = regex::Regex::new(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b")?;
    for path in ["/v3/domains", "/v3/routes", "/v3/apps"] {
        let text = f.cf_curl(path)?.to_string();
        ensure!(
            !address.is_match(&text),
            "{path} holds an IP address: {text}"
        );
        ensure!(
            !text.contains(&format!("\"{}\"", f.host("uaa"))) && !text.contains("\"host\":\"api\""),
            "{path} holds a component route"
        );
    }
    f.notes.insert(
        "ROUTE_GUID",
        route["guid"].as_str().unwrap_or_default().to_owned(),
    );
    Ok(())
}

fn actual_lrps(f: &mut Foundation) -> Result<()> {
    let app_guid = f.notes["APP_A_GUID"].clone();
    let instances = f.instances(&app_guid)?;
    ensure!(instances.len() == 1, "{instances:?}");
    let lrp = &instances[0];
    ensure!(
        lrp["address"] == f.cell_ip().as_str()
            && lrp["instance_address"] == f.notes["OVERLAY_IP"].as_str(),
        "{lrp}"
    );
    ensure!(
        lrp["presence"] == "ORDINARY" && lrp["cell_id"].as_str().is_some_and(|c| !c.is_empty()),
        "{lrp}"
    );
    let ports = lrp["ports"].as_array().context("no ports")?;
    let mapped = |container: u64, proxy: u64| {
        ports
            .iter()
            .find(|p| p["container_port"] == container && p["container_tls_proxy_port"] == proxy)
    };
    let tls = mapped(8080, 61001).context("no 8080 → 61001")?;
    ensure!(
        mapped(8080, 61443).is_some() && mapped(2222, 61002).is_some(),
        "{ports:?}"
    );
    let host_tls_port = tls["host_tls_proxy_port"]
        .as_u64()
        .filter(|p| *p >= 61001)
        .context("no host TLS port")?;

    // The story reads the same data by the BBS's own protocol.
    let answer = peers::bbs_call(&f.data, f.port("bbs"), "/v1/actual_lrps/list")?;
    let raw = peers::bytes_of(&answer, 2)?;
    let found = raw.iter().any(|lrp| {
        let guid = peers::bytes_of(lrp, 1)
            .ok()
            .and_then(|k| k.first().map(|k| peers::text_of(k, 1)))
            .and_then(Result::ok)
            .unwrap_or_default();
        let net = peers::bytes_of(lrp, 3).unwrap_or_default();
        let ports = net
            .first()
            .map(|n| peers::bytes_of(n, 2).unwrap_or_default())
            .unwrap_or_default();
        guid.starts_with(&app_guid)
            && peers::text_of(lrp, 6).is_ok_and(|s| s == "RUNNING")
            && ports
                .first()
                .is_some_and(|p| peers::number_of(p, 4).ok() == Some(host_tls_port))
    });
    ensure!(
        found,
        "the BBS's protobuf answer has no RUNNING actual LRP of appA whose first mapping has host TLS port {host_tls_port}"
    );
    f.notes.insert("HOST_TLS_PORT", host_tls_port.to_string());
    f.notes.insert(
        "INSTANCE_GUID",
        lrp["instance_guid"].as_str().unwrap_or_default().to_owned(),
    );
    f.notes.insert(
        "CELL_ID",
        lrp["cell_id"].as_str().unwrap_or_default().to_owned(),
    );
    Ok(())
}

fn desired_lrps(f: &mut Foundation) -> Result<()> {
    let app_guid = &f.notes["APP_A_GUID"];
    let desired = f
        .cfdot(&["desired-lrps"])?
        .into_iter()
        .find(|l| {
            l["process_guid"]
                .as_str()
                .is_some_and(|g| g.starts_with(app_guid.as_str()))
        })
        .context("no desired LRP of appA")?;
    ensure!(
        desired["instances"] == 1 && desired["domain"] == "cf-apps",
        "{desired}"
    );
    ensure!(
        desired["routes"]["cf-router"]
            .to_string()
            .contains(&f.notes["APP_A_ROUTE"]),
        "{}",
        desired["routes"]
    );
    ensure!(
        desired["action"].is_object() && desired["env"].is_array(),
        "{desired}"
    );
    let text = desired.to_string();
    ensure!(
        !text.contains(&f.notes["OVERLAY_IP"]) && !text.contains(&f.notes["CELL_ID"]),
        "the desired LRP contains where it runs"
    );
    let stats = f.cf_curl(&format!("/v2/apps/{app_guid}/stats"))?;
    ensure!(
        stats["0"]["state"] == "RUNNING" && stats["0"]["stats"]["host"] == f.cell_ip().as_str(),
        "{stats}"
    );
    Ok(())
}

fn nats(f: &Foundation) -> Result<Nats> {
    Nats::connect(
        f.port("nats"),
        "nats",
        f.plan["nats_password"].as_str().unwrap_or_default(),
    )
}

fn nats_messages(f: &mut Foundation) -> Result<()> {
    let mut nats = nats(f)?;
    nats.subscribe("*.*")?;
    nats.request("router.greet")?;
    let mut interval = None;
    let mut registered: Vec<(Instant, Value)> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(100);
    while registered.len() < 3 {
        let (subject, payload) = nats
            .message(deadline)?
            .context("not three router.register messages of appA within 100 s")?;
        match subject.as_str() {
            "_INBOX.story" => interval = payload["minimumRegisterIntervalInSeconds"].as_u64(),
            "router.register" if payload["uris"] == json!([f.notes["APP_A_ROUTE"]]) => {
                registered.push((Instant::now(), payload))
            }
            _ => {}
        }
    }
    let interval = interval.context("no answer to router.greet")?;
    // A busy machine may delay one of the messages, so the shorter of the two intervals counts.
    let between = |n: usize| registered[n].0.duration_since(registered[n - 1].0);
    let apart = between(1).min(between(2)).as_secs_f64();
    ensure!(
        apart < interval as f64 + 5.0,
        "registered every {apart} s, the router announced {interval} s"
    );
    let message = &registered[1].1;
    let expected = json!({
        "host": f.cell_ip(), "tls_port": f.notes["HOST_TLS_PORT"].parse::<u64>()?, "uris": [f.notes["APP_A_ROUTE"]], "app": f.notes["APP_A_GUID"],
        "private_instance_id": f.notes["INSTANCE_GUID"], "private_instance_index": "0", "server_cert_domain_san": f.notes["INSTANCE_GUID"],
    });
    for (key, value) in expected.as_object().into_iter().flatten() {
        ensure!(
            &message[key] == value,
            "{key} is {} instead of {value} in {message}",
            message[key]
        );
    }
    ensure!(
        message["tags"]["component"] == "route-emitter" && message["port"].is_u64(),
        "{message}"
    );
    Ok(())
}

fn routers_table(f: &mut Foundation) -> Result<()> {
    let table = f.table()?;
    let endpoint = &table[&f.notes["APP_A_ROUTE"]][0];
    ensure!(
        endpoint["address"] == format!("{}:{}", f.cell_ip(), f.notes["HOST_TLS_PORT"]).as_str()
            && endpoint["tls"] == true,
        "{endpoint}"
    );
    for component in ["api", "uaa", "login", "log-cache", "dashboard"] {
        ensure!(
            table[&f.host(component)].is_array(),
            "the table lacks {component}"
        );
    }
    let denied = sh(&format!(
        "curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{}/routes",
        f.port("router_status")
    ))?;
    ensure!(
        denied == "401",
        "/routes without password answered {denied}"
    );
    Ok(())
}

fn nothing_listens(f: &mut Foundation) -> Result<()> {
    let listeners = sh("ss -ntlp")?;
    ensure!(
        !listeners.contains(&format!(":{} ", f.notes["HOST_TLS_PORT"])),
        "{listeners}"
    );
    Ok(())
}

fn dnat_rules(f: &mut Foundation) -> Result<()> {
    let rules = sh("iptables -w -S -t nat")?;
    let wanted = format!(
        "-d {}/32 -p tcp -m tcp --dport {} -j DNAT --to-destination {}:61001",
        f.cell_ip(),
        f.notes["HOST_TLS_PORT"],
        f.notes["OVERLAY_IP"]
    );
    let rule = rules
        .lines()
        .find(|l| l.ends_with(&wanted))
        .with_context(|| format!("no rule {wanted} in\n{rules}"))?;
    let chain = rule.split_whitespace().nth(1).unwrap_or_default();
    ensure!(chain.starts_with("netin--"), "{rule}");
    ensure!(
        rules
            .lines()
            .any(|l| l == format!("-A PREROUTING -j {chain}")),
        "no jump from PREROUTING to {chain} in\n{rules}"
    );
    Ok(())
}

fn envoy_admin(f: &mut Foundation) -> Result<()> {
    let help = f.exec("appA/0", &["curl", "-s", "localhost:61003/help"])?;
    ensure!(help.contains("/config_dump"), "{help}");
    let clusters = f.exec("appA/0", &["curl", "-s", "localhost:61003/clusters"])?;
    ensure!(
        clusters.contains(&format!("{}:8080", f.notes["OVERLAY_IP"])),
        "{clusters}"
    );
    let dump: Value =
        serde_json::from_str(&f.exec("appA/0", &["curl", "-s", "localhost:61003/config_dump"])?)?;
    let text = dump.to_string();
    for part in [
        "\"port_value\":61001",
        "envoy.filters.network.tcp_proxy",
        "envoy.transport_sockets.tls",
        "\"port_value\":61443",
        "\"port_value\":61002",
    ] {
        ensure!(text.contains(part), "Envoy's configuration lacks {part}");
    }
    Ok(())
}

fn access_log(f: &mut Foundation) -> Result<()> {
    let host = f.notes["APP_A_ROUTE"].clone();
    let path = format!("/headers?story=11-{}", std::process::id());
    ensure!(f.get(&host, &path)?.status == 200, "no 200");
    let line = regex::Regex::new(&format!(
        r#"^{} - \[\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{9}}Z\] "GET {} HTTP/1\.1" 200 0 \d+ "-" "curl/[^"]+" "127\.0\.0\.1:\d+" "{}:{}" x_forwarded_for:"127\.0\.0\.1" x_forwarded_proto:"http" vcap_request_id:"[0-9a-f-]{{36}}" response_time:\d+\.\d{{6}} gorouter_time:\d+\.\d{{6}} app_id:"{}" app_index:"0" instance_id:"{}" x_cf_routererror:"-""#,
        regex::escape(&host),
        regex::escape(&path),
        regex::escape(&f.cell_ip()),
        f.notes["HOST_TLS_PORT"],
        f.notes["APP_A_GUID"],
        f.notes["INSTANCE_GUID"]
    ))?;
    let file = f.data.join("log/access.log");
    let logged = wait_for("the access log line", 20, || {
        let text = std::fs::read_to_string(&file)?;
        Ok(text
            .lines()
            .rev()
            .find(|l| l.contains(&path))
            .map(str::to_owned))
    })?;
    ensure!(
        line.is_match(&logged),
        "the access log line is not gorouter's:\n{logged}"
    );
    wait_for("the same line as an RTR log line", 20, || {
        let recent = f.cf_ok(&["logs", "appA", "--recent"])?;
        Ok(recent
            .lines()
            .any(|l| l.contains("[RTR/0]") && l.contains(&logged))
            .then_some(()))
    })
}

fn curl_router(f: &mut Foundation) -> Result<()> {
    let direct = sh(&format!(
        "curl -sS --max-time 20 -H 'Host: {}' http://{}:{}/",
        f.notes["APP_A_ROUTE"],
        f.cell_ip(),
        f.plan["http_port"]
    ))
    .or_else(|_| {
        sh(&format!(
            "curl -sS --max-time 20 -H 'Host: {}' http://127.0.0.1:{}/",
            f.notes["APP_A_ROUTE"], f.plan["http_port"]
        ))
    })?;
    ensure!(
        direct == f.get(&f.notes["APP_A_ROUTE"], "/")?.body,
        "{direct}"
    );
    let tls = sh(&format!(
        "curl -sSk --max-time 20 --resolve {0}:{1}:127.0.0.1 https://{0}:{1}/",
        f.notes["APP_A_ROUTE"], f.plan["https_port"]
    ))?;
    ensure!(tls == direct, "{tls}");
    Ok(())
}

fn stopped_app(f: &mut Foundation) -> Result<()> {
    let host = f.host("appb");
    f.cf_ok(&["stop", "appB"])?;
    wait_for("404 after stop", 20, || {
        Ok((f.get(&host, "/")?.status == 404).then_some(()))
    })?;
    let answer = f.get(&host, "/")?;
    ensure!(
        answer.head.contains("x-cf-routererror: unknown_route"),
        "{}",
        answer.head
    );
    ensure!(
        answer.body.contains(&format!(
            "404 Not Found: Requested route ('{host}') does not exist."
        )),
        "{}",
        answer.body
    );
    ensure!(
        f.table()?[&host].is_null(),
        "the route is still in the table"
    );
    f.cf_ok(&["start", "appB"])?;
    ensure!(
        f.get(&host, "/")?.status == 200,
        "appB does not answer after start"
    );
    Ok(())
}

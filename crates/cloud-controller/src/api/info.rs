//! Discovery: the URLs of all components, and the version of the API.

use super::prelude::*;
use crate::diego::instances;

pub(super) const VERSION: &str = "3.228.0";

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/", root)
        .open()
        .get("/healthz", async || "OK")
        .open()
        .get("/v3", v3)
        .open()
        .get("/v3/info", info)
        .open()
        .get("/v3/info/usage_summary", usage_summary)
        .get("/v2/info", v2_info)
        .open()
        .get("/v2/apps/{guid}/stats", v2_stats)
}

/// Returns the links. A component that does not exist here is null, so that clients report that it is missing and do not call
/// it.
async fn root(State(cc): State<Cc>) -> ApiResult {
    let settings = &cc.settings;
    let ssh = settings.app_ssh.as_ref().map(|ssh| {
        json!({ "href": ssh.endpoint, "meta": { "host_key_fingerprint": ssh.host_key_fingerprint, "oauth_client": ssh.oauth_client } })
    });
    Ok(ok(json!({ "links": {
        "self": cc.link(""),
        "cloud_controller_v2": null,
        "cloud_controller_v3": { "href": cc.url("/v3"), "meta": { "version": VERSION } },
        "network_policy_v0": null,
        "network_policy_v1": cc.link("/networking/v1/external"),
        "login": { "href": settings.login_url },
        "uaa": { "href": settings.uaa_url },
        "credhub": null,
        "routing": null,
        "logging": null,
        "log_cache": { "href": settings.log_cache_url },
        "log_stream": null,
        "app_ssh": ssh,
    } })))
}

async fn v3(State(cc): State<Cc>) -> ApiResult {
    const COLLECTIONS: &[&str] = &[
        "app_usage_events",
        "apps",
        "audit_events",
        "buildpacks",
        "builds",
        "deployments",
        "domains",
        "droplets",
        "feature_flags",
        "info",
        "isolation_segments",
        "organization_quotas",
        "organizations",
        "packages",
        "processes",
        "roles",
        "routes",
        "security_groups",
        "service_brokers",
        "service_credential_bindings",
        "service_instances",
        "service_offerings",
        "service_plans",
        "service_route_bindings",
        "space_quotas",
        "spaces",
        "stacks",
        "tasks",
        "users",
    ];
    let mut links = cc.links("/v3", &[]);
    for name in COLLECTIONS {
        links.insert((*name).to_owned(), cc.link(&format!("/v3/{name}")));
    }
    links.insert(
        "resource_matches".to_owned(),
        cc.post_link("/v3/resource_matches"),
    );
    links.insert(
        "environment_variable_groups".to_owned(),
        cc.link("/v3/environment_variable_groups/{name}"),
    );
    Ok(ok(json!({ "links": links })))
}

async fn info(State(cc): State<Cc>) -> ApiResult {
    Ok(ok(json!({
        "build": env!("CARGO_PKG_VERSION"),
        "cli_version": { "minimum": "", "recommended": "" },
        "custom": {},
        "description": "Cupola: Cloud Foundry's route propagation, whole",
        "name": "cupola",
        "version": 0,
        "osbapi_version": "2.17",
        "rate_limits": { "enabled": false, "general_limit": null, "reset_interval_in_minutes": null },
        "links": { "self": cc.link("/v3/info"), "support": { "href": "" } },
    })))
}

/// Returns the use of the whole foundation. Callers who do not see all of it get a 404.
async fn usage_summary(State(cc): State<Cc>, who: Principal) -> ApiResult {
    if !who.reads_all() {
        return Err(ApiError::unknown_request());
    }
    let mut conn = cc.db.read().await?;
    let used = crate::quota::services::summary(&mut conn, db::usage::Scope::Foundation).await?;
    Ok(ok(
        json!({ "usage_summary": used, "links": { "self": cc.link("/v3/info/usage_summary") } }),
    ))
}

async fn v2_info(State(cc): State<Cc>) -> ApiResult {
    let settings = &cc.settings;
    let ssh = settings.app_ssh.as_ref();
    Ok(ok(json!({
        "name": "cupola",
        "build": env!("CARGO_PKG_VERSION"),
        "support": "CF API v2 is disabled",
        "version": 0,
        "description": "Cupola",
        "authorization_endpoint": settings.login_url,
        "token_endpoint": settings.uaa_url,
        "min_cli_version": null,
        "min_recommended_cli_version": null,
        "app_ssh_endpoint": ssh.map(|ssh| ssh.endpoint.clone()),
        "app_ssh_host_key_fingerprint": ssh.map(|ssh| ssh.host_key_fingerprint.clone()),
        "app_ssh_oauth_client": ssh.map(|ssh| ssh.oauth_client.clone()),
        "doppler_logging_endpoint": null,
        "api_version": "",
        "osbapi_version": "2.17",
        "routing_endpoint": null,
    })))
}

/// Returns the cell of each instance of the web process. This is the only part of v2 that operators still use.
async fn v2_stats(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let (app, process, uris) = {
        let mut conn = cc.db.read().await?;
        let app = who
            .find::<db::app::App>(&mut conn, &guid, Right::Read)
            .await?
            .row;
        let process = db::process::of_type(&mut conn, &guid, "web")
            .await?
            .ok_or_else(|| ApiError::not_found("Process"))?;
        let mappings = db::route::mappings(&mut conn, &guid, "web").await?;
        let uris: Vec<String> = mappings
            .iter()
            .map(|mapping| {
                cc_rules::route_rules::url(&mapping.host, &mapping.domain, &mapping.path, 0)
            })
            .collect();
        (app, process, uris)
    };
    if !app.is_started() {
        let detail = format!("Could not fetch stats for stopped app: {}", app.name);
        let body = json!({ "code": 200_003, "error_code": "CF-AppStoppedStatsError", "description": detail });
        return Ok(axum::response::IntoResponse::into_response((
            http::StatusCode::BAD_REQUEST,
            axum::Json(body),
        )));
    }
    let lrps = instances::of_processes(&cc, std::slice::from_ref(&process)).await?;
    let lrps = lrps.get(&process.lrp_guid()).map_or(&[][..], Vec::as_slice);
    let mut answer = serde_json::Map::new();
    for (index, lrp) in instances::by_index(&process, lrps) {
        let mut entry = json!({ "state": instances::state_of(lrp.as_ref()) });
        if let Some(lrp) = lrp {
            let (key, net) = (
                lrp.instance_key.clone().unwrap_or_default(),
                lrp.net_info.clone().unwrap_or_default(),
            );
            let port = net
                .ports
                .iter()
                .find(|port| port.container_port == 8080)
                .map(|port| {
                    if port.host_port > 0 {
                        port.host_port
                    } else {
                        port.host_tls_proxy_port
                    }
                });
            entry["cell_id"] = json!(key.cell_id);
            entry["instance_guid"] = json!(key.instance_guid);
            entry["stats"] = json!({
                "name": app.name,
                "uris": uris,
                "host": net.address,
                "port": port,
                "uptime": instances::age(&lrp),
                "mem_quota": process.memory_in_mb << 20,
                "disk_quota": process.disk_in_mb << 20,
                "fds_quota": 16384,
                "usage": { "time": crate::clock::rfc3339(crate::clock::now()), "cpu": 0.0, "mem": 0, "disk": 0 },
            });
        }
        answer.insert(index.to_string(), entry);
    }
    Ok(ok(Value::Object(answer)))
}

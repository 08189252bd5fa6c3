//! Identity-aware routing: clients that are known by their certificates, and routes that admit some of them.

use crate::backends::Backend;
use crate::certs::Ca;
use crate::client::Reply;
use crate::world::{World, plain, wait_for};
use clients::loggregator::Emitter;
use kit::tls::Identity;
use router::{
    CertificateRule, ClientCertValidation, ForwardedClientCert, FrontTls, LogField, LogFormat,
    MtlsDomain, Settings, Subject, XfccFormat,
};

async fn ask(
    world: &World,
    identity: Option<&Identity>,
    sni: &str,
    host: &str,
) -> std::io::Result<Reply> {
    world.dump_by_tls(identity, (sni, host), "forged").await
}

async fn status(world: &World, identity: Option<&Identity>, sni: &str, host: &str) -> Option<u16> {
    let reply = ask(world, identity, sni, host).await;
    reply.map(|reply| reply.status).ok()
}

/// Starts a router with a domain for callers whose certificates are of `instances`.
async fn world_with_domain(instances: &Ca) -> World {
    let domain = MtlsDomain {
        name: "*.apps.identity".into(),
        client_cas: instances.pem.clone(),
        forwarded_client_cert: ForwardedClientCert::SanitizeSet,
        xfcc_format: XfccFormat::Envoy,
    };
    let settings = Settings {
        front_tls: FrontTls {
            domains: vec![domain],
            ..FrontTls::default()
        },
        log_format: LogFormat {
            extra_fields: vec![
                LogField::CallerApp,
                LogField::CallerSpace,
                LogField::RoutePolicy,
                LogField::TlsSni,
            ],
            ..LogFormat::default()
        },
        ..Settings::default()
    };
    World::streaming_to(Emitter::discard(), Ca::new(), settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_enters_a_domain_without_its_certificate() {
    let instances = Ca::new();
    let world = world_with_domain(&instances).await;
    let backend = Backend::start("app").await;
    let own = "own.apps.identity";
    for host in [own, "app.apps.test"] {
        world.register(host, "app", 0, backend.addr).await;
    }
    let caller = instances.issue_to(&["app:caller", "space:space-1"]);
    let reply = ask(&world, Some(&caller), own, own).await.unwrap();
    assert_eq!(reply.status, 200);
    // Each worker writes its own lines: this one is only the first if nothing else is requested before it is there.
    let line = &world.log_lines(1).await[0];
    let text = reply.text();
    assert!(text.contains("x-forwarded-client-cert: Hash="), "{text}");
    assert!(
        text.contains("OU=app:caller") && !text.contains("forged"),
        "{text}"
    );
    for (identity, sni, host, wanted) in [
        (None, own, own, None),
        (None, "app.apps.test", own, Some(421)),
        (Some(&caller), own, "app.apps.test", Some(421)),
        (None, "app.apps.test", "app.apps.test", Some(200)),
    ] {
        assert_eq!(
            status(&world, identity, sni, host).await,
            wanted,
            "{sni} {host}"
        );
    }
    let strange = Ca::new().issue_to(&["app:caller"]);
    assert_eq!(status(&world, Some(&strange), own, own).await, None);
    assert_eq!(world.get(own, "/").await.status, 421, "plain HTTP");
    assert!(
        line.contains(r#" caller_cf_app:"caller" caller_cf_space:"space-1" route_policy:"-" tls_sni:"own.apps.identity" x_cf_routererror:"-""#),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_a_route_does_not_name_is_denied() {
    let instances = Ca::new();
    let world = world_with_domain(&instances).await;
    let (near, far) = (Backend::start("near").await, Backend::start("far").await);
    for (host, scope, sources) in [
        ("open.apps.identity", "any", "cf:any"),
        ("own.apps.identity", "space", "cf:app:caller,cf:app:other"),
        ("closed.apps.identity", "any", ""),
    ] {
        for (index, backend, space) in [(0, &near, "space-1"), (1, &far, "space-2")] {
            // A route that is open to all admits this caller, and would count below.
            if host == "open.apps.identity" && index == 1 {
                continue;
            }
            let mut message = plain(host, "app", index, backend.addr);
            message["tags"]["space_id"] = space.into();
            message["options"] =
                serde_json::json!({"route_policy_scope": scope, "route_policy_sources": sources});
            world.publish("router.register", message).await;
        }
    }
    wait_for("the last route", async || {
        world.table().await["closed.apps.identity"]
            .as_array()
            .is_some_and(|rows| rows.len() == 2)
    })
    .await;

    let caller = instances.issue_to(&["app:caller", "space:space-1"]);
    let stranger = instances.issue_to(&["app:stranger", "space:space-1"]);
    let distant = instances.issue_to(&["app:other", "space:space-3"]);
    let nobody = instances.issue(&["not-an-instance"]);
    let (own, open) = ("own.apps.identity", "open.apps.identity");
    for (n, (identity, sni, host, wanted)) in [
        (Some(&caller), own, own, Some(200)),
        (Some(&stranger), own, own, Some(403)),
        (Some(&distant), own, own, Some(403)),
        (Some(&nobody), own, own, Some(403)),
        (Some(&stranger), open, open, Some(200)),
        (Some(&nobody), open, open, Some(403)),
        (
            Some(&caller),
            "closed.apps.identity",
            "closed.apps.identity",
            Some(403),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            status(&world, identity, sni, host).await,
            wanted,
            "{sni} {host}"
        );
        // Each worker writes its own lines: a line only follows those before if it is requested later.
        world.log_lines(n + 1).await;
    }
    // Only those of the route's endpoints are tried that lie in the caller's space, so there is never a chance of a 403.
    for _ in 0..6 {
        let reply = ask(&world, Some(&caller), own, own).await.unwrap();
        assert_eq!(reply.status, 200);
        let text = reply.text();
        assert!(text.contains("x-forwarded-client-cert: Hash="), "{text}");
        assert!(
            text.contains("OU=app:caller") && !text.contains("forged"),
            "{text}"
        );
    }
    assert_eq!(
        far.connections.load(std::sync::atomic::Ordering::Relaxed),
        0,
        "of another space"
    );
    let lines = world.log_lines(13).await;
    assert!(
        lines[0].contains(r#" caller_cf_app:"caller" caller_cf_space:"space-1" route_policy:"allowed" tls_sni:"own.apps.identity" x_cf_routererror:"-""#),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains(r#" 403 "#) && lines[1].contains(r#"route_policy:"denied""#),
        "{}",
        lines[1]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_for_the_certificates_of_an_authority() {
    let ca = Ca::new();
    let issuer = crate::certs::subject(&ca);
    let subject = |units: &[&str]| Subject {
        organisation_unit: units.iter().map(ToString::to_string).collect(),
        ..Subject::default()
    };
    let settings = Settings {
        front_tls: FrontTls {
            client_cert_validation: ClientCertValidation::Require,
            client_cas: vec![ca.pem.clone()],
            certificate_rules: vec![CertificateRule {
                issuer,
                valid_subjects: vec![subject(&["app:known"])],
            }],
            ..FrontTls::default()
        },
        ..Settings::default()
    };
    let (known, unknown) = (ca.issue_to(&["app:known"]), ca.issue_to(&["app:unknown"]));
    let world = World::streaming_to(Emitter::discard(), ca, settings).await;
    let backend = Backend::start("x").await;
    world
        .register("app.apps.test", "app", 0, backend.addr)
        .await;
    let host = "app.apps.test";
    let reply = ask(&world, Some(&known), host, host).await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(ask(&world, Some(&unknown), host, host).await.is_err());
}

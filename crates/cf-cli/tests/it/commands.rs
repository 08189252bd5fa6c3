//! Tests of commands: logging in, pushing, listing, and what a person sees when something is missing.

use crate::fixture::Person;
use crate::platform;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use testkit::certs::Ca;
use testkit::net::free_port;

#[tokio::test]
async fn login_targets_the_only_org_and_space() {
    let person = Person::new().await;
    let url = person.platform.lock().unwrap().url.clone();
    let seen = person
        .types(&format!("login -a {url} -u admin -p secret"))
        .await;
    assert_eq!(
        seen.out,
        format!(
            "API endpoint: {url}\n\n\nAuthenticating...\nOK\n\nTargeted org org.\n\nTargeted space space.\n\nAPI endpoint:   {url}\nAPI version:    3.228.0\nuser:           admin\norg:            org\nspace:          space\n"
        )
    );
    let config = person.config();
    assert_eq!(
        (
            &config["Target"],
            &config["OrganizationFields"]["GUID"],
            &config["SpaceFields"]["Name"]
        ),
        (&url.into(), &"o1".into(), &"space".into())
    );
    assert!(
        config["AccessToken"]
            .as_str()
            .unwrap()
            .starts_with("bearer ")
    );
    let mode = std::fs::metadata(person.home.path().join(".cf/config.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let seen = person.types("logout").await;
    assert_eq!(seen.out, "Logging out admin...\nOK\n\n");
    let seen = person.types("apps").await;
    assert_eq!(
        (seen.code, seen.out.as_str(), seen.err.as_str()),
        (1, "FAILED\n", "Not logged in. Use 'cf login' to log in.\n")
    );
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let person = Person::new().await;
    let url = person.platform.lock().unwrap().url.clone();
    let seen = person
        .types(&format!("login -a {url} -u admin -p wrong"))
        .await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.err
            .contains("Credentials were rejected, please try again.\nUnable to authenticate.\n"),
        "{}",
        seen.err
    );
    assert!(seen.out.ends_with("FAILED\n"));
    let seen = person.types("auth admin wrong").await;
    assert_eq!(
        (seen.code, seen.err.as_str()),
        (1, "Credentials were rejected, please try again.\n")
    );
}

#[tokio::test]
async fn without_a_platform_the_error_names_the_url() {
    let person = Person::new().await;
    let url = format!("http://127.0.0.1:{}", free_port());
    let seen = person.types(&format!("api {url}")).await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.err.contains(&format!("{url} refused the connection"))
            && seen.err.contains("Is the foundation running"),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_unless_validation_is_skipped() {
    let identity = Ca::alone(&["127.0.0.1"]);
    let person = Person::of(platform::start(Some(&identity)).await);
    let url = person.platform.lock().unwrap().url.clone();
    let seen = person.types(&format!("api {url}")).await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.err
            .starts_with(&format!("Invalid SSL Cert for {url}: "))
            && seen.err.contains("--skip-ssl-validation"),
        "{}",
        seen.err
    );
    let seen = person
        .types(&format!(
            "login -a {url} -u admin -p secret --skip-ssl-validation"
        ))
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    assert_eq!(person.config()["SSLDisabled"], true);
    assert_eq!(person.types("orgs").await.code, 0, "the choice is kept");
}

#[tokio::test]
async fn push_uploads_stages_starts_and_shows_the_app() {
    let person = Person::new().await;
    person.logs_in().await;
    let seen = person
        .types("push dora -b binary_buildpack -c ./server -m 64M")
        .await;
    assert_eq!(seen.code, 0, "{}{}", seen.out, seen.err);
    assert_eq!(
        person.platform.lock().unwrap().manifest,
        "applications:\n- name: dora\n  buildpacks:\n  - binary_buildpack\n  command: ./server\n  memory: 64M\n  default-route: true\n"
    );
    for expected in [
        "Pushing app dora to org org / space space as admin...\nPackaging files to upload...\nUploading files...\n",
        "100.00%\n\nWaiting for API to complete processing files...\n\nStaging app and tracing logs...\n   Staging with binary_buildpack\n\nWaiting for app dora to start...\n\nInstances starting...\n",
        "name:              dora\nrequested state:   started\nroutes:            dora.apps.test\nlast uploaded:     Tue 02 Jan 10:00:00 UTC 2024\nstack:             cflinuxfs4\nbuildpacks:        \n\tname               version   detect output   buildpack name\n\tbinary_buildpack   1.1.3                     binary\n\ntype:            web\nsidecars:        \ninstances:       1/1\nmemory usage:    64M\nstart command:   ./server\n",
        "1M of 64M   2M of 1G   0B/s of unlimited",
    ] {
        assert!(
            seen.out.contains(expected),
            "missing {expected:?} in\n{}",
            seen.out
        );
    }
    assert!(
        !seen.out.contains("listening on"),
        "only staging lines are shown"
    );
    let package = person.platform.lock().unwrap().package.clone();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(package)).unwrap();
    let mut files = Vec::new();
    for i in 0..zip.len() {
        let item = zip.by_index(i).unwrap();
        files.push((item.name().to_owned(), item.unix_mode().unwrap() & 0o777));
    }
    assert_eq!(files[1], ("server".to_owned(), 0o755));
    assert_eq!(files.len(), 2, "{files:?}");
    let mut text = String::new();
    zip.by_name("index.html")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "<p>");
}

#[tokio::test]
async fn push_sends_no_file_that_the_platform_has() {
    let person = Person::new().await;
    person.logs_in().await;
    person.platform.lock().unwrap().known_files = true;
    std::fs::remove_file(person.app.join("index.html")).unwrap();
    let seen = person.types("push dora --no-start").await;
    assert_eq!(seen.code, 0, "{}{}", seen.out, seen.err);
    assert!(
        seen.out
            .contains("All files found in remote cache; nothing to upload."),
        "{}",
        seen.out
    );
    let inner = person.platform.lock().unwrap();
    assert!(
        inner.package.is_empty() && inner.resources.contains(r#""path":"server","mode":"0755""#),
        "{}",
        inner.resources
    );
    assert!(!inner.requests.iter().any(|r| r.contains("/v3/builds")));
}

#[tokio::test]
async fn a_failed_staging_ends_the_push() {
    let person = Person::new().await;
    person.logs_in().await;
    person.platform.lock().unwrap().staging_fails = true;
    let seen = person.types("push dora").await;
    assert_eq!(seen.code, 1);
    assert_eq!(
        seen.err,
        "Error staging application: BuildpackCompileFailed - App staging failed in the buildpack compile phase\n"
    );
    assert!(
        seen.out.contains("   Staging with binary_buildpack\n") && seen.out.ends_with("FAILED\n"),
        "{}",
        seen.out
    );
    assert_eq!(person.requests("/actions/restart"), 0);
}

#[tokio::test]
async fn an_app_that_crashes_ends_the_push_with_the_reason() {
    let person = Person::new().await;
    person.logs_in().await;
    person.platform.lock().unwrap().app_crashes = true;
    let seen = person.types("push dora").await;
    assert_eq!(seen.code, 1);
    assert!(seen.err.contains("Instance 0 is crashed: exited with status 1\nStart unsuccessful\n\nTIP: use 'cf logs dora --recent' for more information\n"), "{}", seen.err);
}

#[tokio::test]
async fn push_applies_a_manifest_with_variables() {
    let person = Person::new().await;
    person.logs_in().await;
    std::fs::write(person.app.join("manifest.yml"), "applications:\n- name: ((name))\n  instances: ((n))\n  routes: [{route: dora.apps.test}]\n").unwrap();
    let seen = person.types("push --var name=dora --var n=1").await;
    assert_eq!(seen.code, 0, "{}{}", seen.out, seen.err);
    let file = person.app.join("manifest.yml");
    assert!(seen.out.contains(&format!("Applying manifest file {}...\n\nUpdating with these attributes...\n  ---\n  applications:\n  - name: dora\n    instances: 1\n", file.display())), "{}", seen.out);
    assert!(seen.out.contains("Manifest applied\n"));
    let seen = person.types("push").await;
    assert!(
        seen.code == 1
            && seen
                .err
                .starts_with("Expected to find variables: n, name\n"),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn an_ending_or_refused_token_is_refreshed() {
    let person = Person::new().await;
    person.platform.lock().unwrap().token_seconds = 30;
    person.logs_in().await;
    person.platform.lock().unwrap().token_seconds = 600;
    let before = person.requests("/oauth/token");
    assert_eq!(
        person.types("orgs").await.out,
        "Getting orgs as admin...\n\nname\norg\n"
    );
    assert_eq!(
        person.requests("/oauth/token"),
        before + 1,
        "less than a minute was left"
    );
    assert_eq!(person.types("orgs").await.code, 0);
    assert_eq!(
        person.requests("/oauth/token"),
        before + 1,
        "the new token was kept"
    );
    person.platform.lock().unwrap().refuse_once = true;
    assert_eq!(person.types("orgs").await.code, 0);
    assert_eq!(
        person.requests("/oauth/token"),
        before + 2,
        "the API had called it invalid"
    );
}

#[tokio::test]
async fn an_ended_refresh_token_requires_a_new_login() {
    let person = Person::new().await;
    person.platform.lock().unwrap().token_seconds = -10;
    person.logs_in_but_expired().await;
    let seen = person.types("orgs").await;
    assert_eq!(seen.code, 1);
    assert!(
        seen.err.contains("Please log back in to re-authenticate."),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn names_that_are_not_there_are_named() {
    let person = Person::new().await;
    person.logs_in().await;
    for (line, message) in [
        ("app nope", "App 'nope' not found.\n"),
        ("target -s nope", "Space 'nope' not found.\n"),
        (
            "create-route nope.test -n x",
            "Domain 'nope.test' not found.\n",
        ),
    ] {
        let seen = person.types(line).await;
        assert_eq!((seen.code, seen.err.as_str()), (1, message), "{line}");
        assert!(seen.out.ends_with("FAILED\n"), "{line}");
    }
    let seen = person.answers("delete nope", "y\n").await;
    assert_eq!(
        (seen.code, seen.err.as_str()),
        (0, "App 'nope' does not exist.\n")
    );
    let seen = person.answers("delete nope", "").await;
    assert!(
        seen.code == 0 && seen.out.contains("has not been deleted"),
        "{}",
        seen.out
    );
}

#[tokio::test]
async fn routes_are_listed_mapped_and_unmapped() {
    let person = Person::new().await;
    person.logs_in().await;
    person.platform.lock().unwrap().app_exists = true;
    let seen = person.types("map-route dora apps.test -n dora").await;
    assert_eq!(
        (seen.code, seen.out.as_str()),
        (
            0,
            "Mapping route dora.apps.test to app dora in org org / space space as admin...\nOK\n\n"
        ),
        "{}",
        seen.err
    );
    let seen = person
        .types("map-route dora apps.test --hostname dora")
        .await;
    assert!(
        seen.out
            .contains("App 'dora' is already mapped to route 'dora.apps.test'."),
        "{}",
        seen.out
    );
    let seen = person.types("r").await;
    let expected = "space   host   domain      port   path   protocol   app-protocol   app-port   apps   service instance   options\nspace   dora   apps.test                 http       http1          8080       dora                      \n";
    assert!(seen.out.ends_with(expected), "{}", seen.out);
    let seen = person.types("unmap-route dora apps.test -n dora").await;
    assert_eq!(seen.code, 0);
    assert!(!person.platform.lock().unwrap().mapped);
    let seen = person.types("apps").await;
    assert!(
        seen.out.ends_with(
            "name   requested state   processes   routes\ndora   stopped           web:1/1     \n"
        ),
        "{}",
        seen.out
    );
}

#[tokio::test]
async fn the_last_line_says_on_which_routers_a_route_is_live() {
    let person = Person::new().await;
    person.logs_in().await;
    let set = |summary: Option<(&'static str, &'static str)>| {
        let mut platform = person.platform.lock().unwrap();
        (platform.app_exists, platform.started) = (true, true);
        platform.propagation = summary;
    };
    set(Some(("live", "live on 2/2 routers after 6.1 ms")));
    let seen = person.types("map-route dora apps.test -n dora").await;
    let line = "OK\n\nRoute dora.apps.test is live on 2/2 routers after 6.1 ms\n";
    assert!(seen.out.ends_with(line), "{}{}", seen.out, seen.err);
    let waiting = |request: &&String| request.contains("/v3/routes/r1/propagation");
    let requests = person.platform.lock().unwrap().requests.clone();
    assert_eq!(requests.iter().filter(waiting).count(), 1, "{requests:?}");

    set(Some(("gone", "gone from 2/2 routers after 3.0 ms")));
    let seen = person.types("unmap-route dora apps.test -n dora").await;
    let line = "Route dora.apps.test is gone from 2/2 routers after 3.0 ms\n";
    assert!(seen.out.ends_with(line), "{}{}", seen.out, seen.err);

    // A foundation of another kind does not know it, or knows no router.
    for silent in [None, Some(("unknown", "no router is known"))] {
        set(silent);
        let seen = person.types("map-route dora apps.test -n dora").await;
        assert!(seen.out.ends_with("OK\n\n"), "{}{}", seen.out, seen.err);
        let seen = person.types("unmap-route dora apps.test -n dora").await;
        assert!(seen.out.ends_with("OK\n\n"), "{}{}", seen.out, seen.err);
    }

    set(Some(("live", "live on 1/1 router after 5.0 ms")));
    let seen = person.types("push dora").await;
    let line = "\n\nRoute dora.apps.test is live on 1/1 router after 5.0 ms\n";
    assert!(seen.out.ends_with(line), "{}{}", seen.out, seen.err);
    let seen = person.types("push dora --no-wait").await;
    assert!(!seen.out.contains("live on"), "{}{}", seen.out, seen.err);
}

#[tokio::test]
async fn curl_and_recent_logs() {
    let person = Person::new().await;
    person.logs_in().await;
    let seen = person.types("curl /v3/organizations").await;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&seen.out).unwrap()["resources"][0]["name"],
        "org"
    );
    let seen = person.types("curl -f /v3/nothing").await;
    assert_eq!(seen.code, 22);
    let seen = person.types("push dora").await;
    assert_eq!(seen.code, 0);
    let seen = person.types("logs dora --recent").await;
    assert!(seen.out.contains("   1970-01-01T00:00:00.00+0000 [STG/0] OUT Staging with binary_buildpack\n   1970-01-01T00:00:00.00+0000 [APP/PROC/WEB/0] OUT listening on 8080\n"), "{}", seen.out);
}

#[tokio::test]
async fn help_and_misuse() {
    let person = Person::new().await;
    let seen = person.types("help push").await;
    assert!(
        seen.code == 0
            && seen
                .out
                .contains("USAGE:\n   cf push [APP_NAME] [-b BUILDPACK]")
            && seen.out.contains("EXAMPLES:\n   cf push my-app"),
        "{}",
        seen.out
    );
    assert_eq!(
        person.types("version").await.out.split('+').next().unwrap(),
        "cf version 8.18.4"
    );
    let seen = person.types("app").await;
    assert!(
        seen.code == 1
            && seen
                .err
                .starts_with("Incorrect Usage: the required argument `APP_NAME` was not provided"),
        "{}",
        seen.err
    );
    let seen = person.types("psh").await;
    assert!(
        seen.code == 1
            && seen.err.contains(
                "'psh' is not a registered command. See 'cf help'\n\nDid you mean?\n   push"
            ),
        "{}",
        seen.err
    );
    let seen = person.types("apps").await;
    assert_eq!(
        seen.err,
        "No API endpoint set. Use 'cf login' or 'cf api' to target an endpoint.\n"
    );
    let seen = person.types("push dora -m lots").await;
    assert!(
        seen.err
            .contains("Byte quantity must be an integer with a unit"),
        "{}",
        seen.err
    );
}

#[tokio::test]
async fn a_health_check_is_changed() {
    let person = Person::new().await;
    person.logs_in().await;
    {
        let mut platform = person.platform.lock().unwrap();
        platform.app_exists = true;
        platform.started = true;
    }
    let seen = person
        .types("set-health-check dora http --invocation-timeout 7")
        .await;
    assert_eq!(
        (seen.code, seen.out.as_str()),
        (
            0,
            "Updating health check type for app dora process web in org org / space space as admin...\n\nOK\n\nTIP: An app restart is required for the change to take effect.\n"
        ),
        "{}",
        seen.err
    );
    let sent = person.platform.lock().unwrap().bodies.pop().unwrap();
    assert_eq!(
        sent,
        serde_json::json!({"health_check": {"type": "http", "data": {"endpoint": "/", "invocation_timeout": 7}}})
    );
    let seen = person.types("set-health-check dora process").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let sent = person.platform.lock().unwrap().bodies.pop().unwrap();
    assert_eq!(
        sent,
        serde_json::json!({"health_check": {"type": "process", "data": {}}})
    );
}

//! Tests that every flag of every command has an effect or is refused by name: no flag is accepted and then ignored.

use crate::fixture::{Person, Seen};
use std::collections::BTreeSet;
use std::time::Duration;

/// A command as its help describes it.
#[derive(Debug)]
struct Command {
    name: String,
    args: Vec<String>,
    /// The flags, each with the name of its value.
    flags: Vec<(String, Option<String>)>,
}

async fn commands(person: &Person) -> Vec<Command> {
    let overview = person.types("help").await.out;
    let names = overview
        .lines()
        .filter_map(|line| line.strip_prefix("   "))
        .filter_map(|line| line.split([',', ' ']).next())
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    let mut commands = Vec::new();
    for name in names.filter(|name| *name != "https_proxy") {
        let help = person.types(&format!("help {name}")).await.out;
        let usage = help
            .lines()
            .find_map(|line| line.strip_prefix(&format!("   cf {name}")))
            .unwrap_or_else(|| panic!("{name}: {help}"));
        commands.push(understood(name, usage));
    }
    assert!(commands.len() > 60, "{commands:?}");
    commands
}

fn understood(name: &str, usage: &str) -> Command {
    let (args, flags) = match usage.find("[-") {
        Some(place) => usage.split_at(place),
        None => (usage, ""),
    };
    let flags = flags.split("[-").skip(1).map(|flag| {
        let flag = flag.trim().trim_end_matches(']');
        match flag.split_once(' ') {
            Some((flag, value)) => (format!("-{flag}"), Some(value.to_owned())),
            None => (format!("-{flag}"), None),
        }
    });
    Command {
        name: name.to_owned(),
        args: args.split_whitespace().map(str::to_owned).collect(),
        flags: flags.collect(),
    }
}

/// Returns a valid value.
fn value(command: &str, flag: &str, name: &str) -> &'static str {
    match (name, command, flag) {
        ("APP_NAME" | "SOURCE_APP" | "DESTINATION_APP", ..) => "dora",
        ("N" | "INDEX" | "TASK_ID" | "SECONDS", ..) => "1",
        ("MEMORY" | "DISK" | "RATE", ..) => "64M",
        ("DOMAIN", "delete-private-domain", _) => "private.test",
        ("DOMAIN", "add-route-policy" | "remove-route-policy", _) => "apps.identity",
        ("DOMAIN", ..) => "apps.test",
        ("ORG" | "ORG_NAME", ..) => "org",
        ("SPACE" | "SPACE_NAME", ..) => "space",
        ("SCOPE", ..) => "org",
        ("SOURCE", ..) => "cf:any",
        ("SELECTOR", ..) => "a=b",
        ("PORT", ..) => "8080",
        ("TYPE", "push", _) => "http",
        ("TYPE", ..) => "web",
        ("STRATEGY", ..) => "rolling",
        ("KEY=VALUE", ..) => "a=b",
        ("PROTOCOL", "map-route", _) => "http2",
        ("PROTOCOL", ..) => "tcp",
        ("METHOD", ..) => "GET",
        ("HEADER", ..) => "X-A:b",
        ("FILE", ..) => "answer",
        ("PATH", _, "--vars-file") => "vars.yml",
        ("PATH", "push", "-f") => "manifest.yml",
        ("PATH", "push", "-p") => ".",
        ("PATH", "curl", _) => "/v3/apps",
        ("PATH", ..) => "/path",
        ("ROLE", "set-org-role", _) => "OrgManager",
        ("ROLE", ..) => "SpaceDeveloper",
        ("USERNAME", ..) => "admin",
        ("PASSWORD", ..) => "secret",
        ("OPTION", ..) => "loadbalancing",
        ("PARAMETERS", ..) => "{}",
        ("HEALTH_CHECK_TYPE", ..) => "http",
        _ => "word",
    }
}

/// Returns the command line with these flags, and with the required arguments.
fn line(command: &Command, flags: &[&(String, Option<String>)], url: &str) -> Vec<String> {
    let given = |name: &str| flags.iter().any(|(flag, _)| flag == name);
    let mut words = vec![command.name.clone()];
    for arg in &command.args {
        let name = arg.trim_matches(['[', ']']);
        let is_optional = arg.starts_with('[');
        match name {
            "URL" if given("--skip-ssl-validation") => words.push(url.to_owned()),
            "URL" => {}
            "DOMAIN" if given("--port") => words.push("tcp.test".to_owned()),
            _ if is_optional
                && !matches!(command.name.as_str(), "auth" | "push" | "create-user") => {}
            _ => words.push(value(&command.name, "", name).to_owned()),
        }
    }
    for (flag, name) in flags {
        words.push(flag.clone());
        match name {
            Some(_) if flag == "-a" && command.name == "login" => words.push(url.to_owned()),
            Some(name) => words.push(value(&command.name, flag, name).to_owned()),
            None => {}
        }
    }
    if command.name.ends_with("-route-policy") {
        if !given("-n") {
            words.extend(["-n".to_owned(), "word".to_owned()]);
        }
        if !flags.iter().any(|(flag, _)| flag.starts_with("--source")) {
            words.push("--source-any".to_owned());
        }
    }
    if command.name == "login" {
        for (flag, text) in [("-a", url), ("-u", "admin"), ("-p", "secret")] {
            if !given(flag) {
                words.extend([flag.to_owned(), text.to_owned()]);
            }
        }
    }
    words
}

async fn ready() -> (Person, String) {
    let person = Person::new().await;
    std::fs::write(person.app.join("vars.yml"), "x: y").unwrap();
    std::fs::write(
        person.app.join("manifest.yml"),
        "applications: [{name: dora}]",
    )
    .unwrap();
    person.logs_in().await;
    let url = {
        let mut platform = person.platform.lock().unwrap();
        platform.app_exists = true;
        platform.started = true;
        platform.mapped = true;
        platform.has_everything = true;
        let app = format!("cf:app:{}", crate::platform::APP);
        let instance = serde_json::json!({"guid": "si0", "name": "word", "type": "managed", "upgrade_available": true});
        platform.service_instances = vec![instance];
        let key = serde_json::json!({"guid": "b0", "name": "word", "type": "key"});
        platform.service_bindings = vec![key];
        let sources = ["cf:any", &app, "cf:space:s1", "cf:org:o1"];
        platform.route_policies = sources
            .iter()
            .map(|source| serde_json::json!({"guid": "p", "source": source}))
            .collect();
        platform.url.clone()
    };
    (person, url)
}

/// Runs a command line. Returns `None` if the command still runs after 20 s, which means that the client has accepted its flags.
async fn outcome(person: &Person, words: &[String]) -> Option<Seen> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let run = person.runs(&words, |e| e.stdin = Box::new(&b"yes\n"[..]));
    tokio::time::timeout(Duration::from_secs(20), run)
        .await
        .ok()
}

#[tokio::test]
async fn every_flag_is_used_or_refused() {
    let person = Person::new().await;
    let mut wrong = Vec::new();
    for command in commands(&person).await {
        // Each flag is tested alone and beside each other flag, because many are only valid together.
        let mut lines: Vec<Vec<&(String, Option<String>)>> =
            command.flags.iter().map(|flag| vec![flag]).collect();
        if command.name != "push" {
            let pairs = command.flags.iter().enumerate();
            lines.extend(
                pairs.flat_map(|(n, one)| {
                    command.flags[n + 1..].iter().map(move |two| vec![one, two])
                }),
            );
        }
        let strategy = ("--strategy".to_owned(), Some("STRATEGY".to_owned()));
        let in_flight = ("--max-in-flight".to_owned(), Some("N".to_owned()));
        if command.name == "push" {
            lines.push(vec![&strategy, &in_flight]);
        }
        let mut used = BTreeSet::new();
        for flags in lines {
            // These do not end by themselves, or need a server that the platform lacks.
            if ["logs", "ssh"].contains(&command.name.as_str()) {
                used.extend(flags.iter().map(|(flag, _)| flag));
                continue;
            }
            let (person, url) = ready().await;
            let words = line(&command, &flags, &url);
            let Some(seen) = outcome(&person, &words).await else {
                wrong.push(format!("{words:?} does not end"));
                continue;
            };
            // The route of the test's platform exists. It is refused with a message that names the command that changes its
            // options.
            let is_refused = seen.err.contains("Incorrect Usage: ")
                || seen.err.contains("its options cannot be set by map-route");
            if seen.code == 0 {
                used.extend(flags.iter().map(|(flag, _)| flag));
            } else if !is_refused || seen.err.contains("was not used") {
                wrong.push(format!("{words:?}: {}", seen.err));
            }
        }
        for (flag, _) in &command.flags {
            let is_of_new_routes = command.name == "map-route" && flag == "-o";
            if !used.contains(flag) && !is_of_new_routes {
                wrong.push(format!("{} {flag} works in no line", command.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn flags_that_would_do_nothing_are_refused_before_anything_happens() {
    for (line, words) in [
        ("scale dora -f", "flag `--force' has no effect without"),
        (
            "scale dora --process web",
            "flag `--process' has no effect without",
        ),
        (
            "push dora --endpoint /up -u port",
            "flag `--endpoint' has no effect with",
        ),
        ("push dora --no-manifest --var a=b", "--no-manifest, --var"),
        (
            "push dora --no-start --strategy rolling",
            "--no-start, --strategy",
        ),
        ("push dora -i 1 -i 2", "flag `--instances' was given twice"),
        (
            "push dora --var a=b",
            "flag `--var' has no effect without a manifest",
        ),
        (
            "api --skip-ssl-validation",
            "flag `--skip-ssl-validation' has no effect without URL",
        ),
        ("api http://127.0.0.1:1 --unset", "--unset, URL"),
        (
            "check-route apps.test --port 1234",
            "flag `--port' has no effect here",
        ),
        (
            "create-route tcp.test --port 1 --path /x",
            "flag `--path' has no effect here",
        ),
        (
            "restage dora --max-in-flight 2",
            "--max-in-flight requires --strategy rolling",
        ),
        ("run-task dora -c ls --process web", "--process, --command"),
        (
            "add-network-policy dora dora -o org",
            "flag `-o' has no effect without -s",
        ),
        ("update-org-quota thing", "nothing to change"),
        (
            "set-health-check dora port --endpoint /up",
            "must be 'http' to set a health check HTTP endpoint",
        ),
        (
            "set-health-check dora process --invocation-timeout 0",
            "greater than or equal to 1",
        ),
        ("set-health-check dora none", "HEALTH_CHECK_TYPE \"none\""),
    ] {
        let (person, _) = ready().await;
        std::fs::remove_file(person.app.join("manifest.yml")).unwrap();
        let before = person.platform.lock().unwrap().requests.len();
        let seen = person.types(line).await;
        assert_eq!(seen.code, 1, "{line}: {}{}", seen.out, seen.err);
        assert!(seen.err.contains(words), "{line}: {}", seen.err);
        let requests = person.platform.lock().unwrap().requests[before..].to_vec();
        assert!(
            requests.iter().all(|request| request.starts_with("GET ")),
            "{line}: {requests:?}"
        );
    }
}

#[tokio::test]
async fn tasks_policies_and_quotas_report_what_they_did() {
    let (person, _) = ready().await;
    for (line, words) in [
        (
            "run-task dora -c ls",
            "Task has been submitted successfully",
        ),
        (
            "run-task dora -c ls --wait",
            "Task has completed successfully",
        ),
        ("tasks dora", "SUCCEEDED"),
        ("terminate-task dora 1", "Terminating task 1"),
        ("network-policies", "8080"),
        (
            "add-network-policy dora dora --port 8080",
            "Adding network policy",
        ),
        (
            "remove-network-policy dora dora --port 8080",
            "Removing network policy",
        ),
        ("org-quotas", "total memory"),
        ("space-quota thing", "unlimited"),
        ("set-space-quota space thing", "Setting space quota"),
        ("delete-quota thing -f", "Deleting org quota"),
    ] {
        let seen = person.types(line).await;
        assert_eq!(seen.code, 0, "{line}: {}", seen.err);
        assert!(seen.out.contains(words), "{line}: {}", seen.out);
    }
    let seen = person
        .types("remove-network-policy dora dora --port 1")
        .await;
    assert!(seen.code == 1 && seen.err.contains("There is no such policy"));
    for line in [
        "terminate-task dora x",
        "add-network-policy dora dora --port 90-80",
        "add-network-policy dora dora --protocol sctp",
        "create-org-quota q -m much",
        "create-org-quota q -r -2",
    ] {
        let seen = person.types(line).await;
        assert!(
            seen.code == 1 && seen.err.contains("Incorrect Usage"),
            "{line}: {}{}",
            seen.out,
            seen.err
        );
    }
}

#[tokio::test]
async fn flags_do_not_matter_when_there_is_nothing_to_do() {
    let person = Person::new().await;
    person.logs_in().await;
    for (line, answer, wanted) in [
        ("delete nope -f -r", "", "App 'nope' does not exist.\n"),
        (
            "delete-route nope.test -n x --path y -f",
            "",
            "Domain 'nope.test' not found.\n",
        ),
        ("delete dora -r", "n\n", ""),
    ] {
        let seen = person.answers(line, answer).await;
        assert_eq!((seen.code, seen.err.as_str()), (0, wanted), "{line}");
        assert!(!seen.out.contains("FAILED"), "{line}: {}", seen.out);
    }
}

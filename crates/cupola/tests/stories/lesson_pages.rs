//! The stories of the lesson: every command of every page of `docs/lesson` is typed on a real foundation, and its output is compared
//! with what the page shows. The values that a page asks to write down are kept for the later pages.

use crate::{Story, story};
use anyhow::{Context as _, Result, bail, ensure};
use lesson::{Command, Condition, Page, Part, Place, State, Values};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use testkit::foundation::{Foundation, PASSWORD, root, wait_for};

/// The pages in their order. The last story checks that the list is complete.
pub(crate) const STORIES: &[Story] = &[
    story("lesson_story_00", page::<0>),
    story("lesson_story_01", page::<1>),
    story("lesson_story_02", page::<2>),
    story("lesson_story_03", page::<3>),
    story("lesson_story_04", page::<4>),
    story("lesson_story_05", page::<5>),
    story("lesson_story_06", page::<6>),
    story("lesson_story_07", page::<7>),
    story("lesson_story_08", page::<8>),
    story("lesson_story_09", page::<9>),
    story("lesson_story_10", page::<10>),
    story("lesson_story_11", page::<11>),
    story("lesson_story_12", page::<12>),
    story("lesson_story_13", page::<13>),
    story("lesson_story_14", page::<14>),
    story("lesson_story_15", page::<15>),
    story("lesson_story_16", page::<16>),
    story("lesson_story_17", page::<17>),
    story("lesson_story_18", page::<18>),
    story("lesson_exercise_1", page::<19>),
    story("lesson_exercise_2", page::<20>),
    story("lesson_exercise_3", page::<21>),
    story("lesson_exercise_4", page::<22>),
    story("lesson_walks_in_a_terminal", walk),
    story("lesson_checks_a_page", check_a_page),
    story("lesson_repairs_after_a_break_that_ended_half_way", half_way),
    story("lesson_repairs_after_a_sudden_end", sudden_end),
    story("lesson_exercise_5", page::<23>),
    story("lesson_has_no_other_page", no_other_page),
];

/// The seconds after which a command that shows a state must show the one of its page.
const LIMIT: u64 = 60;

/// The values that the pages have shown so far.
static VALUES: Mutex<Values> = Mutex::new(Values(std::collections::BTreeMap::new()));

fn no_other_page(f: &mut Foundation) -> Result<()> {
    let pages = lesson::pages(&place(f))?.len();
    let is_page = |story: &&Story| {
        story.name.starts_with("lesson_story_") || story.name.starts_with("lesson_exercise_")
    };
    let tested = STORIES.iter().filter(is_page).count();
    ensure!(
        pages == tested,
        "the lesson has {pages} pages, and {tested} of them are tested"
    );
    Ok(())
}

fn place(f: &Foundation) -> Place {
    let port = |name: &str| f.plan[name].as_u64().and_then(|p| u16::try_from(p).ok());
    Place {
        domain: f.domain.clone(),
        data: f.data.display().to_string(),
        http_port: port("http_port").unwrap_or_default(),
        https_port: port("https_port").unwrap_or_default(),
    }
}

fn page<const N: usize>(f: &mut Foundation) -> Result<()> {
    let page = lesson::pages(&place(f))?
        .into_iter()
        .nth(N)
        .context("the lesson has no such page")?;
    let mut values = VALUES.lock().unwrap_or_else(PoisonError::into_inner);
    values.insert("PASSWORD", PASSWORD);
    check(f, &page.before).context("before the page")?;
    let mut background = Background::default();
    for part in &page.parts {
        if let Part::Command(command) = part {
            let found = typed(f, command, &values, &mut background)?;
            values.extend(found);
        }
    }
    check(f, &page.after).context("after the page")?;
    check_blanks(&page, &values)
}

fn check_blanks(page: &Page, values: &Values) -> Result<()> {
    for name in &page.blanks {
        ensure!(values.get(name).is_some(), "no value of {name} was shown");
    }
    Ok(())
}

/// Types a command, and compares its output with the page's. Returns the new values.
fn typed(
    f: &Foundation,
    command: &Command,
    values: &Values,
    background: &mut Background,
) -> Result<Values> {
    let text = values.fill(&command.text);
    if let Some(name) = lesson::values::names(&text).next() {
        bail!("`{text}`: no page has shown a value of {name}");
    }
    let mut compared = || {
        let output = background.run(f, &text)?;
        lesson::output::compare(&command.output, &output, values).with_context(|| {
            format!(
                "`{text}` should print\n{}\nand printed\n{output}",
                values.fill(&command.output.join("\n"))
            )
        })
    };
    if command.again {
        wait_for("the output that the page shows", LIMIT, || {
            compared().map(Some)
        })
    } else {
        compared()
    }
}

/// Runs a command of this test in bash.
fn shell(f: &Foundation, text: &str) -> Result<String> {
    Background::default().run(f, text)
}

/// Walks through a page that needs no earlier values, with Enter for each command.
fn walk(f: &mut Foundation) -> Result<()> {
    let output = shell(f, r"printf '\n\nq\n' | cupola lesson from 12")?;
    for wanted in [
        "== Story 12: Ask the router directly",
        "\"Port\":8080}",
        "Write down: OVERLAY_IP = ",
        "404 Not Found",
        "Press Enter for Story 13",
        "`cupola lesson` continues here.",
    ] {
        ensure!(output.contains(wanted), "no {wanted:?} in\n{output}");
    }
    // The notebook remembers the next page.
    let output = shell(f, "cupola lesson </dev/null")?;
    ensure!(output.contains("== Story 13"), "{output}");
    let output = shell(f, r"printf 'echo wrong\nq\n' | cupola lesson from 12")?;
    ensure!(
        output.contains("which is missing here") && !output.contains("== Story 13"),
        "{output}"
    );
    Ok(())
}

fn check_a_page(f: &mut Foundation) -> Result<()> {
    let output = shell(f, "cupola lesson check e1")?;
    ensure!(output.contains("Exercise 1 can begin"), "{output}");
    f.cf_ok(&["stop", "appB"])?;
    wait_for("the check names the app that is stopped", 30, || {
        let output = shell(f, "cupola lesson check e1 || true")?;
        Ok(output.contains("The app appB does not run.").then_some(()))
    })?;
    f.cf_ok(&["start", "appB"])?;
    let output = shell(
        f,
        "cupola lesson show e1; cupola lesson list; cupola lesson break 9",
    )?;
    for wanted in [
        "$ cupola lesson break 1",
        "Story 0",
        "there is no exercise 9",
    ] {
        ensure!(output.contains(wanted), "no {wanted:?} in\n{output}");
    }
    Ok(())
}

/// Returns an error if a rule of an exercise exists, or the file of a breakage.
fn nothing_is_broken(f: &Foundation) -> Result<()> {
    let mark = format!(
        "cupola-lesson-{}",
        f.plan["tag"].as_str().unwrap_or_default()
    );
    for table in ["nat", "filter"] {
        let rules = shell(f, &format!("iptables -w -t {table} -S"))?;
        ensure!(!rules.contains(&mark), "{rules}");
    }
    let file = f.data.join("lesson-breakage.json");
    ensure!(!file.exists(), "{} exists", file.display());
    Ok(())
}

fn is_broken(f: &Foundation) -> Result<()> {
    let broken = shell(f, "cupola lesson break 3")?;
    ensure!(broken.contains("Something is broken now."), "{broken}");
    ensure!(nothing_is_broken(f).is_err(), "nothing is broken");
    Ok(())
}

/// Tests that a guard whose `break` has ended half way repairs at once, and that a second `break` repairs the first one.
fn half_way(f: &mut Foundation) -> Result<()> {
    is_broken(f)?;
    shell(f, "cupola lesson guard </dev/null")?;
    nothing_is_broken(f)?;
    is_broken(f)?;
    let output = shell(f, "cupola lesson break 3")?;
    ensure!(output.contains("has been repaired first"), "{output}");
    let output = shell(f, "cupola lesson repair; cupola lesson repair")?;
    ensure!(
        output.contains("Exercise 3 is repaired.") && output.contains("Nothing is broken."),
        "{output}"
    );
    nothing_is_broken(f)
}

fn sudden_end(f: &mut Foundation) -> Result<()> {
    is_broken(f)?;
    f.kill()?;
    wait_for("the guard repairs", 30, || nothing_is_broken(f).map(Some))?;
    f.up()?;
    f.cf_ok(&["auth", "admin", PASSWORD])?;
    f.cf_ok(&["target", "-o", "demo", "-s", "dev"])?;
    let host = f.host("appa");
    wait_for("appA answers again", 60, || {
        Ok((f.get(&host, "/")?.status == 200).then_some(()))
    })
}

/// The commands that were started. Those that a page left in the background end with this value.
#[derive(Default)]
struct Background {
    groups: Vec<nix::unistd::Pid>,
}

impl Background {
    /// Runs a command in bash as a person would, and returns everything that it prints.
    fn run(&mut self, f: &Foundation, text: &str) -> Result<String> {
        let root = root().canonicalize()?;
        let path = std::env::var("PATH").unwrap_or_default();
        let child = std::process::Command::new("timeout")
            .args(["-k", "5", "120", "bash", "-c"])
            .arg(format!("exec 2>&1\n{text}"))
            .current_dir(&root)
            .env("PATH", format!("{}:{path}", root.join("bin").display()))
            .env("CUPOLA_DATA", &f.data)
            .env("CF_HOME", f.folder().join("home"))
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .env_remove("HTTP_PROXY")
            .env_remove("HTTPS_PROXY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("start bash")?;
        let group = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        self.groups.push(group);
        let output = child.wait_with_output()?;
        ensure!(
            output.status.code() != Some(124),
            "`{text}` did not end within 120 s"
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for group in &self.groups {
            // Most groups have ended already.
            let _ = nix::sys::signal::killpg(*group, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn check(f: &Foundation, conditions: &[Condition]) -> Result<()> {
    for condition in conditions {
        wait_for("the state that the page states", 30, || {
            match condition.missing(&state(f)?) {
                None => Ok(Some(())),
                Some(missing) => bail!(missing),
            }
        })?;
    }
    Ok(())
}

fn state(f: &Foundation) -> Result<State> {
    let mut state = State::default();
    let apps = f.cf_curl("/v3/apps?per_page=5000")?;
    for app in apps["resources"].as_array().into_iter().flatten() {
        let text = |key: &str| app[key].as_str().unwrap_or_default().to_owned();
        let instances = f.instances(&text("guid"))?.len();
        state.running.insert(text("name"), instances);
    }
    for (route, endpoints) in f.table()?.as_object().into_iter().flatten() {
        let endpoints = endpoints.as_array().map_or(0, Vec::len);
        state.table.insert(route.clone(), endpoints);
    }
    Ok(state)
}
